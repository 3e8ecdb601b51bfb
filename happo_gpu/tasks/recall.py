"""Recall: two agents repeat, at the end of an episode, what each was shown at its beginning. No simulator.

Only a recurrent policy can solve it: without memory nothing beats guessing, right one time in six.
"""
from __future__ import annotations

from typing import Dict, List

import torch
from torch import Tensor

from happo_gpu.config.tasks import SmallConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, discrete, split_choices

# What an agent sees: its cue as one-hot, in the first observation only, and the clock.
AGENTS = (AgentSpec("colour", 3 + 1, discrete(3)), AgentSpec("side", 2 + 1, discrete(2)))
OWNERS = [i for i, agent in enumerate(AGENTS) for _ in range(agent.num_choices)]  # (C,) agent of each choice
KINDS = [kind for agent in AGENTS for kind in range(agent.num_choices)]  # (C,) its kind of cue


class Recall(VecTask):
    """Reward 1 for the last step if both agents name their cues there, else 0; the answer ends the episode."""

    def __init__(self, cfg: SmallConfig, num_envs: int, device: torch.device) -> None:
        super().__init__(
            None, list(AGENTS), num_envs, num_states=len(KINDS) + 1, num_values=1 if cfg.env.teamReward else len(AGENTS),
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
        )
        self._owner, self._kind = torch.tensor(OWNERS, device=device), torch.tensor(KINDS, device=device)  # (C,)
        self._num_kinds = torch.tensor([agent.num_choices for agent in AGENTS], device=device)  # (A,)
        self.cue = torch.zeros(num_envs, len(AGENTS), device=device)  # (N, A) index of the kind, as actions are
        # Not progress == 0: an episode whose age was spread begins late, and must show its cue all the same.
        self.fresh = torch.ones(num_envs, dtype=torch.bool, device=device)
        self.right = torch.zeros(num_envs, len(AGENTS), dtype=torch.bool, device=device)  # in the last action

    def pre_physics_step(self, actions: Tensor) -> None:
        self.right.copy_(actions == self.cue)

    def physics_step(self) -> None:
        self.fresh.fill_(False)

    def compute_reward(self, alive: Tensor) -> Tensor:
        last = self.progress_buf >= self.max_episode_length
        self.terminated_buf.logical_or_(last)
        return (alive * (last & self.right.all(-1))).unsqueeze(-1).expand(-1, self.num_values)

    def compute_observations(self) -> Tensor:
        colour, side = split_choices(self._one_hot() * self.fresh.unsqueeze(-1), AGENTS)
        return torch.cat((colour, self._clock(), side, self._clock()), -1)

    def observation_names(self) -> List[List[Quantity]]:
        return [[Quantity(f"{agent.name}_is_{kind}") for kind in range(agent.num_choices)] + [Quantity("clock", "episodes")]
                for agent in self.agents]

    def action_names(self) -> List[List[Command]]:
        return [[Command(agent.name, "index")] for agent in self.agents]

    def compute_states(self) -> Tensor:
        return torch.cat((self._one_hot(), self._clock()), -1)

    def scripted_actions(self) -> Tensor:
        """The cues: always right."""
        return self.cue.clone()

    def episode_metrics(self) -> Dict[str, Tensor]:
        """``score`` is the reward of the one step that is rewarded."""
        right = {f"right_{agent.name}": self.right[:, i].to(torch.float32) for i, agent in enumerate(AGENTS)}
        return {"score": self.episode_return, **right}

    def reset_where(self, mask: Tensor) -> None:
        cue = torch.floor(torch.rand_like(self.cue) * self._num_kinds)
        self.cue.copy_(torch.where(mask.unsqueeze(-1), cue, self.cue))
        self.fresh.logical_or_(mask)

    def _one_hot(self) -> Tensor:
        """(N, C)"""
        return (self.cue[:, self._owner] == self._kind).to(torch.float32)

    def _clock(self) -> Tensor:
        """(N, 1) share of the episode that is over."""
        return (self.progress_buf / self.max_episode_length).unsqueeze(-1)

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "cue": self.cue, "fresh": self.fresh}
