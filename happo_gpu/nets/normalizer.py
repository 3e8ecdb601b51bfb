"""Running normalisation of value targets and of observations."""
from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn

from happo_gpu import distributed
from happo_gpu.config.algo import ModelConfig


class ValueNorm(nn.Module):
    """Exponential moving mean and variance with debiasing (HARL's ValueNorm; Yu et al., 2022).

    Statistics are buffers, so that they follow ``.to(device)`` and are saved with the weights.
    Before its first update it denormalises with mean 0 and the smallest standard deviation, 0.1.
    With ``per_element`` a batch of n targets weighs as much as n batches of one.
    """

    def __init__(self, beta: float, per_element: bool = False) -> None:
        super().__init__()
        self.beta, self.per_element = beta, per_element
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
        keep = self.beta ** (targets.numel() * distributed.SIZE) if self.per_element else self.beta
        weight = 1.0 - keep
        mean, mean_sq = distributed.mean(torch.stack((targets.mean(), (targets * targets).mean())))
        self.running_mean.mul_(keep).add_(mean * weight)
        self.running_mean_sq.mul_(keep).add_(mean_sq * weight)
        self.debiasing_term.mul_(keep).add_(weight)

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


class RunningNorm(nn.Module):
    """Observations minus their running mean, over their standard deviation, clipped to +-5.

    rl_games' normalize_input: moments over everything seen so far, merged batch by batch (Chan et
    al., 1979). The learner moves them after an update, so that an iteration's ratios see one input.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.tensor(1.0))

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.mean) / torch.sqrt(self.var + 1e-5)).clamp(-5.0, 5.0)

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Takes in a batch (..., size)."""
        batch = values.flatten(0, -2)
        count = float(batch.shape[0] * distributed.SIZE)
        own_mean = batch.mean(0)
        mean = distributed.mean(own_mean)
        var = distributed.mean(batch.var(0, unbiased=False) + (own_mean - mean) ** 2)
        total = self.count + count
        delta = mean - self.mean
        moment = self.var * self.count + var * count + delta * delta * (self.count * count / total)
        self.mean.add_(delta * (count / total))
        self.var.copy_(moment / total)
        self.count.copy_(total)


def input_norm(size: int, cfg: ModelConfig) -> nn.Module:
    """What stands before a network's body."""
    return RunningNorm(size) if cfg.normalize_input else nn.Identity()
