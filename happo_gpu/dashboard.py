"""A display at the bottom of a terminal, redrawn in place with rich; every printed line scrolls above it."""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from happo_gpu.console import evaluation_line

SHARE = 0.01  # of the time may go into drawing
BAR = 24  # characters
# Of each agent, where the record has it: tag, heading, format.
AGENT_COLUMNS = (("losses/a_loss", "policy loss", "{:.4f}"), ("losses/entropy", "entropy", "{:.3f}"),
                 ("info/kl", "KL, approx.", "{:.4f}"), ("info/clip_fraction", "clip fraction", "{:.3f}"))
RATES = (("step", "step_fps"), ("+inference", "step_inference_fps"), ("total", "step_inference_rl_update_fps"))


class Dashboard:
    """Draws at iterations, from the training thread: a thread of its own would take turns with it at any moment."""

    def __init__(self, run_dir: Path, console: Optional[Console] = None) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._run_dir = run_dir
        self._record: Dict[str, float] = {}
        self._evaluation: Dict[str, Any] = {}
        self._start: Optional[Tuple[float, float]] = None  # epoch and time of the first record
        self._next_draw = 0.0

    def iteration(self, record: Dict[str, float]) -> None:
        self._record = {**self._record, **record}  # where no episode has ended, the last figures stay
        if self._start is None:
            self._start = record["epoch"], record["wall_time"]
            self._live.start()
            self._draw()  # the first is slow; its time says nothing of the next ones
        before = time.perf_counter()
        if before >= self._next_draw:
            self._draw()
            after = time.perf_counter()
            self._next_draw = after + (after - before) / SHARE

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._evaluation = record
        self._draw()
        print(evaluation_line(record), flush=True)

    def close(self) -> None:
        if self._start is not None:
            self._draw()
        self._live.stop()

    def _draw(self) -> None:
        self._live.update(picture(self._record, self._evaluation, self._seconds_left(), self._run_dir), refresh=True)

    def _seconds_left(self) -> Optional[float]:
        """Evaluations and checkpoints included; None before a second iteration has ended."""
        epoch, wall = self._record["epoch"] - self._start[0], self._record["wall_time"] - self._start[1]
        return (self._record["max_epochs"] - self._record["epoch"]) * wall / epoch if epoch else None


# -- the picture -----------------------------------------------------------------------------------


def picture(record: Dict[str, float], evaluation: Dict[str, Any], left: Optional[float], run_dir: Path) -> RenderableType:
    """A record's figures as lines of a terminal; ``left`` in seconds. Not as wide as the terminal: a narrower one would wrap it."""
    rates = "   ".join(f"{name} {record['performance/' + tag]:,.0f}" for name, tag in RATES)
    lines = [f"frames per second: {rates}", f"critic loss {record['losses/c_loss']:.4f}   memory {_memory()}", str(run_dir)]
    above, *below = (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)
    return Group(_progress(record, left), above, _scores(record, evaluation), _agents(record), *below)


def _progress(record: Dict[str, float], left: Optional[float]) -> Table:
    told = f"{record['frames'] / 1e6:.1f} M frames, trained {clock(record['train_seconds'])}"
    if left is not None:
        told += f", left {clock(left)}"
    grid = Table.grid(padding=(0, 1))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    bar = ProgressBar(record["max_epochs"], record["epoch"], width=BAR)
    grid.add_row(f"epoch {record['epoch']:.0f}/{record['max_epochs']:.0f}", bar, told)
    return grid


def _scores(record: Dict[str, float], evaluation: Dict[str, Any]) -> Table:
    """Return and success of training beside the last evaluation's."""
    evaluated = f"evaluation after {evaluation['train_seconds']:.0f} s" if evaluation else ""
    table = _table(("", "left"), ("training", "right"), (evaluated, "left"))
    if "Episode/return" in record:
        table.add_row("return", f"{record['Episode/return']:.3f}", f"{evaluation['mean_return']:.3f}" if evaluation else "")
    if "Episode/success" in record:
        told = ""
        if evaluation:
            low, high = evaluation["success_rate_ci95"]
            told = f"{100 * evaluation['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        table.add_row("success", f"{100 * record['Episode/success']:.1f} %", told)
    return table


def _agents(record: Dict[str, float]) -> Table:
    """A line for each actor, a column for each figure that the record has of them."""
    columns = [column for column in AGENT_COLUMNS if any(tag.startswith(column[0] + "/") for tag in record)]
    table = _table(("", "left"), *((heading, "right") for _, heading, _ in columns))
    for name in agents_of(record):
        table.add_row(name, *(form.format(record[f"{tag}/{name}"]) for tag, _, form in columns))
    return table


def _table(*headings: Tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    for heading, side in headings:
        table.add_column(heading, justify=side, no_wrap=True)
    return table


def agents_of(record: Dict[str, float]) -> List[str]:
    prefix = "losses/a_loss/"
    return [tag[len(prefix):] for tag in record if tag.startswith(prefix)]


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _memory() -> str:
    """Highest so far, of the process and of torch on the GPU."""
    parts = []
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
        parts.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:,.0f} MB")
    if torch.cuda.is_initialized():
        used = sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))  # the run's may be any of them
        parts.append(f"GPU {used / 2**20:,.0f} MB")
    return "   ".join(parts) + " at most"
