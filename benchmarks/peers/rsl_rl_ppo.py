"""rsl_rl's PPO on the benchmark's environment, as one agent; run by benchmarks/peers.py.

Its OnPolicyRunner.learn() runs unmodified, its own logger writing nothing.
"""
from __future__ import annotations

from importlib.metadata import version
from typing import Any, Dict, Tuple

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from work import EPISODE, NUM_ACTIONS, NUM_AGENTS, Job, Turns, World


class Environments(VecEnv):
    num_actions = NUM_AGENTS * NUM_ACTIONS
    max_episode_length, device, cfg = EPISODE, "cpu", {}

    def __init__(self, world: World) -> None:
        self._world, self.num_envs = world, world.job.num_envs
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.int64)

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": self._world.obs}, batch_size=[self.num_envs])

    def step(self, actions: torch.Tensor) -> Tuple:
        _, reward, timed_out = self._world.step(actions)
        return self.get_observations(), reward, timed_out, {"time_outs": timed_out}


def settings(job: Job) -> Dict[str, Any]:
    algo, model = job.algo, job.algo["model"]
    network = {"class_name": "MLPModel", "hidden_dims": model["hidden_sizes"], "activation": model["activation_func"]}
    return {
        "num_steps_per_env": job.num_steps, "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "distribution_cfg": {"class_name": "GaussianDistribution", "std_type": "log"}},
        "critic": network,
        "algorithm": {
            "class_name": "PPO", "num_learning_epochs": algo["ppo_epoch"], "num_mini_batches": algo["actor_num_mini_batch"],
            "clip_param": algo["clip_param"], "gamma": algo["gamma"], "lam": algo["gae_lambda"],
            "value_loss_coef": algo["value_loss_coef"], "entropy_coef": algo["entropy_coef"], "learning_rate": algo["lr"],
            "max_grad_norm": algo["max_grad_norm"], "use_clipped_value_loss": algo["use_clipped_value_loss"],
            "schedule": "fixed",
        },
    }


def main() -> None:
    job = Job.read()
    turns = Turns(version("rsl-rl-lib"))
    runner = OnPolicyRunner(Environments(World(job, turns)), settings(job), log_dir=None, device="cpu")
    runner.logger.log = lambda **_: turns.begin()  # called after every iteration
    turns.begin()
    runner.learn(10**9)


if __name__ == "__main__":
    main()
