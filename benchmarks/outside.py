"""HAPPO with HARL's settings on two tasks of MPE and one of MaMuJoCo, beside HARL itself where it is at hand.

    python benchmarks/outside.py num_threads=1 --seeds 1 2 3
    python benchmarks/outside.py num_threads=1 --harl HARL --harl-python PYTHON    # a checkout, and an interpreter that runs it
    python benchmarks/outside.py --draw            # table and docs/outside.png of what is there

Runs the main command, and HARL's own train.py on the tasks of MPE, in a process for every task and seed, and writes
benchmarks/results/outside.json after each: started again, it runs only what is missing (delete the file to begin anew). A return is
the mean of the deterministic policy's over 40 episodes, the sum of the agents' rewards, as HARL reports it; curves hold steps and returns. HARL's
tuned settings train for 10 M steps; --steps says how many are trained here. Rates are steps over seconds of the whole process, start and
evaluations included. Published returns are read off the curves in HARL's repository (assets/mpe_learning_curve.jpg,
mamujoco_on_policy_learning_curve.jpg; HalfCheetah-v2 there, v5 here), to about a pixel: 0.5 and 30 points. HARL takes MPE from PettingZoo
1.22.3, this project from mpe2. Their rewards are the same but for simple_spread_v2, where every agent collides with itself all the time: 37.5
in an episode of three, which HARL's returns are given back here. An evaluation of HalfCheetah lasts ten iterations: write eval_every=12 for
it. Overrides of the config come first.
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
from statistics import median
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
PUBLISHED: Dict[str, Dict[int, float]] = {  # steps: HAPPO's return in HARL's repository
    "simple_spread, continuous": {150_000: -61.0, 240_000: -60.4, 400_000: -58.9, 600_000: -56.9, 1_000_000: -51.8, 10_000_000: -27.6},
    "simple_speaker_listener, discrete": {150_000: -24.0, 240_000: -21.7, 400_000: -18.0, 600_000: -15.1, 1_000_000: -12.2},
    "HalfCheetah 2x3": {150_000: 746.0, 240_000: 983.0, 400_000: 1465.0, 600_000: 1966.0, 1_000_000: 2949.0, 2_000_000: 4554.0},
}
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


def draw(rows: List[Dict[str, Any]], path: Path) -> None:
    """Median and range over seeds, and what HARL's authors published."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    figure, axes = plt.subplots(1, len(tasks), figsize=(4.4 * len(tasks), 3.6), squeeze=False)
    for task, axis in zip(tasks, axes[0]):
        longest = 0
        for system, colour in (("happo_gpu", "#0072B2"), ("HARL", "#D55E00")):
            curves = [row["curve"] for row in rows if (row["task"], row["system"]) == (task, system)]
            points = [sorted(point[1] for point in seeds) for seeds in zip(*curves)]
            steps = [point[0] / 1e6 for point in curves[0]] if curves else []
            axis.plot(steps, [median(values) for values in points], color=colour, label=f"{system} ({len(curves)} seeds)" if curves else None)
            axis.fill_between(steps, [values[0] for values in points], [values[-1] for values in points], color=colour, alpha=0.2, lw=0)
            longest = max([longest, *steps])
        known = [(at / 1e6, value) for at, value in PUBLISHED[task].items() if at / 1e6 <= 1.01 * longest]
        axis.plot(*zip(*known), "k+", ms=9, label="published by HARL's authors") if known else None
        axis.set(title=task, xlabel="environment steps, millions")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    axes[0][0].set_ylabel("return")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(rows: List[Dict[str, Any]]) -> None:
    """Medians over seeds of the last return, with its range, and of the rate. A last return is the mean over the last quarter of the
    evaluations: those of HARL meet other starts each time, and one of them errs by 3 points on simple_spread."""
    print(f"\n{'task':<35} {'system':<10} {'seeds':>5} {'steps':>9} {'first':>8} {'last':>8} {'range':>18} {'published':>10} {'steps/s':>8}")
    for task in TASKS:
        for system in ("happo_gpu", "HARL"):
            own = [row for row in rows if (row["task"], row["system"]) == (task, system)]
            if not own:
                continue
            first, last = sorted(row["curve"][0][1] for row in own), sorted(mean_of_last(row["curve"]) for row in own)
            steps = own[0]["curve"][-1][0]
            print(f"{task:<35} {system:<10} {len(own):>5} {steps:>9,} {median(first):>8.1f} {median(last):>8.1f} {last[0]:>8.1f} to {last[-1]:>6.1f} "
                  f"{PUBLISHED[task].get(steps, float('nan')):>10.1f} {median(steps / row['wall_seconds'] for row in own):>8.0f}")


def mean_of_last(curve: List[List[float]]) -> float:
    quarter = curve[-max(1, len(curve) // 4):]
    return sum(value for _, value in quarter) / len(quarter)


def show(row: Dict[str, Any]) -> None:
    first, (steps, last) = row["curve"][0], row["curve"][-1]
    print(f"{row['task']:<35} {row['system']:<10} {row['seed']:>4} {steps:>11,} {first[1]:>9.1f} {last:>9.1f} "
          f"{steps / row['wall_seconds']:>8.0f} {row['wall_seconds']:>8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "outside.png")
    parser.add_argument("--draw", action="store_true", help="make table and figure of the results file and stop")
    parser.add_argument("--harl", type=Path, help="a checkout of PKU-MARL/HARL")
    parser.add_argument("--harl-python", default=sys.executable, help="an interpreter with its packages, pettingzoo==1.22.3 and supersuit==3.7.0")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "outside.json")
    arguments, extra = parser.parse_known_args()
    rows = json.loads(arguments.output.read_text())["runs"] if arguments.output.exists() else []
    print(f"{'task':<35} {'system':<10} {'seed':>4} {'steps':>11} {'first':>9} {'last':>9} {'steps/s':>8} {'seconds':>8}", flush=True)
    iterations = max(1, arguments.steps // STEPS_OF_AN_ITERATION)
    for seed in arguments.seeds if not arguments.draw else []:
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
    table(rows)
    draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
