"""PettingZoo's parallel environments as tasks: MPE and anything else with that interface, and MaMuJoCo."""
from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Dict, List, Mapping

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.config.schema import nearest
from happo_gpu.config.tasks import MaMuJoCoConfig, ParallelEnvConfig, PettingZooConfig
from happo_gpu.outside import worker
from happo_gpu.outside.pool import Pool
from happo_gpu.outside.worker import Agent, Description
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, box, discrete, split_actions

_LARGEST_SEED = 2**31 - 1


class ParallelTask(VecTask):
    """N environments of one module's ``parallel_env``, in worker processes. The environments live on the host, whatever the device.

    The order of events is that of every task: an environment is reset only when told to, so ``final_states`` are those
    that were reached and a truncation bootstraps. An episode ends when its environment says so, at the latest after
    ``episodeLength`` steps. Outputs of -1 and 1 are the bounds of a bounded action.

    A resumed run plays the current episodes again from their seeds, which is exact for environments that are decided by
    seed and actions.
    """

    def __init__(
        self, module: str, options: Mapping[str, Any], deaths: bool, env: ParallelEnvConfig, num_envs: int, device: torch.device,
        shared_reward: bool, sees_state: bool,
    ) -> None:
        description = _described(module, options)
        agents = description.agents
        num_seen = description.num_states + len(agents)  # of those that see the state: it, and who they are
        super().__init__(
            None, [AgentSpec(agent.name, num_seen if sees_state else agent.num_obs, _space(agent)) for agent in agents], num_envs,
            num_states=description.num_states, num_values=1 if env.teamReward else len(agents),
            max_episode_length=env.episodeLength, decimation=env.controlFrequencyInv, device=device,
            masks=any(agent.masked for agent in agents), deaths=deaths,
        )
        spec = {"module": module, "options": dict(options), "deaths": deaths}
        self._pool = Pool(spec, description, num_envs, env.episodeLength, env.numWorkers)
        self._shared = self._pool.shared
        self._who = torch.eye(len(agents)) if sees_state else None  # (A, A)
        self._team, self._weight = env.teamReward, 1.0 / len(agents) if shared_reward else 1.0
        bounds = [(low, high) for agent in agents for low, high in zip(agent.low or (0.0,) * len(agent.choices), agent.high or agent.choices)]
        self._low, self._high = torch.tensor(bounds, device=device).unbind(-1)  # (U,)
        self._bounded = torch.tensor([bool(agent.low) for agent in agents for _ in range(agent.num_actions)], device=device)
        self._bounded &= torch.isfinite(self._low) & torch.isfinite(self._high)
        self.episode_sums = {f"return_{agent.name}": torch.zeros(num_envs, device=device) for agent in agents}

    def pre_physics_step(self, actions: Tensor) -> None:
        share = 0.5 * (actions.clamp(-1.0, 1.0) + 1.0)
        within = torch.minimum(self._low + share * (self._high - self._low), self._high)  # rounding alone could pass the bound
        self._shared["actions"].copy_(torch.where(self._bounded, within, actions))

    def physics_step(self) -> None:
        self._pool.step()

    def compute_reward(self, alive: Tensor) -> Tensor:
        self.terminated_buf.copy_(self._shared["terminated"])
        each = alive.unsqueeze(-1) * self._shared["rewards"].to(self.device)  # (N, A)
        for value, own in zip(self.episode_sums.values(), each.unbind(-1)):
            value.add_(own)
        return self._weight * each.sum(-1, keepdim=True) if self._team else each

    def compute_time_outs(self) -> Tensor:
        return super().compute_time_outs() | self._shared["truncated"].to(self.device)

    def compute_observations(self) -> Tensor:
        if self._who is None:
            return self._shared["obs"]
        who = self._who.expand(self.num_envs, -1, -1)  # (N, A, A)
        return torch.cat((self._shared["states"].unsqueeze(1).expand(-1, len(self.agents), -1), who), -1).flatten(1)

    def compute_states(self) -> Tensor:
        return self._shared["states"]

    def compute_available(self) -> Tensor:
        return self._shared["available"]

    def compute_active(self) -> Tensor:
        return self._shared["active"]

    def episode_metrics(self) -> Dict[str, Tensor]:
        return self.episode_sums

    def action_names(self) -> List[List[Command]]:
        def named(agent: AgentSpec, i: int, bounded: bool) -> Command:
            if agent.num_choices:
                return Command(f"choice_{i}", "index")
            return Command(f"share_of_range_{i}", "1", 1.0) if bounded else Command(f"action_{i}")

        bounds = split_actions(self._bounded, self.agents)
        return [[named(agent, i, bool(bounded)) for i, bounded in enumerate(own)] for agent, own in zip(self.agents, bounds)]

    def reset_where(self, mask: Tensor) -> None:
        wanted, seeds = self._shared["wanted"], self._shared["seeds"]
        wanted.copy_(mask)
        if not bool(wanted.any()):
            return
        seeds.copy_(torch.where(wanted, torch.randint_like(seeds, _LARGEST_SEED), seeds))
        self._pool.reset()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._pool.restore()

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), **{name: self._shared[name] for name in ("seeds", "age", "played")}}


class PettingZoo(ParallelTask):
    """``task.env.id`` is a module with a ``parallel_env``, as mpe2.simple_spread_v3; the team's reward is the sum of the agents'."""

    def __init__(self, cfg: PettingZooConfig, num_envs: int, device: torch.device) -> None:
        _find(cfg.env.id)
        super().__init__(cfg.env.id, cfg.env.options, cfg.env.deaths, cfg.env, num_envs, device, shared_reward=False, sees_state=False)


class MaMuJoCo(ParallelTask):
    """A robot of Gymnasium whose joints are several agents'; all get the robot's reward, which is the team's."""

    def __init__(self, cfg: MaMuJoCoConfig, num_envs: int, device: torch.device) -> None:
        env = cfg.env
        options = {"scenario": env.scenario, "agent_conf": env.agentConf, "agent_obsk": env.agentObsk}
        _need("gymnasium_robotics", "gymnasium-robotics", "task=MaMuJoCo", "mamujoco")
        super().__init__("gymnasium_robotics.envs.multiagent_mujoco.mamujoco_v1", options, False, env, num_envs, device,
                         shared_reward=True, sees_state=env.observation == "state")


def _space(agent: Agent):
    return discrete(*agent.choices) if agent.choices else box(len(agent.low))


def _described(module: str, options: Mapping[str, Any]) -> Description:
    """From one environment that is made for this."""
    try:
        env = worker.make({"module": module, "options": options})
        try:
            return worker.describe(env)
        finally:
            env.close()
    except Exception as error:  # whatever somebody else's code raises
        raise ConfigError(f"{module}({', '.join(f'{key}={value}' for key, value in options.items())}): {type(error).__name__}: {error}") from error


def _need(module: str, package: str, what: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{what} needs the package {error.name or package}; write pip install -e '.[{extra}]'") from error


def _find(name: str) -> None:
    """Raises ConfigError where there is no module of that name with a parallel_env."""
    _need("pettingzoo", "pettingzoo", "task=PettingZoo", "pettingzoo")
    parent = name.rpartition(".")[0]
    if name.split(".")[0] == "mpe2":
        _need("mpe2", "mpe2", f"task.env.id={name}", "pettingzoo")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if error.name != name:
            raise ConfigError(f"task.env.id={name}: {error}") from error
        known = [f"{parent}.{found.name}" for found in pkgutil.iter_modules(importlib.import_module(parent).__path__)
                 if not found.name.startswith("_")] if parent else []
        raise ConfigError(f"task.env.id={name}: no such module" + (f"; {nearest(name, known)}" if known else "")) from error
    if not hasattr(module, "parallel_env"):
        raise ConfigError(f"task.env.id={name} has no parallel_env; write a module of PettingZoo's parallel API, e.g. mpe2.simple_spread_v3")
