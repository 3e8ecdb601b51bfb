"""Policies of the planar simulator go on learning on whole robots for some minutes: success before and after, on the same starts.

    python train.py seed=1; python train.py seed=2; python train.py seed=3
    python benchmarks/fine_tuning.py runs/<run>/nn/Go1Push.pth ...

Fine-tuning is `python train.py sim=mujoco train=Go1PushFineTuning checkpoint=...` with a seed of its own; what it leaves is the best of its
evaluations, whose starts are not those of this benchmark. Exceptions are falls and collisions of the robots. Writes
benchmarks/results/fine_tuning.json after every checkpoint.
"""
from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from transfer import ROOT, push  # first: it prepares the process

import training
from machine import commit, machine

COMMAND = ["task=Go1Push", "algo=HAPPO", "sim=mujoco", "train=Go1PushFineTuning"]


def fine_tune(path: Path, seed: int, episodes: int) -> Dict[str, Any]:
    """Figures of one checkpoint before and after."""
    before = push(path, episodes, "own")
    with tempfile.TemporaryDirectory() as home:
        done = training.train_in(Path(home), *COMMAND, f"checkpoint={path.resolve()}", f"seed={seed}")
        (tuned,) = Path(home).glob("runs/*/nn/Go1Push.pth")
        after = push(tuned, episodes, "own")
    return {"checkpoint": seed, "before": before, "after": after, "minutes": done.wall_seconds / 60.0, "frames": done.iterations[-1]["frames"],
            "evaluations": [{key: each[key] for key in ("epoch", "success_rate", "collision_rate")} for each in done.evaluations]}


def show(row: Dict[str, Any]) -> None:
    cells = []
    for when in ("before", "after"):
        low, high = row[when]["success_rate_ci95"]
        cells.append(f"{when}: {100 * row[when]['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], exceptions {100 * row[when]['collision_rate']:.1f} %, "
                     f"{row[when]['finished_time']:.2f} s")
    print(f"checkpoint {row['checkpoint']}   " + "   ".join(cells) + f"   {row['minutes']:.1f} minutes, {row['frames']:,} steps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "fine_tuning.json")
    arguments = parser.parse_args()
    rows: List[Dict[str, Any]] = []
    for seed, path in enumerate(arguments.checkpoints, 1):
        rows.append(fine_tune(path, seed, arguments.episodes))
        show(rows[-1])
        arguments.output.write_text(json.dumps({"machine": machine(), "commit": commit(), "command": COMMAND, "rows": rows}, indent=1) + "\n")
    for when in ("before", "after"):
        rates = [row[when]["success_rate"] for row in rows]
        print(f"{when}: mean {100 * sum(rates) / len(rates):.1f} %, lowest {100 * min(rates):.1f} %")


if __name__ == "__main__":
    main()
