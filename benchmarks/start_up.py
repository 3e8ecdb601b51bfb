"""Start-up of the main command: with an empty compile cache, and again with what that left.

    python benchmarks/start_up.py

Writes benchmarks/results/start_up.json. The command is stopped once it has begun to train.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["task=Go1Push", "algo=HAPPO", "num_envs=4096", "seed=1"]


def start(home: str, cache: str) -> float:
    """Seconds that one start printed."""
    env = {**os.environ, "HAPPO_GPU_CACHE": cache}
    with subprocess.Popen([sys.executable, str(ROOT / "train.py"), *COMMAND], cwd=home, env=env,
                          stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            found = re.search(r"start-up ([\d.]+) s", line)
            if found:
                process.kill()
                return float(found.group(1))
    raise SystemExit(f"train.py {' '.join(COMMAND)} did not begin to train")


def main() -> None:
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as cache:
        seconds = {"empty_cache": start(home, cache), "warm_cache": [start(home, cache) for _ in range(3)]}
    print(seconds)
    results = ROOT / "benchmarks" / "results" / "start_up.json"
    results.write_text(json.dumps({"machine": machine(), "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
