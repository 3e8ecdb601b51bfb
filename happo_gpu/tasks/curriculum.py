"""Easier episodes first: what an environment has mastered decides the ranges that its next episode is drawn from. N environments."""
from __future__ import annotations

from typing import Tuple

from torch import Tensor

Pair = Tuple[float, ...]  # low, high


def after_episode(difficulty: Tensor, success: Tensor, step: float) -> Tensor:
    """Difficulty (N,) of the next episode: up by ``step`` with a success, else down by it, from 0 to 1."""
    return (difficulty + step * (2.0 * success - 1.0)).clamp(0.0, 1.0)


def range_at(difficulty: Tensor, easiest: Pair, usual: Pair) -> Tuple[Tensor, Tensor]:
    """Low and high, each (N,): ``easiest`` at difficulty 0, exactly ``usual`` at 1."""
    low, high = (easy * (1.0 - difficulty) + hard * difficulty for easy, hard in zip(easiest, usual))
    return low, high
