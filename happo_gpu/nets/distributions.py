"""Action distributions: what an actor's head gives and what the algorithms ask of it."""
from __future__ import annotations

import math
from typing import NamedTuple, Tuple, Union

import torch
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
UNAVAILABLE = -1e10  # the logit of an action that cannot be taken, HARL's number


class Gaussian(NamedTuple):
    """Independent Gaussians with a state-independent standard deviation."""

    mean: Tensor  # (..., U_i)
    std: Tensor  # (U_i,)

    def at(self, noise: Tensor) -> Tensor:
        """The sample that standard normal noise (..., U_i) makes."""
        return self.mean + self.std * noise

    def sample(self) -> Tensor:
        return self.at(torch.randn_like(self.mean))

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density per action dimension, (..., U_i)."""
        z = (actions - self.mean) / self.std
        return -0.5 * z * z - torch.log(self.std) - _HALF_LOG_2PI

    def entropy(self) -> Tensor:
        """Differential entropy of an action vector, nats; the same everywhere, so 0-d."""
        return (0.5 + _HALF_LOG_2PI + torch.log(self.std)).sum()

    def kl_to(self, new: "Gaussian") -> Tensor:
        """KL(self || new), summed over dimensions, (...), in float64: near zero float32 cancels."""
        mean, std, new_mean, new_std = (value.double() for value in (self.mean, self.std, new.mean, new.std))
        ratio = (std / new_std) ** 2
        return 0.5 * (ratio + ((mean - new_mean) / new_std) ** 2 - 1.0 - torch.log(ratio)).sum(-1)


class Categorical(NamedTuple):
    """One choice in each of several menus, independent of each other.

    With ``harl_joint`` log-probabilities are those of the joint choice in one column, which against
    the stored columns gives HARL's ratio for multi-discrete actions: the joint one to the power of
    the number of menus.
    """

    logits: Tensor  # (..., C_i) normalised within each menu
    choices: Tuple[int, ...]
    harl_joint: bool = False

    @staticmethod
    def from_logits(logits: Tensor, choices: Tuple[int, ...], harl_joint: bool = False) -> "Categorical":
        parts = [part - part.logsumexp(-1, keepdim=True) for part in logits.split(list(choices), -1)]
        return Categorical(torch.cat(parts, -1) if len(parts) > 1 else parts[0], choices, harl_joint)

    def _menus(self) -> Tuple[Tensor, ...]:
        return self.logits.split(list(self.choices), -1)

    def sample(self) -> Tensor:
        """Indices as floats, (..., U_i): the largest of the logits plus Gumbel noise, in each menu."""
        noise = -torch.log(torch.empty_like(self.logits).exponential_())
        noisy = self.logits + noise
        picks = [menu.argmax(-1) for menu in noisy.split(list(self.choices), -1)]
        return torch.stack(picks, -1).to(self.logits.dtype)

    def mode(self) -> Tensor:
        return torch.stack([menu.argmax(-1) for menu in self._menus()], -1).to(self.logits.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of each choice, (..., U_i); of the joint one, (..., 1), if ``harl_joint``."""
        index = actions.long().split(1, -1)
        each = torch.cat([menu.gather(-1, i) for menu, i in zip(self._menus(), index)], -1)
        return each.sum(-1, keepdim=True) if self.harl_joint else each

    def entropy(self) -> Tensor:
        """Entropy of the joint choice, (...), nats."""
        return -(self.logits.exp() * self.logits).sum(-1)

    def kl_to(self, new: "Categorical") -> Tensor:
        """HARL's measure of change, (...): sum over actions of r - 1 - log r, r = new / old.

        Not weighted by probability, so it is no KL divergence, but its second derivative is positive
        and it bounds the KL from above; the same threshold gives smaller steps.
        """
        change = new.logits - self.logits
        return (change.exp() - 1.0 - change).sum(-1)


Distribution = Union[Gaussian, Categorical]
