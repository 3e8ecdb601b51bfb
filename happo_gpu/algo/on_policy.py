"""The learner: actors, critic and their optimisers, and one update of all of them."""
from __future__ import annotations

import random
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu import distributed
from happo_gpu.algo.batch import ActorBatch, piece_sizes
from happo_gpu.algo.critic_update import CriticGradients, update_critic
from happo_gpu.algo.freeze import unless_all_dead
from happo_gpu.algo.sequential import update_actors
from happo_gpu.algo.sgd import ActorGradients, sgd_step
from happo_gpu.algo.surrogate import normalize_advantage
from happo_gpu.algo.trust_region import trust_region_step
from happo_gpu.config import ConfigError
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.data.returns import gae
from happo_gpu.data.rollout import Rollout, to_samples
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.critic import Critic
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.policy import Policy
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import AgentSpec, Stats, split_actions, split_choices, split_obs


# One kernel for all parameters; on CUDA the step count lives on the device too. Older torch has it on CUDA only.
_FUSED_ON_CPU = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 4)
_FASTEST = {"cuda": {"fused": True, "capturable": True}, "cpu": {"fused": True} if _FUSED_ON_CPU else {}}


class Returns(NamedTuple):
    """What the critic and GAE make of a rollout; each (T, N, K)."""

    values: Tensor  # normalised units
    advantages: Tensor
    returns: Tensor
    critic_hidden: Optional[Tensor] = None  # (N', R, H) per chunk of a recurrent critic, as to_samples orders


class OnPolicyLearner:
    """HAPPO, MAPPO, HAA2C and HATRPO: they differ in cfg, not in code.

    HAPPO, HAA2C and HATRPO compound the importance factor over separate actors and differ in how an
    actor steps; MAPPO leaves the factor at one and may share one actor between agents.
    """

    def __init__(
        self, agents: Sequence[AgentSpec], num_states: int, num_values: int, per_agent_states: bool,
        cfg: AlgoConfig, device: torch.device, seed: int,
    ) -> None:
        self.agents, self.cfg, self.num_states, self.num_values = list(agents), cfg, num_states, num_values
        self.per_agent_states = per_agent_states
        if cfg.model.share_param and len({(a.num_obs, a.action_space) for a in agents}) > 1:
            raise ConfigError("algo.model.share_param=true: the agents' observations or actions differ in size; "
                              "write algo.model.share_param=false")
        # groups[j]: the agents that actor j drives.
        everyone = list(range(len(agents)))
        self.groups = [everyone] if cfg.model.share_param else [[a] for a in everyone]
        self.actors = [Actor(agents[group[0]], cfg.model).to(device) for group in self.groups]
        self.critic = Critic(num_states, 1 if per_agent_states else num_values, cfg.model).to(device)
        self.value_norm = (ValueNorm(cfg.valuenorm_beta) if cfg.use_valuenorm else NoValueNorm())
        if isinstance(self.value_norm, ValueNorm):
            self.value_norm.to(device)
        self.actor_gradients = [ActorGradients(actor, cfg) for actor in self.actors]
        self.critic_gradients = CriticGradients(self.critic, cfg)
        self.actor_optimizers = [self._adam(actor, cfg.lr) for actor in self.actors]
        self.critic_optimizer = self._adam(self.critic, cfg.critic_lr)
        self.critic_hidden: Optional[Tensor] = None  # (N', R, H) at the start of the next rollout; of these environments
        self._rate_scale = 1.0  # of both learning rates, unless they follow the KL
        for module in (*self.actors, self.critic):
            distributed.share(module)
        # The order, the same in all processes, is drawn on the host: as a Python list it costs no device synchronisation.
        self._order_rng = random.Random(seed)

    def _adam(self, module: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        cfg = self.cfg
        weight = next(module.parameters())
        # A rate that follows the KL divergence is a tensor: it changes without asking the host.
        rate = torch.tensor(lr, device=weight.device) if cfg.adaptive_kl else lr
        return torch.optim.Adam(
            module.parameters(), lr=rate, eps=cfg.opti_eps, weight_decay=cfg.weight_decay,
            **_FASTEST[weight.device.type],
        )

    # -- acting ------------------------------------------------------------------------------

    @property
    def chunk(self) -> int:
        """Steps of a training sequence; 0 for feed-forward networks."""
        return self.cfg.chunk

    def policy(self, num_envs: int, deterministic: bool = False) -> Policy:
        """The actors as they are and will be, acting in ``num_envs`` environments."""
        return Policy(self.actors, self.agents, num_envs, deterministic)

    # -- learning ----------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> Stats:
        """One iteration on a full rollout: returns, actors one by one, critic, input statistics."""
        stats = self.learn(rollout, self.evaluate_rollout(rollout))
        self._move_input_norms(rollout)
        return stats

    @torch.no_grad()
    def evaluate_rollout(self, rollout: Rollout) -> Returns:
        """Values by the critic, advantages and returns by GAE."""
        values, next_values, hidden = self._values(rollout)
        advantages, returns = gae(
            rollout.rewards, self.value_norm.denormalize(values), self.value_norm.denormalize(next_values),
            rollout.terminated, rollout.truncated, self.cfg.gamma, self.cfg.gae_lambda, self.cfg.time_limit,
        )
        return Returns(values, advantages, returns, hidden)

    def learn(self, rollout: Rollout, targets: Returns) -> Stats:
        """Actors one by one in a random order, then the critic."""
        batches = self.actor_batches(rollout, targets.advantages)
        order = self._draw_order()
        actor_stats = update_actors(self.actors, batches, order, self.step_actor, self.cfg)
        critic_stats = self.step_critic(rollout, targets)
        self._adapt_rates(actor_stats)
        return self._tags(actor_stats, critic_stats, order, targets.returns)

    def set_progress(self, fraction: float) -> None:
        """Share of the run that is over, in [0, 1): scales the learning rates if they decay."""
        if self.cfg.adaptive_kl:
            return
        decay = self._rate_scale * (1.0 - fraction if self.cfg.use_linear_lr_decay else 1.0)
        for optimizer in self.actor_optimizers:
            optimizer.param_groups[0]["lr"] = self.cfg.lr * decay
        self.critic_optimizer.param_groups[0]["lr"] = self.cfg.critic_lr * decay

    def scale_rates(self, factor: float) -> None:
        """Multiplies the learning rates from here on."""
        if not self.cfg.adaptive_kl:
            self._rate_scale *= factor
            return
        for optimizer in (*self.actor_optimizers, self.critic_optimizer):
            optimizer.param_groups[0]["lr"].mul_(factor)

    def step_actor(self, index: int, batch: ActorBatch) -> Stats:
        """One actor's step on its batch, as cfg.actor_step says."""
        actor, optimizer = self.actors[index], self.actor_optimizers[index]

        def step() -> Stats:
            if self.cfg.actor_step == "trust_region":
                return trust_region_step(actor, batch, self.cfg)
            return sgd_step(self.actor_gradients[index], optimizer, batch)

        return step() if batch.active is None else unless_all_dead(step, batch.active, actor, optimizer)

    def step_critic(self, rollout: Rollout, targets: Returns) -> Stats:
        """The critic's epochs on the rollout's states."""
        samples = [
            to_samples(self._critic_rows(value), self.chunk)
            for value in (rollout.states, targets.values.unsqueeze(-1) if self.per_agent_states else targets.values,
                          targets.returns.unsqueeze(-1) if self.per_agent_states else targets.returns)
        ]
        memory = None
        if targets.critic_hidden is not None:
            memory = Memory(targets.critic_hidden, to_samples(self._critic_rows(self._critic_first(rollout)), self.chunk))
        return update_critic(self.critic_gradients, self.critic_optimizer, self.value_norm, *samples, memory)

    def actor_batches(self, rollout: Rollout, advantages: Tensor) -> List[ActorBatch]:
        """One batch per actor, with normalised advantages.

        Statistics are those of the actor's own active samples where the team shares one value (EP),
        and of all agents' together where each has its own (FP), as in HARL.
        """
        if self.num_values > 1:
            advantages = normalize_advantage(advantages, rollout.active)
        return [self._group_batch(rollout, advantages, group) for group in self.groups]

    # -- pieces ------------------------------------------------------------------------------

    def _group_batch(self, rollout: Rollout, advantages: Tensor, group: List[int]) -> ActorBatch:
        if self.num_values == 1:
            if rollout.active is None:
                own = normalize_advantage(advantages).expand(-1, -1, len(group))
            else:
                own = normalize_advantage(advantages.expand(-1, -1, len(group)), torch.stack([rollout.active[..., a] for a in group], -1))
        else:
            own = torch.stack([advantages[..., a] for a in group], -1)  # (T, N, len(group))
        return ActorBatch.concatenate([
            self._agent_batch(rollout, agent, own[..., member]) for member, agent in enumerate(group)
        ])

    def _agent_batch(self, rollout: Rollout, agent: int, advantage: Tensor) -> ActorBatch:
        def samples(values: Tensor) -> Tensor:
            return to_samples(values, self.chunk).contiguous()

        agents, menu, hidden, first, chunks = self.agents, None, None, None, 1
        if rollout.available is not None and agents[agent].num_choices:
            menu = samples(split_choices(rollout.available, agents)[agent])
        if self.chunk:
            hidden = rollout.hidden[agent].transpose(0, 1).flatten(0, 1)  # (N * T / L, R, H)
            first, chunks = samples(rollout.first), rollout.num_steps // self.chunk
        return ActorBatch(
            obs=samples(split_obs(rollout.obs, agents)[agent]),
            actions=samples(split_actions(rollout.actions, agents)[agent]),
            log_probs=samples(split_actions(rollout.log_probs, agents)[agent]),
            advantage=samples(advantage), available=menu,
            active=None if rollout.active is None else samples(rollout.active[..., agent]),
            hidden=hidden, first=first, chunks=chunks,
        )

    def _critic_rows(self, values: Tensor) -> Tensor:
        """(T, N, ...) to (T, N', ...): with per-agent states every agent is a row of its own."""
        return values.flatten(1, 2) if self.per_agent_states else values

    def _critic_first(self, rollout: Rollout) -> Tensor:
        if not self.per_agent_states:
            return rollout.first
        return rollout.first.unsqueeze(-1).expand(-1, -1, len(self.agents))

    def _values(self, rollout: Rollout) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Normalised values and next values (T, N, K), and a recurrent critic's states by chunk."""
        if not self.chunk:
            values, next_values = self._values_of(rollout.states), self._values_of(rollout.final_states)
            if self.per_agent_states:
                values, next_values = values.squeeze(-1), next_values.squeeze(-1)
            return values, next_values, None
        states = self._critic_rows(rollout.states).transpose(0, 1)  # (N', T, S)
        final_states = self._critic_rows(rollout.final_states).transpose(0, 1)
        first = self._critic_rows(self._critic_first(rollout)).transpose(0, 1)
        hidden = self._recall(states.shape[0])
        values, after = self.critic(states, Memory(hidden, first))  # (N', T, K), (N', T, R, H)
        once_more = Memory(after.flatten(0, 1), torch.zeros_like(first).flatten().unsqueeze(-1))
        next_values, _ = self.critic(final_states.flatten(0, 1).unsqueeze(1), once_more)
        self.critic_hidden.copy_(after[:, -1])
        starts = torch.cat((hidden.unsqueeze(1), after[:, self.chunk - 1 : -1 : self.chunk]), 1).flatten(0, 1)
        shape = rollout.rewards.shape  # (T, N, K)
        values = values.transpose(0, 1).reshape(shape)
        return values, next_values.view(*states.shape[:2], -1).transpose(0, 1).reshape(shape), starts

    def _values_of(self, states: Tensor) -> Tensor:
        """(T, N, ..., S) to (T, N, ..., K), in pieces."""
        rows = states.flatten(0, -2)
        values = torch.empty(len(rows), self.critic.head.out_features, device=rows.device)
        sizes = piece_sizes(len(rows), 1, rows.device)
        for piece, its_values in zip(rows.split(sizes), values.split(sizes)):
            self.critic.write_values(piece, its_values)
        return values.view(*states.shape[:-1], -1)

    def _recall(self, num_rows: int) -> Tensor:
        if self.critic_hidden is None:
            cells = self.critic.rnn.cells
            self.critic_hidden = torch.zeros(
                num_rows, len(cells), cells[0].hidden_size, device=cells[0].weight_hh.device
            )
        return self.critic_hidden.clone()

    def _move_input_norms(self, rollout: Rollout) -> None:
        """Observation statistics move last, so that the ratios above saw one fixed input."""
        if not self.cfg.model.normalize_input:
            return
        seen = split_obs(rollout.obs, self.agents)
        for actor, group in zip(self.actors, self.groups):
            actor.norm.update(torch.stack([seen[agent] for agent in group]))
        self.critic.norm.update(rollout.states)

    @torch.no_grad()
    def _adapt_rates(self, actor_stats: Dict[int, Stats]) -> None:
        """rl_games' rule: a third less where the KL is twice the target, half more where it is half.

        Each actor follows its own KL; the critic's rate is the actors' mean, scaled as configured.
        """
        target = self.cfg.adaptive_kl
        if not target:
            return
        rates = []
        moved = distributed.mean(torch.stack([actor_stats[i]["kl"] for i in range(len(self.actors))]))
        for optimizer, kl in zip(self.actor_optimizers, moved):
            rate = optimizer.param_groups[0]["lr"]
            slower, faster = (rate / 1.5).clamp(min=1e-6), (rate * 1.5).clamp(max=1e-2)
            rate.copy_(torch.where(kl > 2.0 * target, slower, torch.where(kl < 0.5 * target, faster, rate)))
            rates.append(rate)
        scale = self.cfg.critic_lr / self.cfg.lr
        self.critic_optimizer.param_groups[0]["lr"].copy_(torch.stack(rates).mean() * scale)

    def _draw_order(self) -> List[int]:
        order = list(range(len(self.actors)))
        return order if self.cfg.fixed_order else self._order_rng.sample(order, len(order))

    def _tags(self, actor_stats: Dict[int, Stats], critic_stats: Stats, order: List[int], returns: Tensor) -> Stats:
        names = ["shared"] if self.cfg.model.share_param else [agent.name for agent in self.agents]
        tags: Stats = {"losses/c_loss": critic_stats["c_loss"], "info/grad_norm/critic": critic_stats["grad_norm"]}
        for i, name in enumerate(names):
            for tag, value in actor_stats[i].items():
                tags[f"{'losses' if tag in ('a_loss', 'entropy') else 'info'}/{tag}/{name}"] = value
        for total, part in (("losses/a_loss", "losses/a_loss"), ("losses/entropy", "losses/entropy"), ("info/kl", "info/kl")):
            tags[total] = torch.stack([tags[f"{part}/{name}"] for name in names]).mean()
        rate = self.actor_optimizers[0].param_groups[0]["lr"]
        tags["info/last_lr"] = rate.detach() if isinstance(rate, Tensor) else torch.full((), rate, device=returns.device)
        tags["info/update_order"] = torch.full((), float(order[0]), device=returns.device)
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
            "order_rng": self._order_rng.getstate(), "rate_scale": self._rate_scale,
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
        self._rate_scale = state.get("rate_scale", 1.0)  # older checkpoints have none
        version, internal, gauss = state["order_rng"]
        self._order_rng.setstate((version, tuple(internal), gauss))
