"""What a run says: device-side sums, and the console, TensorBoard and jsonl that read them."""
from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor


class EpisodeMeans:
    """Means over the episodes that ended since the last reading, summed on the device."""

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
        *sums, count = self._sums.tolist()
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
    """Reads 0-d tensors in one transfer."""
    values = torch.stack([value.detach().to(torch.float32).reshape(()) for value in stats.values()])
    return dict(zip(stats, values.tolist()))


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
    temporary = path.with_name(path.name + ".tmp")  # a kill between truncating and writing would lose all of them
    temporary.write_text("".join(kept))
    os.replace(str(temporary), str(path))


_excepthook = threading.excepthook


def _without_tracebacks_of_boards(error: Any) -> None:
    """For threading.excepthook: TensorBoard's thread hands its error on, and the Logger words it."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        _excepthook(error)


class Logger:
    """Writes metrics.jsonl, TensorBoard and one console line per logged iteration.

    What cannot be written is given up with one line of warning: training is worth more than its curves.
    """

    def __init__(self, run_dir: Path, first_frame: int = 0) -> None:
        self._run_dir, self._live = run_dir, sys.stdout.isatty()
        self._jsonl, self._board = None, None
        self._open(first_frame)

    def _open(self, first_frame: int) -> None:
        self._writing("_jsonl", lambda: self._open_jsonl(first_frame))
        self._writing("_board", lambda: self._open_board(first_frame))

    def _open_jsonl(self, first_frame: int) -> None:
        path = self._run_dir / "metrics.jsonl"
        _forget_after(path, first_frame)
        self._jsonl = path.open("a")

    def _open_board(self, first_frame: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import; only runs that log need it

        threading.excepthook = _without_tracebacks_of_boards
        self._board = SummaryWriter(str(self._run_dir / "summaries"), purge_step=first_frame or None)

    def _writing(self, name: str, write: Callable[[], None]) -> None:
        """Calls ``write``, which uses the attribute ``name``; if it fails the run goes on without."""
        try:
            write()
        except Exception as error:  # TensorBoard passes on whatever its thread met
            setattr(self, name, None)
            what = {"_jsonl": "metrics.jsonl", "_board": "TensorBoard"}[name]
            self._line(f"warning: {what} is no longer written ({' '.join(str(error).split())[:160]}); training goes on")

    def rewind(self, frame: int) -> None:
        """Forgets what was logged after ``frame``: the run goes on from there."""
        self.close()
        self._open(frame)

    def flush(self) -> None:
        """Sends to the disk what TensorBoard holds back for up to two minutes."""
        if self._board:
            self._writing("_board", self._board.flush)

    def iteration(self, record: Dict[str, float]) -> None:
        """One logged iteration: every tag of ``record`` at x = frames; three x-axes for the rewards."""
        self._write_line(record)
        if self._board:
            self._writing("_board", lambda: self._add_scalars(record))
        self._console(record)

    def _write_line(self, record: Dict[str, Any]) -> None:
        def write() -> None:
            self._jsonl.write(json.dumps(record) + "\n")
            self._jsonl.flush()

        if self._jsonl:
            self._writing("_jsonl", write)

    def _add_scalars(self, record: Dict[str, float]) -> None:
        frame, epoch, seconds = int(record["frames"]), int(record["epoch"]), record["train_seconds"]
        for tag, value in record.items():
            if "/" in tag:
                self._board.add_scalar(tag, value, frame)
        for tag, key in (("rewards", "Episode/return"), ("episode_lengths", "Episode/length")):
            if key in record:
                self._board.add_scalar(f"{tag}/step", record[key], frame)
                self._board.add_scalar(f"{tag}/iter", record[key], epoch)
                self._board.add_scalar(f"{tag}/time", record[key], int(seconds))

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._write_line({"evaluation": record})
        if self._board:
            self._writing("_board", lambda: self._add_evaluation(record))
        if "success_rate" in record:
            low, high = record["success_rate_ci95"]
            what = (f"success {100 * record['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
                    f"time {record['finished_time']:.2f} s")
        else:
            what = f"return {record['mean_return']:.3f}"
        if "collaboration_degree" in record:
            what += f" collaboration {record['collaboration_degree']:.2f}"
        self._line(f"evaluation: {what} after {record['train_seconds']:.0f} s of training, {record['frames'] / 1e6:.1f} M frames")

    def _add_evaluation(self, record: Dict[str, Any]) -> None:
        for key, value in record.items():
            if isinstance(value, float) and key != "train_seconds":
                self._board.add_scalar(f"evaluation/{key}", value, int(record["frames"]))

    def close(self) -> None:
        if self._live:
            sys.stdout.write("\n")
        for name in ("_jsonl", "_board"):
            if getattr(self, name):
                self._writing(name, getattr(self, name).close)

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
