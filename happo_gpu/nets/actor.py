"""Gaussian policy of one agent."""
from __future__ import annotations

import math
from typing import Tuple

import torch
from torch import Tensor, nn

from happo_gpu.config import ModelConfig
from happo_gpu.nets.mlp import mlp

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class GaussianActor(nn.Module):
    """Independent Gaussians with a state-independent standard deviation.

    std = sigmoid(log_std / std_x_coef) * std_y_coef, HARL's form: bounded by std_y_coef, so that an
    entropy bonus cannot blow exploration up, and never zero. log_std starts at std_x_coef.
    """

    def __init__(self, num_obs: int, num_actions: int, cfg: ModelConfig) -> None:
        super().__init__()
        self.std_x_coef, self.std_y_coef = cfg.std_x_coef, cfg.std_y_coef
        self.mean = mlp(
            num_obs, num_actions, cfg.hidden_sizes, cfg.activation_func,
            cfg.use_feature_normalization, cfg.use_layer_norm, cfg.initialization_method, cfg.gain,
        )
        self.log_std = nn.Parameter(torch.full((num_actions,), cfg.std_x_coef))

    def std(self) -> Tensor:
        """(U_i,) standard deviations."""
        return torch.sigmoid(self.log_std / self.std_x_coef) * self.std_y_coef

    def sample(self, obs: Tensor) -> Tuple[Tensor, Tensor]:
        """Actions and their log-probabilities per dimension, both (..., U_i)."""
        mean, std = self.mean(obs), self.std()
        actions = mean + std * torch.randn_like(mean)
        return actions, gaussian_log_prob(actions, mean, std)

    def log_prob(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of given actions per dimension, (..., U_i)."""
        return gaussian_log_prob(actions, self.mean(obs), self.std())

    def entropy(self) -> Tensor:
        """Differential entropy of one action vector, summed over dimensions, 0-d, nats."""
        return (0.5 + _HALF_LOG_2PI + torch.log(self.std())).sum()


def gaussian_log_prob(actions: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of a Gaussian per dimension; ``std`` broadcasts over leading axes."""
    z = (actions - mean) / std
    return -0.5 * z * z - torch.log(std) - _HALF_LOG_2PI
