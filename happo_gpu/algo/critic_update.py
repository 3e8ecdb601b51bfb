"""Regression of the centralised critic on the returns."""
from __future__ import annotations

import math
from typing import Callable, Optional, Sequence, Union

import torch
from torch import Tensor

from happo_gpu.algo.batch import Table, epoch_order, fetch, piece_sizes
from happo_gpu.algo.gradients import FlatGradients
from happo_gpu.algo.surrogate import value_loss
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import Stats


class CriticGradients:
    """A critic's gradients on a minibatch, piece by piece, and steps along them.

    ``add_plain``, ``steps_plain`` and ``fetch`` may be replaced from outside as those of an actor's.

    Attributes:
        loss: 0-d, summed over minibatches.
    """

    def __init__(self, critic: Critic, cfg: AlgoConfig) -> None:
        self.critic, self.cfg = critic, cfg
        self.buffer = FlatGradients(critic)
        self.device = self.buffer.flat.device
        self.loss = torch.zeros((), device=self.device)
        self.add_plain: Callable[..., None] = self._add_plain
        self.steps_plain: Callable[..., None] = self._steps_plain
        self.fetch = fetch

    def step(self, optimizer: torch.optim.Optimizer, states: Tensor, old_values: Tensor, targets: Tensor, memory: Optional[Memory] = None) -> None:
        """A step along the gradients of the mean loss of (B, ...), or of a recurrent critic (B, L, ...)."""
        self.buffer.zero()
        sizes = piece_sizes(len(states), states.shape[1] if memory else 1, self.device)
        fields = (states, old_values, targets, *(memory or ()))
        for piece in zip(*(field.split(sizes) for field in fields)) if len(sizes) > 1 else [fields]:
            share = torch.full((), len(piece[0]) / len(states), device=self.device)
            if memory:
                self._add(*piece[:3], share, Memory(*piece[3:]))
            else:
                self.add_plain(*piece, share)
        self.buffer.average()
        self.buffer.clip(self.cfg.gradient_limit)
        optimizer.step()

    def _steps_plain(self, states: Tensor, old_values: Tensor, targets: Tensor, num_parts: int, optimizer: torch.optim.Optimizer) -> None:
        """Steps on equal parts of samples without memory, one after the other."""
        for part in zip(*(field.chunk(num_parts) for field in (states, old_values, targets))):
            self.step(optimizer, *part)

    def _add_plain(self, states: Tensor, old_values: Tensor, targets: Tensor, share: Tensor) -> None:
        """(b, S), (b, K), (b, K) in normalised units, and their weight in the minibatch, 0-d."""
        self._add(states, old_values, targets, share, None)

    @torch.enable_grad()
    def _add(self, states: Tensor, old_values: Tensor, targets: Tensor, share: Tensor, memory: Optional[Memory]) -> None:
        cfg = self.cfg
        clip = cfg.clip_param if cfg.use_clipped_value_loss else math.inf
        delta = cfg.huber_delta if cfg.use_huber_loss else math.inf
        values, _ = self.critic(states, memory)
        loss = value_loss(values, old_values, targets, clip, delta).mean() * share
        self.buffer.add(cfg.value_loss_coef * loss)
        self.loss.add_(loss.detach())


def update_critic(
    gradients: CriticGradients, optimizer: torch.optim.Optimizer, value_norm: Union[ValueNorm, NoValueNorm],
    states: Tensor, old_values: Tensor, returns: Tensor, memory: Optional[Memory] = None,
) -> Stats:
    """Runs cfg.critic_epoch epochs of minibatches.

    Args:
        states: (B, S); of a recurrent critic (B, L, S).
        old_values: (B, K) the critic's outputs before the update, normalised units.
        returns: (B, K) targets in the reward's own units.
        memory: of a recurrent critic.

    HARL moves ValueNorm's statistics at every minibatch (valuenorm_update: minibatch). ``iteration``
    moves them once, before the first: the targets of one iteration are then one fixed function.
    """
    cfg, buffer = gradients.cfg, gradients.buffer
    table, parts = Table([states, old_values, returns, *(memory or ())], gradients.fetch), cfg.critic_num_mini_batch
    gradients.loss.zero_(), buffer.norms.zero_()
    if cfg.valuenorm_update == "iteration":
        value_norm.update(returns)
    for _ in range(cfg.critic_epoch):
        shuffled = table.rows(epoch_order(states.shape[0], parts, 1, states.device))
        if cfg.valuenorm_update == "iteration":
            _steps(gradients, optimizer, value_norm, shuffled, parts)
            continue
        for part in zip(*(field.chunk(parts) for field in shuffled)):
            value_norm.update(part[2])
            _steps(gradients, optimizer, value_norm, part, 1)
    updates = cfg.critic_epoch * parts
    return {"c_loss": gradients.loss / updates, "grad_norm": buffer.norms / updates}


def _steps(gradients: CriticGradients, optimizer: torch.optim.Optimizer, value_norm: Union[ValueNorm, NoValueNorm],
           fields: Sequence[Tensor], num_parts: int) -> None:
    """On equal parts of states, old values, returns and what a recurrent critic remembers."""
    states, old_values, returns, *memory = fields
    targets = value_norm.normalize(returns)
    if not memory:
        gradients.steps_plain(states, old_values, targets, num_parts, optimizer)
        return
    for part in zip(*(field.chunk(num_parts) for field in (states, old_values, targets, *memory))):
        gradients.step(optimizer, *part[:3], Memory(*part[3:]))
