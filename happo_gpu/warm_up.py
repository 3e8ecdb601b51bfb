"""Everything compiled or recorded that a run needs, before any clock of training runs."""
from __future__ import annotations

import contextlib
from typing import List

import torch

from happo_gpu import accelerate, distributed
from happo_gpu.algo.adam import FlatAdam
from happo_gpu.algo.batch import Table
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.baselines import Untrained
from happo_gpu.nets.policy import Policy

_ROWS = 17  # of a minibatch that is there to be compiled for


def compile_learner(learner: OnPolicyLearner, policy: Policy) -> None:
    """Its gradients and what it evaluates, and what samples a decision; compiled or loaded when this returns."""
    if learner.cfg.model.precision == "bf16":
        return  # compiled code computes in float32
    networks = [(actor, "write_log_probs", "_write_log_probs") for actor in learner.actors]
    networks.append((learner.critic, "write_values", "_write_values"))
    if policy.is_plain:
        networks.append((policy, "sample_plain", "_sample_plain"))
    accelerate.compile_networks([*_hot(learner), *networks])
    for gradients in (*learner.actor_gradients, learner.critic_gradients):
        accelerate.fetch_on_all_threads(gradients)
    if learner.cfg.actor_step != "trust_region" and distributed.SIZE == 1:  # several processes average gradients between
        for gradients, optimizer in zip((*learner.actor_gradients, learner.critic_gradients), (*learner.actor_optimizers, learner.critic_optimizer)):
            accelerate.compile_steps(gradients, FlatAdam(gradients.buffer, optimizer, learner.cfg.gradient_limit))
    run_learner(learner)
    if policy.is_plain:
        policy.sample_plain(*_zeros(policy.device, policy.num_obs, *[policy.num_actions] * 3))


def capture_learner(learner: OnPolicyLearner) -> None:
    """Likewise, as CUDA graphs."""
    accelerate.capture_gradients(_hot(learner))


def _hot(learner: OnPolicyLearner) -> List[accelerate.Hot]:
    return [(gradients, "add_plain", "_add_plain") for gradients in (*learner.actor_gradients, learner.critic_gradients)]


def run_task(task) -> None:
    """A step, for which its methods are compiled or loaded."""
    with aside(task.device):
        task.reset()
        task.step(Untrained(task, chance=False).act(task.obs_buf, task.available_buf, task.reset_buf)[0])  # never a closed choice


def run_learner(learner: OnPolicyLearner) -> None:
    """A pass through its networks; nothing where they have memory, for which nothing is compiled, nor of agents with menus or deaths."""
    if learner.chunk:
        return
    device, heads = learner.critic_gradients.device, learner.critic.head.out_features
    share = torch.zeros((), device=device)
    with aside(device):
        states, values, targets = _samples(device, learner.num_states, heads, heads)
        learner.critic_gradients.add_plain(states, values, targets.clone(), share)  # which are normalised, and so lie elsewhere
        learner.critic.write_values(*_zeros(device, learner.num_states, heads))
        for actor, gradients, group in zip(learner.actors, learner.actor_gradients, learner.groups):
            agent = learner.agents[group[0]]
            if agent.num_choices:
                continue
            actor.write_log_probs(*_zeros(device, agent.num_obs, agent.num_actions, agent.num_actions))
            if learner.cfg.actor_step != "trust_region":
                *samples, advantage = _samples(device, agent.num_obs, agent.num_actions, agent.num_actions, 1)
                gradients.add_plain(*samples, advantage.squeeze(-1), share)


def _samples(device: torch.device, *sizes: int) -> List[torch.Tensor]:
    """Fields of a minibatch, laid out as those that an update draws."""
    return Table(_zeros(device, *sizes)).rows(torch.arange(_ROWS, device=device))


def _zeros(device: torch.device, *sizes: int) -> List[torch.Tensor]:
    return [torch.zeros(_ROWS, size, device=device) for size in sizes]


@contextlib.contextmanager
def aside(device: torch.device):
    """Without gradients, and with the random state put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        yield
