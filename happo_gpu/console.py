"""The console's plain lines; on a terminal the newest iteration stays on one line, rewritten in place."""
from __future__ import annotations

import os
import sys
from typing import Any, Dict


def on_terminal() -> bool:
    """Whether something can be redrawn in place; a pipe, a log file and TERM=dumb take lines."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def evaluation_line(record: Dict[str, Any]) -> str:
    if "success_rate" in record:
        low, high = record["success_rate_ci95"]
        what = (f"success {100 * record['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
                f"time {record['finished_time']:.2f} s")
    else:
        what = f"return {record['mean_return']:.3f}"
    if "pushing_together" in record:
        what += f" together {record['pushing_together']:.2f}"
    return f"evaluation: {what} after {record['train_seconds']:.0f} s of training, {record['frames'] / 1e6:.1f} M frames"


class Lines:
    """rl_games' lines."""

    def __init__(self, live: bool) -> None:
        self._live = live

    def iteration(self, record: Dict[str, float]) -> None:
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

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._line(evaluation_line(record))

    def close(self) -> None:
        if self._live:
            sys.stdout.write("\n")

    def _line(self, text: str) -> None:
        print(("\r\033[K" if self._live else "") + text, flush=True)
