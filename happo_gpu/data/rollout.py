"""The record of one iteration: preallocated tensors with a leading time axis."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from happo_gpu.types import AgentSpec


@dataclass
class Rollout:
    """Written in place row by row, never rebound: a CUDA graph remembers addresses."""

    obs: Tensor  # (T, N, O)
    states: Tensor  # (T, N, S)
    final_states: Tensor  # (T, N, S) reached by the step, before any reset
    actions: Tensor  # (T, N, U)
    log_probs: Tensor  # (T, N, U) per action dimension
    rewards: Tensor  # (T, N, K)
    terminated: Tensor  # (T, N) bool
    truncated: Tensor  # (T, N) bool

    @staticmethod
    def empty(
        num_steps: int, num_envs: int, agents: Sequence[AgentSpec], num_states: int, num_values: int,
        device: torch.device,
    ) -> "Rollout":
        def zeros(*size: int) -> Tensor:
            return torch.zeros(num_steps, num_envs, *size, device=device)

        num_obs, num_actions = sum(a.num_obs for a in agents), sum(a.num_actions for a in agents)
        return Rollout(
            obs=zeros(num_obs), states=zeros(num_states), final_states=zeros(num_states),
            actions=zeros(num_actions), log_probs=zeros(num_actions), rewards=zeros(num_values),
            terminated=zeros().bool(), truncated=zeros().bool(),
        )

    def flat(self, name: str) -> Tensor:
        """A field with time and environments as one axis, (B, ...), flat index t * N + n."""
        return getattr(self, name).flatten(0, 1)

    @property
    def num_steps(self) -> int:
        return self.obs.shape[0]

    @property
    def num_envs(self) -> int:
        return self.obs.shape[1]
