"""The learner: actors, critic and their optimisers, and one update of all of them."""
from __future__ import annotations

import random
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.algo.critic_update import update_critic
from happo_gpu.algo.sequential import update_actors
from happo_gpu.algo.sgd import ActorBatch, ppo_step
from happo_gpu.algo.surrogate import normalize_advantage
from happo_gpu.config import AlgoConfig, ConfigError
from happo_gpu.data.returns import gae
from happo_gpu.data.rollout import Rollout
from happo_gpu.nets.actor import GaussianActor
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.types import AgentSpec, Stats, split_actions, split_obs


class OnPolicyLearner:
    """HAPPO and its relatives: they differ in cfg, not in code.

    HAPPO compounds the importance factor over separate actors; MAPPO leaves it at one and may share
    one actor between agents.
    """

    def __init__(
        self, agents: Sequence[AgentSpec], num_states: int, num_values: int, cfg: AlgoConfig,
        device: torch.device, seed: int,
    ) -> None:
        self.agents, self.cfg, self.num_values = list(agents), cfg, num_values
        if cfg.model.share_param and len({(a.num_obs, a.num_actions) for a in agents}) > 1:
            raise ConfigError("algo.model.share_param=true: the agents' observations or actions differ in size; "
                              "write algo.model.share_param=false")
        # groups[j]: the agents that actor j drives.
        everyone = list(range(len(agents)))
        self.groups = [everyone] if cfg.model.share_param else [[a] for a in everyone]
        self.actors = [
            GaussianActor(agents[group[0]].num_obs, agents[group[0]].num_actions, cfg.model).to(device)
            for group in self.groups
        ]
        self.critic = Critic(num_states, num_values, cfg.model).to(device)
        self.value_norm = (ValueNorm(cfg.valuenorm_beta) if cfg.use_valuenorm else NoValueNorm())
        if isinstance(self.value_norm, ValueNorm):
            self.value_norm.to(device)
        self.actor_optimizers = [self._adam(actor, cfg.lr) for actor in self.actors]
        self.critic_optimizer = self._adam(self.critic, cfg.critic_lr)
        # The order is drawn on the host: as a Python list it costs no device synchronisation.
        self._order_rng = random.Random(seed)

    def _adam(self, module: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        cfg = self.cfg
        return torch.optim.Adam(module.parameters(), lr=lr, eps=cfg.opti_eps, weight_decay=cfg.weight_decay)

    # -- acting ------------------------------------------------------------------------------

    def _actor_of(self, agent: int) -> GaussianActor:
        return self.actors[0] if self.cfg.model.share_param else self.actors[agent]

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tuple[Tensor, Tensor]:
        """Sampled actions and log-probabilities per dimension, both (N, U), for obs (N, O)."""
        pairs = [self._actor_of(i).sample(o) for i, o in enumerate(split_obs(obs, self.agents))]
        return torch.cat([a for a, _ in pairs], -1), torch.cat([p for _, p in pairs], -1)

    @torch.no_grad()
    def act_deterministic(self, obs: Tensor) -> Tensor:
        """The policies' means, (N, U)."""
        return torch.cat([self._actor_of(i).mean(o) for i, o in enumerate(split_obs(obs, self.agents))], -1)

    # -- learning ----------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> Stats:
        """One iteration on a full rollout: returns, actors one by one, critic."""
        values, advantages, returns = self._returns(rollout)
        batches = self._actor_batches(rollout, advantages)
        order = self._draw_order()
        actor_stats = update_actors(self.actors, batches, order, self._step_actor, self.cfg)
        critic_stats = update_critic(
            self.critic, self.critic_optimizer, self.value_norm, rollout.flat("states"),
            values.flatten(0, 1), returns.flatten(0, 1), self.cfg,
        )
        return self._tags(actor_stats, critic_stats, order, returns)

    def set_progress(self, fraction: float) -> None:
        """Share of the run that is over, in [0, 1): scales the learning rates if they decay."""
        decay = 1.0 - fraction if self.cfg.use_linear_lr_decay else 1.0
        for optimizer in self.actor_optimizers:
            optimizer.param_groups[0]["lr"] = self.cfg.lr * decay
        self.critic_optimizer.param_groups[0]["lr"] = self.cfg.critic_lr * decay

    def _step_actor(self, index: int, batch: ActorBatch) -> Stats:
        return ppo_step(self.actors[index], self.actor_optimizers[index], batch, self.cfg)

    @torch.no_grad()
    def _returns(self, rollout: Rollout) -> Tuple[Tensor, Tensor, Tensor]:
        """Normalised values, advantages and returns, each (T, N, K)."""
        values = self.critic(rollout.states)
        next_values = self.critic(rollout.final_states)
        advantages, returns = gae(
            rollout.rewards, self.value_norm.denormalize(values), self.value_norm.denormalize(next_values),
            rollout.terminated, rollout.truncated, self.cfg.gamma, self.cfg.gae_lambda, self.cfg.time_limit,
        )
        return values, advantages, returns

    def _actor_batches(self, rollout: Rollout, advantages: Tensor) -> List[ActorBatch]:
        """One batch per actor, advantages normalised over all samples and value heads."""
        advantages = normalize_advantage(advantages).flatten(0, 1)  # (B, K)
        obs = split_obs(rollout.flat("obs"), self.agents)
        actions = split_actions(rollout.flat("actions"), self.agents)
        log_probs = split_actions(rollout.flat("log_probs"), self.agents)
        return [
            ActorBatch.concatenate([
                ActorBatch(obs[a].contiguous(), actions[a].contiguous(), log_probs[a].contiguous(),
                           advantages[:, a if self.num_values > 1 else 0])
                for a in group
            ])
            for group in self.groups
        ]

    def _draw_order(self) -> List[int]:
        order = list(range(len(self.actors)))
        return order if self.cfg.fixed_order else self._order_rng.sample(order, len(order))

    def _tags(self, actor_stats: Dict[int, Stats], critic_stats: Stats, order: List[int], returns: Tensor) -> Stats:
        names = ["shared"] if self.cfg.model.share_param else [agent.name for agent in self.agents]
        tags: Stats = {"losses/c_loss": critic_stats["c_loss"], "info/grad_norm/critic": critic_stats["grad_norm"]}
        for i, name in enumerate(names):
            stats, actor = actor_stats[i], self.actors[i]
            tags[f"losses/a_loss/{name}"] = stats.pop("a_loss")
            tags[f"losses/entropy/{name}"] = actor.entropy().detach()
            tags[f"info/action_std/{name}"] = actor.std().mean().detach()
            tags.update({f"info/{key}/{name}": value for key, value in stats.items()})
        for total, part in (("losses/a_loss", "losses/a_loss"), ("losses/entropy", "losses/entropy"), ("info/kl", "info/kl")):
            tags[total] = torch.stack([tags[f"{part}/{name}"] for name in names]).mean()
        tags["info/update_order"] = torch.tensor(float(order[0]))
        tags["info/return_mean"] = returns.mean()
        return tags

    # -- checkpoint --------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        return {
            "actors": [actor.state_dict() for actor in self.actors],
            "critic": self.critic.state_dict(),
            "value_norm": self.value_norm.state_dict() if isinstance(self.value_norm, ValueNorm) else {},
            "actor_optimizers": [optimizer.state_dict() for optimizer in self.actor_optimizers],
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "order_rng": self._order_rng.getstate(),
        }

    def load_state_dict(self, state: Dict[str, Any], weights_only: bool = False) -> None:
        """Restores everything, or with ``weights_only`` what acting needs."""
        if len(state["actors"]) != len(self.actors):
            raise RuntimeError(f"{len(state['actors'])} actors in the checkpoint, {len(self.actors)} here")
        for actor, saved in zip(self.actors, state["actors"]):
            actor.load_state_dict(saved)
        self.critic.load_state_dict(state["critic"])
        if isinstance(self.value_norm, ValueNorm):
            self.value_norm.load_state_dict(state["value_norm"])
        if weights_only:
            return
        for optimizer, saved in zip(self.actor_optimizers, state["actor_optimizers"]):
            optimizer.load_state_dict(saved)
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        version, internal, gauss = state["order_rng"]
        self._order_rng.setstate((version, tuple(internal), gauss))
