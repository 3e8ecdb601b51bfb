"""Policy and value objectives, as pure functions of tensors."""
from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from happo_gpu import distributed


def probability_ratio(new_log_probs: Tensor, old_log_probs: Tensor, aggregation: str) -> Tensor:
    """pi_new(a|o) / pi_old(a|o), (B,), from log-probabilities per action dimension (B, U_i).

    ``prod`` is the ratio of the joint action; ``mean`` averages the ratios of the dimensions, HARL's
    alternative for long action vectors, whose product has a large variance.
    """
    difference = new_log_probs - old_log_probs
    if aggregation == "prod":
        return difference.sum(-1).exp()
    return difference.exp().mean(-1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(r A, clip(r, 1 - clip, 1 + clip) A) per sample (Schulman et al., 2017, eq. 7)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def active_mean(values: Tensor, active: Optional[Tensor]) -> Tensor:
    """Mean over samples, or over those where ``active`` is 1; 0 where none is. 0-d.

    ``values`` may be 0-d: the same for every sample.
    """
    if active is None:
        return values.mean()
    return (values * active).sum() / active.sum().clamp(min=1.0)


def overall_mean(values: Tensor, active: Optional[Tensor]) -> Tensor:
    """:func:`active_mean` over the samples of all processes."""
    if active is None:
        return distributed.mean(values.mean())
    summed, count = distributed.total(torch.stack(((values * active).sum(), active.sum())))
    return summed / count.clamp(min=1.0)


def active_share(piece: Tensor, whole: Tensor) -> Tensor:
    """Weight of a piece's :func:`active_mean` in the overall one, so that the mean over processes comes out right."""
    return piece.sum() * distributed.SIZE / distributed.total(whole.sum()).clamp(min=1.0)


def normalize_advantage(advantage: Tensor, active: Optional[Tensor] = None) -> Tensor:
    """(A - mean) / (std + 1e-5), population std, as HARL does.

    Statistics are over everything given in all processes, or over what ``active`` (same shape) marks
    with 1; all of it is normalised.
    """
    mean = overall_mean(advantage, active)
    deviation = advantage - mean
    return deviation / (overall_mean(deviation * deviation, active).sqrt() + 1e-5)


def regression_loss(error: Tensor, huber_delta: float) -> Tensor:
    """Huber loss e^2 / 2, linear beyond delta; delta = inf gives the squared error."""
    size = error.abs()
    within = size.clamp(max=huber_delta)
    return 0.5 * within * within + within * (size - within)


def value_loss(
    values: Tensor, old_values: Tensor, targets: Tensor, clip: float, huber_delta: float
) -> Tensor:
    """Clipped value loss per sample: the worse of the new value and of its clipped move.

    All in normalised units. clip = inf: no clipping.
    """
    moved = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(
        regression_loss(targets - values, huber_delta), regression_loss(targets - moved, huber_delta)
    )


def approximate_kl(new_log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """KL(old || new) by Schulman's third estimator, r - 1 - log r, mean over samples, 0-d."""
    difference = (new_log_probs - old_log_probs).sum(-1)
    return (difference.exp() - 1.0 - difference).mean()
