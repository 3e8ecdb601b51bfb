"""How an actor steps under PPO and A2C: epochs of shuffled minibatches."""
from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

from happo_gpu import distributed
from happo_gpu.algo.batch import ActorBatch, epoch_order
from happo_gpu.algo.surrogate import active_mean, approximate_kl, clipped_surrogate, probability_ratio
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.distributions import Distribution
from happo_gpu.nets.mlp import clip_gradients, grad_norm
from happo_gpu.types import Stats


def actor_loss(distribution: Distribution, batch: ActorBatch, cfg: AlgoConfig) -> Tensor:
    """Negative surrogate of a batch, without the entropy bonus, 0-d: clipped (PPO) or plain (A2C)."""
    ratio = probability_ratio(distribution.log_prob(batch.actions), batch.log_probs, cfg.action_aggregation)
    if cfg.actor_step == "ppo":
        gain = clipped_surrogate(ratio, batch.advantage, cfg.clip_param)
    else:
        gain = ratio * batch.advantage
    return -active_mean(gain, batch.active if cfg.use_policy_active_masks else None)


def masks_entropy(distribution: Distribution, cfg: AlgoConfig) -> bool:
    """Whether entropy is averaged over active samples only; HARL forgets that for several menus."""
    return cfg.use_policy_active_masks and not getattr(distribution, "harl_joint", False)


def mean_entropy(distribution: Distribution, batch: ActorBatch, cfg: AlgoConfig) -> Tensor:
    """Entropy of an action over the batch's active samples, 0-d, nats."""
    return active_mean(distribution.entropy(), batch.active if masks_entropy(distribution, cfg) else None)


def accumulate_gradients(actor: Actor, batch: ActorBatch, cfg: AlgoConfig) -> Tuple[Tensor, Tensor]:
    """Gradients of the whole batch's loss, worked off piece by piece; returns loss and entropy, 0-d."""
    total_loss = total_entropy = torch.zeros((), device=batch.obs.device)
    for piece in batch.pieces():
        distribution = piece.distribution(actor)
        loss = actor_loss(distribution, piece, cfg) * batch.share_of(piece, cfg.use_policy_active_masks)
        entropy = mean_entropy(distribution, piece, cfg) * batch.share_of(piece, masks_entropy(distribution, cfg))
        (loss - cfg.entropy_coef * entropy).backward()
        total_loss, total_entropy = total_loss + loss.detach(), total_entropy + entropy.detach()
    return total_loss, total_entropy


def sgd_step(actor: Actor, optimizer: torch.optim.Optimizer, batch: ActorBatch, cfg: AlgoConfig) -> Stats:
    """Runs cfg.ppo_epoch epochs; returns device-side means over the updates."""
    parameters = list(actor.parameters())
    num_samples = batch.obs.shape[0] // batch.num_agents
    losses, entropies, norms = [], [], []
    for _ in range(cfg.ppo_epoch):
        order = epoch_order(num_samples, cfg.actor_num_mini_batch, batch.num_agents, batch.obs.device)
        for part in batch.shuffled(order, cfg.actor_num_mini_batch):
            optimizer.zero_grad(set_to_none=True)
            loss, entropy = accumulate_gradients(actor, part, cfg)
            distributed.average_gradients(parameters)
            norms.append(clip_gradients(parameters, cfg.max_grad_norm) if cfg.use_max_grad_norm else grad_norm(parameters))
            optimizer.step()
            losses.append(loss)
            entropies.append(entropy)
    means = {"a_loss": losses, "entropy": entropies, "grad_norm": norms}
    return {name: torch.stack(values).mean() for name, values in means.items()}


@torch.no_grad()
def policy_change(new_log_probs: Tensor, batch: ActorBatch, cfg: AlgoConfig) -> Stats:
    """How far a step moved the policy, on the samples that it learned from."""
    ratio = probability_ratio(new_log_probs, batch.log_probs, cfg.action_aggregation)
    outside = (ratio - 1.0).abs() > cfg.clip_param
    return {
        "kl": approximate_kl(new_log_probs, batch.log_probs),
        "ratio": ratio.mean(),
        "clip_fraction": outside.to(ratio.dtype).mean(),
    }
