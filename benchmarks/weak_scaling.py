"""How much more several processes simulate and learn than one, each with as many environments: torchrun with 1, 2, 4, ...

    python benchmarks/weak_scaling.py                       # as many processes as GPUs, without one as CPU cores
    python benchmarks/weak_scaling.py --processes 1 2 --num-envs 2048 algo=MAPPO

GPUs meet through NCCL, CPU processes through gloo with one thread each. The rate counts the frames of all processes, in whole iterations
(simulator, policies, update) and without evaluations; the goal is 1.9 times one GPU's with two. Writes
benchmarks/results/weak_scaling_<device>.json.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import List

from machine import device_name, machine

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = 3  # iterations at the start


def rate(processes: int, num_envs: int, iterations: int, overrides: List[str]) -> float:
    """Median frames per second of an iteration, of all processes together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", str(ROOT / "train.py"),
               f"num_envs={num_envs}", f"max_iterations={LEFT_OUT + iterations}", "eval_every=0", "save_every=0", *overrides]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{processes} processes failed:\n{done.stderr[-2000:]}")
        (metrics,) = Path(home).glob("runs/*/metrics.jsonl")
        records = [json.loads(line) for line in metrics.read_text().splitlines()]
    return median(each["performance/step_inference_rl_update_fps"] for each in records[LEFT_OUT:])


def powers_of_two() -> List[int]:
    """1, 2, 4, ... to as many processes as this machine has devices for."""
    import torch

    most = torch.cuda.device_count() or os.cpu_count() or 1
    return [2**i for i in range(most.bit_length()) if 2**i <= most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[])
    parser.add_argument("--num-envs", type=int, default=1024, help="of each process")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--output", type=Path, default=None)
    given, overrides = parser.parse_known_args()
    import torch

    if not torch.cuda.is_available():
        overrides = ["num_threads=1", *overrides]  # or one process would use the cores of two
    rows = []
    print(f"{'processes':>9}{'environments':>14}{'frames/s':>12}{'times one':>12}{'each keeps':>12}")
    for processes in given.processes or powers_of_two():
        found = rate(processes, given.num_envs, given.iterations, overrides)
        first = rows[0] if rows else {"frames_per_s": found, "processes": processes}
        times = found / first["frames_per_s"] * first["processes"]
        rows.append({"processes": processes, "num_envs": given.num_envs, "frames_per_s": found, "times_one": times,
                     "efficiency": times / processes})
        print(f"{processes:>9}{processes * given.num_envs:>14,}{found:>12,.0f}{times:>12.2f}{100 * times / processes:>10.0f} %", flush=True)
    output = given.output or ROOT / "benchmarks" / "results" / f"weak_scaling_{device_name()}.json"
    output.write_text(json.dumps({"machine": machine(), "backend": "nccl" if torch.cuda.is_available() else "gloo",
                                  "overrides": overrides, "iterations": given.iterations, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
