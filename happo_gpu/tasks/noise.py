"""Errors of what an agent sees."""
from __future__ import annotations

import torch
from torch import Tensor


def blurred(value: Tensor, width: float) -> Tensor:
    """With a uniform error of at most ``width`` in each element; draws nothing where that is 0."""
    return value + width * (2.0 * torch.rand_like(value) - 1.0) if width else value
