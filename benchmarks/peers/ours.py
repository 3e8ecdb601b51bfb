"""This project's learner on the benchmark's environment; run by benchmarks/peers.py."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from happo_gpu import process  # noqa: E402

process.prepare()  # as train.py does, before torch is imported

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from work import EPISODE, NUM_ACTIONS, NUM_OBS, NUM_STATES, Job, Noise, Turns, advance, agent_names, reward_of  # noqa: E402

from happo_gpu import accelerate, warm_up  # noqa: E402
from happo_gpu.algo.on_policy import OnPolicyLearner  # noqa: E402
from happo_gpu.config.algo import AlgoConfig  # noqa: E402
from happo_gpu.config.schema import typed  # noqa: E402
from happo_gpu.data.collect import collect  # noqa: E402
from happo_gpu.data.rollout import Rollout  # noqa: E402
from happo_gpu.nets.policy import Policy  # noqa: E402
from happo_gpu.tasks.vec_task import VecTask  # noqa: E402
from happo_gpu.types import AgentSpec, box  # noqa: E402

CPU = torch.device("cpu")


class Trivial(VecTask):
    """The environment as a task, with all the bookkeeping that tasks have."""

    def __init__(self, num_envs: int) -> None:
        agents = [AgentSpec(name, NUM_OBS, box(NUM_ACTIONS)) for name in agent_names()]
        super().__init__(None, agents, num_envs, NUM_STATES, 1, EPISODE, 1, CPU)
        self._noise = Noise(num_envs)
        self._obs = self._noise.next()  # (N, O)

    def pre_physics_step(self, actions: Tensor) -> None:
        self._actions = actions

    def physics_step(self) -> None:
        self._obs = advance(self._obs, self._actions, self._noise.next())

    def compute_reward(self, alive: Tensor) -> Tensor:
        return reward_of(self._obs).unsqueeze(-1)  # nothing terminates: all are alive

    def compute_observations(self) -> Tensor:
        return self._obs

    def compute_states(self) -> Tensor:
        return self._obs

    def episode_metrics(self) -> dict:
        return {}

    def reset_where(self, mask: Tensor) -> None:
        self._obs = torch.where(mask.unsqueeze(-1), self._noise.next(), self._obs)


def main() -> None:
    job = Job.read()
    cfg = typed(AlgoConfig, job.algo, "algo")
    task = Trivial(job.num_envs)
    learner = OnPolicyLearner(task.agents, task.num_states, task.num_values, task.per_agent_states, cfg, CPU, 1)
    rollout, policy = Rollout.like(task, job.num_steps), learner.policy(job.num_envs)
    turns = Turns("this checkout")  # first: what compiling may print is no reply
    compile_ = compiler(learner, policy)
    task.reset()
    while True:
        turns.begin()
        accelerate.take_threads(turns.threads)
        collect(task, policy, rollout)
        turns.updating()
        learner.update(rollout)
        compile_()  # after the first iteration, whose work was counted by hooks that compiled code does not call


def compiler(learner: OnPolicyLearner, policy: Policy) -> Callable[[], None]:
    """Switches to compiled networks, which are ready when this returns, as they are when the main command starts to train."""
    owners = [*learner.actors, learner.critic, *learner.actor_gradients, learner.critic_gradients, policy]
    plain = [dict(vars(owner)) for owner in owners]
    warm_up.compile_learner(learner, policy)
    compiled = [{name: value for name, value in vars(owner).items() if value is not before.get(name)} for owner, before in zip(owners, plain)]
    for owner, before, after in zip(owners, plain, compiled):
        vars(owner).update({name: before[name] for name in after})

    def switch() -> None:
        for owner, after in zip(owners, compiled):
            vars(owner).update(after)

    return switch


if __name__ == "__main__":
    main()
