"""Crew: one agent aims, one tunes, one sets power and polarity. Every kind of action at once, no simulator.

Six readings in [-1, 1], drawn anew every step, say what is right; each agent sees those that it needs:
beacon x and y (aim), signal (tune and set), load and field (set), wind (all).
"""
from __future__ import annotations

from typing import Dict, List

import torch
from torch import Tensor

from happo_gpu.config.tasks import SmallConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, box, discrete, split_actions

AGENTS = (AgentSpec("aim", 3, box(2)), AgentSpec("tune", 2, discrete(4)), AgentSpec("set", 4, discrete(3, 2)))
READINGS = ("beacon_x", "beacon_y", "signal", "load", "field", "wind")
DRIFT = 0.5  # by how much a full wind moves the point to aim at, along x
POWER_STEP = 0.4  # |load + signal| from which power is low or high, not medium
RANGE = 0.5  # distance from the point at which aiming is worth 1/e


def right_actions(readings: Tensor) -> Tensor:
    """What earns 1: point x, point y, channel, power, polarity, (N, U), from readings (N, 6)."""
    beacon_x, beacon_y, signal, load, field, wind = readings.unbind(-1)
    channel = 2.0 * (signal > 0.0) + 1.0 * (wind > 0.0)
    demand = load + signal
    power = 1.0 + 1.0 * (demand > POWER_STEP) - 1.0 * (demand < -POWER_STEP)
    polarity = 1.0 * (field * wind > 0.0)
    return torch.stack((beacon_x + DRIFT * wind, beacon_y, channel, power, polarity), -1)


def matches(actions: Tensor, right: Tensor) -> Tensor:
    """How well each agent did, (N, A) in [0, 1]; actions and right are (N, U).

    aim: exp(-distance / RANGE); tune: right or not; set: the share of its two settings that is right.
    """
    aim, tune, settings = split_actions(actions, AGENTS)
    right_aim, right_tune, right_settings = split_actions(right, AGENTS)
    near = torch.exp(-torch.linalg.vector_norm(aim - right_aim, dim=-1) / RANGE)
    tuned = (tune == right_tune).to(near.dtype).mean(-1)
    return torch.stack((near, tuned, (settings == right_settings).to(near.dtype).mean(-1)), -1)


class Crew(VecTask):
    """Reward every step until time runs out: the product of the three matches, a chain as strong as all links."""

    def __init__(self, cfg: SmallConfig, num_envs: int, device: torch.device) -> None:
        super().__init__(
            None, list(AGENTS), num_envs, num_states=len(READINGS), num_values=1 if cfg.env.teamReward else len(AGENTS),
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
        )
        self.readings = torch.zeros(num_envs, len(READINGS), device=device)
        self.match = torch.zeros(num_envs, len(AGENTS), device=device)  # (N, A) of the step under way
        self.episode_sums = {f"match_{agent.name}": torch.zeros(num_envs, device=device) for agent in AGENTS}

    def pre_physics_step(self, actions: Tensor) -> None:
        self.match.copy_(matches(actions, right_actions(self.readings)))

    def physics_step(self) -> None:
        self.readings.uniform_(-1.0, 1.0)

    def compute_reward(self, alive: Tensor) -> Tensor:
        for value, each in zip(self.episode_sums.values(), self.match.unbind(-1)):
            value.add_(alive * each)
        return (alive * self.match.prod(-1)).unsqueeze(-1).expand(-1, self.num_values)

    def compute_observations(self) -> Tensor:
        beacon, (signal, load, field, wind) = self.readings[:, :2], self.readings[:, 2:].split(1, -1)
        return torch.cat((beacon, wind, signal, wind, load, signal, field, wind), -1)

    def observation_names(self) -> List[List[Quantity]]:
        seen = ("beacon_x", "beacon_y", "wind"), ("signal", "wind"), ("load", "signal", "field", "wind")
        return [[Quantity(name) for name in names] for names in seen]

    def action_names(self) -> List[List[Command]]:
        return [[Command("point_x"), Command("point_y")], [Command("channel", "index")],
                [Command("power", "index"), Command("polarity", "index")]]

    def compute_states(self) -> Tensor:
        return self.readings

    def scripted_actions(self) -> Tensor:
        """Right in everything: reward 1."""
        return right_actions(self.readings)

    def episode_metrics(self) -> Dict[str, Tensor]:
        length = self.progress_buf.clamp(min=1)
        metrics = {name: value / length for name, value in self.episode_sums.items()}
        return {"score": self.episode_return / length, **metrics}

    def reset_where(self, mask: Tensor) -> None:
        drawn = 2.0 * torch.rand_like(self.readings) - 1.0
        self.readings.copy_(torch.where(mask.unsqueeze(-1), drawn, self.readings))

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "readings": self.readings}
