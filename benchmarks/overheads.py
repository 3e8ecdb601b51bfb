"""What logging, evaluating and filming take of the main command, by the clock of its own records.

    python benchmarks/overheads.py --rounds 3

Runs it with and without ``capture_video=True``, in turn. An iteration is logged between the end of its training and its record; an evaluation
lasts from there to its own record, which follows its film. Start-up, which varies by more than any of these, stays out. Shares are of
the training seconds; all figures are medians over runs. Writes benchmarks/results/overheads.json.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import training
from machine import commit, machine
from training import ROOT

KINDS = ("logging", "evaluations", "films")


def run(films: bool, extra: list) -> dict:
    done = training.train("task=Go1Push", "algo=HAPPO", "num_envs=4096", f"capture_video={films}", *extra)
    ended = {line["epoch"]: line for line in done.iterations}
    evaluated = {each["epoch"]: each["wall_time"] - ended[each["epoch"]]["wall_time"] for each in done.evaluations}
    logged = [after["wall_time"] - before["wall_time"] - (after["train_seconds"] - before["train_seconds"])
              for before, after in zip(done.iterations, done.iterations[1:]) if before["epoch"] not in evaluated]
    return {"films": films, "wall_seconds": done.wall_seconds, "train_seconds": done.iterations[-1]["train_seconds"],
            "logging_seconds": median(logged) * len(done.iterations), "evaluation_seconds": list(evaluated.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "overheads.json")
    arguments, extra = parser.parse_known_args()
    run(False, [*extra, "max_iterations=2", "accelerate=compile"])  # so that none of the others compiles
    runs = [run(films, extra) for _ in range(arguments.rounds) for films in (False, True)]
    plain, filmed = ([each for each in runs if each["films"] == films] for films in (False, True))
    evaluations = median(sum(each["evaluation_seconds"]) for each in plain)
    seconds = {"logging": median(each["logging_seconds"] for each in runs), "evaluations": evaluations,
               "films": median(sum(each["evaluation_seconds"]) for each in filmed) - evaluations}
    trained = median(each["train_seconds"] for each in runs)
    arguments.output.write_text(json.dumps({"machine": machine(), "commit": commit(), "overrides": extra, "train_seconds": trained, **{
        kind: {"seconds": seconds[kind], "share": seconds[kind] / trained} for kind in KINDS}, "runs": runs}, indent=1) + "\n")
    for kind in KINDS:
        print(f"{kind:<12} {seconds[kind]:>6.1f} s {100 * seconds[kind] / trained:>6.1f} %")


if __name__ == "__main__":
    main()
