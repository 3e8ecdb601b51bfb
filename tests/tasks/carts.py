"""Two carts on a line that are to meet: a small environment with the interface that Isaac Lab publishes for DirectMARLEnv.

Its events have the order of isaaclab/envs/direct_marl_env.py (2.0 to 3.0): who is done is reset within the step, and the observation that is
returned shows the new episode; ``compute_final_obs`` is of 3.0 alone. It proves that the adapter keeps to that interface, not that Isaac Lab runs.
"""
import math
from types import SimpleNamespace

import gymnasium
import torch
from gymnasium import spaces

EDGE = 3.0  # m from the middle, where the line ends
DT = 0.1  # s


class CartsCfg:
    """As a configclass of Isaac Lab 2; ``starts`` (m) are drawn where it is None; a crash is that of both, or of one cart if ``alone``."""

    def __init__(self):
        self.possible_agents = ["scout", "mule"]
        self.observation_spaces, self.action_spaces = {"scout": 3, "mule": 2}, {"scout": 1, "mule": {3}}
        self.state_space, self.is_finite_horizon = -1, False
        self.episode_length_s, self.decimation, self.seed = 2.9, 1, None
        self.sim, self.scene = SimpleNamespace(device="cpu", dt=DT), SimpleNamespace(num_envs=1)
        self.starts, self.alone = None, False


class CartsCfg3(CartsCfg):
    """Of Isaac Lab 3."""

    def __init__(self):
        super().__init__()
        self.compute_final_obs = False


class Carts(gymnasium.Env):
    """The scout (force of one number) sees both places and its own speed; the mule (left, stay, right) sees the places alone."""

    def __init__(self, cfg, render_mode=None, **kwargs):
        self.cfg, self.num_envs, self.device = cfg, cfg.scene.num_envs, cfg.sim.device
        self.step_dt = cfg.sim.dt * cfg.decimation
        self.max_episode_length = math.ceil(cfg.episode_length_s / self.step_dt)
        self.possible_agents = self.agents = cfg.possible_agents
        self.observation_spaces = {name: spaces.Box(-math.inf, math.inf, (size,)) for name, size in cfg.observation_spaces.items()}
        self.action_spaces = {"scout": spaces.Box(-math.inf, math.inf, (1,)), "mule": spaces.Discrete(3)}
        self.state_space = spaces.Box(-math.inf, math.inf, (cfg.state_space,)) if cfg.state_space > 0 else None
        self.extras = {name: {} for name in self.possible_agents}
        self.place, self.speed = torch.zeros(self.num_envs, 2), torch.zeros(self.num_envs, 2)
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)

    def reset(self, seed=None, options=None):
        self._reset_idx(torch.arange(self.num_envs))
        self.obs_dict = self._observations()
        return self.obs_dict, self.extras

    def step(self, actions):
        assert actions["scout"].shape == (self.num_envs, 1) and actions["mule"].shape == (self.num_envs, 1)
        assert actions["mule"].dtype == torch.long
        self.actions = actions
        force = torch.cat((actions["scout"].clamp_(-1.0, 1.0), actions["mule"] - 1.0), -1)  # in place, as some do
        self.speed = 0.8 * self.speed + force
        self.place = self.place + DT * self.speed
        self.episode_length_buf += 1
        out = self.place.abs() > EDGE
        late = self.episode_length_buf >= self.max_episode_length - 1
        both = out.any(-1)
        terminated = {"scout": out[:, 0] if self.cfg.alone else both, "mule": out[:, 1] if self.cfg.alone else both}
        time_outs = {name: late for name in self.possible_agents}
        reset = (terminated["scout"] & terminated["mule"]) | (time_outs["scout"] & time_outs["mule"])
        apart = (self.place[:, 0] - self.place[:, 1]).abs()
        rewards = {"scout": -apart, "mule": -0.1 * apart - 5.0 * both}
        indices = reset.nonzero().squeeze(-1)
        if len(indices):
            if getattr(self.cfg, "compute_final_obs", False):
                for name, seen in self._observations().items():
                    self.extras[name]["final_obs"] = seen
            self._reset_idx(indices)
        self.obs_dict = self._observations()
        return self.obs_dict, rewards, terminated, time_outs, self.extras

    def state(self):
        if not self.cfg.state_space:
            return None
        if self.cfg.state_space < 0:
            return torch.cat([self.obs_dict[name] for name in self.possible_agents], -1)
        return torch.cat((self.place, self.speed, self.episode_length_buf.unsqueeze(-1)), -1)

    def _observations(self):
        return {"scout": torch.cat((self.place, self.speed[:, :1]), -1), "mule": self.place.flip(-1)}

    def _reset_idx(self, indices):
        starts = 2.0 * torch.rand(len(indices), 2) if self.cfg.starts is None else torch.tensor(self.cfg.starts).expand(len(indices), 2)
        self.place[indices] = starts * torch.tensor([-1.0, 1.0])
        self.speed[indices] = 0.0
        self.episode_length_buf[indices] = 0


def register(name, **kwargs):
    gymnasium.register(name, entry_point="carts:Carts", disable_env_checker=True, kwargs=kwargs)


if "Carts-v0" not in gymnasium.registry:
    register("Carts-v0", env_cfg_entry_point=CartsCfg)
    register("CartsTold-v0", env_cfg_entry_point=CartsCfg3)
    register("Cart-v0", env_cfg_entry_point=SimpleNamespace)  # of one agent
