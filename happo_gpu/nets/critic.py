"""Centralised value function."""
from __future__ import annotations

from typing import Callable, Optional, Tuple

import torch
from torch import Tensor, nn

from happo_gpu.config.algo import ModelConfig
from happo_gpu.nets.mlp import linear, mlp
from happo_gpu.nets.normalizer import input_norm
from happo_gpu.nets.recurrent import Gru, Memory


class Critic(nn.Module):
    """States to normalised values: (..., S) to (..., num_values)."""

    def __init__(self, num_states: int, num_values: int, cfg: ModelConfig) -> None:
        super().__init__()
        self.norm = input_norm(num_states, cfg)
        self.base = mlp(num_states, cfg)
        size = cfg.hidden_sizes[-1]
        self.rnn = Gru(size, cfg.recurrent_n, cfg.initialization_method) if cfg.recurrent != "none" else None
        self.head = linear(size, num_values, 1.0, cfg.initialization_method)
        # accelerate.py may replace this with a compiled version of itself.
        self.write_values: Callable[[Tensor, Tensor], None] = self._write_values

    def forward(self, states: Tensor, memory: Optional[Memory] = None) -> Tuple[Tensor, Optional[Tensor]]:
        """Values, and a recurrent critic's hidden states after every step, (B, L, R, H)."""
        features, after = self.base(self.norm(states)), None
        if self.rnn is not None:
            features, after = self.rnn(features, memory)
        return self.head(features), after

    @torch.no_grad()
    def _write_values(self, states: Tensor, values: Tensor) -> None:
        """Of states (B, S), without memory, into values (B, K)."""
        values.copy_(self(states)[0])
