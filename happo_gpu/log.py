"""What a run says: device-side sums, and the console, TensorBoard and jsonl that read them."""
from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple

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
        reset = extras["reset"]  # (N,) bool
        self._names = list(extras["episode"])
        values = torch.stack([*extras["episode"].values(), torch.ones(reset.shape, device=reset.device)])  # (M + 1, N)
        sums = values.masked_fill_(~reset, 0.0).sum(-1)  # not a product: 0 * NaN is NaN
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
    temporary = path.with_name(path.name + ".tmp")  # a kill between truncating and writing would lose all of them
    temporary.write_text("".join(kept))
    os.replace(str(temporary), str(path))


_excepthook = threading.excepthook


def _without_tracebacks_of_boards(error: Any) -> None:
    """For threading.excepthook: TensorBoard's thread hands its error on, and the Logger words it."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        _excepthook(error)


def _of_axis(values: Dict[str, float], axis: str) -> Dict[str, float]:
    return {f"{tag}/{axis}": value for tag, value in values.items()}


CLOCKS = ("train_seconds", "wall_time")  # of a record; no figures of the policy


def evaluation_tags(record: Dict[str, Any]) -> Dict[str, float]:
    """An evaluation's figures under the names that curves have."""
    return {f"evaluation/{key}": value for key, value in record.items() if isinstance(value, float) and key not in CLOCKS}


class Sink(Protocol):
    """A console or a service that takes every record; it must not fail a run."""

    def iteration(self, record: Dict[str, float]) -> None: ...

    def evaluation(self, record: Dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Writes metrics.jsonl and TensorBoard, and hands every record on to ``sinks``.

    What cannot be written is given up with one line of warning: training is worth more than its curves.
    """

    def __init__(self, run_dir: Path, sinks: Sequence[Sink], first_frame: int = 0) -> None:
        self._run_dir, self._sinks = run_dir, sinks
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
            print(f"warning: {what} is no longer written ({' '.join(str(error).split())[:160]}); training goes on", flush=True)

    def rewind(self, frame: int) -> None:
        """Forgets what was logged after ``frame``: the run goes on from there."""
        self._close_files()
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
        for sink in self._sinks:
            sink.iteration(record)

    def _write_line(self, record: Dict[str, Any]) -> None:
        def write() -> None:
            self._jsonl.write(json.dumps(record) + "\n")
            self._jsonl.flush()

        if self._jsonl:
            self._writing("_jsonl", write)

    def _add_scalars(self, record: Dict[str, float]) -> None:
        kinds = {tag: record[key] for tag, key in (("rewards", "Episode/return"), ("episode_lengths", "Episode/length")) if key in record}
        self._add({**{tag: value for tag, value in record.items() if "/" in tag}, **_of_axis(kinds, "step")}, record["frames"])
        self._add(_of_axis(kinds, "iter"), record["epoch"])
        self._add(_of_axis(kinds, "time"), record["train_seconds"])

    def _add(self, values: Dict[str, float], x: float) -> None:
        """One event for all: fifty of their own, as add_scalar writes, take longer than a physics step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._board.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]), int(x))

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._write_line({"evaluation": record})
        if self._board:
            self._writing("_board", lambda: self._add_evaluation(record))
        for sink in self._sinks:
            sink.evaluation(record)

    def _add_evaluation(self, record: Dict[str, Any]) -> None:
        self._add(evaluation_tags(record), record["frames"])

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self._close_files()

    def _close_files(self) -> None:
        for name in ("_jsonl", "_board"):
            if getattr(self, name):
                self._writing(name, getattr(self, name).close)
