"""How an actor steps under PPO and A2C: epochs of shuffled minibatches."""
from __future__ import annotations

import torch
from torch import Tensor

from happo_gpu.algo.batch import ActorBatch, epoch_order
from happo_gpu.algo.surrogate import active_mean, approximate_kl, clipped_surrogate, probability_ratio
from happo_gpu.config import AlgoConfig
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


def mean_entropy(distribution: Distribution, batch: ActorBatch, cfg: AlgoConfig) -> Tensor:
    """Entropy of an action over the batch's active samples, 0-d, nats."""
    harl_joint = getattr(distribution, "harl_joint", False)  # HARL forgets this mask too for several menus
    masked = cfg.use_policy_active_masks and not harl_joint
    return active_mean(distribution.entropy(), batch.active if masked else None)


def sgd_step(actor: Actor, optimizer: torch.optim.Optimizer, batch: ActorBatch, cfg: AlgoConfig) -> Stats:
    """Runs cfg.ppo_epoch epochs; returns device-side means over the updates."""
    parameters = list(actor.parameters())
    num_samples = batch.obs.shape[0] // batch.num_agents
    losses, entropies, norms = [], [], []
    for _ in range(cfg.ppo_epoch):
        order = epoch_order(num_samples, cfg.actor_num_mini_batch, batch.num_agents, batch.obs.device)
        for part in batch.shuffled(order, cfg.actor_num_mini_batch):
            distribution = part.distribution(actor)
            loss, entropy = actor_loss(distribution, part, cfg), mean_entropy(distribution, part, cfg)
            optimizer.zero_grad(set_to_none=True)
            (loss - cfg.entropy_coef * entropy).backward()
            norms.append(clip_gradients(parameters, cfg.max_grad_norm) if cfg.use_max_grad_norm else grad_norm(parameters))
            optimizer.step()
            losses.append(loss.detach())
            entropies.append(entropy.detach())
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
