"""The heterogeneous-agent update: one agent after the other, each aware of those before it."""
from __future__ import annotations

from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor

from happo_gpu.algo.sgd import ActorBatch, policy_change
from happo_gpu.algo.surrogate import probability_ratio
from happo_gpu.config import AlgoConfig
from happo_gpu.nets.actor import GaussianActor
from happo_gpu.types import Stats

ActorStep = Callable[[int, ActorBatch], Stats]  # (index of the actor, its batch) -> statistics


def update_actors(
    actors: Sequence[GaussianActor], batches: List[ActorBatch], order: Sequence[int], step: ActorStep,
    cfg: AlgoConfig,
) -> Dict[int, Stats]:
    """Steps the actors in ``order`` on factor * advantage (HAPPO: Kuba et al., 2022, Algorithm 4).

    The factor M starts at 1 and, after each agent, is multiplied by that agent's new-to-old
    probability ratio. It is positive, so f min(r A, clip(r) A) = min(r f A, clip(r) f A): it may be
    multiplied into the advantage and no step needs to know of it. With cfg.compound_factor off it
    stays 1 and the agents learn as if simultaneously (MAPPO).

    Args:
        batches: one per actor, their ``advantage`` without the factor.
        order: indices of the actors.

    Returns:
        Statistics of each actor, among them the factor that it was trained with.

    Departure from HARL: the old log-probabilities of the ratio are the rollout's, not evaluated
    anew. They are the same numbers, for the actor has not moved since it acted.
    """
    factor = torch.ones_like(batches[order[0]].advantage)  # (B,)
    stats: Dict[int, Stats] = {}
    for i in order:
        batch = batches[i]
        weighted = ActorBatch(batch.obs, batch.actions, batch.log_probs, factor * batch.advantage, batch.num_agents)
        stats[i] = step(i, weighted)
        with torch.no_grad():
            new_log_probs = actors[i].log_prob(batch.obs, batch.actions)  # (B, U_i)
        stats[i].update(policy_change(new_log_probs, batch, cfg))
        stats[i].update(factor_mean=factor.mean(), factor_min=factor.min(), factor_max=factor.max())
        if cfg.compound_factor:
            factor = factor * probability_ratio(new_log_probs, batch.log_probs, cfg.action_aggregation)
    return stats
