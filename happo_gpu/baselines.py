"""Policies that learn nothing: what a task gives to who does nothing, to chance, and to its scripted policy."""
from __future__ import annotations

from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from happo_gpu.config import ConfigError


class Untrained:
    """Acts like a nets.policy.Policy: zeros and first choices, or with ``chance`` uniform in +-1 and among the choices.

    Only choices that are available are taken.
    """

    def __init__(self, task, chance: bool) -> None:
        self._task, self._chance = task, chance

    def act(self, obs: Tensor, available: Optional[Tensor], first: Tensor) -> Tuple[Tensor, None]:
        """Actions (N, U) for observations (N, O) and availability (N, C)."""
        columns, start = [], 0
        for agent in self._task.agents:
            space = agent.action_space
            if space.continuous:
                columns.append(self._numbers(obs, space.size))
            for choices in space.choices:
                menu = None if available is None else available[:, start: start + choices]
                columns.append(self._choice(obs, choices, menu))
                start += choices
        return torch.cat(columns, -1), None

    def _numbers(self, obs: Tensor, size: int) -> Tensor:
        zeros = obs.new_zeros(len(obs), size)
        return 2.0 * torch.rand_like(zeros) - 1.0 if self._chance else zeros

    def _choice(self, obs: Tensor, choices: int, menu: Optional[Tensor]) -> Tensor:
        first = torch.arange(choices, 0, -1, device=obs.device, dtype=obs.dtype).expand(len(obs), -1)
        preference = torch.rand_like(first) if self._chance else first  # (N, choices)
        if menu is not None:
            preference = torch.where(menu, preference, torch.full_like(preference, -1.0))
        return preference.argmax(-1, keepdim=True).to(obs.dtype)


def baseline(task, name: str) -> Any:
    """What ``evaluate`` takes for agent=zero, random or scripted."""
    if name != "scripted":
        return Untrained(task, chance=name == "random")
    try:
        task.scripted_actions()
    except NotImplementedError as error:
        raise ConfigError(f"agent=scripted: {type(task).__name__} has no scripted policy; write agent=zero or agent=random") from error
    return None
