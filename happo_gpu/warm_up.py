"""Everything compiled or recorded that a run needs, before any clock of training runs."""
from __future__ import annotations

import contextlib
from typing import List

import torch

from happo_gpu import accelerate, precompile
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.baselines import Untrained
from happo_gpu.config import Config
from happo_gpu.nets.policy import Policy

_ROWS = 17  # of a minibatch that is there to be compiled for


def compile_learner(learner: OnPolicyLearner, cfg: Config) -> None:
    """Its gradients, from the next call on."""
    accelerate.compile_networks(_hot(learner), precompile.learner_folder(cfg))


def compile_policy(policy: Policy, cfg: Config) -> None:
    """What samples a decision, where there are many to come."""
    if policy.is_plain and cfg.train.max_iterations * cfg.algo.episode_length >= accelerate.DECISIONS_WORTH_COMPILING:
        accelerate.compile_networks([(policy, "sample_plain", "_sample_plain")], precompile.learner_folder(cfg))


def capture_learner(learner: OnPolicyLearner) -> None:
    """Likewise, as CUDA graphs."""
    accelerate.capture_gradients(_hot(learner))


def _hot(learner: OnPolicyLearner) -> List[accelerate.Hot]:
    return [(gradients, "add_plain", "_add_plain") for gradients in (*learner.actor_gradients, learner.critic_gradients)]


def compile_with_help(task, policy: Policy, learner: OnPolicyLearner, cfg: Config) -> None:
    """Compiles or loads everything; where torch's cache is cold, the actors' gradients in another process."""
    helper = precompile.Helper(cfg)
    try:
        with aside(task.device):
            task.reset()
            policy.act(task.obs_buf, task.available_buf, task.reset_buf)
            run_task(task)
            run_critic(learner)
            helper.wait()
            run_actors(learner)
        helper.done()
    finally:
        helper.stop()


def run_task(task) -> None:
    """A step, for which its methods are compiled or loaded."""
    with aside(task.device):
        task.reset()
        task.step(Untrained(task, chance=False).act(task.obs_buf, task.available_buf, task.reset_buf)[0])  # never a closed choice


def run_learner(learner: OnPolicyLearner) -> None:
    """Likewise all its gradients."""
    run_critic(learner)
    run_actors(learner)


def run_critic(learner: OnPolicyLearner) -> None:
    """The critic's gradients; nothing where they take memory, for which nothing is compiled."""
    if learner.chunk:
        return
    heads, device = learner.critic.head.out_features, learner.critic_gradients.device
    learner.critic_gradients.add_plain(*_zeros(device, learner.num_states, heads, heads), torch.zeros((), device=device))


def run_actors(learner: OnPolicyLearner) -> None:
    """The actors', unless they take memory, menus or deaths."""
    if learner.chunk or learner.cfg.actor_step == "trust_region":
        return
    for gradients, group in zip(learner.actor_gradients, learner.groups):
        agent, device = learner.agents[group[0]], gradients.device
        if not agent.num_choices:
            samples = _zeros(device, agent.num_obs, agent.num_actions, agent.num_actions)
            gradients.add_plain(*samples, torch.zeros(_ROWS, device=device), torch.zeros((), device=device))


def _zeros(device: torch.device, *sizes: int) -> List[torch.Tensor]:
    return [torch.zeros(_ROWS, size, device=device) for size in sizes]


@contextlib.contextmanager
def aside(device: torch.device):
    """Without gradients, and with the random state put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        yield
