"""Any task of IsaacGymEnvs, as one agent or as several that share out its actions.

Written to the documented interface (IsaacGymEnvs 1.5.1, isaacgymenvs/tasks/base/vec_task.py) and not run by us.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.config.files import composed
from happo_gpu.config.tasks import IsaacGymEnvsConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, box


class IsaacGymEnvs(VecTask):
    """``env`` is a VecTask of IsaacGymEnvs; tensors stay on its device. It resets by itself, which decides what is exact:

    * An environment that ends reports the observation that it reached: its tasks reset at the start of their next step.
      So the state that a time-out bootstraps from is exact.
    * That next step takes an action that was chosen for the ended episode, and is learned from by no actor (``active_buf``).
    * A time-out is what ``extras["time_outs"]`` says: the last step of an episode, even of one that fails on it.
    * Physics cannot be put back: a resumed run has its weights, moments and counters, and new episodes.
    """

    def __init__(self, cfg: IsaacGymEnvsConfig, env: Any, device: torch.device) -> None:
        split = cfg.env.split
        columns = list(split.values()) or [tuple(range(env.num_actions))]
        order = [column for own in columns for column in own]  # (U,) the environment's column of each of ours
        if sorted(order) != list(range(env.num_actions)):
            raise ConfigError(f"task.env.split must name each of the {env.num_actions} actions of {cfg.env.name} once")
        num_states = env.num_states or env.num_obs
        super().__init__(
            None, [AgentSpec(name, env.num_obs, box(len(own))) for name, own in zip(split or [cfg.env.name], columns)], env.num_envs,
            num_states=num_states, num_values=1, max_episode_length=int(env.max_episode_length), decimation=1, device=device, deaths=True,
        )
        self._env, self._order = env, torch.argsort(torch.tensor(order, device=device))

    def reset(self, stagger: bool = False) -> Dict[str, Tensor]:
        """Every environment begins anew in one step that does nothing."""
        self._env.reset_buf.fill_(1)
        self._see(self._env.step(self._env.zero_actions())[0])
        self._reset_bookkeeping(torch.ones_like(self.reset_buf))
        self.reset_buf.fill_(True)
        self.active_buf.fill_(1.0)
        return {"obs": self.obs_buf, "states": self.states_buf}

    def step(self, actions: Tensor) -> Tuple[Dict[str, Tensor], Tensor, Tensor, Dict[str, Any]]:
        seen, reward, reset, extras = self._env.step(actions[:, self._order])
        self._see(seen)
        self.rew_buf.copy_(reward.unsqueeze(-1))
        self.reset_buf.copy_(reset)
        self.timeout_buf.copy_(extras["time_outs"]).logical_and_(self.reset_buf)
        self.final_states.copy_(self.states_buf)
        self.episode_return.add_(reward)
        self.progress_buf.add_(1)
        self._write_episode()
        self._reset_bookkeeping(self.reset_buf)
        self.active_buf.copy_((~self.reset_buf).unsqueeze(-1))
        return {"obs": self.obs_buf, "states": self.states_buf}, self.rew_buf, self.reset_buf, self.extras

    def _see(self, seen: Dict[str, Tensor]) -> None:
        """All agents see everything."""
        self.obs_buf.copy_(seen["obs"].repeat(1, len(self.agents)))
        self.states_buf.copy_(seen.get("states", seen["obs"]))

    def episode_metrics(self) -> Dict[str, Tensor]:
        return {}

    def action_names(self) -> List[List[Command]]:
        return [[Command(f"action_{i}", "1", 1.0) for i in range(agent.num_actions)] for agent in self.agents]

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.reset()


def make(cfg: IsaacGymEnvsConfig, device: torch.device, seed: int) -> IsaacGymEnvs:
    """By IsaacGymEnvs' own config, with our name, sizes and device."""
    try:
        import isaacgymenvs
    except ImportError as error:
        raise ConfigError(f"task=IsaacGymEnvs: {error}; only python train.py imports Isaac Gym in time, before torch") from error
    from hydra.errors import HydraException

    where = str(device) if device.type == "cpu" else f"cuda:{device.index or 0}"
    typed = [f"task={cfg.env.name}", f"num_envs={cfg.env.numEnvs}", f"seed={seed}", f"sim_device={where}", f"rl_device={where}",
             f"pipeline={'cpu' if device.type == 'cpu' else 'gpu'}", *cfg.env.overrides]
    try:
        theirs = composed(typed, Path(isaacgymenvs.__file__).parent / "cfg", "1.1")
    except HydraException as error:
        raise ConfigError(f"IsaacGymEnvs refuses {' '.join(typed)}: {error}") from error
    env = isaacgymenvs.make(seed, cfg.env.name, cfg.env.numEnvs, where, where, headless=theirs.headless, force_render=theirs.force_render, cfg=theirs)
    return IsaacGymEnvs(cfg, env, device)
