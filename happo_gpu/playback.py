"""A task and its policy at the speed that a person asks for, in front of anything that draws."""
from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import Callable, Optional, Tuple

import torch

from happo_gpu.evaluate import actor
from happo_gpu.recording import watching

HOLD = 1.0  # s that an episode's last picture stays
POLL = 0.02  # s between looks at the controls


@dataclass
class Controls:
    """What the person asks for. Threads of the server write it, the player reads it."""

    env: int = 0
    speed: float = 1.0  # simulated per real second
    paused: bool = False
    sampled: bool = False  # actions: drawn from the policy, or its mode
    goal: Optional[Tuple[float, float]] = None  # m, where the shown goal was just put
    step: Event = field(default_factory=Event)  # one control step, though paused
    restart: Event = field(default_factory=Event)


class Player:
    """Steps the task as an evaluation does and calls ``draw`` after every control step, in real time or as fast as the machine can."""

    def __init__(self, task, policy, controls: Controls, draw: Callable[[], None]) -> None:
        self.task, self.policy, self.controls, self.draw = task, policy, controls, draw
        self._due = 0.0  # s of the clock, when the next control step may begin
        self._env = controls.env  # that was drawn last

    @torch.no_grad()
    def run(self) -> None:
        """Until interrupted."""
        self.task.reset()
        self._show(0.0)
        with watching(self.task, lambda: self._show(self.task.dt)):
            while True:
                self.decide()

    def decide(self) -> None:
        """One decision of the policy; an episode of the shown environment that it ends stays in view for a while."""
        task, controls = self.task, self.controls
        self.policy.deterministic = not controls.sampled
        task.step(actor(task, self.policy)())
        if controls.restart.is_set():
            controls.restart.clear()
            task.reset()
        elif task.reset_buf[controls.env]:
            self._wait(HOLD)

    def _show(self, seconds: float) -> None:
        if self.controls.restart.is_set():  # what is left of the decision is nobody's concern
            return
        self._serve()
        self.draw()
        self._wait(seconds / self.controls.speed)

    def _wait(self, seconds: float) -> None:
        """Until ``seconds`` after the last wait's end, and as long as the person pauses; serves the controls meanwhile."""
        controls = self.controls
        self._due = max(self._due + seconds, time.perf_counter())  # a slow machine falls behind and does not rush later
        while not controls.restart.is_set():
            now = time.perf_counter()
            if controls.step.is_set():
                controls.step.clear()
                self._due = now
                return
            if controls.paused:
                self._due = now
            elif now >= self._due:
                return
            time.sleep(min(POLL, max(self._due - now, 0.001)))
            if self._serve():
                self.draw()

    def _serve(self) -> bool:
        """Does what was asked for since the last time; says whether the picture must change."""
        controls, task = self.controls, self.task
        goal, controls.goal = controls.goal, None
        if goal is not None:
            task.move_goal(controls.env, torch.tensor(goal, device=task.device))
        changed, self._env = goal is not None or controls.env != self._env, controls.env
        return changed
