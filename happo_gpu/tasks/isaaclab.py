"""Any multi-agent environment of Isaac Lab (DirectMARLEnv): dicts of tensors, agent by agent, that stay on the device.

Written to the documented interface (Isaac Lab 2.0 to 3.0, isaaclab/envs/direct_marl_env.py) and not run by us.
"""
from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Dict, Mapping

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.config.schema import nearest
from happo_gpu.config.tasks import IsaacLabConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import ActionSpace, AgentSpec, box, discrete, split_actions


class IsaacLab(VecTask):
    """``env`` is a DirectMARLEnv: an environment ends once all of its agents terminated or all ran out of time. It resets by itself, within
    the step, and shows the new episode, which decides what is exact:

    * A termination, which needs no state.
    * A time-out where the environment tells what was reached, as Isaac Lab 3 does if all observations are the critic's state. Elsewhere it
      bootstraps from the state before the last step, which rl_games and rsl_rl do always.
    * Physics cannot be put back: a resumed run has its weights, moments and counters, and new episodes.
    """

    def __init__(self, cfg: IsaacLabConfig, env: Any, device: torch.device) -> None:
        agents = [AgentSpec(name, _size(env.observation_spaces[name], name), _actions(env.action_spaces[name], name)) for name in env.possible_agents]
        self._own_states = not _sees_all(env.cfg)
        super().__init__(
            None, agents, env.num_envs, num_states=_size(env.state_space, "state") if self._own_states else sum(agent.num_obs for agent in agents),
            num_values=1 if cfg.env.teamReward else len(agents), max_episode_length=int(env.max_episode_length), decimation=1, device=device,
        )
        self.dt = env.step_dt
        self._env, self._team, self._finite = env, cfg.env.teamReward, env.cfg.is_finite_horizon
        self.episode_sums = {f"return_{agent.name}": torch.zeros(env.num_envs, device=device) for agent in agents}

    def reset(self, stagger: bool = False) -> Dict[str, Tensor]:
        self._see(self._env.reset()[0])
        return super().reset(stagger)

    def pre_physics_step(self, actions: Tensor) -> None:
        own = split_actions(actions.clone(), self.agents)  # theirs to change, while the rollout keeps what was drawn
        self._commands = {agent.name: each.long() if agent.num_choices else each for agent, each in zip(self.agents, own)}

    def physics_step(self) -> None:
        seen, self._rewards, terminated, late, told = self._env.step(self._commands)
        self._terminated, self._late = _all(terminated), _all(late)
        if self._finite:  # running out of time is part of the task
            self._terminated = self._terminated | self._late
        self._see(seen)
        ended = (self._terminated | self._late).unsqueeze(-1)
        self._states = torch.where(ended, self._reached(told), self._new_states)

    def compute_reward(self, alive: Tensor) -> Tensor:
        self.terminated_buf.copy_(self._terminated)
        each = torch.stack([self._rewards[agent.name] for agent in self.agents], -1)  # (N, A)
        for total, own in zip(self.episode_sums.values(), each.unbind(-1)):
            total.add_(own)
        return each.sum(-1, keepdim=True) if self._team else each

    def compute_time_outs(self) -> Tensor:
        return self._late

    def compute_observations(self) -> Tensor:
        return self._obs

    def compute_states(self) -> Tensor:
        return self._states

    def episode_metrics(self) -> Dict[str, Tensor]:
        return self.episode_sums

    def reset_where(self, mask: Tensor) -> None:
        """It has reset itself; from here on the critic sees so."""
        self._states = self._new_states

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.reset()

    def _see(self, seen: Mapping[str, Tensor]) -> None:
        self._obs = self._side_by_side(seen)
        self._new_states = self._env.state().flatten(1) if self._own_states else self._obs

    def _reached(self, told: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The states (N, S) before the reset, of use where an episode ended: as told, or those that were acted on."""
        finals = {name: own["final_obs"] for name, own in told.items() if "final_obs" in own}
        return self._side_by_side(finals) if finals else self.states_buf

    def _side_by_side(self, seen: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([seen[agent.name].flatten(1) for agent in self.agents], -1)  # (N, O)


def _sees_all(env_cfg: Any) -> bool:
    """Whether the critic sees all observations (Isaac Lab's -1, or 0: nothing said), and no state of its own."""
    return isinstance(env_cfg.state_space, int) and env_cfg.state_space <= 0


def _all(flags: Mapping[str, Tensor]) -> Tensor:
    return functools.reduce(torch.logical_and, flags.values())  # (N,)


def _size(space: Any, whose: str) -> int:
    if not getattr(space, "shape", None):
        raise ConfigError(f"task=IsaacLab takes observations and states that are a Box, and that of {whose} is {space}")
    return math.prod(space.shape)


def _actions(space: Any, agent: str) -> ActionSpace:
    if hasattr(space, "nvec"):
        return discrete(*(int(choices) for choices in space.nvec))
    return discrete(int(space.n)) if hasattr(space, "n") else box(_size(space, agent))


def make(cfg: IsaacLabConfig, device: torch.device, seed: int) -> IsaacLab:
    """By the config class that Isaac Lab's registry has for ``task.env.id``, with our sizes, device and seed."""
    try:
        import gymnasium
        from isaaclab_tasks.utils import parse_env_cfg
    except ImportError as error:
        raise ConfigError(f"task=IsaacLab: {error}; only python train.py starts Isaac Sim, without which Isaac Lab cannot be imported") from error

    module, _, name = cfg.env.id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        theirs = parse_env_cfg(name, device=str(device), num_envs=cfg.env.numEnvs)
    except (ImportError, ValueError, gymnasium.error.Error) as error:
        raise ConfigError(f"task.env.id={cfg.env.id}: {error}; write an id of Isaac Lab, or package:id of a package that registers it") from error
    if not hasattr(theirs, "possible_agents"):
        raise ConfigError(f"task.env.id={cfg.env.id} has one agent; task=IsaacLab takes a DirectMARLEnv, e.g. Isaac-Cart-Double-Pendulum-Direct-v0")
    for key, value in cfg.env.options.items():
        if not hasattr(theirs, key):
            raise ConfigError(f"task.env.options.{key} is not known to {cfg.env.id}; {nearest(key, list(vars(theirs)))}")
        setattr(theirs, key, value)
    theirs.seed = seed if seed >= 0 else None
    if hasattr(theirs, "compute_final_obs"):
        theirs.compute_final_obs = _sees_all(theirs)
    return IsaacLab(cfg, gymnasium.make(name, cfg=theirs).unwrapped, device)
