"""HARL's own objects without its environments, and the rollouts that record.py makes up for them."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
import yaml

from tests.oracle.cases import Case

STEPS, ENVS = 16, 32
ENDING, CUT = 0.07, 0.5  # chance that a step ends an episode, and that such an end is a time limit
WARM_TARGETS = (-1.0, 2.0)  # mean and deviation of what ValueNorm has seen before


def array(value: Any) -> np.ndarray:
    """A copy, whatever it was."""
    return np.array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)


def named(module: torch.nn.Module) -> Dict[str, np.ndarray]:
    return {name: array(parameter) for name, parameter in module.named_parameters()}


def space(kind: str, size: Any) -> Any:
    """HARL asks a space for its class name and size."""
    from gymnasium import spaces

    if kind == "box":
        return spaces.Box(-np.inf, np.inf, (size,))
    return spaces.Discrete(size) if kind == "disc" else spaces.MultiDiscrete(size)


def by_env(values: np.ndarray, ndim: int) -> np.ndarray:
    """(N,) with as many axes of one behind it that there are ``ndim``."""
    return values.reshape(-1, *(1,) * (ndim - 1))


class World:
    """A runner of HARL with its actors, critic, buffers and ValueNorm, and an environment of noise.

    Attributes:
        runner: OnPolicyHARunner or OnPolicyMARunner, made without its __init__, which wants environments.
        iteration: rollouts collected before the current one.
    """

    def __init__(self, case: Case, seed: int, harl: Path) -> None:
        args = yaml.safe_load((harl / "harl" / "configs" / "algos_cfgs" / f"{case.algo}.yaml").read_text())
        args["train"].update(episode_length=STEPS, n_rollout_threads=ENVS)
        args["model"].update(hidden_sizes=[32, 32])
        for section, changes in (("train", case.train), ("model", case.model), ("algo", case.learn)):
            args[section].update(changes)
        self.case, self.args, self.iteration, self.num_agents = case, args, 0, len(case.obs)
        self.share_obs_dim = sum(case.obs) + (self.num_agents if case.state_type == "FP" else 0)
        self.rng = np.random.RandomState(seed % 2**32)
        torch.manual_seed(seed)
        self.runner = self._runner()
        self.disturb(case.rand_head)

    def _runner(self) -> Any:
        from harl.algorithms.actors import ALGO_REGISTRY
        from harl.algorithms.critics.v_critic import VCritic
        from harl.common.buffers.on_policy_actor_buffer import OnPolicyActorBuffer
        from harl.common.buffers.on_policy_critic_buffer_ep import OnPolicyCriticBufferEP
        from harl.common.buffers.on_policy_critic_buffer_fp import OnPolicyCriticBufferFP
        from harl.common.valuenorm import ValueNorm
        from harl.runners import RUNNER_REGISTRY

        case, every = self.case, {**self.args["train"], **self.args["model"], **self.args["algo"]}
        spaces = [(space("box", size), space(*act)) for size, act in zip(case.obs, case.acts)]
        runner = object.__new__(RUNNER_REGISTRY[case.algo])
        runner.algo_args, runner.num_agents, runner.state_type = self.args, self.num_agents, case.state_type
        for name in ("action_aggregation", "share_param", "fixed_order"):
            setattr(runner, name, every[name])
        own = spaces[:1] if runner.share_param else spaces
        runner.actor = [ALGO_REGISTRY[case.algo](every, *pair) for pair in own]
        runner.actor *= self.num_agents // len(own)
        runner.actor_buffer = [OnPolicyActorBuffer(every, *pair) for pair in spaces]
        state = space("box", self.share_obs_dim)
        runner.critic = VCritic(every, state)
        runner.critic_buffer = (
            OnPolicyCriticBufferEP(every, state) if case.state_type == "EP"
            else OnPolicyCriticBufferFP(every, state, self.num_agents)
        )
        runner.value_normalizer = ValueNorm(1) if every["use_valuenorm"] else None
        for _ in range(case.vn_warm if every["use_valuenorm"] else 0):
            runner.value_normalizer.update(self.rng.normal(*WARM_TARGETS, (256, 1)).astype(np.float32))
        return runner

    @property
    def actors(self) -> Dict[str, Any]:
        """HARL's actors by their name in the file; a shared one is actor0."""
        distinct = self.runner.actor[:1] if self.runner.share_param else self.runner.actor
        return {f"actor{i}": actor for i, actor in enumerate(distinct)}

    @property
    def learners(self) -> Dict[str, Any]:
        """name -> (network, optimiser)."""
        found = {name: (actor.actor, actor.actor_optimizer) for name, actor in self.actors.items()}
        return {**found, "critic": (self.runner.critic.critic, self.runner.critic.critic_optimizer)}

    @torch.no_grad()
    def disturb(self, size: float) -> None:
        """Adds noise to all weights."""
        for network, _ in self.learners.values():
            for parameter in network.parameters():
                parameter.add_(torch.from_numpy(self.rng.normal(0.0, size, parameter.shape).astype(np.float32)))

    @torch.no_grad()
    def collect(self) -> None:
        """Steps the made-up environment with HARL's policies and fills HARL's buffers."""
        buffers, of_critic = self.runner.actor_buffer, self.runner.critic_buffer
        for step in range(STEPS + 1):
            if step:
                self._act(step - 1)
                self._end_episodes(step)
            elif self.iteration == 0:
                for i in self.case.dead:
                    buffers[i].active_masks[0] = 0.0
            if step or self.iteration == 0:
                self._observe(step)
        of_critic.rewards *= self.case.reward_scale
        self.iteration += 1

    def _act(self, t: int) -> None:
        of_critic = self.runner.critic_buffer
        rewards = self.rng.normal(0.0, 0.25, of_critic.rewards[t].shape)
        for actor, buffer in zip(self.runner.actor, self.runner.actor_buffer):
            menu = None if buffer.available_actions is None else buffer.available_actions[t]
            action, log_prob, memory = actor.get_actions(buffer.obs[t], buffer.rnn_states[t], buffer.masks[t], menu)
            buffer.actions[t], buffer.action_log_probs[t], buffer.rnn_states[t + 1] = map(array, (action, log_prob, memory))
            rewards += 0.1 * by_env(np.tanh(buffer.actions[t, :, 0]), rewards.ndim)
        of_critic.rewards[t] = rewards
        lead = of_critic.masks.shape[1:-1]  # (N,) or (N, A)
        rows = [of_critic.share_obs[t], of_critic.rnn_states_critic[t], of_critic.masks[t]]
        values, memory = self.runner.critic.get_values(*(row.reshape(-1, *row.shape[len(lead):]) for row in rows))
        of_critic.value_preds[t] = array(values).reshape(*lead, 1)
        of_critic.rnn_states_critic[t + 1] = array(memory).reshape(*lead, *memory.shape[1:])

    def _end_episodes(self, step: int) -> None:
        """Masks of row ``step`` by HARL's conventions; memory is cleared where an episode has ended."""
        buffers, of_critic = self.runner.actor_buffer, self.runner.critic_buffer
        ended, cut = self.rng.uniform(size=ENVS) < ENDING, self.rng.uniform(size=ENVS) < CUT
        for i, buffer in enumerate(buffers):
            dies = self.rng.uniform(size=ENVS) < self.case.deaths
            lives = ended | ((buffer.active_masks[step - 1, :, 0] > 0.0) & ~dies)
            buffer.active_masks[step, :, 0] = 0.0 if i in self.case.dead else lives
            buffer.masks[step, :, 0] = ~ended
            buffer.rnn_states[step, ended] = 0.0
        of_critic.masks[step] = by_env(~ended, of_critic.masks.ndim - 1)
        of_critic.bad_masks[step] = by_env(~(ended & cut), of_critic.masks.ndim - 1)
        of_critic.rnn_states_critic[step, ended] = 0.0

    def _observe(self, step: int) -> None:
        """What the made-up environment shows in row ``step``: noise, and random menus."""
        seen = [self.rng.normal(0.0, 1.0, (ENVS, size)).astype(np.float32) for size in self.case.obs]
        for obs, buffer in zip(seen, self.runner.actor_buffer):
            buffer.obs[step] = obs
            if buffer.available_actions is not None:
                menu = self.rng.uniform(size=buffer.available_actions[step].shape) < 0.7
                menu[np.arange(ENVS), self.rng.randint(menu.shape[1], size=ENVS)] = True
                buffer.available_actions[step] = menu
        states = np.concatenate(seen, -1)
        if self.case.state_type == "FP":
            own = np.tile(np.eye(self.num_agents, dtype=np.float32), (ENVS, 1, 1))
            states = np.concatenate((np.repeat(states[:, None], self.num_agents, 1), own), -1)
        self.runner.critic_buffer.share_obs[step] = states
