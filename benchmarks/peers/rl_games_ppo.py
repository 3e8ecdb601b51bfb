"""rl_games' PPO with two agents on the benchmark's environment; run by benchmarks/peers.py.

Both agents share one actor, beside a central critic: rl_games' form of MAPPO. The loop below is that
of its train(), without logging and checkpoints.
"""
from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any, Dict, Tuple

import torch
from gymnasium.spaces import Box
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner
from work import NUM_ACTIONS, NUM_AGENTS, NUM_OBS, NUM_STATES, Job, Turns, World

INFO = {
    "observation_space": Box(-float("inf"), float("inf"), (NUM_OBS,)), "action_space": Box(-1.0, 1.0, (NUM_ACTIONS,)),
    "state_space": Box(-float("inf"), float("inf"), (NUM_STATES,)), "agents": NUM_AGENTS, "value_size": 1,
}


class Environments(IVecEnv):
    """Rows are environments, and agents within them: (N * A, ...)."""

    def __init__(self, world: World) -> None:
        self._world, self._n = world, world.job.num_envs

    def reset(self) -> Dict[str, torch.Tensor]:
        return self._observe(self._world.obs)

    def step(self, actions: torch.Tensor) -> Tuple:
        obs, reward, timed_out = self._world.step(actions.view(self._n, -1))
        dones = timed_out.repeat_interleave(NUM_AGENTS)
        return self._observe(obs), reward.repeat_interleave(NUM_AGENTS), dones, {"time_outs": dones}

    def _observe(self, obs: torch.Tensor) -> Dict[str, torch.Tensor]:
        return {"obs": obs.view(-1, NUM_OBS), "states": obs}


def settings(job: Job, folder: str) -> Dict[str, Any]:
    algo, samples = job.algo, job.num_envs * job.num_steps
    mlp = {"units": algo["model"]["hidden_sizes"], "activation": algo["model"]["activation_func"],
           "initializer": {"name": "default"}}
    gaussian = {"mu_activation": "None", "sigma_activation": "None", "mu_init": {"name": "default"},
                "sigma_init": {"name": "const_initializer", "val": 0}, "fixed_sigma": True}
    network = {"name": "actor_critic", "separate": False, "mlp": mlp, "normalization": "layer_norm"}
    training = {
        "mini_epochs": algo["ppo_epoch"], "learning_rate": algo["lr"], "e_clip": algo["clip_param"],
        "clip_value": algo["use_clipped_value_loss"], "normalize_input": False,
        "truncate_grads": algo["use_max_grad_norm"], "grad_norm": algo["max_grad_norm"],
    }
    config = {
        **training, "name": "peers", "env_name": "peers", "train_dir": folder, "device": "cpu", "ppo": True,
        "num_actors": job.num_envs, "horizon_length": job.num_steps, "minibatch_size": samples * NUM_AGENTS,
        "gamma": algo["gamma"], "tau": algo["gae_lambda"], "lr_schedule": "constant", "schedule_type": "standard",
        "normalize_advantage": True, "normalize_value": algo["use_valuenorm"], "entropy_coef": algo["entropy_coef"],
        "critic_coef": algo["value_loss_coef"], "bounds_loss_coef": 0.0, "bound_loss_type": "none", "clip_actions": False,
        "reward_shaper": {"scale_value": 1.0}, "max_epochs": -1,
        "use_experimental_cv": False,  # no second value loss on the actor
        "central_value_config": {**training, "minibatch_size": samples, "network": {**network, "central_value": True}},
    }
    return {"params": {
        "seed": 1, "torch_threads": job.threads, "algo": {"name": "a2c_continuous"}, "config": config,
        "model": {"name": "continuous_a2c_logstd"}, "network": {**network, "space": {"continuous": gaussian}},
    }}


def main() -> None:
    job = Job.read()
    turns = Turns(version("rl-games"))
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner()
        runner.load(settings(job, folder))
        runner.params["config"].update(vec_env=Environments(World(job, turns)), env_info=INFO)
        agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
        agent.init_tensors()
        agent.obs = agent.env_reset()
        agent.curr_frames = agent.batch_size_envs
        while True:
            turns.begin()
            agent.update_epoch()
            agent.train_epoch()
            agent.dataset.update_values_dict(None)


if __name__ == "__main__":
    main()
