"""The record of one iteration: preallocated tensors with a leading time axis."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional

import torch
from torch import Tensor


@dataclass
class Rollout:
    """Written in place row by row, never rebound: a CUDA graph remembers addresses."""

    obs: Tensor  # (T, N, O)
    states: Tensor  # (T, N, S), or (T, N, A, S) where every agent has a state of its own
    final_states: Tensor  # likewise, reached by the step, before any reset
    actions: Tensor  # (T, N, U)
    log_probs: Tensor  # (T, N, U) per action dimension
    rewards: Tensor  # (T, N, K)
    terminated: Tensor  # (T, N) bool
    truncated: Tensor  # (T, N) bool
    first: Tensor  # (T, N) bool, steps that begin an episode
    available: Optional[Tensor] = None  # (T, N, C) bool, of discrete agents with masks
    active: Optional[Tensor] = None  # (T, N, A) 1 where an agent lives, 0 where it is dead
    hidden: List[Tensor] = field(default_factory=list)  # per agent (T / L, N, R, H), before each chunk of L

    @staticmethod
    def like(task, num_steps: int, chunk: int = 0, num_layers: int = 0, width: int = 0) -> "Rollout":
        """An empty rollout for ``task``; chunks of a recurrent policy begin every ``chunk`` steps (0: none)."""

        def rows(buffer: Tensor) -> Tensor:
            return torch.zeros(num_steps, *buffer.shape, dtype=buffer.dtype, device=buffer.device)

        actions = torch.zeros(task.num_envs, task.num_actions, device=task.device)
        chunks = num_steps // chunk if chunk else 0
        return Rollout(
            obs=rows(task.obs_buf), states=rows(task.states_buf), final_states=rows(task.states_buf),
            actions=rows(actions), log_probs=rows(actions), rewards=rows(task.rew_buf),
            terminated=rows(task.reset_buf), truncated=rows(task.reset_buf), first=rows(task.reset_buf),
            available=None if task.available_buf is None else rows(task.available_buf),
            active=None if task.active_buf is None else rows(task.active_buf),
            hidden=[
                torch.zeros(chunks, task.num_envs, num_layers, width, device=task.device) for _ in task.agents
            ] if chunk else [],
        )

    @property
    def num_steps(self) -> int:
        return self.obs.shape[0]

    @property
    def num_envs(self) -> int:
        return self.obs.shape[1]


def to_samples(values: Tensor, chunk: int) -> Tensor:
    """(T, N, ...) to what an update draws minibatches from.

    Feed-forward (chunk 0): (T * N, ...), flat index t * N + n. Recurrent: sequences of ``chunk``
    steps, (N * T / chunk, chunk, ...), one environment's after the other's, as HARL orders them.
    """
    if not chunk:
        return values.flatten(0, 1)
    return values.transpose(0, 1).reshape(-1, chunk, *values.shape[2:])
