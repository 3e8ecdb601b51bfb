"""Nouns that every layer shares, and the letters that name their axes.

    T  steps of a rollout (decisions)      N  parallel environments      A  agents
    K  value heads: 1 (team) or A          O, U  sums over agents of observation and action sizes
    S  size of the critic's state          B  = T * N, flattened time first
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence

from torch import Tensor


@dataclass(frozen=True)
class AgentSpec:
    """What one agent sees and does; actions are continuous vectors."""

    name: str
    num_obs: int
    num_actions: int


def split_obs(obs: Tensor, agents: Sequence[AgentSpec]) -> List[Tensor]:
    """Views of concatenated observations (..., O), one (..., num_obs) for each agent."""
    return list(obs.split([agent.num_obs for agent in agents], dim=-1))


def split_actions(actions: Tensor, agents: Sequence[AgentSpec]) -> List[Tensor]:
    """Views of concatenated actions or log-probabilities (..., U), one for each agent."""
    return list(actions.split([agent.num_actions for agent in agents], dim=-1))


Stats = Dict[str, Tensor]  # tag -> 0-d tensor on the device, read once per logged iteration
