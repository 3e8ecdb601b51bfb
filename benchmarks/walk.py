"""How well a walking policy follows velocity commands, and its way from a checkpoint to the package.

    python benchmarks/walk.py --export runs/<run>/nn/<name>.pth    # writes happo_gpu/sim/go1_walk.npz
    python benchmarks/walk.py                                      # measures it
    python benchmarks/walk.py --locomotion other.npz
    python benchmarks/walk.py --start start.pth                    # a checkpoint for task=Go1Walk that has learned as much

--start has no critic to go with: let the first iterations be its own (algo.lr=1e-8 algo.adaptive_kl=0).

Two measurements on the nominal robot, without kicks or noise. Falls: 1,024 robots walk 20 s, each under commands drawn
from +-0.5 m/s, +-0.5 m/s, +-0.5 rad/s and held for 0.5 to 5 s. Holds: one axis at a time is commanded 0.2 to 0.5 either
way, 16 robots each from different phases; the error is mean velocity minus command over 4 s, after 2 s to get there.
A third, for the project's own policies, on task=Go1Walk's robots and boxes, of random mass and friction: somebody drives a box
against every robot with 10 to 50 N, again and again for 20 s, while its commands change as above.
Writes benchmarks/results/walk.json.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Dict, List, Sequence, Type

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from happo_gpu import process  # noqa: E402

process.prepare()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from machine import machine  # noqa: E402

from happo_gpu import build, checkpoint  # noqa: E402
from happo_gpu.config import parse  # noqa: E402
from happo_gpu.config.files import composed_raw  # noqa: E402
from happo_gpu.config.schema import typed  # noqa: E402
from happo_gpu.config.sims import MujocoConfig  # noqa: E402
from happo_gpu.sim import go1, locomotion  # noqa: E402
from happo_gpu.sim.base import ObjectSpec  # noqa: E402
from happo_gpu.sim.legged import Go1Worlds  # noqa: E402
from happo_gpu.sim.walking import senses_of  # noqa: E402

AXES = ("forward", "sideways", "turn")
SPEEDS = (-0.5, -0.4, -0.3, -0.2, 0.2, 0.3, 0.4, 0.5)
ROBOTS_PER_HOLD = 16
CPU = ["sim_device=cpu", "rl_device=cpu"]
PUSHED = ["task.load.share=1", "task.load.driven=1", "task.load.drivenForce=[10,50]", "task.noise.level=0", "task.env.kickVelocity=0",
          "task.env.commandLimit=[0.5,0.5,0.5]", "task.env.staggerEpisodes=false"]


def layers_of(actor: Dict[str, torch.Tensor]) -> List[str]:
    """Names of its linear layers, from the observation on."""
    return [*(name[: -len(".weight")] for name in actor if name.startswith("base.") and name.endswith(".weight")), "head.mean"]


def export(path: Path, output: Path) -> None:
    """A checkpoint of Go1Walk's actor as a file of arrays."""
    actor = checkpoint.load(path, torch.device("cpu"))["learner"]["actors"][0]
    task = yaml.safe_load((path.parent.parent / "config.yaml").read_text())["task"]
    arrays = {"mean": actor["norm.mean"], "rstd": 1.0 / torch.sqrt(actor["norm.var"] + 1e-5)}
    for i, layer in enumerate(layers_of(actor)):
        arrays[f"W{i}"], arrays[f"b{i}"] = actor[f"{layer}.weight"].t(), actor[f"{layer}.bias"]
    env, gait = task["env"], task["gait"]
    layout = locomotion.Layout(True, "elu", False, env["actionScale"], env["clipActions"], input_clip=5.0)
    locomotion.save(output, arrays, layout, locomotion.Gait(gait["frequency"], gait["lift"]))
    print(f"=> writing '{output}' ({output.stat().st_size / 1e3:.0f} kB)")


def start(policy: Path, output: Path) -> None:
    """The inverse of :func:`export`: a checkpoint of task=Go1Walk, its critic and optimisers new."""
    cfg = parse(composed_raw(["task=Go1Walk", "num_envs=1", *CPU]))
    learner = build.build_learner(cfg, build.build_task(cfg, 1, torch.device("cpu"), "eager"), torch.device("cpu"), seed=1)
    with np.load(policy, allow_pickle=False) as file:
        arrays = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file if file[name].dtype.kind == "f"}
    actor = learner.actors[0].state_dict()
    for i, layer in enumerate(layers_of(actor)):
        actor[f"{layer}.weight"].copy_(arrays[f"W{i}"].t())
        actor[f"{layer}.bias"].copy_(arrays[f"b{i}"])
    actor["norm.mean"].copy_(arrays["mean"])
    actor["norm.var"].copy_(1.0 / arrays["rstd"] ** 2 - 1e-5)
    actor["norm.count"].fill_(2e6)  # as if it had seen so many: new ones move it slowly
    actor["head.log_std"].fill_(-1.3)  # a standard deviation of 0.21, to explore from
    learner.actors[0].load_state_dict(actor)
    checkpoint.save(output, {"learner": learner.state_dict()})


class Walkers:
    """N robots under one policy; :meth:`walk` advances them by a control period."""

    def __init__(self, num_robots: int, cfg: MujocoConfig, policy: Path, kind: Type[Go1Worlds] = Go1Worlds,
                 objects: Sequence[ObjectSpec] = ()) -> None:
        self.worlds = kind(1, objects, 0.6, cfg.legs, num_robots)
        self.policy = locomotion.load(policy, (num_robots, 1), self.worlds.dt, torch.device("cpu"))
        everyone, n = torch.ones(num_robots, dtype=torch.bool), num_robots
        pose = torch.zeros(n, 1, 3)
        pose[..., 2] = 2.0 * math.pi * torch.rand(n, 1)
        joints = torch.tensor(go1.HOME).expand(n, 1, -1)
        self.worlds.place(everyone, pose, torch.full((n, 1), go1.HOME_HEIGHT), joints, torch.zeros(n, 1, 6))
        self.policy.reset(everyone)

    def walk(self, commands: torch.Tensor) -> None:
        """commands: (N, 3)."""
        self.worlds.step_joints(self.policy.targets(senses_of(self.worlds), commands.unsqueeze(1)))

    def velocity(self) -> torch.Tensor:
        """(N, 3) forward and sideways m/s in the trunk's heading, yaw rate rad/s."""
        worlds = self.worlds
        cos, sin = worlds.yaw[:, 0].cos(), worlds.yaw[:, 0].sin()
        x, y = worlds.lin_vel_w[:, 0, 0], worlds.lin_vel_w[:, 0, 1]
        return torch.stack((cos * x + sin * y, cos * y - sin * x, worlds.yaw_rate[:, 0]), -1)


def measure_falls(cfg: MujocoConfig, policy: Path, num_robots: int, seconds: float) -> Dict:
    walkers = Walkers(num_robots, cfg, policy)
    fell = torch.zeros(num_robots, dtype=torch.bool)
    command, left = torch.zeros(num_robots, 3), torch.zeros(num_robots)
    steps, started = int(seconds / walkers.worlds.dt), time.perf_counter()
    for _ in range(steps):
        due = (left <= 0.0).unsqueeze(-1)
        command = torch.where(due, torch.rand(num_robots, 3) - 0.5, command)
        left = torch.where(due[:, 0], 0.5 + 4.5 * torch.rand(num_robots), left) - walkers.worlds.dt
        walkers.walk(command)
        fell |= walkers.worlds.fallen[:, 0]
    rate = num_robots * steps / (time.perf_counter() - started)
    return {"robots": num_robots, "seconds": seconds, "falls": int(fell.sum()), "robot_steps_per_s": rate}


def measure_holds(cfg: MujocoConfig, policy: Path) -> List[Dict]:
    holds = [(axis, speed) for axis in range(3) for speed in SPEEDS]
    command = torch.zeros(len(holds) * ROBOTS_PER_HOLD, 3)
    for i, (axis, speed) in enumerate(holds):
        command[i * ROBOTS_PER_HOLD : (i + 1) * ROBOTS_PER_HOLD, axis] = speed
    walkers, total = Walkers(len(command), cfg, policy), torch.zeros_like(command)
    settle, count = int(2.0 / walkers.worlds.dt), int(4.0 / walkers.worlds.dt)
    for step in range(settle + count):
        walkers.walk(command)
        if step >= settle:
            total += walkers.velocity()
    error = (total / count - command).view(len(holds), ROBOTS_PER_HOLD, 3)
    return [
        {"axis": AXES[axis], "command": speed, "mean": (speed + error[i, :, axis].mean()).item(),
         "error": error[i, :, axis].mean().item(), "worst_robot": error[i, :, axis].abs().max().item(),
         "off_axis": error[i].mean(0).abs().index_fill(0, torch.tensor(axis), 0.0).max().item()}
        for i, (axis, speed) in enumerate(holds)
    ]


def measure_pushes(policy: Path, num_robots: int, seconds: float) -> Dict:
    cfg = parse(composed_raw(["task=Go1Walk", f"num_envs={num_robots}", *CPU, *PUSHED]))
    torch.manual_seed(1)
    task = build.build_task(cfg, num_robots, torch.device("cpu"), "eager")
    act = locomotion.load(policy, (num_robots, 1), task.dt, torch.device("cpu")).network
    task.reset()
    fell = torch.zeros(num_robots, dtype=torch.bool)
    for _ in range(int(seconds / task.dt)):
        with torch.no_grad():
            task.step(act(task.obs_buf))
        fell |= task.terminated_buf
    return {"robots": num_robots, "seconds": seconds, "falls": int(fell.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, help="a checkpoint of task=Go1Walk")
    parser.add_argument("--start", type=Path, help="where to write a checkpoint of task=Go1Walk with --locomotion's actor")
    parser.add_argument("--locomotion", type=Path, default=locomotion.OWN_POLICY)
    parser.add_argument("--robots", type=int, default=1024)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "walk.json")
    arguments = parser.parse_args()
    if arguments.export:
        return export(arguments.export, arguments.locomotion)
    if arguments.start:
        return start(arguments.locomotion, arguments.start)
    cfg = typed(MujocoConfig, yaml.safe_load((ROOT / "cfg" / "sim" / "mujoco.yaml").read_text()), "sim")
    torch.manual_seed(1)
    holds = measure_holds(cfg, arguments.locomotion)
    print(f"{'axis':>10}{'command':>9}{'mean':>9}{'error':>9}{'worst robot':>13}{'off axis':>10}")
    for row in holds:
        print(f"{row['axis']:>10}{row['command']:>9.1f}{row['mean']:>9.3f}{row['error']:>9.3f}{row['worst_robot']:>13.3f}{row['off_axis']:>10.3f}")
    falls = measure_falls(cfg, arguments.locomotion, arguments.robots, 20.0)
    print(f"{falls['falls']} of {falls['robots']} robots fell in {falls['seconds']:.0f} s; {falls['robot_steps_per_s']:,.0f} robot steps/s")
    found = {"machine": machine(), "holds": holds, "falls": falls}
    if locomotion.load(arguments.locomotion, (1, 1), 0.02, torch.device("cpu")).layout.clock:
        pushes = found["pushes"] = measure_pushes(arguments.locomotion, arguments.robots, 20.0)
        print(f"{pushes['falls']} of {pushes['robots']} robots fell in {pushes['seconds']:.0f} s of boxes that somebody drove against them")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
