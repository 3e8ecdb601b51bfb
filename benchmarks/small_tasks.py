"""The four small tasks under HAPPO, MAPPO and HATRPO, against a scripted policy that sees everything.

    python benchmarks/small_tasks.py num_threads=1 --seeds 1 2 3

Runs the main command in a process of its own for every task, algorithm and seed, reads its
metrics.jsonl and writes benchmarks/results/small_tasks.json. A score is the mean reward per step (in
Recall: of the one step that is rewarded) of the deterministic policy in the run's last evaluation;
the bound is the scripted policy's in the same episodes. ``no memory`` is the control: Recall without
a recurrent network, where guessing is right one time in six. Overrides of the config come first.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from training import ROOT, train

sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed

import yaml  # noqa: E402
from machine import machine  # noqa: E402

from happo_gpu import build, config  # noqa: E402
from happo_gpu.evaluate import evaluate  # noqa: E402
from happo_gpu.trainer import EVALUATION_SEED  # noqa: E402

TASKS = ("Spread", "Harvest", "Recall", "Crew")
ALGORITHMS = ("HAPPO", "MAPPO", "HATRPO")
NO_MEMORY = "algo.model.recurrent=none"
SOLVED = 0.95  # of the bound


def run(task: str, algorithm: str, seed: int, extra: list) -> dict:
    """One training run; its figures."""
    ended = train(f"task={task}", f"algo={algorithm}", f"seed={seed}", *extra)
    bound, evaluations = scripted_score(ended.config), ended.evaluations
    solved = (e["train_seconds"] for e in evaluations if e["mean_score"] >= SOLVED * bound)
    return {
        "task": task, "algorithm": algorithm, "memory": NO_MEMORY not in extra, "seed": seed,
        "score": evaluations[-1]["mean_score"], "bound": bound, "ratio": evaluations[-1]["mean_score"] / bound,
        "train_seconds": evaluations[-1]["train_seconds"], "seconds_to_95": next(solved, None),
        "frames": evaluations[-1]["frames"], "wall_seconds": ended.wall_seconds,
        "curve": [[e["train_seconds"], e["frames"], e["mean_score"]] for e in evaluations],
    }


def scripted_score(written: str) -> float:
    """The scripted policy's score in the episodes that the run's evaluations play."""
    cfg = config.parse(yaml.safe_load(written))
    task = build.build_task(cfg, cfg.train.eval_envs, build.device_of(cfg), "eager")
    return evaluate(task, None, EVALUATION_SEED)["mean_score"]


def show(row: dict) -> None:
    label = row["algorithm"] if row["memory"] else f"{row['algorithm']}, no memory"
    to_95 = "-" if row["seconds_to_95"] is None else f"{row['seconds_to_95']:.0f}"
    print(f"{row['task']:<8} {label:<17} {row['seed']:>4} {row['score']:>7.3f} {row['bound']:>7.3f} "
          f"{100 * row['ratio']:>6.1f} {to_95:>9} {row['train_seconds']:>9.0f} {row['wall_seconds']:>7.0f}", flush=True)


def show_header() -> None:
    print(f"{'task':<8} {'algorithm':<17} {'seed':>4} {'score':>7} {'bound':>7} {'%':>6} {'s to 95 %':>9} "
          f"{'s trained':>9} {'s wall':>7}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "small_tasks.json")
    arguments, extra = parser.parse_known_args()
    cases = [(task, algorithm, []) for task in arguments.tasks for algorithm in arguments.algorithms]
    cases += [(task, "HAPPO", [NO_MEMORY]) for task in arguments.tasks if task == "Recall"]
    rows = []
    show_header()
    for task, algorithm, control in cases:
        for seed in arguments.seeds:
            rows.append(run(task, algorithm, seed, extra + control))
            show(rows[-1])
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine(), "overrides": extra, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
