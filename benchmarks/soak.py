"""Whether a long run's memory and rate stay what they were: the main command, watched for an hour.

    python benchmarks/soak.py                               # an hour at 1,024 environments
    python benchmarks/soak.py --minutes 10 --num-envs 4096 algo=MAPPO

Evaluations and checkpoints are part of it. Memory is what the process holds (and its GPU, where there is one), read every
few seconds; after the first sixth of the time it should grow by less than 1 %. The rate is that of whole iterations, evaluations
and checkpoints left out; its drift compares the medians of the last and the first third after that. Writes
benchmarks/results/soak.json.
"""
from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
ENDLESS = 1_000_000  # iterations; the learning rate, which falls over them, hardly moves
WARM_UP, ALLOWED_GROWTH = 1 / 6, 0.01


def soak(num_envs: int, seconds: float, every: float, overrides: List[str]) -> Dict[str, List[Dict[str, float]]]:
    """Memory samples (seconds, MB) and iterations (seconds, frames per second) of one run."""
    command = [sys.executable, str(ROOT / "train.py"), f"num_envs={num_envs}", "save_every=20", f"max_iterations={ENDLESS}", *overrides]
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.startswith("Started to train"):
                break
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        start, begun, samples = time.monotonic(), time.time(), []
        while time.monotonic() - start < seconds and process.poll() is None:
            time.sleep(every)
            samples.append({"seconds": time.monotonic() - start, **megabytes(process.pid)})
            print(f"\r{samples[-1]['seconds']:7.0f} s  {samples[-1]['MB']:,.1f} MB", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        died = process.poll() is not None
        process.send_signal(signal.SIGINT)  # finishes the iteration and saves
        if process.wait() or died:
            raise SystemExit(f"the run ended by itself with exit code {process.returncode}")
        drain.wait()
        (metrics,) = Path(home).glob("runs/*/metrics.jsonl")
        return {"memory": samples, "rates": rates(metrics, begun)}


def megabytes(pid: int) -> Dict[str, float]:
    """Of the process, and of the GPUs' processes of that number."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    held = {"MB": next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))}
    try:
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        rows = [line.split(",") for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):  # no such GPU
        return held
    return {**held, "GPU MB": sum(float(used) for number, used in rows if int(number) == pid)}


def rates(metrics: Path, begun: float) -> List[Dict[str, float]]:
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    tag = "performance/step_inference_rl_update_fps"
    return [{"seconds": each["wall_time"] - begun, "frames_per_s": each[tag]} for each in records if tag in each]


def verdict(found: Dict[str, List[Dict[str, float]]], seconds: float) -> Dict[str, Any]:
    """Growth and drift as shares of what was there after the warm-up."""
    warm = WARM_UP * seconds
    held = [each for each in found["memory"] if each["seconds"] >= warm]
    ran = [each["frames_per_s"] for each in found["rates"] if each["seconds"] >= warm]
    if len(held) < 10 or len(ran) < 9:
        raise SystemExit(f"{len(held)} memory samples and {len(ran)} iterations after the warm-up say nothing: raise --minutes")
    told = {}
    for name in held[0].keys() - {"seconds"}:
        tenth, values = len(held) // 10, [each[name] for each in held]
        first, last = median(values[:tenth]), median(values[-tenth:])
        told[name] = {"after_warm_up": first, "at_end": last, "growth": last / first - 1.0 if first else 0.0}
    third = len(ran) // 3
    told["frames_per_s"] = {"first_third": median(ran[:third]), "last_third": median(ran[-third:]),
                            "drift": median(ran[-third:]) / median(ran[:third]) - 1.0, "iterations": len(ran)}
    told["memory_is_flat"] = all(each["growth"] < ALLOWED_GROWTH for name, each in told.items() if name.endswith("MB"))
    return told


def by_minute(samples: List[Dict[str, float]]) -> List[Dict[str, float]]:
    """Medians."""
    minutes: Dict[int, List[Dict[str, float]]] = {}
    for each in samples:
        minutes.setdefault(int(each["seconds"] // 60), []).append(each)
    return [{"minute": minute, **{name: median(each[name] for each in own) for name in own[0].keys() - {"seconds"}}} for minute, own in minutes.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between memory samples")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    given, overrides = parser.parse_known_args()
    found = soak(given.num_envs, 60.0 * given.minutes, given.every, overrides)
    told = verdict(found, 60.0 * given.minutes)
    for name, each in told.items():
        print(name, json.dumps(each))
    given.output.write_text(json.dumps({"machine": machine(), "num_envs": given.num_envs, "minutes": given.minutes, "overrides": overrides,
                                        "verdict": told, "memory": by_minute(found["memory"]), "rates": by_minute(found["rates"])}, indent=1) + "\n")
    print(f"memory {'flat' if told['memory_is_flat'] else 'GROWS'}: {100 * told['MB']['growth']:+.2f} % after the warm-up; "
          f"rate {100 * told['frames_per_s']['drift']:+.1f} %; {given.output}")
    sys.exit(not told["memory_is_flat"])


if __name__ == "__main__":
    main()
