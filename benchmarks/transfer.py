"""Policies trained on the planar simulator push a real box with real legs: evaluated in MuJoCo without further training.

    python train.py seed=1; python train.py seed=2; python train.py seed=3
    python benchmarks/transfer.py runs/<run>/nn/Go1Push.pth ... [--locomotion other.npz]

Each checkpoint pushes in the first episodes of --episodes worlds (separated spawn, MAPush's success), on the planar
simulator that it was trained on and on whole Go1s that walk on the project's own policy and on any other that is
given. Exceptions are falls and collisions of the robots. Writes benchmarks/results/transfer.json after every row. Without
checkpoints only the simulator's rates are measured anew.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from happo_gpu import process  # noqa: E402

process.prepare()

import torch  # noqa: E402
import yaml  # noqa: E402
from machine import commit, machine  # noqa: E402

from happo_gpu import build, cli, command, evaluate, threads  # noqa: E402
from happo_gpu.config import parse  # noqa: E402
from happo_gpu.config.files import composed_raw  # noqa: E402
from happo_gpu.config.schema import typed  # noqa: E402
from happo_gpu.config.sims import MujocoConfig  # noqa: E402

COLUMNS = ("success_rate", "finished_time", "collaboration_degree", "pushing_together", "collision_rate")
SEED = 7  # of the starts and goals, the same for every policy


def push(path: Path, num_envs: int, walker: str) -> Dict:
    """Figures of one checkpoint; ``walker`` is '' for planar, 'own', or a file."""
    cfg = command.saved_config(cli.run_of(path), num_envs=num_envs, sim_device="cpu", rl_device="cpu", accelerate="auto")
    if walker:
        raw = yaml.safe_load((ROOT / "cfg" / "sim" / "mujoco.yaml").read_text())
        sim = dataclasses.replace(typed(MujocoConfig, raw, "sim"), locomotion="" if walker == "own" else walker)
        cfg = dataclasses.replace(cfg, sim=sim)
    task, policy = command.task_and_policy(cfg, path, SEED)
    started = time.perf_counter()
    result = evaluate.evaluate(task, policy, SEED)
    return {**{key: result[key] for key in (*COLUMNS, "success_rate_ci95", "episodes")}, "seconds": time.perf_counter() - started}


def rate(num_envs: int, seconds: float = 10.0) -> Tuple[float, float]:
    """Environment (control) steps per second of two Go1s and the box, robots walking at random commands, and MuJoCo's own share of the time."""
    cfg = parse(composed_raw(["sim=mujoco", f"num_envs={num_envs}", "sim_device=cpu", "rl_device=cpu"]))
    task = build.build_task(cfg, num_envs, torch.device("cpu"), "eager")
    advance, inside = task.sim.worlds._advance, [0.0]

    def timed() -> None:
        entered = time.perf_counter()
        advance()
        inside[0] += time.perf_counter() - entered

    task.reset()
    task.sim.worlds._advance = timed
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        task.step(2.0 * torch.rand(num_envs, task.num_actions) - 1.0)
        steps += num_envs * task.decimation
    elapsed = time.perf_counter() - started
    return steps / elapsed, inside[0] / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--locomotion", nargs="*", default=[], help="walking policies besides the project's own")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "transfer.json")
    arguments = parser.parse_args()
    rates = []
    for num_envs in (128, 512):
        rounds = sorted(rate(num_envs) for _ in range(3))
        speed, share = rounds[1]
        rates.append({"num_envs": num_envs, "steps_per_s": speed, "lowest": rounds[0][0], "highest": rounds[2][0], "share_of_mujoco": share, "threads": threads.count(), "commit": commit()})
        print(f"two whole Go1s and the box, {num_envs} worlds, {threads.count()} threads: {speed:,.0f} ({rounds[0][0]:,.0f} to {rounds[2][0]:,.0f}) environment steps/s, "
              f"{100 * share:.0f} % of the time in MuJoCo", flush=True)
    before = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    whole = {"machine": machine(), "commit": commit(), "rows": []} if arguments.checkpoints or not before else before  # rows keep what they were measured with
    write(arguments.output, {**whole, "rates": rates})
    rows = whole["rows"]
    print(f"{'checkpoint':>12}  {'legs':<24}{'success':>9}{'95 % interval':>18}{'finished':>10}{'pushing together':>18}{'exceptions':>12}")
    for i, path in enumerate(arguments.checkpoints):
        for walker in ("", "own", *arguments.locomotion):
            row = {"checkpoint": i, "legs": Path(walker).stem or "none (planar)", **push(path, arguments.episodes, walker)}
            rows.append(row)
            low, high = row["success_rate_ci95"]
            print(f"{i:>12}  {row['legs']:<24}{100 * row['success_rate']:>7.1f} %{100 * low:>10.1f} to {100 * high:.1f}"
                  f"{row['finished_time']:>8.2f} s{100 * row['pushing_together']:>16.0f} %{100 * row['collision_rate']:>10.2f} %", flush=True)
            write(arguments.output, {**whole, "rates": rates})


def write(path: Path, whole: Dict[str, Any]) -> None:
    path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
