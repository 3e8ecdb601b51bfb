"""Nouns that every layer shares, and the letters that name their axes.

    T  steps of a rollout (decisions)      N  parallel environments      A  agents
    K  value heads: 1 (team) or A          O, U  sums over agents of observation and action sizes
    S  size of the critic's state          C  sum over agents of choices (availability masks)
    B  samples of an update: T * N, flattened time first; recurrent: chunks of L steps, (B, L)
    R, H  layers and width of a recurrent state
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Sequence, Tuple

from torch import Tensor


@dataclass(frozen=True)
class ActionSpace:
    """What an agent may do: a vector of numbers, or one choice in each of several menus.

    Continuous: ``choices`` is empty and ``size`` numbers are drawn. Discrete: ``choices`` has one
    entry, the number of actions. Multi-discrete: one entry per sub-action. A chosen action is stored
    as its index, a float column like any other.
    """

    size: int  # columns of the action tensor
    choices: Tuple[int, ...] = ()

    @property
    def continuous(self) -> bool:
        return not self.choices


def box(size: int) -> ActionSpace:
    """``size`` real numbers."""
    return ActionSpace(size)


def discrete(*choices: int) -> ActionSpace:
    """One of ``choices[0]`` actions; several numbers: one sub-action each."""
    return ActionSpace(len(choices), tuple(choices))


@dataclass(frozen=True)
class AgentSpec:
    """What one agent sees and does."""

    name: str
    num_obs: int
    action_space: ActionSpace

    @property
    def num_actions(self) -> int:
        """Columns in the action tensor."""
        return self.action_space.size

    @property
    def num_choices(self) -> int:
        """Columns in the availability mask; 0 for a continuous agent."""
        return sum(self.action_space.choices)


class Quantity(NamedTuple):
    """One column of an observation, as the world outside knows it."""

    name: str
    unit: str = "1"


class Command(NamedTuple):
    """One column of an action, and how a network's output becomes a command to the world outside.

    An output is clamped to +-``clip`` and multiplied by ``scale``; an index is passed on as it is.
    """

    name: str
    unit: str = "1"
    clip: float = math.inf
    scale: float = 1.0  # units per unit of output


def to_commands(actions: Tensor, clip: Tensor, scale: Tensor) -> Tensor:
    """Commands (..., U_i) in physical units, from outputs (..., U_i); clip and scale are (U_i,)."""
    return actions.clamp(-clip, clip) * scale


def split_obs(obs: Tensor, agents: Sequence[AgentSpec]) -> List[Tensor]:
    """Views of concatenated observations (..., O), one (..., num_obs) for each agent."""
    return list(obs.split([agent.num_obs for agent in agents], dim=-1))


def split_actions(actions: Tensor, agents: Sequence[AgentSpec]) -> List[Tensor]:
    """Views of concatenated actions or log-probabilities (..., U), one for each agent."""
    return list(actions.split([agent.num_actions for agent in agents], dim=-1))


def split_choices(available: Tensor, agents: Sequence[AgentSpec]) -> List[Tensor]:
    """Views of concatenated availability masks (..., C), one (..., num_choices) for each agent."""
    return list(available.split([agent.num_choices for agent in agents], dim=-1))


Stats = Dict[str, Tensor]  # tag -> 0-d tensor on the device, read once per logged iteration
