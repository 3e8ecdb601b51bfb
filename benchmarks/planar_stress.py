"""Does sim=planar stay calm under commands made to break it?

Thousands of worlds run saturated, adversarial commands: both robots driven into the box, robots
driven at each other with a corner of the box between them, bang-bang noise, and turning at full rate
in contact. A sound simulator never lets the box outrun its pushers, shoot out of a squeeze, or let a
robot sink into it. Asserts bounds, prints the extremes, writes benchmarks/results/planar_stress.json.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Dict, Tuple

import torch
import yaml
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed

from happo_gpu.config.schema import typed  # noqa: E402
from happo_gpu.config.sims import PlanarConfig  # noqa: E402
from happo_gpu.geometry import box_distance, rotate_back, wrap_to_pi  # noqa: E402
from happo_gpu.sim.base import ObjectSpec, RobotSpec, Scene  # noqa: E402
from happo_gpu.sim.planar import PlanarSim  # noqa: E402

LIMITS = {  # what a calm simulator keeps: an unfixed prototype reached 6.5 m/s, 22.8 rad/s, 3.1 m/s, 3.6 cm
    "box_speed": 1.5,  # m/s
    "box_yaw_rate": 3.0,  # rad/s
    "robot_speed": 1.5,  # m/s; the servo alone asks for at most 1.06
    "penetration": 0.05,  # m; a resting push alone sags by 1 to 4 cm, since mass_split softens contacts
}
SPAWN_RADIUS = (1.25, 1.45)  # m; outside the box's corners with the footprint's reach of 0.38
HOLD = 25  # control steps that a bang-bang command lasts at most


def load_config(**overrides: Any) -> PlanarConfig:
    """cfg/sim/planar.yaml with fields replaced."""
    raw = yaml.safe_load((ROOT / "cfg/sim/planar.yaml").read_text())
    return dataclasses.replace(typed(PlanarConfig, raw, "sim"), **overrides)


def load_scene(friction: float = 0.0) -> Scene:
    """The bodies of cfg/task/Go1Push.yaml: two robots, one box. ``friction`` > 0 replaces the ground's."""
    raw = yaml.safe_load((ROOT / "cfg/task/Go1Push.yaml").read_text())
    robot = RobotSpec("go1", float(raw["robot"]["mass"]), float(raw["robot"]["inertia"]))
    box = raw["object"]
    spec = ObjectSpec(tuple(box["halfExtents"]), float(box["mass"]), float(box["inertia"]), friction or float(box["friction"]))
    return Scene((robot,) * raw["numAgents"], (spec,), float(box["contactFriction"]))


# -- adversaries -----------------------------------------------------------------------------------


def drive_to(sim: PlanarSim, target: Tensor, limit: float) -> Tensor:
    """Saturated commands (N, A, 3) that turn every robot to its target (N, A, 2) and go there, sidling too."""
    offset = target - sim.agent_pose[..., :2]  # (N, A, 2)
    yaw = sim.agent_pose[..., 2]
    ahead, aside = rotate_back(offset[..., 0], offset[..., 1], yaw.cos(), yaw.sin())
    turn = wrap_to_pi(torch.atan2(offset[..., 1], offset[..., 0]) - yaw)
    return limit * torch.stack((ahead.sign(), (4.0 * aside).clamp(-1.0, 1.0), (4.0 * turn).clamp(-1.0, 1.0)), -1)


def nearest_corner(sim: PlanarSim) -> Tensor:
    """The box's corner that is nearest to the mean of the robots, for every robot. (N, A, 2)"""
    x, y, yaw = sim.object_pose[:, 0].unbind(-1)  # (N,)
    cos, sin = yaw.cos(), yaw.sin()
    half_x, half_y, _ = sim.scene.objects[0].half_extents
    middle = sim.agent_pose[..., :2].mean(1)  # (N, 2)
    bx, by = rotate_back(middle[:, 0] - x, middle[:, 1] - y, cos, sin)
    bx, by = torch.copysign(torch.full_like(x, half_x), bx), torch.copysign(torch.full_like(y, half_y), by)
    corner = torch.stack((x + cos * bx - sin * by, y + sin * bx + cos * by), -1)  # (N, 2)
    return corner.unsqueeze(1).expand(-1, sim.agent_pose.shape[1], -1)


def adversary(sim: PlanarSim, noise: Tensor, limit: float) -> Tensor:
    """Five adversaries side by side, world i under number i mod 5. Commands (N, A, 3).

    0 into the box's centre, 1 through the box at the partner, 2 at one corner from both sides,
    3 bang-bang noise, 4 into the box while yaw and side commands are bang-bang noise.
    """
    centre = sim.object_pose[..., :2].expand(-1, sim.agent_pose.shape[1], -1)
    at_box = drive_to(sim, centre, limit)
    at_partner = drive_to(sim, sim.agent_pose[..., :2].flip(1), limit)
    at_corner = drive_to(sim, nearest_corner(sim), limit)
    shaken = torch.cat((at_box[..., :1], noise[..., 1:]), -1)
    choices = torch.stack((at_box, at_partner, at_corner, noise, shaken))  # (5, N, A, 3)
    kind = torch.arange(sim.num_envs, device=noise.device) % len(choices)  # (N,)
    return choices[kind, torch.arange(sim.num_envs, device=noise.device)]


def resample(noise: Tensor, limit: float) -> Tensor:
    """Flips a random 1 / HOLD of the bang-bang commands (N, A, 3) to fresh corners of the command cube."""
    fresh = limit * torch.randint(0, 2, noise.shape, device=noise.device).mul(2).sub(1).to(noise.dtype)
    flip = torch.rand(noise.shape[:2] + (1,), device=noise.device) < 1.0 / HOLD
    return torch.where(flip, fresh, noise)


# -- run -------------------------------------------------------------------------------------------


def spawn(sim: PlanarSim) -> None:
    """Robots around the box, at least a radian apart, any heading; box at the origin, any yaw."""
    n, a = sim.num_envs, sim.agent_pose.shape[1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, device=sim.device)

    apart = uniform(1.0, 2.0 * math.pi / a, n, 1) * torch.arange(a, device=sim.device)  # (N, A)
    angle = uniform(-math.pi, math.pi, n, 1) + apart
    radius = uniform(*SPAWN_RADIUS, n, a)
    pose = torch.stack((radius * angle.cos(), radius * angle.sin(), uniform(-math.pi, math.pi, n, a)), -1)
    box = torch.zeros(n, 1, 3, device=sim.device)
    box[..., 2] = uniform(-math.pi, math.pi, n, 1)
    sim.reset(torch.ones(n, dtype=torch.bool, device=sim.device), pose, box)


def penetration(sim: PlanarSim) -> Tensor:
    """Deepest overlap of a robot with the box, m, (N,): points along its axis, not the simulator's own test."""
    cfg, box = sim.cfg, sim.object_pose  # (N, 1, 3)
    axis = [cfg.rear + (cfg.front - cfg.rear) * i / 16.0 for i in range(17)]
    offset = torch.tensor([cfg.nose_x] + axis, device=sim.device)  # (18,)
    radius = torch.tensor([cfg.nose_radius] + [cfg.radius] * 17, device=sim.device)
    x, y, yaw = (value.unsqueeze(-1) for value in sim.agent_pose.unbind(-1))  # (N, A, 1)
    bx, by, byaw = (value.unsqueeze(-1) for value in box.unbind(-1))  # (N, 1, 1)
    x_b, y_b = rotate_back(x + offset * yaw.cos() - bx, y + offset * yaw.sin() - by, byaw.cos(), byaw.sin())
    half_x, half_y, _ = sim.scene.objects[0].half_extents
    return (radius - box_distance(x_b, y_b, half_x, half_y)[0]).amax((1, 2))


def run(sim: PlanarSim, seconds: float, limit: float) -> Tuple[Dict[str, Tensor], bool]:
    """Largest value of every watched quantity per world, (N,), and whether all state stayed finite."""
    spawn(sim)
    noise = torch.full(sim.agent_pose.shape, limit, device=sim.device)
    worst = {name: torch.zeros(sim.num_envs, device=sim.device) for name in LIMITS}
    touched = torch.zeros(sim.num_envs, dtype=torch.bool, device=sim.device)
    for _ in range(round(seconds / sim.dt)):
        noise = resample(noise, limit)
        sim.step(adversary(sim, noise, limit))
        depth = penetration(sim)
        touched |= depth > 0.0
        now = {
            "box_speed": sim.object_vel[:, 0, :2].norm(dim=-1),
            "box_yaw_rate": sim.object_vel[:, 0, 2].abs(),
            "robot_speed": sim.agent_vel[..., :2].norm(dim=-1).amax(1),
            "penetration": depth,
        }
        worst = {name: torch.maximum(worst[name], now[name]) for name in LIMITS}
    if not touched.float().mean() > 0.5 * min(seconds / 5.0, 1.0):
        raise RuntimeError("fewer than half of the worlds had contact: this stress test tests nothing")
    finite = all(bool(value.isfinite().all()) for value in sim.state_dict().values())
    return worst, finite and all(bool(value.isfinite().all()) for value in worst.values())


def report(worst: Dict[str, Tensor], finite: bool) -> Dict[str, Any]:
    """Prints the extremes and how rare they are; returns them as plain numbers."""
    table: Dict[str, Any] = {"finite": finite}
    print(f"{'':14s} {'max':>8s} {'99.9 %':>8s} {'median':>8s} {'limit':>8s}   worst adversary")
    for name, limit in LIMITS.items():
        value = worst[name]
        row = {"max": value.max(), "p999": value.quantile(0.999), "median": value.median()}
        table[name] = {key: float(number) for key, number in row.items()}
        table[name].update(limit=limit, adversary=int(value.argmax()) % 5)
        numbers = " ".join(f"{table[name][key]:8.3f}" for key in ("max", "p999", "median", "limit"))
        print(f"{name:14s} {numbers}   {table[name]['adversary']}")
    return table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--command", type=float, default=0.5, help="m/s and rad/s of a saturated command")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override sim constants, e.g. mass_split=2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/planar_stress.json"), help="'' writes nothing")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    overrides = {key: float(value) for key, value in (item.split("=") for item in args.set)}
    sim = PlanarSim(load_scene(), load_config(**overrides), args.num_envs, torch.device(args.device))
    start = time.time()
    worst, finite = run(sim, args.seconds, args.command)
    print(f"{args.num_envs} worlds x {args.seconds:g} s {overrides or ''} in {time.time() - start:.0f} s, finite: {finite}")
    table = report(worst, finite)
    if args.out:
        settings = {"num_envs": args.num_envs, "seconds": args.seconds, "config": dataclasses.asdict(sim.cfg)}
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps({"settings": settings, "result": table}, indent=1) + "\n")
    assert finite, "a state is not finite"
    for name, limit in LIMITS.items():
        assert table[name]["max"] < limit, f"{name} reached {table[name]['max']:.3f}, allowed: below {limit}"


if __name__ == "__main__":
    main()
