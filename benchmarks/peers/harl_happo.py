"""HARL's own OnPolicyHARunner on the benchmark's environment; run by benchmarks/peers.py.

The runner, its buffers, actors and critic are HARL's, unmodified, and so is run(), its loop. Put in
their places are what make_train_env would build (one object that steps all environments, instead of a
process for each) and the logger, which only tells the time.
"""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import torch
import yaml
from work import NUM_ACTIONS, NUM_AGENTS, NUM_OBS, NUM_STATES, Job, Turns, World

HOME = Path(sys.argv[2])  # the checkout
sys.path.insert(0, str(HOME))

from harl.runners import on_policy_base_runner  # noqa: E402
from harl.runners.on_policy_ha_runner import OnPolicyHARunner  # noqa: E402


class Box(NamedTuple):
    """HARL asks a space for its class name and shape."""

    shape: Tuple[int, ...]


class Environments:
    """What HARL's ShareVecEnv offers, of which the runner uses this much."""

    n_agents = NUM_AGENTS
    observation_space = [Box((NUM_OBS,))] * NUM_AGENTS
    share_observation_space = [Box((NUM_STATES,))] * NUM_AGENTS
    action_space = [Box((NUM_ACTIONS,))] * NUM_AGENTS

    def __init__(self, world: World) -> None:
        self._world, self._n = world, world.job.num_envs
        self._no_menus = [None] * self._n
        self._going = [[{}, {}]] * self._n
        self._timed_out = [[{"bad_transition": True}, {"bad_transition": True}]] * self._n

    def reset(self) -> Tuple:
        return (*self._observe(self._world.obs), self._no_menus)

    def step(self, actions: Any) -> Tuple:
        """Actions (N, A, U_i) to observations, states, rewards (N, A, 1), dones (N, A), infos, menus."""
        obs, reward, timed_out = self._world.step(torch.from_numpy(actions).reshape(self._n, -1))
        rewards = reward.view(-1, 1, 1).expand(-1, NUM_AGENTS, -1).numpy()
        dones = timed_out.unsqueeze(-1).expand(-1, NUM_AGENTS).numpy()
        infos = self._timed_out if timed_out[0] else self._going
        return (*self._observe(obs), rewards, dones, infos, self._no_menus)

    def _observe(self, obs: torch.Tensor) -> List:
        states = obs.unsqueeze(1).expand(-1, NUM_AGENTS, -1)
        return [obs.view(self._n, NUM_AGENTS, NUM_OBS).numpy(), states.numpy()]


class Clock:
    """Stands in for HARL's logger: its run() calls these."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def init(self, episodes: int) -> None:
        pass

    def episode_init(self, episode: int) -> None:
        self._turns.begin()

    def per_step(self, data: Tuple) -> None:
        pass


def settings(job: Job) -> Dict[str, Dict]:
    """HARL's published happo.yaml; stops if a value that it shares with cfg/algo/HAPPO.yaml differs there."""
    published = yaml.safe_load((HOME / "harl" / "configs" / "algos_cfgs" / "happo.yaml").read_text())
    ours = {**job.algo, **job.algo["model"], "use_proper_time_limits": job.algo["time_limit"] == "mask"}
    published["train"]["episode_length"] = job.num_steps
    for section in ("train", "model", "algo"):
        for key, value in published[section].items():
            if key in ours and ours[key] != value:
                raise SystemExit(f"{key} is {value} in HARL's happo.yaml and {ours[key]} in cfg/algo/HAPPO.yaml")
    published["device"].update(cuda=False, torch_threads=job.threads)
    published["train"].update(
        n_rollout_threads=job.num_envs, num_env_steps=10**12, log_interval=10**9, eval_interval=10**9
    )
    published["eval"]["use_eval"] = False
    return published


def main() -> None:
    job = Job.read()
    turns = Turns(sys.argv[3])
    world = World(job, turns)
    on_policy_base_runner.make_train_env = lambda *_: Environments(world)
    with tempfile.TemporaryDirectory() as folder:
        algo_args = settings(job)
        algo_args["logger"]["log_dir"] = folder
        names = {"algo": "happo", "env": "gym", "exp_name": "peers"}
        runner = OnPolicyHARunner(names, algo_args, {"scenario": "trivial", "state_type": "EP"})
        runner.logger = Clock(turns)
        runner.run()


if __name__ == "__main__":
    main()
