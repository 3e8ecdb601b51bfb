"""How an actor steps under PPO and A2C: epochs of shuffled minibatches."""
from __future__ import annotations

from typing import Union

import torch
from torch import Tensor

from happo_gpu.algo.batch import ActorBatch, epoch_order
from happo_gpu.algo.gradients import Gradients
from happo_gpu.algo.surrogate import active_mean, approximate_kl, clipped_surrogate, probability_ratio
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.distributions import Distribution
from happo_gpu.types import Stats

Share = Union[Tensor, float]


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


class ActorGradients(Gradients):
    """Gradients of an actor's loss, and steps along them.

    Attributes:
        sums: (2,) loss and entropy, summed over minibatches.
    """

    def __init__(self, actor: Actor, cfg: AlgoConfig) -> None:
        super().__init__(actor, cfg)
        self.actor = actor
        self.sums = torch.zeros(2, device=self.device)

    def steps(self, batch: ActorBatch, num_parts: int, optimizer: torch.optim.Optimizer) -> None:
        """Steps on equal parts of a batch, one after the other."""
        if batch.is_plain:
            self.steps_plain(batch.obs, batch.actions, batch.log_probs, batch.advantage, num_parts, optimizer)
            return
        for part in batch.parts(num_parts):
            self._accumulate(part)
            self.apply(optimizer)

    def _accumulate(self, batch: ActorBatch) -> None:
        """Gradients of the whole batch's loss, where its samples are not plain."""
        self.buffer.zero()
        for piece in batch.pieces():
            self._add(piece, batch.share_of(piece, masked=False), batch.share_of(piece, masked=True))

    def _add_plain(self, obs: Tensor, actions: Tensor, log_probs: Tensor, advantage: Tensor, share: Tensor) -> None:
        self._add(ActorBatch(obs, actions, log_probs, advantage), share, share)

    @torch.enable_grad()
    def _add(self, piece: ActorBatch, of_samples: Share, of_active: Share) -> None:
        """``of_samples`` and ``of_active`` are the piece's weights in means over all samples and over active ones."""
        cfg, distribution = self.cfg, piece.distribution(self.actor)
        loss = actor_loss(distribution, piece, cfg) * (of_active if cfg.use_policy_active_masks else of_samples)
        entropy = mean_entropy(distribution, piece, cfg) * (of_active if masks_entropy(distribution, cfg) else of_samples)
        self.buffer.add(loss - cfg.entropy_coef * entropy)
        self.sums.add_(torch.stack((loss, entropy)).detach())


def sgd_step(gradients: ActorGradients, optimizer: torch.optim.Optimizer, batch: ActorBatch) -> Stats:
    """Runs cfg.ppo_epoch epochs; returns device-side means over the updates."""
    cfg, buffer, table = gradients.cfg, gradients.buffer, batch.table(gradients.fetch)
    num_samples = batch.obs.shape[0] // batch.num_agents
    gradients.sums.zero_(), buffer.norms.zero_()
    for _ in range(cfg.ppo_epoch):
        order = epoch_order(num_samples, cfg.actor_num_mini_batch, batch.num_agents, batch.obs.device)
        gradients.steps(batch.shuffled(table, order), cfg.actor_num_mini_batch, optimizer)
    updates = cfg.ppo_epoch * cfg.actor_num_mini_batch
    loss, entropy = (gradients.sums / updates).unbind()
    return {"a_loss": loss, "entropy": entropy, "grad_norm": buffer.norms / updates}


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
