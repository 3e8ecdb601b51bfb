"""The heterogeneous-agent update: one agent after the other, each aware of those before it."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from happo_gpu.algo.batch import ActorBatch, whole_log_probs
from happo_gpu.algo.sgd import policy_change
from happo_gpu.algo.surrogate import probability_ratio
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.actor import Actor
from happo_gpu.types import Stats

ActorStep = Callable[[int, ActorBatch], Stats]  # (index of the actor, its batch) -> statistics


def update_actors(
    actors: Sequence[Actor], batches: List[ActorBatch], order: Sequence[int], step: ActorStep, cfg: AlgoConfig,
    log_probs_before: Optional[Callable[[int], Tensor]] = None,
) -> Dict[int, Stats]:
    """Steps the actors in ``order`` on factor * advantage (HAPPO: Kuba et al., 2022).

    The factor M starts at 1 and, after each agent, is multiplied by that agent's new-to-old
    probability ratio. It is positive, so f min(r A, clip(r) A) = min(r f A, clip(r) f A): it may be
    multiplied into the advantage and no step needs to know of it. With cfg.compound_factor off it
    stays 1 and the agents learn as if simultaneously (MAPPO).

    Args:
        batches: one per actor, their ``advantage`` without the factor.
        order: indices of the actors.
        log_probs_before: an actor's log-probabilities before its step, which the ratio divides by.
            The default, the rollout's own, are the same numbers while the actor has not moved since
            it acted. HARL evaluates them anew, at the price of a forward pass.

    Returns:
        Statistics of each actor, among them the factor that it was trained with.
    """
    factor = torch.ones_like(batches[order[0]].advantage)  # (B,) or (B, L)
    stats: Dict[int, Stats] = {}
    for i in order:
        batch = batches[i]
        before = log_probs_before(i) if log_probs_before else batch.log_probs
        stats[i] = step(i, batch.with_advantage(factor * batch.advantage) if cfg.compound_factor else batch)
        after = whole_log_probs(actors[i], batch)
        stats[i].update(policy_change(after, batch, cfg))
        stats[i].update(factor_mean=factor.mean(), factor_min=factor.min(), factor_max=factor.max())
        if cfg.compound_factor:
            # HARL's joint log-probabilities are one column against the rollout's equal ones.
            factor = compound(factor, after, before[..., : after.shape[-1]], cfg.action_aggregation)
    return stats


def compound(factor: Tensor, log_probs_after: Tensor, log_probs_before: Tensor, aggregation: str) -> Tensor:
    """The factor for the next agent: times this one's new-to-old ratio, per sample."""
    return factor * probability_ratio(log_probs_after, log_probs_before, aggregation)
