"""All agents' actors side by side, acting in N environments."""
from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.nets.actor import Actor
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import AgentSpec, split_actions, split_choices, split_obs


class Policy:
    """What the task sees of the learner. Remembers the recurrent states of its environments.

    Attributes:
        hidden: per agent (N, R, H); empty for feed-forward actors.
        deterministic: whether it takes each distribution's mode or samples; may change between steps.
        num_obs, num_actions: columns of all agents' observations and actions.
    """

    def __init__(self, actors: Sequence[Actor], agents: Sequence[AgentSpec], num_envs: int, deterministic: bool) -> None:
        """``actors`` holds one actor for each agent, or one for all."""
        self._actors = list(actors) if len(actors) == len(agents) else [actors[0]] * len(agents)
        self._agents, self.deterministic = list(agents), deterministic
        self.num_obs, self.num_actions = (sum(sizes) for sizes in zip(*((agent.num_obs, agent.num_actions) for agent in agents)))
        self.device = next(self._actors[0].parameters()).device
        self.hidden: List[Tensor] = []
        rnn = self._actors[0].rnn
        if rnn is not None:
            shape = (num_envs, len(rnn.cells), rnn.cells[0].hidden_size)
            self.hidden = [torch.zeros(shape, device=self.device) for _ in agents]
        self.is_plain = rnn is None and all(agent.action_space.continuous for agent in agents)
        # accelerate.py may replace this with a compiled version of itself.
        self.sample_plain = self._sample_plain

    @torch.no_grad()
    def act(self, obs: Tensor, available: Optional[Tensor], first: Tensor) -> Tuple[Tensor, Tensor]:
        """Actions and their log-probabilities per dimension, both (N, U).

        Args:
            obs: (N, O). available: (N, C) bool or None.
            first: (N,) bool, environments that begin an episode: their memory is cleared.
        """
        if self.is_plain and not self.deterministic:
            noise = torch.randn(len(obs), self.num_actions, device=self.device)
            drawn = torch.empty_like(noise), torch.empty_like(noise)
            self.sample_plain(obs, noise, *drawn)
            return drawn
        menus = split_choices(available, self._agents) if available is not None else [None] * len(self._agents)
        actions, log_probs = [], []
        for i, (actor, seen, menu) in enumerate(zip(self._actors, split_obs(obs, self._agents), menus)):
            if self.hidden:
                memory = Memory(self.hidden[i], first.unsqueeze(-1))
                menu = None if menu is None else menu.unsqueeze(1)
                distribution, after = actor(seen.unsqueeze(1), menu, memory)
                self.hidden[i].copy_(after[:, -1])
            else:
                distribution, _ = actor(seen, menu)
            chosen = distribution.mode() if self.deterministic else distribution.sample()
            log_prob = distribution.log_prob(chosen).expand_as(chosen)
            actions.append(chosen.squeeze(1) if self.hidden else chosen)
            log_probs.append(log_prob.squeeze(1) if self.hidden else log_prob)
        return torch.cat(actions, -1), torch.cat(log_probs, -1)

    @torch.no_grad()
    def _sample_plain(self, obs: Tensor, noise: Tensor, actions: Tensor, log_probs: Tensor) -> None:
        """Of actors without memory and menus: writes the actions (N, U) that ``noise`` (N, U) makes, and their log-probabilities."""
        parts = (split_actions(each, self._agents) for each in (noise, actions, log_probs))
        for actor, seen, drawn, chosen, log_prob in zip(self._actors, split_obs(obs, self._agents), *parts):
            distribution = actor.distribution(seen)
            chosen.copy_(distribution.at(drawn))
            log_prob.copy_(distribution.log_prob(chosen))
