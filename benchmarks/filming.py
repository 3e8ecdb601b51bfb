"""What capture_video=True adds to the main command: the seconds of its evaluations with and without films, in turn.

    python benchmarks/filming.py --rounds 3

An evaluation lasts from the record of the iteration before it to its own, which follows its film. Start-up, which varies by more than
films cost, stays out. Writes benchmarks/results/filming.json.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import training
from machine import commit, machine
from training import ROOT


def run(films: bool, extra: list) -> dict:
    done = training.train("task=Go1Push", "algo=HAPPO", "num_envs=4096", f"capture_video={films}", *extra)
    ended = {line["epoch"]: line["wall_time"] for line in done.iterations}
    return {"films": films, "wall_seconds": done.wall_seconds, "train_seconds": done.iterations[-1]["train_seconds"],
            "evaluation_seconds": [each["wall_time"] - ended[each["epoch"]] for each in done.evaluations]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "filming.json")
    arguments, extra = parser.parse_known_args()
    run(False, [*extra, "max_iterations=1", "accelerate=compile"])  # so that none of the others compiles
    runs = [run(films, extra) for _ in range(arguments.rounds) for films in (False, True)]
    spent = {films: median(sum(r["evaluation_seconds"]) for r in runs if r["films"] == films) for films in (False, True)}
    added = spent[True] - spent[False]
    wall = median(r["wall_seconds"] for r in runs if not r["films"])
    arguments.output.write_text(json.dumps({"machine": machine(), "commit": commit(), "overrides": extra, "added_seconds": added,
                                            "share": added / wall, "evaluations_share": spent[False] / wall, "runs": runs}, indent=1) + "\n")
    print(f"evaluations take {spent[False]:.1f} s, {100 * spent[False] / wall:.1f} % of the run; "
          f"their films {added:.1f} s more, {100 * added / wall:.1f} %")


if __name__ == "__main__":
    main()
