"""Asking a run to stop: it finishes the iteration and writes a checkpoint. Imports no torch: clusters may ask early."""
from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, Dict, Optional

REQUEUE = 75  # exit code of a run that was told to make room: EX_TEMPFAIL of sysexits.h, "try again later"


class Stop:
    """While entered, notes SIGINT (a person), SIGTERM and SIGUSR1 (a cluster) instead of dying of them.

    A second SIGINT interrupts at once. The others may be repeated: clusters warn and then insist.
    """

    def __init__(self) -> None:
        self.signum: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signum is not None

    @property
    def by_cluster(self) -> bool:
        return self.signum in (signal.SIGTERM, signal.SIGUSR1)

    def __enter__(self) -> "Stop":
        self._previous = {sig: signal.signal(sig, self._note) for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        return self

    def __exit__(self, *error: Any) -> None:
        for sig, handler in self._previous.items():
            signal.signal(sig, handler)

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum is None:
            self.signum = signum
            with contextlib.suppress(OSError):
                # Not print: a handler that runs while the program prints must not enter the same buffer.
                os.write(1, b"\nstopping after this iteration (Ctrl-C again: at once)\n")
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt
