"""The pushing family, every task with its own preset and several seeds: the table of the README.

    python benchmarks/push_family.py num_threads=1
    python benchmarks/push_family.py num_threads=1 --tasks Go1PushHeavy --seeds 1
    python benchmarks/push_family.py num_threads=1 --tasks Go1PushLong Go1PushUpper --pusher runs/<a run of Go1Push>/nn/Go1Push.pth

Runs the main command in a process of its own for every task and seed and adds a row to
benchmarks/results/push_family.json as soon as it has ended. What is there already is not run again, so that the
table can be made piece by piece; delete a row, or the file, to run it anew. ``--table`` only prints what is there.
Figures are of the run's last evaluation: 1,000 first episodes, deterministic policy, whichever was the best before.

``Go1PushHeavy, alone`` is the control: one robot learns the task that needs two. The last two tasks lead a trained pusher past
obstacles: Go1PushLong trains nothing, so that its seeds are of episodes and maps; Go1PushUpper trains the level above.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from machine import commit, machine
from time_to_success import figures, train
from training import ROOT

from happo_gpu.evaluate import wilson_interval

OUTPUT = ROOT / "benchmarks" / "results" / "push_family.json"
TASKS = {  # name: overrides
    "Go1Push": ["task=Go1Push"],
    "Go1PushPartialObs": ["task=Go1PushPartialObs"],
    "Go1WheeledPush": ["task=Go1WheeledPush"],
    "Go1PushTee": ["task=Go1PushTee"],
    "Go1PushCylinder": ["task=Go1PushCylinder"],
    "Go1PushHeading": ["task=Go1PushHeading"],
    "Go1PushHeavy": ["task=Go1PushHeavy"],
    "Go1PushHeavy, alone": ["task=Go1PushHeavy", "task.numAgents=1"],
}
LED = {"Go1PushLong": "checkpoint", "Go1PushUpper": "task.upper.checkpoint"}  # name: the key that takes a trained pusher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS, *LED], default=TASKS)
    parser.add_argument("--pusher", type=Path, help="a checkpoint of Go1Push, for the tasks that lead one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", action="store_true", help="print the table of the results file and stop")
    arguments, extra = parser.parse_known_args()
    if set(LED) & set(arguments.tasks) and not arguments.pusher:
        parser.error(f"{' and '.join(LED)} lead a trained team; write --pusher runs/<a run of Go1Push>/nn/Go1Push.pth")
    rows = json.loads(arguments.output.read_text())["runs"] if arguments.output.is_file() else []
    for seed in arguments.seeds if not arguments.table else []:  # all tasks with one seed before the next
        for task in arguments.tasks:
            if any((row["task"], row["seed"], row["overrides"]) == (task, seed, extra) for row in rows):
                continue
            rows.append({"task": task, "commit": commit(), "overrides": extra, **measure(task, arguments.pusher, extra, seed)})
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
            print(line(f"{task}, seed {seed}", rows[-1:]), flush=True)
    table(rows)


def measure(task: str, pusher: Path, extra: list, seed: int) -> dict:
    overrides = TASKS[task] if task in TASKS else [f"task={task}", f"{LED[task]}={pusher.resolve()}"]
    return lead(overrides + extra, pusher, seed) if task == "Go1PushLong" else train(overrides + extra, seed)


def lead(overrides: list, pusher: Path, seed: int) -> dict:
    """One evaluation of a pusher on maps that it has not seen; its figures."""
    command = [sys.executable, str(ROOT / "train.py"), "test=True", "num_envs=200", "accelerate=compile", *overrides, f"seed={seed}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result = json.loads((pusher.resolve().parent.parent / "evaluation.json").read_text())
    return {"seed": seed, **figures(result), "train_seconds": 0.0, "frames": 0}


def table(rows: list) -> None:
    """A line for each task: successes of all seeds taken together, medians over seeds of all else."""
    print(f"\n{'':<30}{'seeds':>6}{'success [95 %]':>22}{'lowest':>9}{'time to goal':>14}{'near the box':>14}{'together':>10}"
          f"{'env-steps':>11}{'training':>10}")
    for task in [*TASKS, *LED]:
        own = [row for row in rows if row["task"] == task]
        if own:
            print(line(task, own))


def line(label: str, rows: list) -> str:
    rates = [row["final_success_rate"] for row in rows]
    rate = sum(rates) / len(rates)
    low, high = wilson_interval(rate, sum(row["episodes"] for row in rows))
    time, near, together, frames, seconds = (
        median(row[key] for row in rows)
        for key in ("final_finished_time_of_successes", "final_collaboration_degree", "final_pushing_together", "frames", "train_seconds")
    )
    success = f"{100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    when = f"{time:.1f} s" if rate else "-"
    return (f"{label:<30}{len(rows):>6}{success:>22}{100 * min(rates):>7.1f} %{when:>14}{100 * near:>12.0f} %{100 * together:>8.0f} %"
            f"{frames / 1e6:>9.1f} M{seconds / 60:>6.1f} min")


if __name__ == "__main__":
    main()
