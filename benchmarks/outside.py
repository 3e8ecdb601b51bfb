"""HAPPO with HARL's settings on two tasks of MPE and one of MaMuJoCo, beside HARL itself where it is at hand.

    python benchmarks/outside.py num_threads=1 --seeds 1 2 3
    python benchmarks/outside.py num_threads=1 --harl HARL --harl-python PYTHON    # a checkout, and an interpreter that runs it

Runs the main command, and HARL's own train.py on the tasks of MPE, in a process for every task and seed, and writes
benchmarks/results/outside.json after each: started again, it runs only what is missing (delete the file to begin anew). A return is
the mean of the deterministic policy's over 40 episodes, the sum of the agents' rewards, as HARL reports it; curves hold steps and returns. HARL's
tuned settings train for 10 M steps; --steps says how many are trained here. Rates are steps over seconds of the whole process, start and
evaluations included. HARL takes MPE from PettingZoo 1.22.3, this project from mpe2. Their rewards are the same but for simple_spread_v2, where every agent
collides with itself all the time: 37.5 in an episode of three, which HARL's returns are given back here. Overrides of the config come first.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from machine import commit, machine
from training import ROOT, train

TASKS: Dict[str, List[str]] = {
    "simple_spread, continuous": ["task=PettingZoo", "task.env.id=mpe2.simple_spread_v3"],
    "simple_speaker_listener, discrete": ["task=PettingZoo", "task.env.id=mpe2.simple_speaker_listener_v4",
                                          "task.env.options.continuous_actions=false"],
    "HalfCheetah 2x3": ["task=MaMuJoCo"],
}
HARL_TASKS: Dict[str, List[str]] = {
    "simple_spread, continuous": ["--scenario", "simple_spread_v2", "--continuous_actions", "True"],
    "simple_speaker_listener, discrete": ["--scenario", "simple_speaker_listener_v3", "--continuous_actions", "False"],
}
SELF_COLLISIONS = {"simple_spread, continuous": 37.5}  # 3 agents x 25 steps x half a point
STEPS_OF_AN_ITERATION = 200 * 20  # of cfg/train and cfg/task: steps of a rollout and environments
EVALUATIONS = 40  # over a run


def run(task: str, seed: int, iterations: int, extra: List[str]) -> Dict[str, Any]:
    """One training run; its figures."""
    ended = train(*TASKS[task], "algo=HAPPO", f"seed={seed}", f"max_iterations={iterations}",
                  f"eval_every={max(1, iterations // EVALUATIONS)}", *extra)
    return {"curve": [[e["frames"], e["mean_return"]] for e in ended.evaluations], "wall_seconds": ended.wall_seconds}


def run_harl(task: str, seed: int, iterations: int, home: Path, python: str) -> Dict[str, Any]:
    """Likewise of HARL's, with its own defaults, which are its tuned settings for MPE."""
    with tempfile.TemporaryDirectory() as logs:
        command = [python, "-W", "ignore", "train.py", "--algo", "happo", "--env", "pettingzoo_mpe", "--exp_name", "outside", *HARL_TASKS[task],
                   "--seed", str(seed), "--num_env_steps", str(iterations * STEPS_OF_AN_ITERATION), "--cuda", "False", "--torch_threads", "1",
                   "--eval_interval", str(max(1, iterations // EVALUATIONS)), "--n_eval_rollout_threads", "20", "--eval_episodes", "40",
                   "--log_dir", logs]
        started = time.perf_counter()
        path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(command, cwd=home / "examples", env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        wall = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
        (progress,) = Path(logs).rglob("progress.txt")
        points = [line.split(",") for line in progress.read_text().split()]
    back = SELF_COLLISIONS.get(task, 0.0)
    return {"curve": [[int(steps), float(mean) + back] for steps, mean in points], "wall_seconds": wall}


def show(row: Dict[str, Any]) -> None:
    first, (steps, last) = row["curve"][0], row["curve"][-1]
    print(f"{row['task']:<35} {row['system']:<10} {row['seed']:>4} {steps:>11,} {first[1]:>9.1f} {last:>9.1f} "
          f"{steps / row['wall_seconds']:>8.0f} {row['wall_seconds']:>8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--harl", type=Path, help="a checkout of PKU-MARL/HARL")
    parser.add_argument("--harl-python", default=sys.executable, help="an interpreter with its packages, pettingzoo==1.22.3 and supersuit==3.7.0")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "outside.json")
    arguments, extra = parser.parse_known_args()
    rows = json.loads(arguments.output.read_text())["runs"] if arguments.output.exists() else []
    print(f"{'task':<35} {'system':<10} {'seed':>4} {'steps':>11} {'first':>9} {'last':>9} {'steps/s':>8} {'seconds':>8}", flush=True)
    iterations = max(1, arguments.steps // STEPS_OF_AN_ITERATION)
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for system in ["happo_gpu"] + ["HARL"] * (arguments.harl is not None and task in HARL_TASKS):
                key = {"task": task, "system": system, "seed": seed, "iterations": iterations, "overrides": extra if system == "happo_gpu" else []}
                row = next((row for row in rows if key.items() <= row.items()), None)
                if row is None:
                    if system == "HARL":
                        row = {**key, "commit": commit(), **run_harl(task, seed, iterations, arguments.harl.resolve(), arguments.harl_python)}
                    else:
                        row = {**key, "commit": commit(), **run(task, seed, iterations, extra)}
                    rows.append(row)
                    arguments.output.parent.mkdir(parents=True, exist_ok=True)
                    arguments.output.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
                show(row)


if __name__ == "__main__":
    main()
