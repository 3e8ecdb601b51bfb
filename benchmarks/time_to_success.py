"""Seconds of training to 90, 95 and 98 % success, over seeds: the table of the README.

    python benchmarks/time_to_success.py --seeds 1 2 3 4 5 --num-envs 4096 1024

Runs the main command in a process of its own for every seed and size, reads its metrics.jsonl and
writes benchmarks/results/time_to_success.json. Success is measured by the run's own evaluations, every 5 iterations
unless eval_every is given: the first episodes of 1,000 environments, deterministic policy, separated spawn. Training
seconds leave out start-up (imports, compilation) and evaluation; start-up is given beside them.
"""
from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import training
from machine import machine
from training import ROOT

LEVELS = (0.90, 0.95, 0.98)


def run(num_envs: int, seed: int, extra: list) -> dict:
    """One training run of the main command; its figures."""
    return {"num_envs": num_envs, **train(["task=Go1Push", "algo=HAPPO", f"num_envs={num_envs}", "eval_every=5", *extra], seed)}


def train(overrides: list, seed: int) -> dict:
    """One training run of the main command with these overrides; its figures."""
    run = training.train(*overrides, f"seed={seed}")
    return {
        "seed": seed,
        **{f"seconds_to_{round(100 * level)}": first_at(run.evaluations, level) for level in LEVELS},
        **figures(run.evaluations[-1]),
        "train_seconds": run.iterations[-1]["train_seconds"], "frames": run.iterations[-1]["frames"],
        "start_up_seconds": float(re.search(r"start-up ([\d.]+) s", run.console).group(1)),
        "wall_seconds": run.wall_seconds, "peak_memory_mb": run.peak_memory_mb,
        "curve": [[e["train_seconds"], e["frames"], e["success_rate"]] for e in run.evaluations],
    }


def figures(evaluation: dict) -> dict:
    """What a table shows of one evaluation."""
    names = ("finished_time", "finished_time_of_successes", "collaboration_degree", "pushing_together", "collision_rate")
    return {"episodes": evaluation["episodes"], "final_success_rate": evaluation["success_rate"],
            "final_ci95": evaluation["success_rate_ci95"], **{f"final_{name}": evaluation[name] for name in names}}


def first_at(evaluations: list, level: float):
    """Training seconds at the first evaluation at or above a success rate, None if there was none."""
    return next((e["train_seconds"] for e in evaluations if e["success_rate"] >= level), None)


def show(rows: list) -> None:
    columns = ("num_envs", "seed", "seconds_to_90", "seconds_to_95", "seconds_to_98", "final_success_rate",
               "train_seconds", "start_up_seconds", "peak_memory_mb")
    print("  ".join(f"{name:>18}" for name in columns))
    for row in rows:
        cells = ("-" if row[name] is None else f"{row[name]:.3f}" if name == "final_success_rate" else f"{row[name]:.0f}"
                 for name in columns)
        print("  ".join(f"{cell:>18}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--num-envs", type=int, nargs="+", default=[4096, 1024])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "time_to_success.json")
    arguments, extra = parser.parse_known_args()
    rows = []
    for num_envs in arguments.num_envs:
        for seed in arguments.seeds:
            rows.append(run(num_envs, seed, extra))
            show(rows[-1:])
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine(), "overrides": extra, "runs": rows}, indent=1) + "\n")
    print()
    show(rows)


if __name__ == "__main__":
    main()
