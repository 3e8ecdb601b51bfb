"""HAPPO with HARL's settings on two tasks of MPE and one of MaMuJoCo, three seeds each.

    python benchmarks/outside.py num_threads=1 --seeds 1 2 3

Runs the main command in a process of its own for every task and seed, reads its metrics.jsonl and writes
benchmarks/results/outside.json after each: started again, it runs only what is missing (delete the file to begin anew). A return is
the mean of the deterministic policy's, the sum of the agents' rewards, as HARL reports it; curves hold steps, seconds of training and
return. HARL's tuned settings train for 10 M steps; --steps says how many are trained here. Overrides of the config come first.
"""
from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Dict, List

from machine import machine
from training import ROOT, train

TASKS: Dict[str, List[str]] = {
    "simple_spread, continuous": ["task=PettingZoo", "task.env.id=mpe2.simple_spread_v3"],
    "simple_speaker_listener, discrete": ["task=PettingZoo", "task.env.id=mpe2.simple_speaker_listener_v4",
                                          "task.env.options.continuous_actions=false"],
    "HalfCheetah 2x3": ["task=MaMuJoCo"],
}
STEPS_OF_AN_ITERATION = 200 * 20  # of cfg/train and cfg/task: steps of a rollout and environments
EVALUATIONS = 40  # over a run


def run(task: str, seed: int, steps: int, extra: List[str]) -> Dict[str, Any]:
    """One training run; its figures."""
    iterations = max(1, steps // STEPS_OF_AN_ITERATION)
    ended = train(*TASKS[task], "algo=HAPPO", f"seed={seed}", f"max_iterations={iterations}",
                  f"eval_every={max(1, iterations // EVALUATIONS)}", *extra)
    evaluations = ended.evaluations
    return {
        "task": task, "seed": seed, "steps": steps, "return": evaluations[-1]["mean_return"], "frames": evaluations[-1]["frames"],
        "train_seconds": evaluations[-1]["train_seconds"], "wall_seconds": ended.wall_seconds,
        "steps_per_second": statistics.median(line["performance/step_inference_rl_update_fps"] for line in ended.iterations),
        "curve": [[e["frames"], e["train_seconds"], e["mean_return"]] for e in evaluations],
    }


def show(row: Dict[str, Any]) -> None:
    print(f"{row['task']:<35} {row['seed']:>4} {row['frames']:>11,} {row['curve'][0][2]:>9.1f} {row['return']:>9.1f} "
          f"{row['steps_per_second']:>8.0f} {row['train_seconds']:>8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "outside.json")
    arguments, extra = parser.parse_known_args()
    results = {"machine": machine(), "overrides": extra, "runs": []}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())
        if results["overrides"] != extra:
            raise SystemExit(f"{arguments.output} holds runs under {results['overrides']}, not {extra}; give another --output")
    print(f"{'task':<35} {'seed':>4} {'steps':>11} {'first':>9} {'last':>9} {'steps/s':>8} {'seconds':>8}", flush=True)
    done = {(row["task"], row["seed"], row["steps"]): row for row in results["runs"]}
    for task in arguments.tasks:
        for seed in arguments.seeds:
            row = done.get((task, seed, arguments.steps))
            if row is None:
                row = run(task, seed, arguments.steps, extra)
                results["runs"].append(row)
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(json.dumps(results, indent=1) + "\n")
            show(row)


if __name__ == "__main__":
    main()
