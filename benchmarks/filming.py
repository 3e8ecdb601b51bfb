"""What capture_video=True adds to the main command: wall seconds besides those of training, with and without, in turn.

    python benchmarks/filming.py --rounds 2

Writes benchmarks/results/filming.json.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import training
from machine import machine
from training import ROOT


def run(films: bool, extra: list) -> dict:
    done = training.train("task=Go1Push", "algo=HAPPO", "num_envs=4096", f"capture_video={films}", *extra)
    return {"films": films, "wall_seconds": done.wall_seconds, "train_seconds": done.iterations[-1]["train_seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "filming.json")
    arguments, extra = parser.parse_known_args()
    run(False, [*extra, "max_iterations=1", "accelerate=compile"])  # so that none of the others compiles
    runs = [run(films, extra) for _ in range(arguments.rounds) for films in (False, True)]
    besides = {films: median(r["wall_seconds"] - r["train_seconds"] for r in runs if r["films"] == films) for films in (False, True)}
    added = besides[True] - besides[False]
    share = added / median(r["wall_seconds"] for r in runs if not r["films"])
    arguments.output.write_text(json.dumps({"machine": machine(), "overrides": extra, "added_seconds": added, "share": share, "runs": runs},
                                           indent=1) + "\n")
    print(f"two films add {added:.1f} s, {100 * share:.1f} % of the run")


if __name__ == "__main__":
    main()
