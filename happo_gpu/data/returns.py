"""Advantages and returns, as a pure function of tensors."""
from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor,
    gamma: float, lam: float, time_limit: str = "bootstrap",
) -> Tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al., 2016, eq. 16) with time limits told apart.

    delta_t = r_t + gamma V(s'_t) - V(s_t), where s'_t is the state that step t really reached; a
    terminated step has V(s'_t) = 0, and no sum runs across the end of an episode.

    Args:
        rewards, values, next_values: (T, N, K); next_values[t] = V(s'_t), not of the state after a
            reset.
        terminated, truncated: (T, N) bool, or (T, N, K) where value heads end at different times.
        time_limit: what a truncated step becomes. ``bootstrap`` uses V(s'_t), which is right.
            ``mask`` gives it advantage zero (HARL's use_proper_time_limits). ``terminal`` takes the
            time limit for a termination (HARL without it); with mostly negative rewards that
            teaches nothing.

    Returns:
        Advantages and returns, both (T, N, K).
    """
    if time_limit == "terminal":
        terminated, truncated = terminated | truncated, torch.zeros_like(truncated)
    if terminated.dim() < values.dim():
        terminated, truncated = terminated.unsqueeze(-1), truncated.unsqueeze(-1)
    not_terminated = (~terminated).to(values.dtype)  # (T, N, 1 or K)
    not_done = (~(terminated | truncated)).to(values.dtype)
    deltas = rewards + gamma * next_values * not_terminated - values  # (T, N, K)
    if time_limit == "mask":
        deltas = deltas * ~truncated
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[0])
    for t in reversed(range(values.shape[0])):
        running = deltas[t] + gamma * lam * not_done[t] * running
        advantages[t] = running
    return advantages, advantages + values
