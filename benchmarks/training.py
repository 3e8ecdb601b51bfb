"""One run of the main command in a process and a folder of its own: what benchmarks take their figures from."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """What a run that has ended left behind."""

    iterations: List[Dict[str, Any]]  # lines of metrics.jsonl
    evaluations: List[Dict[str, Any]]  # of the same file
    config: str  # config.yaml
    console: str
    wall_seconds: float
    peak_memory_mb: float


def train(*overrides: str) -> Run:
    """Runs ``train.py`` with these overrides to its end; one that fails ends the benchmark with its last words."""
    with tempfile.TemporaryDirectory() as home:
        return train_in(Path(home), *overrides)


def train_in(home: Path, *overrides: str) -> Run:
    """Likewise in a folder that stays: its one run is in ``home/runs``."""
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    started = time.perf_counter()
    with open(home / "console.txt", "w") as console:
        process = subprocess.Popen(command, cwd=str(home), stdout=console, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # this child's own peak memory
    wall = time.perf_counter() - started
    text = (home / "console.txt").read_text()
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{text[-2000:]}")
    (metrics,) = home.glob("runs/*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return Run([line for line in lines if "epoch" in line], [line["evaluation"] for line in lines if "evaluation" in line],
               (metrics.parent / "config.yaml").read_text(), text, wall, usage.ru_maxrss / 1024)
