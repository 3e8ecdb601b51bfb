"""Regression of the centralised critic on the returns."""
from __future__ import annotations

import math
from typing import List, Optional, Union

import torch
from torch import Tensor

from happo_gpu import distributed
from happo_gpu.algo.batch import epoch_order, piece_sizes
from happo_gpu.algo.surrogate import value_loss
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.mlp import clip_gradients, grad_norm
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import Stats


def update_critic(
    critic: Critic, optimizer: torch.optim.Optimizer, value_norm: Union[ValueNorm, NoValueNorm],
    states: Tensor, old_values: Tensor, returns: Tensor, cfg: AlgoConfig, memory: Optional[Memory] = None,
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
    parameters = list(critic.parameters())
    everything = [states, old_values, returns, *(memory or ())]
    losses, norms = [], []
    if cfg.valuenorm_update == "iteration":
        value_norm.update(returns)
    for _ in range(cfg.critic_epoch):
        order = epoch_order(states.shape[0], cfg.critic_num_mini_batch, 1, states.device)
        shuffled = [field.index_select(0, order).chunk(cfg.critic_num_mini_batch) for field in everything]
        for seen, old, targets, *remembered in zip(*shuffled):
            if cfg.valuenorm_update == "minibatch":
                value_norm.update(targets)
            optimizer.zero_grad(set_to_none=True)
            losses.append(_accumulate_gradients(critic, [seen, old, value_norm.normalize(targets), *remembered], cfg))
            distributed.average_gradients(parameters)
            norms.append(clip_gradients(parameters, cfg.max_grad_norm) if cfg.use_max_grad_norm else grad_norm(parameters))
            optimizer.step()
    return {"c_loss": torch.stack(losses).mean(), "grad_norm": torch.stack(norms).mean()}


def _accumulate_gradients(critic: Critic, minibatch: List[Tensor], cfg: AlgoConfig) -> Tensor:
    """Gradients of the mean loss of (states, old values, normalised targets[, hidden, first]), piece by piece."""
    clip = cfg.clip_param if cfg.use_clipped_value_loss else math.inf
    delta = cfg.huber_delta if cfg.use_huber_loss else math.inf
    states, recurrent = minibatch[0], len(minibatch) > 3
    sizes = piece_sizes(len(states), states.shape[1] if recurrent else 1, states.device)
    total = torch.zeros((), device=states.device)
    for seen, old, targets, *remembered in zip(*(field.split(sizes) for field in minibatch)):
        values, _ = critic(seen, Memory(*remembered) if recurrent else None)
        loss = value_loss(values, old, targets, clip, delta).mean() * (len(seen) / len(states))
        (cfg.value_loss_coef * loss).backward()
        total = total + loss.detach()
    return total
