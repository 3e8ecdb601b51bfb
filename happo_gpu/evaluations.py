"""Results of many evaluations: one line each in a directory's evaluations.jsonl, a table, and curves over frames.

Results are of the same settings where task and simulator agree key by key: ``settings`` is a digest of both, ``typed`` what a
person typed of them. Of one checkpoint, settings, seed and number of episodes the last line counts.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from happo_gpu.config import Config
from happo_gpu.config.tasks import WITHOUT_SIM
from happo_gpu.evaluate import wilson_interval

FILE = "evaluations.jsonl"
SAME = ("content", "settings", "seed", "episodes")  # what makes two results the same
Result = Dict[str, Any]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def settings_of(cfg: Config, seed: int, typed: Sequence[str]) -> Result:
    """What a result is under; ``typed`` are the overrides of task and sim."""
    has_sim = not isinstance(cfg.task, WITHOUT_SIM)
    task, sim = dataclasses.asdict(cfg.task), dataclasses.asdict(cfg.sim) if has_sim else {}
    episodes = task["env"].pop("numEnvs")
    task["env"].pop("numWorkers", None)  # changes no number
    named = {"task": cfg.task.name, **({"sim": cfg.sim.name} if has_sim else {})}
    settings = digest(json.dumps([task, sim], sort_keys=True).encode())
    return {**named, "typed": sorted(typed), "seed": seed, "episodes": episodes, "settings": settings}


# -- the file ----------------------------------------------------------------------------------------


def identity(result: Result) -> Tuple[Any, ...]:
    return tuple(result[key] for key in SAME)


def read(directory: Path) -> Dict[Tuple[Any, ...], Result]:
    """Every result by its identity, in order of writing; a line that a kill cut short is left out."""
    path, results = directory / FILE, {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            result = json.loads(line)
        except ValueError:
            continue
        results[identity(result)] = result
    return results


def append(directory: Path, result: Result) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / FILE).open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        cut = file.read() not in (b"", b"\n")  # a kill ended the line before
        file.write(b"\n" * cut + json.dumps(result).encode() + b"\n")


# -- the table ---------------------------------------------------------------------------------------


def _success(result: Result) -> str:
    low, high = result["success_rate_ci95"]
    return f"{100 * result['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


COLUMNS: List[Tuple[str, str, Callable[[Result], str]]] = [  # title, the key that it needs, cell
    ("epoch", "epoch", lambda result: str(result["epoch"])),
    ("frames", "frames", lambda result: f"{result['frames'] / 1e6:.2f} M"),
    ("success [95 %]", "success_rate", _success),
    ("finished", "finished_time", lambda result: f"{result['finished_time']:.2f} s"),
    ("return", "mean_return", lambda result: f"{result['mean_return']:.3f}"),
    ("collaboration", "collaboration_degree", lambda result: f"{result['collaboration_degree']:.2f}"),
    ("together", "pushing_together", lambda result: f"{result['pushing_together']:.2f}"),
    ("collisions", "collision_rate", lambda result: f"{100 * result['collision_rate']:.1f} %"),
    ("checkpoint", "checkpoint", lambda result: result["checkpoint"]),
]


def table(results: Sequence[Result]) -> str:
    """A line for each result, without the columns that none has."""
    columns = [column for column in COLUMNS if any(column[1] in result for result in results)]
    rows = [[title for title, _, _ in columns]]
    rows += [[cell(result) if key in result else "-" for _, key, cell in columns] for result in results]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


# -- curves ------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A checkpoint's figure, over all of its seeds; success has its 95 % interval, a return has none."""

    frames: int
    value: float
    low: float
    high: float
    best: bool  # the run's best checkpoint rather than one of the periodic ones


def curves(results: Sequence[Result]) -> Dict[str, List[Point]]:
    """For each settings, named by what was typed, a point for each checkpoint, by frames."""
    groups: Dict[str, List[Result]] = {}
    for result in results:
        groups.setdefault(result["settings"], []).append(result)
    named: Dict[str, List[Point]] = {}
    for members in groups.values():
        checkpoints: Dict[str, List[Result]] = {}
        for result in members:
            checkpoints.setdefault(result["content"], []).append(result)
        name = " ".join(min((result["typed"] for result in members), key=len)) or "as trained"
        if name in named:  # the files under cfg/ have changed between two evaluations
            name += f" ({members[0]['settings']})"
        named[name] = sorted(pooled(same) for same in checkpoints.values())
    return named


def pooled(results: Sequence[Result]) -> Point:
    """One checkpoint's results under the same settings; of each seed, the one of most episodes."""
    by_seed: Dict[int, Result] = {}
    for result in sorted(results, key=lambda result: result["episodes"]):
        by_seed[result["seed"]] = result
    key = "success_rate" if "success_rate" in results[0] else "mean_return"
    episodes = sum(result["episodes"] for result in by_seed.values())
    value = sum(result["episodes"] * result[key] for result in by_seed.values()) / episodes
    low, high = wilson_interval(value, episodes) if key == "success_rate" else (value, value)
    return Point(results[0]["frames"], value, low, high, not results[0]["checkpoint"].startswith("last_"))
