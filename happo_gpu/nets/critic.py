"""Centralised value function."""
from __future__ import annotations

from torch import Tensor, nn

from happo_gpu.config import ModelConfig
from happo_gpu.nets.mlp import mlp


class Critic(nn.Module):
    """State (..., S) to K normalised values (..., K)."""

    def __init__(self, num_states: int, num_values: int, cfg: ModelConfig) -> None:
        super().__init__()
        self.value = mlp(
            num_states, num_values, cfg.hidden_sizes, cfg.activation_func,
            cfg.use_feature_normalization, cfg.use_layer_norm, cfg.initialization_method, gain=1.0,
        )

    def forward(self, states: Tensor) -> Tensor:
        return self.value(states)
