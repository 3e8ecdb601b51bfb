"""How an actor steps under PPO: epochs of shuffled minibatches on the clipped objective."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List

import torch
from torch import Tensor

from happo_gpu.algo.surrogate import approximate_kl, clipped_surrogate, probability_ratio
from happo_gpu.config import AlgoConfig
from happo_gpu.nets.actor import GaussianActor
from happo_gpu.nets.mlp import clip_gradients, grad_norm
from happo_gpu.types import Stats


@dataclass(frozen=True)
class ActorBatch:
    """One actor's samples; agents that share the actor lie one after the other, B samples each."""

    obs: Tensor  # (B, O_i)
    actions: Tensor  # (B, U_i)
    log_probs: Tensor  # (B, U_i) under the policy that acted
    advantage: Tensor  # (B,) normalised, times the importance factor
    num_agents: int = 1

    @staticmethod
    def concatenate(batches: List["ActorBatch"]) -> "ActorBatch":
        if len(batches) == 1:
            return batches[0]
        fields = (torch.cat([getattr(b, name) for b in batches]) for name in ("obs", "actions", "log_probs", "advantage"))
        return ActorBatch(*fields, num_agents=len(batches))


def minibatches(num_samples: int, num_parts: int, num_agents: int, device: torch.device) -> Iterator[Tensor]:
    """Index tensors of one epoch: every agent's samples in an order of their own.

    As in HARL a remainder of num_samples / num_parts is left out of the epoch.
    """
    size = num_samples // num_parts
    orders = [a * num_samples + torch.randperm(num_samples, device=device) for a in range(num_agents)]
    for part in range(num_parts):
        yield torch.cat([order[part * size : (part + 1) * size] for order in orders])


def actor_loss(actor: GaussianActor, batch: ActorBatch, cfg: AlgoConfig) -> Tensor:
    """Negative clipped surrogate of a batch, without the entropy bonus, 0-d."""
    ratio = probability_ratio(actor.log_prob(batch.obs, batch.actions), batch.log_probs, cfg.action_aggregation)
    return -clipped_surrogate(ratio, batch.advantage, cfg.clip_param).mean()


def ppo_step(actor: GaussianActor, optimizer: torch.optim.Optimizer, batch: ActorBatch, cfg: AlgoConfig) -> Stats:
    """Runs cfg.ppo_epoch epochs; returns device-side statistics of the whole step."""
    parameters = list(actor.parameters())
    num_samples = batch.obs.shape[0] // batch.num_agents
    losses, norms = [], []
    for _ in range(cfg.ppo_epoch):
        for index in minibatches(num_samples, cfg.actor_num_mini_batch, batch.num_agents, batch.obs.device):
            part = ActorBatch(batch.obs[index], batch.actions[index], batch.log_probs[index], batch.advantage[index])
            loss = actor_loss(actor, part, cfg)
            optimizer.zero_grad(set_to_none=True)
            (loss - cfg.entropy_coef * actor.entropy()).backward()
            norms.append(clip_gradients(parameters, cfg.max_grad_norm) if cfg.use_max_grad_norm else grad_norm(parameters))
            optimizer.step()
            losses.append(loss.detach())
    return {"a_loss": torch.stack(losses).mean(), "grad_norm": torch.stack(norms).mean()}


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
