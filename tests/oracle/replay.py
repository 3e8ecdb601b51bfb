"""Replays a recorded file through this project's own functions and compares every output."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from happo_gpu.algo import sequential, sgd, trust_region
from happo_gpu.algo.batch import ActorBatch, whole_log_probs
from happo_gpu.algo.on_policy import OnPolicyLearner, Returns
from happo_gpu.data.returns import gae
from happo_gpu.data.rollout import Rollout
from happo_gpu.nets.normalizer import NoValueNorm, ValueNorm
from happo_gpu.nets.recurrent import Memory
from happo_gpu.types import Stats

from tests.oracle.check import Report
from tests.oracle.names import agent_specs, algo_config, our_name

CPU = torch.device("cpu")
DEFAULT_ENV_STEPS = 10_000_000  # HARL's num_env_steps


class Unsupported(ValueError):
    """A file of an algorithm that this project does not have."""


def replay(path: Path) -> Report:
    """Compares all that a file records; raises :class:`Unsupported` for an off-policy one."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    config = json.loads(str(arrays["config"]))
    report = Report()
    if config.get("kind") == "gae":
        _replay_gae(arrays, config, report)
    elif config.get("kind") == "valuenorm":
        _replay_valuenorm(arrays, config, report)
    elif config.get("algo_name") in ("happo", "mappo", "haa2c", "hatrpo"):
        OnPolicyReplay(arrays, config, report).run()
    else:
        raise Unsupported(str(config.get("algo_name", config.get("kind"))))
    return report


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def _squeeze(array: np.ndarray) -> Tensor:
    """(T, N, 1) as it is, (T, N, A, 1) without the last axis: (T, N, K)."""
    return _tensor(array if array.ndim < 4 else array[..., 0])


# -- GAE and ValueNorm ---------------------------------------------------------------------------


def _compare_returns(
    report: Report, out: str, arrays, values: Tensor, next_value: Tensor, value_norm, masks, rewards, cfg: Dict[str, Any]
):
    """GAE on recorded values (T, N, K) and the one after them, normalised units; returns advantages and returns."""
    ended, cut = _squeeze(masks["masks"])[1:] == 0.0, _squeeze(masks["bad_masks"])[1:] == 0.0
    denormalized = value_norm.denormalize(values)
    # HARL's discounted returns (use_gae False) bootstrap from the value in normalised units.
    last = (value_norm.denormalize(next_value) if cfg["use_gae"] else next_value).unsqueeze(0)
    advantages, returns = gae(
        rewards, denormalized, torch.cat((denormalized[1:], last)), ended & ~cut, ended & cut, cfg["gamma"],
        cfg["gae_lambda"], cfg["time_limit"],
    )
    report.compare("returns", f"{out}/values_denormalized", denormalized, arrays[f"{out}/values_denormalized"][:-1])
    kind = "returns" if cfg["use_gae"] else "n_step"
    report.compare(kind, f"{out}/returns", returns, arrays[f"{out}/returns"][:-1])
    report.compare(kind, f"{out}/advantages_raw", advantages, arrays[f"{out}/advantages_raw"])
    return advantages, returns


def _loaded_norm(arrays, prefix: str, beta: float):
    if f"{prefix}/running_mean" not in arrays:
        return NoValueNorm()
    norm = ValueNorm(beta)
    norm.load_state_dict({name: _tensor(arrays[f"{prefix}/{name}"]) for name in norm.state_dict()})
    return norm


def _replay_gae(arrays, config, report: Report) -> None:
    values, next_value = _squeeze(arrays["in/value_preds"])[:-1], _squeeze(arrays["in/next_value"][None])[0]
    cfg = {"gamma": config["gamma"], "gae_lambda": config["gae_lambda"] if config["use_gae"] else 1.0,
           "time_limit": "mask" if config["use_proper_time_limits"] else "terminal", "use_gae": config["use_gae"]}
    masks = {name: arrays[f"in/{name}"] for name in ("masks", "bad_masks")}
    _compare_returns(report, "out", arrays, values, next_value, _loaded_norm(arrays, "in/valuenorm", 0.99999), masks,
                     _squeeze(arrays["in/rewards"]), cfg)


def _replay_valuenorm(arrays, config, report: Report) -> None:
    norm = ValueNorm(config["beta"], config["per_element_update"])
    batches = arrays["in/batches"] if "in/batches" in arrays else [
        arrays[f"in/batch{j}"] for j in range(config["n_updates"])
    ]
    probe = _tensor(arrays["in/probe"])
    for row in range(len(batches) + 1):
        if row:
            norm.update(_tensor(batches[row - 1]))
        for name in ("running_mean", "running_mean_sq", "debiasing_term"):
            report.compare("valuenorm", f"out/{name}[{row}]", getattr(norm, name), arrays[f"out/{name}"][row])
        mean, std = norm.statistics()
        # The variance is a difference of squares: its rounding is that of the mean square, of that size.
        cancelled = max(1.0, float(norm.running_mean_sq / norm.debiasing_term.clamp(min=1e-5)) / float(std**2))
        report.compare("valuenorm_variance", f"out/debiased_mean[{row}]", mean, arrays["out/debiased_mean"][row])
        report.compare("valuenorm_variance", f"out/debiased_var[{row}]", std**2, arrays["out/debiased_var"][row], cancelled)
        for name, change in (("normalized", norm.normalize), ("denormalized", norm.denormalize)):
            if f"out/{name}" in arrays:
                report.compare("valuenorm_variance", f"out/{name}[{row}]", change(probe), arrays[f"out/{name}"][row], cancelled)


# -- a whole update ------------------------------------------------------------------------------


class OnPolicyReplay:
    """One file of OnPolicyHARunner or OnPolicyMARunner: iterations of compute() and train()."""

    def __init__(self, arrays: Dict[str, np.ndarray], config: Dict[str, Any], report: Report) -> None:
        self.arrays, self.config, self.report = arrays, config, report
        self.cfg = algo_config(config["algo_name"], config["harl"])
        self.agents = agent_specs(config)
        self.full_per_agent = config["state_type"] == "FP"
        self.amplified = "trpo_" if self.cfg.actor_step == "trust_region" else ""  # tolerances of its own
        num_values = len(self.agents) if self.full_per_agent else 1
        self.learner = OnPolicyLearner(
            self.agents, config["share_obs_dim"], num_values, self.full_per_agent, self.cfg, CPU, seed=0
        )
        for i, actor in enumerate(self.learner.actors):
            self._load(actor, f"in/actor{i}")
        self._load(self.learner.critic, "in/critic")
        if self.cfg.use_valuenorm:
            self.learner.value_norm = _loaded_norm(arrays, "in/valuenorm", self.cfg.valuenorm_beta)
        self._permutations: Iterator[np.ndarray] = iter(())

    def run(self) -> None:
        train, recorded = self.config["harl"]["train"], 0
        while f"in/it{recorded}/critic/rewards" in self.arrays:
            recorded += 1
        planned = train["num_env_steps"] // train["episode_length"] // train["n_rollout_threads"]
        # A file with HARL's default length is a whole run: rates decay over what it records.
        episodes = recorded if train["num_env_steps"] == DEFAULT_ENV_STEPS else planned
        with mock.patch("torch.randperm", self._permutation):
            for k in range(recorded):
                self.learner.set_progress(k / episodes)
                self.iteration(k)

    def _permutation(self, size: int, device: Optional[torch.device] = None) -> Tensor:
        recorded = next(self._permutations, None)
        if recorded is None:  # of an agent that HARL skips, because it is dead
            return torch.arange(size)
        if len(recorded) != size:
            raise ValueError(f"a permutation of {size} is asked for, {len(recorded)} are recorded")
        return _tensor(recorded).long()

    # -- one iteration -------------------------------------------------------------------------

    def iteration(self, k: int) -> None:
        into, out = f"in/it{k}", f"out/it{k}"
        rollout = self.rollout(into)
        values, advantages, returns = self._returns(into, out, rollout)
        self._actors(k, rollout, advantages)
        targets = Returns(values, advantages, returns, self._critic_hidden(into))
        self._permutations = iter(self.arrays[f"perm/it{k}/critic"])
        gradients = self._watch(self.learner.critic_optimizer, self.learner.critic)
        stats = self.learner.step_critic(rollout, targets)
        self.compare_network(f"{out}/critic", self.learner.critic, self.learner.critic_optimizer, gradients)
        self._compare_info(f"{out}/critic", stats, {"value_loss": "c_loss", "critic_grad_norm": "grad_norm"})
        if self.cfg.use_valuenorm:
            for name, value in self.learner.value_norm.state_dict().items():
                self.report.compare("valuenorm", f"{out}/valuenorm/{name}", value, self.arrays[f"{out}/valuenorm/{name}"])

    def rollout(self, into: str) -> Rollout:
        def stack(name: str, axis: int = -1) -> Tensor:
            parts = [self.arrays[f"{into}/actor{i}/{name}"] for i in range(len(self.agents))]
            return _tensor(np.concatenate(parts, axis))

        actions = stack("actions")  # (T, N, U)
        num_steps, num_envs = actions.shape[:2]
        first = _tensor(self.arrays[f"{into}/actor0/masks"][:-1, :, 0] == 0.0)
        available = None
        if any(f"{into}/actor{i}/available_actions" in self.arrays for i in range(len(self.agents))):
            everything = [np.ones((num_steps + 1, num_envs, agent.num_choices)) for agent in self.agents]
            menus = [self.arrays.get(f"{into}/actor{i}/available_actions", menu) for i, menu in enumerate(everything)]
            available = _tensor(np.concatenate(menus, -1))[:-1] != 0.0
        active, hidden = stack("active_masks")[:-1], []
        if self.learner.chunk:
            hidden = [
                _tensor(self.arrays[f"{into}/actor{i}/rnn_states"][: num_steps : self.learner.chunk])
                for i in range(len(self.agents))
            ]
        states = _tensor(self.arrays[f"{into}/critic/share_obs"])
        never = torch.zeros(num_steps, num_envs, dtype=torch.bool)
        return Rollout(
            obs=stack("obs")[:-1], states=states[:-1], final_states=states[1:], actions=actions,
            log_probs=stack("action_log_probs"), rewards=_squeeze(self.arrays[f"{into}/critic/rewards"]),
            terminated=never, truncated=never, first=first, available=available, active=active, hidden=hidden,
        )

    def _returns(self, into: str, out: str, rollout: Rollout):
        values, next_value = _squeeze(self.arrays[f"{into}/critic/value_preds"])[:-1], self._next_value(into)
        self.report.compare("returns", f"{out}/next_value", next_value, self.arrays[f"{out}/next_value"])
        cfg = {"gamma": self.cfg.gamma, "gae_lambda": self.cfg.gae_lambda, "time_limit": self.cfg.time_limit,
               "use_gae": self.config["harl"]["algo"]["use_gae"]}
        masks = {name: self.arrays[f"{into}/critic/{name}"] for name in ("masks", "bad_masks")}
        return (values, *_compare_returns(
            self.report, out, self.arrays, values, next_value, self.learner.value_norm, masks, rollout.rewards, cfg
        ))

    @torch.no_grad()
    def _next_value(self, into: str) -> Tensor:
        states = _tensor(self.arrays[f"{into}/critic/share_obs"][-1])  # (N, S) or (N, A, S)
        if not self.learner.chunk:
            values = self.learner.critic(states)[0]
            return values.squeeze(-1) if self.full_per_agent else values
        rows = states.flatten(0, -2)
        hidden = _tensor(self.arrays[f"{into}/critic/rnn_states_critic"][-1]).reshape(len(rows), *self._state_shape)
        first = _tensor(self.arrays[f"{into}/critic/masks"][-1]).reshape(-1, 1) == 0.0
        return self.learner.critic(rows.unsqueeze(1), Memory(hidden, first))[0].view(*states.shape[:-1], 1).flatten(1)

    @property
    def _state_shape(self):
        return self.cfg.model.recurrent_n, self.cfg.model.hidden_sizes[-1]

    def _critic_hidden(self, into: str) -> Optional[Tensor]:
        if not self.learner.chunk:
            return None
        states = _tensor(self.arrays[f"{into}/critic/rnn_states_critic"][:-1 : self.learner.chunk])
        return states.reshape(states.shape[0], -1, *self._state_shape).transpose(0, 1).flatten(0, 1)

    # -- actors --------------------------------------------------------------------------------

    def _actors(self, k: int, rollout: Rollout, advantages: Tensor) -> None:
        out = f"out/it{k}"
        learner, report = self.learner, self.report
        batches = learner.actor_batches(rollout, advantages)
        order = [int(i) for i in self.arrays[f"{out}/agent_order"]] if not self.cfg.model.share_param else [0]
        self._compare_advantages(out, batches)
        factors: List[Tensor] = [torch.ones_like(batches[0].advantage)]

        def compound(*args) -> Tensor:
            factors.append(original(*args))
            return factors[-1]

        def step(i: int, batch: ActorBatch) -> Stats:
            where, actor = f"{out}/actor{i}", learner.actors[i]
            if f"{where}/factor" in self.arrays:
                self._compare_samples(f"{self.amplified}factor", f"{where}/factor", factors[-1], len(factors))
            self._compare_log_probs(f"{where}/logp_before", actor, batch)
            if batch.active.any():  # of a dead agent HARL has 0 / 0
                with torch.no_grad():
                    whole = batch.uncut()
                    entropy = sgd.mean_entropy(whole.distribution(actor), whole, self.cfg)
                self._compare_optional("info", f"{where}/entropy_before", entropy)
            if f"{where}/trpo/loss_grad" in self.arrays:
                self._compare_natural_step(where, actor, batch)
            self._permutations = self.of_actor(k, i, batch.num_agents)
            gradients = self._watch(learner.actor_optimizers[i], actor)
            stats = learner.step_actor(i, batch)
            self.compare_network(where, actor, learner.actor_optimizers[i], gradients)
            self._compare_log_probs(f"{where}/logp_after", actor, batch)
            self._compare_info(where, stats, {"policy_loss": "a_loss", "dist_entropy": "entropy", "actor_grad_norm": "grad_norm"})
            self._compare_info(where, stats, {name: name for name in ("kl", "loss_improve", "expected_improve")}, "trpo_info")
            if f"{where}/trpo/n_actor_param_writes" in self.arrays:
                trials = self.arrays[f"{where}/trpo/n_actor_param_writes"]
                report.compare("count", f"{where}/trpo/trials", stats["trials"], trials)
            return stats

        original = sequential.compound
        with mock.patch.object(sequential, "compound", compound):
            sequential.update_actors(
                learner.actors, batches, order, step, self.cfg, lambda i: whole_log_probs(learner.actors[i], batches[i])
            )
        if f"{out}/factor_after_last" in self.arrays:
            self._compare_samples(f"{self.amplified}factor", f"{out}/factor_after_last", factors[-1], len(factors))

    def of_actor(self, k: int, i: int, num_agents: int) -> Iterator[np.ndarray]:
        """Permutations in the order of use: by epoch, and within it by the agents that share the actor."""
        members = range(num_agents) if num_agents > 1 else [i]
        recorded = [self.arrays.get(f"perm/it{k}/actor{member}", ()) for member in members]
        return (permutation for epoch in zip(*recorded) for permutation in epoch)

    def _by_time(self, samples: Tensor) -> Tensor:
        """Samples of one actor as recorded, flat index t * N + n."""
        if not self.learner.chunk:
            return samples
        num_steps = self.cfg.episode_length
        return samples.reshape(-1, num_steps, *samples.shape[2:]).transpose(0, 1).flatten(0, 1)

    def _compare_advantages(self, out: str, batches: List[ActorBatch]) -> None:
        for batch, group in zip(batches, self.learner.groups):
            parts = batch.advantage.view(batch.num_agents, -1, *batch.advantage.shape[1:])
            for part, agent in zip(parts, group):
                if batch.active.any():
                    self._compare_optional("advantage", f"{out}/actor{agent}/adv_used", self._by_time(part))

    def _compare_log_probs(self, where: str, actor, batch: ActorBatch) -> None:
        self._compare_optional(f"{self.amplified}log_prob", where, self._by_time(whole_log_probs(actor, batch)))

    def _compare_samples(self, kind: str, where: str, samples: Tensor, times: float) -> None:
        self.report.compare(kind, where, self._by_time(samples), self.arrays[where], times)

    def _compare_optional(self, kind: str, where: str, ours: Tensor) -> None:
        if where in self.arrays:
            self.report.compare(kind, where, ours, self.arrays[where])

    def _compare_info(self, where: str, stats: Stats, names: Dict[str, str], kind: str = "info") -> None:
        for theirs, mine in names.items():
            if f"{where}/info/{theirs}" in self.arrays and mine in stats:
                self.report.compare(kind, f"{where}/info/{theirs}", stats[mine], self.arrays[f"{where}/info/{theirs}"])

    def _compare_natural_step(self, where: str, actor, batch: ActorBatch) -> None:
        natural = trust_region.natural_step(actor, batch, self.cfg)
        product = trust_region.fisher_product(actor, batch)
        ours = {"loss_grad": natural.gradient, "step_dir": natural.direction, "full_step": natural.full_step,
                "fvp_of_loss_grad": product(natural.gradient), "fvp_of_step_dir": product(natural.direction)}
        for name, vector in ours.items():
            self.report.compare("trpo", f"{where}/trpo/{name}", vector, self._reordered(f"{where}/trpo/{name}", actor))
        self.report.compare("trpo", f"{where}/trpo/shs", natural.half_curvature, self.arrays[f"{where}/trpo/shs"])

    # -- networks ------------------------------------------------------------------------------

    def _names(self, prefix: str) -> Dict[str, str]:
        """HARL's name to ours, in the order of the file."""
        stem = prefix + "/"
        return {
            name[len(stem):]: our_name(name[len(stem):], self.cfg.model.use_feature_normalization)
            for name in self.arrays if name.startswith(stem)
        }

    def _load(self, network: torch.nn.Module, prefix: str) -> None:
        state = {mine: _tensor(self.arrays[f"{prefix}/{theirs}"]) for theirs, mine in self._names(prefix).items()}
        network.load_state_dict(state)

    def _reordered(self, where: str, actor) -> np.ndarray:
        """A recorded flat vector in the order of this project's parameters."""
        index = self.learner.actors.index(actor)
        flat, parts, start = self.arrays[where], {}, 0
        for theirs, mine in self._names(f"in/actor{index}").items():
            size = self.arrays[f"in/actor{index}/{theirs}"].size
            parts[mine] = flat[start : start + size]
            start += size
        return np.concatenate([parts[name] for name, _ in actor.named_parameters()])

    def _watch(self, optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> Dict[str, Tensor]:
        """The gradients that the optimiser's next step will see first."""
        seen: Dict[str, Tensor] = {}
        original = optimizer.step

        def step(*args, **kwargs):
            if not seen:
                seen.update({name: p.grad.clone() for name, p in network.named_parameters()})
            return original(*args, **kwargs)

        optimizer.step = step
        return seen

    def compare_network(self, where: str, network, optimizer, gradients: Optional[Dict[str, Tensor]] = None) -> None:
        parameters = dict(network.named_parameters())
        for theirs, mine in self._names(f"{where}/params").items():
            self.report.compare("params", f"{where}/params/{theirs}", parameters[mine], self.arrays[f"{where}/params/{theirs}"])
            moments = optimizer.state.get(parameters[mine], {})
            for name in ("exp_avg", "exp_avg_sq", "step"):
                key = f"{where}/adam/{theirs}/{name}"
                if key in self.arrays:
                    self.report.compare(name, key, moments[name], self.arrays[key])
            key = f"{where}/grad_first_update/{theirs}"
            if key in self.arrays and gradients is not None:
                self.report.compare("gradient", key, gradients[mine], self.arrays[key])
