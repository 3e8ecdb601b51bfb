"""skrl's MAPPO on the benchmark's environment; run by benchmarks/peers.py.

Its SequentialTrainer.train() runs unmodified. Its users bring their own networks: these are HARL's.
"""
from __future__ import annotations

from importlib.metadata import version
from typing import Any, Dict, Tuple

import torch
from gymnasium.spaces import Box
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.multi_agents.torch.mappo import MAPPO
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from torch import nn
from work import NUM_ACTIONS, NUM_OBS, NUM_STATES, Job, Turns, World, agent_names

AGENTS = agent_names()
OBS, STATES, ACTIONS = (Box(-float("inf"), float("inf"), (size,)) for size in (NUM_OBS, NUM_STATES, NUM_ACTIONS))


class Environments:
    """What the trainer asks of a wrapped multi-agent environment."""

    def __init__(self, world: World) -> None:
        self._world, self.num_envs = world, world.job.num_envs
        self._never = torch.zeros(self.num_envs, 1, dtype=torch.bool)

    def reset(self) -> Tuple[Dict, Dict]:
        return self._observe(), {}

    def state(self) -> Dict[str, torch.Tensor]:
        return {name: self._world.obs for name in AGENTS}

    def step(self, actions: Dict[str, torch.Tensor]) -> Tuple:
        _, reward, timed_out = self._world.step(torch.cat([actions[name] for name in AGENTS], -1))
        rewards = {name: reward.unsqueeze(-1).clone() for name in AGENTS}  # the agent adds to them in place
        truncated = {name: timed_out.unsqueeze(-1) for name in AGENTS}
        return self._observe(), rewards, {name: self._never for name in AGENTS}, truncated, {}

    def _observe(self) -> Dict[str, torch.Tensor]:
        return dict(zip(AGENTS, self._world.obs.split(NUM_OBS, -1)))


def network(num_in: int, num_out: int, sizes: list) -> nn.Sequential:
    """HARL's MLP: feature norm, then linear, ReLU and LayerNorm for each size, then the head."""
    layers = [nn.LayerNorm(num_in)]
    for size in sizes:
        layers += [nn.Linear(num_in, size), nn.ReLU(), nn.LayerNorm(size)]
        num_in = size
    return nn.Sequential(*layers, nn.Linear(num_in, num_out))


class Policy(GaussianMixin, Model):
    def __init__(self, sizes: list) -> None:
        Model.__init__(self, observation_space=OBS, state_space=STATES, action_space=ACTIONS, device="cpu")
        GaussianMixin.__init__(self)
        self.net, self.log_std = network(NUM_OBS, NUM_ACTIONS, sizes), nn.Parameter(torch.full((NUM_ACTIONS,), -1.0))

    def compute(self, inputs: Dict, role: str) -> Tuple[torch.Tensor, Dict]:
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, sizes: list) -> None:
        Model.__init__(self, observation_space=OBS, state_space=STATES, action_space=ACTIONS, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = network(NUM_STATES, 1, sizes)

    def compute(self, inputs: Dict, role: str) -> Tuple[torch.Tensor, Dict]:
        return self.net(inputs["states"]), {}


def settings(job: Job) -> Dict[str, Any]:
    algo = job.algo
    unset = {name: {} for name in AGENTS}  # skrl 2.1.1 refuses its own default, an empty dictionary
    return {
        "rollouts": job.num_steps, "learning_epochs": algo["ppo_epoch"], "mini_batches": algo["actor_num_mini_batch"],
        "discount_factor": algo["gamma"], "gae_lambda": algo["gae_lambda"], "learning_rate": algo["lr"],
        "grad_norm_clip": algo["max_grad_norm"], "ratio_clip": algo["clip_param"], "value_clip": algo["clip_param"],
        "entropy_loss_scale": algo["entropy_coef"], "value_loss_scale": algo["value_loss_coef"],
        "time_limit_bootstrap": True, "value_preprocessor": RunningStandardScaler,
        "value_preprocessor_kwargs": {"size": 1, "device": "cpu"},
        "observation_preprocessor_kwargs": unset, "state_preprocessor_kwargs": unset,
        "learning_rate_scheduler_kwargs": unset,
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},
    }


class Timed(MAPPO):
    """Tells when an iteration starts; the method is empty in MAPPO."""

    turns: Turns

    def pre_interaction(self, *, timestep: int, timesteps: int) -> None:
        if timestep % self.cfg.rollouts == 0:
            self.turns.begin()


def main() -> None:
    job = Job.read()
    turns = Turns(version("skrl"))
    sizes = job.algo["model"]["hidden_sizes"]
    agent = Timed(
        possible_agents=AGENTS, models={name: {"policy": Policy(sizes), "value": Value(sizes)} for name in AGENTS},
        memories={name: RandomMemory(memory_size=job.num_steps, num_envs=job.num_envs, device="cpu") for name in AGENTS},
        observation_spaces=dict.fromkeys(AGENTS, OBS), state_spaces=dict.fromkeys(AGENTS, STATES),
        action_spaces=dict.fromkeys(AGENTS, ACTIONS), device="cpu", cfg=settings(job),
    )
    agent.turns = turns
    cfg = {"timesteps": 10**9, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(env=Environments(World(job, turns)), agents=agent, cfg=cfg).train()


if __name__ == "__main__":
    main()
