"""Recurrent layers between a network's body and its head."""
from __future__ import annotations

from typing import NamedTuple, Tuple

import torch
from torch import Tensor, nn


class Memory(NamedTuple):
    """What a recurrent network remembers when it reads B sequences of L steps."""

    hidden: Tensor  # (B, R, H) before the first step
    first: Tensor  # (B, L) bool, steps that begin an episode: the state is zero there


class Gru(nn.Module):
    """R stacked gated recurrent units and a LayerNorm, as HARL has them.

    Steps one cell at a time. torch's fused sequence kernel neither resets a state in the middle of a
    sequence nor has second derivatives on CUDA, which the trust region needs.
    """

    def __init__(self, size: int, num_layers: int, initialization_method: str) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(size, size) for _ in range(num_layers)])
        for name, parameter in self.cells.named_parameters():
            if "weight" in name:
                getattr(nn.init, initialization_method)(parameter)
            else:
                nn.init.zeros_(parameter)
        self.norm = nn.LayerNorm(size)

    def forward(self, features: Tensor, memory: Memory) -> Tuple[Tensor, Tensor]:
        """Features (B, L, H) to features (B, L, H) and the states after every step, (B, L, R, H)."""
        keep = (~memory.first).to(features.dtype).unsqueeze(-1)  # (B, L, 1)
        state = list(memory.hidden.unbind(1))  # R of (B, H)
        states = []
        for step in range(features.shape[1]):
            below = features[:, step]
            for layer, cell in enumerate(self.cells):
                below = state[layer] = cell(below, state[layer] * keep[:, step])
            states.append(torch.stack(state, 1))
        after = torch.stack(states, 1)
        return self.norm(after[:, :, -1]), after
