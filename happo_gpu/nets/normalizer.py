"""Running normalisation of value targets."""
from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn


class ValueNorm(nn.Module):
    """Exponential moving mean and variance with debiasing (HARL's ValueNorm; Yu et al., 2022).

    Statistics are buffers, so that they follow ``.to(device)`` and are saved with the weights.
    Before its first update it denormalises with mean 0 and the smallest standard deviation, 0.1.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.register_buffer("running_mean", torch.zeros(1))
        self.register_buffer("running_mean_sq", torch.zeros(1))
        self.register_buffer("debiasing_term", torch.tensor(0.0))

    def statistics(self) -> Tuple[Tensor, Tensor]:
        """Debiased mean and standard deviation, (1,)."""
        debias = self.debiasing_term.clamp(min=1e-5)
        mean = self.running_mean / debias
        variance = (self.running_mean_sq / debias - mean * mean).clamp(min=1e-2)
        return mean, torch.sqrt(variance)

    @torch.no_grad()
    def update(self, targets: Tensor) -> None:
        """Moves the statistics towards those of a batch of targets of any shape."""
        weight = 1.0 - self.beta
        self.running_mean.mul_(self.beta).add_(targets.mean() * weight)
        self.running_mean_sq.mul_(self.beta).add_((targets * targets).mean() * weight)
        self.debiasing_term.mul_(self.beta).add_(weight)

    def normalize(self, values: Tensor) -> Tensor:
        mean, std = self.statistics()
        return (values - mean) / std

    def denormalize(self, values: Tensor) -> Tensor:
        mean, std = self.statistics()
        return values * std + mean


class NoValueNorm(nn.Module):
    """The identity, for use_valuenorm=False."""

    def update(self, targets: Tensor) -> None:
        pass

    def normalize(self, values: Tensor) -> Tensor:
        return values

    def denormalize(self, values: Tensor) -> Tensor:
        return values
