"""Regression of the centralised critic on the returns."""
from __future__ import annotations

import math
from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from happo_gpu.algo.batch import Table, epoch_order, piece_sizes
from happo_gpu.algo.gradients import Gradients
from happo_gpu.algo.surrogate import value_loss
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import Stats


class CriticGradients(Gradients):
    """Gradients of a critic's loss, and steps along them.

    Attributes:
        loss: 0-d, summed over minibatches.
    """

    def __init__(self, critic: Critic, cfg: AlgoConfig) -> None:
        super().__init__(critic, cfg)
        self.critic = critic
        self.loss = torch.zeros((), device=self.device)

    def steps(self, states: Tensor, old_values: Tensor, targets: Tensor, num_parts: int, optimizer: torch.optim.Optimizer,
              memory: Optional[Memory] = None) -> None:
        """Steps on equal parts of samples (B, ...), or of a recurrent critic's sequences (B, L, ...), one after the other."""
        if not memory:
            self.steps_plain(states, old_values, targets, num_parts, optimizer)
            return
        for part in zip(*(field.chunk(num_parts) for field in (states, old_values, targets, *memory))):
            self._accumulate(part)
            self.apply(optimizer)

    def _accumulate(self, fields: Sequence[Tensor]) -> None:
        """Gradients of a minibatch of sequences; after states, old values and targets come the fields of their memory."""
        self.buffer.zero()
        sizes = piece_sizes(len(fields[0]), fields[0].shape[1], self.device)
        for piece in zip(*(field.split(sizes) for field in fields)):
            self._add(*piece[:3], torch.full((), len(piece[0]) / len(fields[0]), device=self.device), Memory(*piece[3:]))

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

    def steps(fields: Sequence[Tensor], num_parts: int) -> None:
        its_states, its_values, its_returns, *rest = fields
        gradients.steps(its_states, its_values, value_norm.normalize(its_returns), num_parts, optimizer, Memory(*rest) if rest else None)

    gradients.loss.zero_(), buffer.norms.zero_()
    if cfg.valuenorm_update == "iteration":
        value_norm.update(returns)
    for _ in range(cfg.critic_epoch):
        shuffled = table.rows(epoch_order(states.shape[0], parts, 1, states.device))
        if cfg.valuenorm_update == "iteration":
            steps(shuffled, parts)
            continue
        for part in zip(*(field.chunk(parts) for field in shuffled)):
            value_norm.update(part[2])
            steps(part, 1)
    updates = cfg.critic_epoch * parts
    return {"c_loss": gradients.loss / updates, "grad_norm": buffer.norms / updates}
