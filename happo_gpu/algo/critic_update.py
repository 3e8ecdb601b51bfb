"""Regression of the centralised critic on the returns."""
from __future__ import annotations

import math
from typing import Optional, Union

import torch
from torch import Tensor

from happo_gpu.algo.batch import Table, epoch_order, piece_sizes
from happo_gpu.algo.gradients import FlatGradients
from happo_gpu.algo.surrogate import value_loss
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import Stats


class CriticGradients:
    """A critic's gradients on a minibatch, piece by piece; ``add_plain`` may be replaced from outside as that of an actor's."""

    def __init__(self, critic: Critic, cfg: AlgoConfig) -> None:
        self.critic, self.cfg = critic, cfg
        self.buffer = FlatGradients(critic)
        self.device = self.buffer.flat.device
        self.loss = torch.zeros((), device=self.device)
        self.add_plain = self._add_plain

    def accumulate(self, states: Tensor, old_values: Tensor, targets: Tensor, memory: Optional[Memory] = None) -> Tensor:
        """Gradients of the mean loss of (B, ...), or of a recurrent critic (B, L, ...); returns the loss, 0-d."""
        self.buffer.zero()
        self.loss.zero_()
        sizes = piece_sizes(len(states), states.shape[1] if memory else 1, self.device)
        fields = (states, old_values, targets, *(memory or ()))
        for piece in zip(*(field.split(sizes) for field in fields)):
            share = torch.full((), len(piece[0]) / len(states), device=self.device)
            if memory:
                self._add(*piece[:3], share, Memory(*piece[3:]))
            else:
                self.add_plain(*piece, share)
        return self.loss.clone()

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
    table, losses, norms = Table([states, old_values, returns, *(memory or ())]), [], []
    if cfg.valuenorm_update == "iteration":
        value_norm.update(returns)
    for _ in range(cfg.critic_epoch):
        order = epoch_order(states.shape[0], cfg.critic_num_mini_batch, 1, states.device)
        shuffled = [field.chunk(cfg.critic_num_mini_batch) for field in table.rows(order)]
        for seen, old, targets, *remembered in zip(*shuffled):
            if cfg.valuenorm_update == "minibatch":
                value_norm.update(targets)
            losses.append(gradients.accumulate(seen, old, value_norm.normalize(targets), Memory(*remembered) if remembered else None))
            buffer.average()
            norms.append(buffer.clip(cfg.max_grad_norm) if cfg.use_max_grad_norm else buffer.norm())
            optimizer.step()
    return {"c_loss": torch.stack(losses).mean(), "grad_norm": torch.stack(norms).mean()}
