"""Loops over time that a compiler may keep as loops: unrolled, the forty physics steps of a decision are forty times the code."""
from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Optional

Body = Callable[[], None]
_recorder: Optional[Callable[[int, Body], None]] = None


def repeat(times: int, body: Body) -> None:
    """Calls ``body`` so many times. What it computes reaches the next time through tensors that it writes in place, and only so."""
    if _recorder is not None:
        _recorder(times, body)
        return
    for _ in range(times):
        body()


def are_recorded() -> bool:
    """Whether somebody traces what is called now, and wants to see plain operations."""
    return _recorder is not None


@contextlib.contextmanager
def recorded(by: Callable[[int, Body], None]) -> Iterator[None]:
    """Hands every loop inside to ``by``, which decides how often to call its body."""
    global _recorder
    before, _recorder = _recorder, by
    try:
        yield
    finally:
        _recorder = before
