"""What a run says: device-side sums, and the console, TensorBoard and jsonl that read them."""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from happo_gpu import distributed


class EpisodeMeans:
    """Means over the episodes that ended since the last reading in any process, summed on the device."""

    def __init__(self) -> None:
        self._names: List[str] = []
        self._sums: Optional[Tensor] = None  # (M + 1,), the last entry counts episodes

    def add(self, extras: Dict[str, Any]) -> None:
        """Reads one step's ``extras["episode"]`` where ``extras["reset"]``; no host synchronisation."""
        ended = extras["reset"].to(torch.float32)  # (N,)
        self._names = list(extras["episode"])
        values = torch.stack(list(extras["episode"].values()) + [torch.ones_like(ended)])  # (M + 1, N)
        sums = torch.where(ended > 0.0, values, torch.zeros_like(values)).sum(-1)
        self._sums = sums if self._sums is None else self._sums + sums

    def take(self) -> Dict[str, float]:
        """Means by name and the number of episodes; clears the sums. One transfer to the host."""
        if self._sums is None:
            return {"episodes": 0.0}
        *sums, count = distributed.total(self._sums).tolist()
        self._sums = None
        means = {name: total / count for name, total in zip(self._names, sums)} if count else {}
        return {**means, "episodes": count}


class PhaseTimer:
    """Seconds of each phase. On CUDA it records events and reads them once, in :meth:`take`."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._laps: List[Tuple[str, Any]] = []

    def start(self) -> None:
        self.lap("")

    def lap(self, phase: str) -> None:
        """Says that ``phase`` has ended now, having begun at the last lap."""
        if self._cuda:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        else:
            mark = time.perf_counter()
        self._laps.append((phase, mark))

    def take(self) -> Dict[str, float]:
        """Seconds by phase since the last reading."""
        seconds: Dict[str, float] = {}
        if self._cuda and self._laps:
            self._laps[-1][1].synchronize()
        for (_, before), (phase, after) in zip(self._laps, self._laps[1:]):
            elapsed = before.elapsed_time(after) / 1e3 if self._cuda else after - before
            seconds[phase] = seconds.get(phase, 0.0) + elapsed
        self._laps = []
        seconds.pop("", None)
        return seconds


def to_host(stats: Dict[str, Tensor]) -> Dict[str, float]:
    """Reads 0-d tensors in one transfer: means over the processes."""
    values = torch.stack([value.detach().to(torch.float32).reshape(()) for value in stats.values()])
    return dict(zip(stats, distributed.mean(values).tolist()))


def _forget_after(path: Path, frame: int) -> None:
    """Drops the lines that a killed run wrote after its last checkpoint; the resumed run rewrites them."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the line that the kill cut short
            continue
        if record.get("evaluation", record)["frames"] <= frame:
            kept.append(line + "\n")
    path.write_text("".join(kept))


class Logger:
    """Writes metrics.jsonl, TensorBoard and one console line per logged iteration."""

    def __init__(self, run_dir: Path, first_frame: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import; only runs that log need it

        path = run_dir / "metrics.jsonl"
        _forget_after(path, first_frame)
        self._jsonl = path.open("a")
        self._board = SummaryWriter(str(run_dir / "summaries"), purge_step=first_frame or None)
        self._live = sys.stdout.isatty()

    def iteration(self, record: Dict[str, float]) -> None:
        """One logged iteration: every tag of ``record`` at x = frames; three x-axes for the rewards."""
        self._jsonl.write(json.dumps(record) + "\n")
        self._jsonl.flush()
        frame, epoch, seconds = int(record["frames"]), int(record["epoch"]), record["train_seconds"]
        for tag, value in record.items():
            if "/" in tag:
                self._board.add_scalar(tag, value, frame)
        for tag, key in (("rewards", "Episode/return"), ("episode_lengths", "Episode/length")):
            if key in record:
                self._board.add_scalar(f"{tag}/step", record[key], frame)
                self._board.add_scalar(f"{tag}/iter", record[key], epoch)
                self._board.add_scalar(f"{tag}/time", record[key], int(seconds))
        self._console(record)

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._jsonl.write(json.dumps({"evaluation": record}) + "\n")
        self._jsonl.flush()
        for key, value in record.items():
            if isinstance(value, float) and key != "train_seconds":
                self._board.add_scalar(f"evaluation/{key}", value, int(record["frames"]))
        if "success_rate" in record:
            low, high = record["success_rate_ci95"]
            what = (f"success {100 * record['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
                    f"time {record['finished_time']:.2f} s")
        else:
            what = f"return {record['mean_return']:.3f}"
        if "collaboration_degree" in record:
            what += f" collaboration {record['collaboration_degree']:.2f}"
        self._line(f"evaluation: {what} after {record['train_seconds']:.0f} s of training, {record['frames'] / 1e6:.1f} M frames")

    def close(self) -> None:
        if self._live:
            sys.stdout.write("\n")
        self._jsonl.close()
        self._board.close()

    def _console(self, record: Dict[str, float]) -> None:
        line = (
            f"fps step: {record['performance/step_fps']:.0f} "
            f"fps step and policy inference: {record['performance/step_inference_fps']:.0f} "
            f"fps total: {record['performance/step_inference_rl_update_fps']:.0f} "
            f"epoch: {int(record['epoch'])}/{int(record['max_epochs'])} frames: {int(record['frames'])}"
        )
        if "Episode/return" in record:
            line += f" reward: {record['Episode/return']:.2f}"
        if "Episode/success" in record:
            line += f" success: {record['Episode/success']:.3f}"
        if not self._live:
            self._line(line)
            return
        left = (record["max_epochs"] - record["epoch"]) * record["train_seconds"] / max(1.0, record["epoch"])
        sys.stdout.write("\r\033[K" + line.replace("fps step and policy inference", "+inference")
                         + f" eta: {int(left) // 60}:{int(left) % 60:02d}")
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        print(("\r\033[K" if self._live else "") + text, flush=True)
