"""Spread: three unequal movers, each to a landmark of its own. Continuous actions, no simulator.

Two move in the plane and one along a rail. All columns below are coordinates: fast x, fast y, slow x,
slow y, rail x, in half widths of the arena, which are also the columns of the actions.
"""
from __future__ import annotations

from typing import Dict, List

import torch
from torch import Tensor

from happo_gpu.config.tasks import SmallConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, box, split_actions

# What an agent sees: where it is and where its landmark lies from there; fast sees the others too.
AGENTS = (AgentSpec("fast", 7, box(2)), AgentSpec("slow", 4, box(2)), AgentSpec("rail", 2, box(1)))
SPEED = (0.2, 0.2, 0.1, 0.1, 0.15)  # half widths per step at a full action, along each coordinate
RANGE = 0.3  # half widths at which closeness has fallen to 1/e


def closeness(offsets: Tensor) -> Tensor:
    """exp(-distance / RANGE) of each agent to its landmark, (N, A), from offsets (N, U)."""
    distances = [torch.linalg.vector_norm(part, dim=-1) for part in split_actions(offsets, AGENTS)]
    return torch.exp(-torch.stack(distances, -1) / RANGE)


def team_reward(close: Tensor) -> Tensor:
    """Half the mean, half the worst of (N, A): (N,) in (0, 1]. Nobody may be left behind."""
    return 0.5 * close.mean(-1) + 0.5 * close.amin(-1)


class Spread(VecTask):
    """Reward for being near, every step, until time runs out."""

    def __init__(self, cfg: SmallConfig, num_envs: int, device: torch.device) -> None:
        super().__init__(
            None, list(AGENTS), num_envs, num_states=2 * len(SPEED),
            num_values=1 if cfg.env.teamReward else len(AGENTS),
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
        )
        self._speed = torch.tensor(SPEED, device=device)  # (U,)
        self.position = torch.zeros(num_envs, len(SPEED), device=device)  # (N, U)
        self.landmark = torch.zeros(num_envs, len(SPEED), device=device)  # (N, U)
        self.velocity = torch.zeros(num_envs, len(SPEED), device=device)  # (N, U) per step
        self.episode_sums = {f"closeness_{agent.name}": torch.zeros(num_envs, device=device) for agent in AGENTS}

    def pre_physics_step(self, actions: Tensor) -> None:
        self.velocity.copy_(actions.clamp(-1.0, 1.0) * self._speed)

    def physics_step(self) -> None:
        self.position.add_(self.velocity).clamp_(-1.0, 1.0)

    def compute_reward(self, alive: Tensor) -> Tensor:
        close = closeness(self.landmark - self.position)  # (N, A)
        for value, each in zip(self.episode_sums.values(), close.unbind(-1)):
            value.add_(alive * each)
        return (alive * team_reward(close)).unsqueeze(-1).expand(-1, self.num_values)

    def compute_observations(self) -> Tensor:
        at_fast, at_slow, at_rail = split_actions(self.position, AGENTS)
        to_fast, to_slow, to_rail = split_actions(self.landmark - self.position, AGENTS)
        return torch.cat((at_fast, to_fast, at_slow, at_rail, at_slow, to_slow, at_rail, to_rail), -1)

    def observation_names(self) -> List[List[Quantity]]:
        def at(name: str, axes: str) -> List[Quantity]:
            return [Quantity(f"{name}_{axis}", "half widths") for axis in axes]

        return [at("fast", "xy") + at("fast_to_landmark", "xy") + at("slow", "xy") + at("rail", "x"),
                at("slow", "xy") + at("slow_to_landmark", "xy"), at("rail", "x") + at("rail_to_landmark", "x")]

    def action_names(self) -> List[List[Command]]:
        speed = iter(SPEED)
        return [[Command(f"velocity_{axis}", "half widths per step", 1.0, next(speed)) for axis in "xy"[:agent.num_actions]]
                for agent in self.agents]

    def compute_states(self) -> Tensor:
        return torch.cat((self.position, self.landmark - self.position), -1)

    def scripted_actions(self) -> Tensor:
        """Straight to the landmark, never past it: no other policy is nearer at any step."""
        return ((self.landmark - self.position) / self._speed).clamp(-1.0, 1.0)

    def episode_metrics(self) -> Dict[str, Tensor]:
        length = self.progress_buf.clamp(min=1)
        metrics = {name: value / length for name, value in self.episode_sums.items()}
        return {"score": self.episode_return / length, **metrics}

    def reset_where(self, mask: Tensor) -> None:
        for place in (self.position, self.landmark):
            place.copy_(torch.where(mask.unsqueeze(-1), 2.0 * torch.rand_like(place) - 1.0, place))

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "position": self.position, "landmark": self.landmark}
