"""Everything that needs a GPU, in one call under 8 minutes: tests, rates, a learning run; one table at the end.

    python benchmarks/gpu_check.py [--num-envs 1024 4096 16384 65536]

Not run by us yet: no GPU was at hand. It runs `pytest tests/test_gpu.py`, benchmarks/throughput.py eagerly with 4,096
environments and with CUDA graphs for every size, and the main command once to its end. What fails is said and the rest goes
on. Writes benchmarks/results/gpu_check_<device>.json.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from machine import device_name, machine
from time_to_success import run
from training import ROOT

DEVICE = ["sim_device=cuda:0", "rl_device=cuda:0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_check: this torch sees no GPU; install one that does (https://pytorch.org/get-started) or leave it", file=sys.stderr)
        raise SystemExit(2)
    started = time.perf_counter()
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "test_gpu.py")], cwd=ROOT).returncode
    rates = {"eager": rates_of([4096], "accelerate=eager"), "graph": rates_of(arguments.num_envs, "accelerate=graph")}
    try:
        learning: Optional[Dict[str, Any]] = run(4096, 1, DEVICE)
    except SystemExit as error:
        print(error)
        learning = None
    result = {"machine": machine(), "tests_passed": tests == 0, "rates": rates, "learning": learning}
    output = ROOT / "benchmarks" / "results" / f"gpu_check_{device_name()}.json"
    output.write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    print(f"{time.perf_counter() - started:.0f} s; {output.relative_to(ROOT)}")


def rates_of(sizes: List[int], mode: str) -> List[Dict[str, Any]]:
    """Rows of benchmarks/throughput.py; empty if it fails."""
    with tempfile.TemporaryDirectory() as home:
        output = Path(home) / "rates.json"
        command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), mode, *DEVICE, "--rounds", "5", "--output", str(output),
                   "--num-envs", *map(str, sizes)]
        subprocess.run(command, cwd=ROOT)
        return json.loads(output.read_text())["rows"] if output.exists() else []


def show(result: Dict[str, Any]) -> None:
    print(f"\n{'':>8}{'envs':>9}{'env-steps/s':>14}{'simulator':>14}{'learner':>14}{'MB':>8}")
    for mode, rows in result["rates"].items():
        for row in rows:
            rates = row["rates"]
            print(f"{mode:>8}{row['num_envs']:>9,}{rates['end_to_end']:>14,.0f}{rates['simulator']:>14,.0f}{rates['learner']:>14,.0f}"
                  f"{row['peak_memory_mb']:>8,.0f}")
    learning = result["learning"]
    if learning:
        print(f"main command: 95 % after {learning['seconds_to_95']} s, {100 * learning['final_success_rate']:.1f} % at the end of "
              f"{learning['train_seconds']:.0f} s, {learning['frames']:,} steps; start-up {learning['start_up_seconds']:.0f} s")
    print(f"tests: {'passed' if result['tests_passed'] else 'FAILED'}")


if __name__ == "__main__":
    main()
