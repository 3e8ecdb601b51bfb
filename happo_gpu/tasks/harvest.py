"""Harvest: who takes which site. Discrete actions with masks, agents that break, no simulator.

Action i is site i. C counts choices: every agent's sites side by side. Sites and masks are drawn anew
every step, so that only the assignment of agents to sites has to be learned.
"""
from __future__ import annotations

from typing import Dict, List

import torch
from torch import Tensor
from torch.nn.functional import pad

from happo_gpu.config.tasks import SmallConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, discrete, split_choices

NUM_SITES = 5
# Everyone sees what each agent could gain by each of its choices, (C,).
AGENTS = (AgentSpec("long", 12, discrete(5)), AgentSpec("middle", 12, discrete(4)), AgentSpec("short", 12, discrete(3)))
OWNERS = [i for i, agent in enumerate(AGENTS) for _ in range(agent.num_choices)]  # (C,) agent of each choice
SITES = [site for agent in AGENTS for site in range(agent.num_choices)]  # (C,) its site
OPEN = 0.7  # probability that a site is open to an agent in a step
BREAKS = 0.02  # probability that a living agent breaks in a step


def harvested(earning: Tensor, worth: Tensor) -> Tensor:
    """Worth of the distinct sites that someone takes, over the number of agents: (...,) in [0, 1].

    Args:
        earning: (..., C) bool, choices that agents who can do so make.
        worth: (..., NUM_SITES) in [0, 1].
    """
    menus = [pad(menu, (0, NUM_SITES - menu.shape[-1])) for menu in split_choices(earning, AGENTS)]
    return (torch.stack(menus).any(0) * worth).sum(-1) / len(AGENTS)


class Harvest(VecTask):
    """Reward for the sites taken, every step, until time runs out; two at one site count once.

    With teamReward: false every agent has a value head and a critic's state of its own: the team's
    and who it is. The reward is the same for all, dead ones too.
    """

    def __init__(self, cfg: SmallConfig, num_envs: int, device: torch.device) -> None:
        each = not cfg.env.teamReward
        super().__init__(
            None, list(AGENTS), num_envs, num_states=len(SITES) + len(AGENTS) * each,
            num_values=len(AGENTS) if each else 1,
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
            per_agent_states=each, masks=True, deaths=True,
        )
        self._owner, self._site = torch.tensor(OWNERS, device=device), torch.tensor(SITES, device=device)  # (C,)
        joint = torch.cartesian_prod(*[torch.arange(agent.num_choices, device=device) for agent in AGENTS])
        self._joint = joint.to(torch.float32)  # (J, A) all joint actions
        self.worth = torch.zeros(num_envs, NUM_SITES, device=device)
        self.open = torch.ones(num_envs, len(SITES), dtype=torch.bool, device=device)  # (N, C)
        self.living = torch.ones(num_envs, len(AGENTS), device=device)  # (N, A) 1 or 0
        self.earned = torch.zeros(num_envs, device=device)  # of the step under way
        self.episode_sums = {"living": torch.zeros(num_envs, device=device)}

    def pre_physics_step(self, actions: Tensor) -> None:
        self.earned.copy_(harvested(self._chosen(actions) & self._able(), self.worth))
        self.episode_sums["living"].add_(self.living.mean(-1))

    def physics_step(self) -> None:
        self._draw(torch.ones_like(self.reset_buf))
        self.living.mul_(torch.rand_like(self.living) >= BREAKS)

    def compute_reward(self, alive: Tensor) -> Tensor:
        return (alive * self.earned).unsqueeze(-1).expand(-1, self.num_values)

    def compute_observations(self) -> Tensor:
        return self._gains().repeat(1, len(AGENTS))

    def observation_names(self) -> List[List[Quantity]]:
        gains = [Quantity(f"gain_of_{AGENTS[owner].name}_at_site_{site}") for owner, site in zip(OWNERS, SITES)]
        return [gains for _ in self.agents]

    def action_names(self) -> List[List[Command]]:
        return [[Command("site", "index")] for _ in self.agents]

    def compute_states(self) -> Tensor:
        if not self.per_agent_states:
            return self._gains()
        gains = self._gains().unsqueeze(1).expand(-1, len(AGENTS), -1)  # (N, A, C)
        who = torch.eye(len(AGENTS), device=self.device).expand(self.num_envs, -1, -1)  # (N, A, A)
        return torch.cat((gains, who), -1)

    def compute_available(self) -> Tensor:
        return self.open

    def compute_active(self) -> Tensor:
        return self.living

    def scripted_actions(self) -> Tensor:
        """The best of all joint actions that are open: the optimum, for nothing done now changes what comes."""
        chosen = self._chosen(self._joint)  # (J, C)
        value = harvested(chosen & self._able().unsqueeze(1), self.worth.unsqueeze(1))  # (N, J)
        closed = (chosen & ~self.open.unsqueeze(1)).any(-1)
        return self._joint[(value - 2.0 * closed).argmax(-1)]

    def episode_metrics(self) -> Dict[str, Tensor]:
        length = self.progress_buf.clamp(min=1)
        return {"score": self.episode_return / length, "living": self.episode_sums["living"] / length}

    def reset_where(self, mask: Tensor) -> None:
        self._draw(mask)
        self.living.copy_(torch.where(mask.unsqueeze(-1), torch.ones_like(self.living), self.living))

    # -- pieces ------------------------------------------------------------------------------

    def _draw(self, mask: Tensor) -> None:
        """New worths, squared so that few sites are worth much, and new masks where mask (N,) is true."""
        draw = torch.rand(self.open.shape, device=self.device)
        menus = [(menu < OPEN) | (menu == menu.amin(-1, keepdim=True)) for menu in split_choices(draw, AGENTS)]
        self.open.copy_(torch.where(mask.unsqueeze(-1), torch.cat(menus, -1), self.open))
        self.worth.copy_(torch.where(mask.unsqueeze(-1), torch.rand_like(self.worth) ** 2, self.worth))

    def _chosen(self, actions: Tensor) -> Tensor:
        """(..., C) bool from actions (..., A)."""
        return actions[..., self._owner] == self._site

    def _able(self) -> Tensor:
        """(N, C) bool: open to an agent that lives."""
        return self.open & (self.living[:, self._owner] > 0.0)

    def _gains(self) -> Tensor:
        """(N, C) worth of each choice, 0 where its site is closed or its agent dead."""
        return self.worth[:, self._site] * self._able()

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "worth": self.worth, "open": self.open, "living": self.living}
