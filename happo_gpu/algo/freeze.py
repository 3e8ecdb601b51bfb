"""Skips an actor's step, without asking the host, where all its samples are dead."""
from __future__ import annotations

from typing import Callable, List

import torch
from torch import Tensor, nn

from happo_gpu import distributed
from happo_gpu.types import Stats


def unless_all_dead(
    step: Callable[[], Stats], active: Tensor, actor: nn.Module, optimizer: torch.optim.Optimizer
) -> Stats:
    """Runs ``step`` and takes it back if no sample of ``active`` is 1; its statistics are then 0.

    HARL does not call the step at all, which on a GPU would have to wait for the answer. Taking it
    back restores weights and the optimiser's moments, which a step on zero gradients would move too.
    """
    alive = distributed.total(active.sum()) > 0.0
    tensors = _state(actor, optimizer)
    before = [tensor.detach().clone() for tensor in tensors]
    stats = step()
    with torch.no_grad():
        after = _state(actor, optimizer)
        # Moments that did not exist before the first step began as zeros.
        before += [torch.zeros_like(tensor) for tensor in after[len(before):]]
        for tensor, old in zip(after, before):
            tensor.copy_(torch.where(alive.to(tensor.device), tensor, old))
        return {name: torch.where(alive, value, torch.zeros_like(value)) for name, value in stats.items()}


def _state(actor: nn.Module, optimizer: torch.optim.Optimizer) -> List[Tensor]:
    parameters = list(actor.parameters())
    moments = [
        value for p in parameters for value in optimizer.state.get(p, {}).values() if isinstance(value, Tensor)
    ]
    return parameters + moments
