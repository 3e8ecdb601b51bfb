"""The policy of one agent: body, memory if any, and a head for its action space."""
from __future__ import annotations

from typing import Callable, Optional, Tuple

import torch
from torch import Tensor, nn

from happo_gpu.config.algo import ModelConfig
from happo_gpu.nets.distributions import UNAVAILABLE, Categorical, Distribution, Gaussian
from happo_gpu.nets.mlp import linear, mlp
from happo_gpu.nets.normalizer import input_norm
from happo_gpu.nets.recurrent import Gru, Memory
from happo_gpu.types import AgentSpec


class GaussianHead(nn.Module):
    """std = sigmoid(log_std / std_x_coef) * std_y_coef, HARL's form.

    It is bounded by std_y_coef, so that an entropy bonus cannot blow exploration up, and never zero.
    log_std starts at std_x_coef.
    """

    def __init__(self, num_features: int, num_actions: int, cfg: ModelConfig) -> None:
        super().__init__()
        self.std_x_coef, self.std_y_coef = cfg.std_x_coef, cfg.std_y_coef
        self.mean = linear(num_features, num_actions, cfg.gain, cfg.initialization_method)
        self.log_std = nn.Parameter(torch.full((num_actions,), cfg.std_x_coef))

    def std(self) -> Tensor:
        """(U_i,) standard deviations."""
        return torch.sigmoid(self.log_std / self.std_x_coef) * self.std_y_coef

    def forward(self, features: Tensor, available: Optional[Tensor]) -> Gaussian:
        return Gaussian(self.mean(features), self.std())


class CategoricalHead(nn.Module):
    """Logits of every menu side by side; unavailable actions get a logit of -1e10."""

    def __init__(self, num_features: int, choices: Tuple[int, ...], cfg: ModelConfig) -> None:
        super().__init__()
        self.choices = choices
        self.harl_joint = cfg.multi_discrete == "harl" and len(choices) > 1
        self.logits = nn.ModuleList(
            [linear(num_features, n, cfg.gain, cfg.initialization_method) for n in choices]
        )

    def forward(self, features: Tensor, available: Optional[Tensor]) -> Categorical:
        logits = torch.cat([menu(features) for menu in self.logits], -1)  # (..., C_i)
        if available is not None and not self.harl_joint:  # HARL forgets the mask for several menus
            logits = torch.where(available, logits, torch.full_like(logits, UNAVAILABLE))
        return Categorical.from_logits(logits, self.choices, self.harl_joint)


class Actor(nn.Module):
    """Observations of one agent to a distribution over its actions."""

    def __init__(self, spec: AgentSpec, cfg: ModelConfig) -> None:
        super().__init__()
        space = spec.action_space
        self.norm = input_norm(spec.num_obs, cfg)
        self.base = mlp(spec.num_obs, cfg)
        size = cfg.hidden_sizes[-1]
        self.rnn = Gru(size, cfg.recurrent_n, cfg.initialization_method) if cfg.recurrent != "none" else None
        self.head = GaussianHead(size, space.size, cfg) if space.continuous else CategoricalHead(size, space.choices, cfg)
        # accelerate.py may replace this with a compiled version of itself.
        self.write_log_probs: Callable[[Tensor, Tensor, Tensor], None] = self._write_log_probs

    def forward(
        self, obs: Tensor, available: Optional[Tensor] = None, memory: Optional[Memory] = None
    ) -> Tuple[Distribution, Optional[Tensor]]:
        """The distribution, and a recurrent actor's states after every step.

        Args:
            obs: (..., O_i); for a recurrent actor (B, L, O_i).
            available: (..., C_i) bool, of a discrete agent that cannot always do everything.
            memory: of a recurrent actor.
        """
        features, states = self.base(self.norm(obs)), None
        if self.rnn is not None:
            features, states = self.rnn(features, memory)
        return self.head(features, available), states

    def distribution(
        self, obs: Tensor, available: Optional[Tensor] = None, memory: Optional[Memory] = None
    ) -> Distribution:
        return self(obs, available, memory)[0]

    @torch.no_grad()
    def _write_log_probs(self, obs: Tensor, actions: Tensor, log_probs: Tensor) -> None:
        """Of actions (B, U_i) on observations (B, O_i), without memory and menus, into log_probs (B, U_i)."""
        log_probs.copy_(self.distribution(obs).log_prob(actions))
