"""Recordings: what a task shows after every control step, as tensors. Who draws them is another matter."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List

import torch
from torch import Tensor

Recording = Dict[str, Tensor]  # name -> (L, N, ...), L control steps of N environments, on the host


@contextmanager
def watching(task, look: Callable[[], None]) -> Iterator[None]:
    """While open, calls ``look`` after every control step of a task."""
    inner, advance = task.after_physics, task.advance

    def both() -> None:
        inner()
        look()

    # After the physics, because by the time that step() returns it has reset what ended; step by step, because a
    # decision that is compiled as a whole calls nothing in between.
    task.after_physics, task.advance = both, task.control_steps
    try:
        yield
    finally:
        task.after_physics, task.advance = inner, advance


class Recorder:
    """While its context is open, copies what the first ``num_envs`` environments of a task show.

    It only reads, draws no random number and waits for no device until :meth:`recording`, so that
    the steps come out as they would without it.
    """

    def __init__(self, task, num_envs: int) -> None:
        self._task, self._num_envs = task, min(num_envs, task.num_envs)
        self._watching = watching(task, self._look)
        self._episode = torch.zeros(self._num_envs, dtype=torch.int64, device=task.device)
        self._steps: List[Recording] = []

    def __enter__(self) -> Recorder:
        self._watching.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watching.__exit__(*error)

    def _look(self) -> None:
        task = self._task
        if len(self._steps) % task.decimation == 0:  # first of a decision: what the last one ended begins anew
            self._episode += task.reset_buf[: self._num_envs]
        shown = {**task.snapshot(), "progress": task.progress_buf, "episode": self._episode}
        self._steps.append({name: value[: self._num_envs].clone() for name, value in shown.items()})

    def recording(self) -> Recording:
        """The task's snapshot over time; ``progress`` (L, N), control steps since the start; ``episode`` (L, N), counted from 1."""
        return {name: torch.stack([step[name] for step in self._steps]).cpu() for name in self._steps[0]}


@torch.no_grad()
def record(task, act: Callable[[], Tensor], steps: int, num_envs: int) -> Recording:
    """Starts every environment anew and records ``steps`` control steps of the first ``num_envs``."""
    task.reset()
    with Recorder(task, num_envs) as recorder:
        for _ in range(-(-steps // task.decimation)):
            task.step(act())
    return {name: value[:steps] for name, value in recorder.recording().items()}
