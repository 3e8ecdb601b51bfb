"""Everything compiled that a run needs, before any clock of training runs; graphs are recorded at the first call of each, for its shapes."""
from __future__ import annotations

import contextlib
from typing import List

import torch

from happo_gpu import accelerate, distributed
from happo_gpu.algo.adam import FlatAdam
from happo_gpu.algo.batch import Table
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.baselines import Untrained
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.policy import Policy
from happo_gpu.types import AgentSpec

_ROWS = 17  # of a minibatch that is there to be compiled for


def compile_learner(learner: OnPolicyLearner, policy: Policy, plain: bool = True) -> bool:
    """Its steps and what it evaluates, and what samples a decision; compiled or loaded when this returns: whether all steps are.

    Without ``plain`` agents have menus or deaths, for which only the critic is compiled.
    """
    cfg = learner.cfg
    if learner.chunk or cfg.model.precision == "bf16":
        return False  # compiled code has no memory and computes in float32
    actors = list(zip(learner.actors, learner.actor_gradients, learner.actor_optimizers, learner.groups)) if plain else []
    accelerate.compile_networks(_passes(learner, policy, plain))
    if policy.is_plain:
        policy.sample_plain(*_zeros(policy.device, policy.num_obs, *[policy.num_actions] * 3))
    done = [_compile_steps(learner.critic_gradients, learner.critic_optimizer, cfg, critic_samples(learner))]
    for _, gradients, optimizer, group in actors if cfg.actor_step != "trust_region" else []:
        done.append(_compile_steps(gradients, optimizer, cfg, actor_samples(learner.agents[group[0]], gradients.device)))
    run_learner(learner)
    return all(done) and len(done) == 1 + len(learner.actors)


def _passes(learner: OnPolicyLearner, policy: Policy, plain: bool = True) -> List[accelerate.Hot]:
    """What evaluates networks without learning: values, the actors' log-probabilities if they are ``plain``, and samples of a decision."""
    found = [(learner.critic, "write_values", "_write_values")]
    found += [(actor, "write_log_probs", "_write_log_probs") for actor in learner.actors if plain]
    if policy.is_plain:
        found.append((policy, "sample_plain", "_sample_plain"))
    return found


def _compile_steps(gradients, optimizer: torch.optim.Adam, cfg: AlgoConfig, fields: List[torch.Tensor]) -> bool:
    accelerate.fetch_on_all_threads(gradients)
    if distributed.SIZE == 1:
        return accelerate.compile_steps(gradients, FlatAdam(gradients.buffer, optimizer, cfg.gradient_limit), fields)
    accelerate.compile_networks([(gradients, "add_plain", "_add_plain")])  # several processes average gradients before each step
    return True


def capture_learner(learner: OnPolicyLearner, policy: Policy) -> None:
    """Likewise as CUDA graphs, one for an epoch's steps of each network; of several processes, which average in between, for a minibatch's gradients."""
    if learner.chunk:
        return  # nothing below is called where networks have memory
    accelerate.capture(_passes(learner, policy))
    every = [(learner.critic_gradients, learner.critic_optimizer)]
    if learner.cfg.actor_step != "trust_region":
        every += zip(learner.actor_gradients, learner.actor_optimizers)
    for gradients, optimizer in every:
        if distributed.SIZE == 1:
            accelerate.capture_steps(gradients, FlatAdam(gradients.buffer, optimizer, learner.cfg.gradient_limit))
        else:
            accelerate.capture([(gradients, "add_plain", "_add_plain")])


def run_task(task) -> None:
    """A step, for which its methods are compiled or loaded."""
    with aside(task.device):
        task.reset()
        task.step(Untrained(task, chance=False).act(task.obs_buf, task.available_buf, task.reset_buf)[0])  # never a closed choice


def run_learner(learner: OnPolicyLearner) -> None:
    """A pass through its networks; nothing where they have memory."""
    if learner.chunk:
        return
    device, heads = learner.critic_gradients.device, learner.critic.head.out_features
    share = torch.zeros((), device=device)
    with aside(device):
        learner.critic.write_values(*_zeros(device, learner.num_states, heads))
        learner.critic_gradients.add_plain(*critic_samples(learner), share)
        for actor, gradients, group in zip(learner.actors, learner.actor_gradients, learner.groups):
            agent = learner.agents[group[0]]
            actor.write_log_probs(*_zeros(device, agent.num_obs, agent.num_actions, agent.num_actions))
            if learner.cfg.actor_step != "trust_region":
                gradients.add_plain(*actor_samples(agent, device), share)


def critic_samples(learner: OnPolicyLearner) -> List[torch.Tensor]:
    """States, old values and targets of a minibatch, laid out as those that an update draws."""
    heads = learner.critic.head.out_features
    states, values, targets = _samples(learner.critic_gradients.device, learner.num_states, heads, heads)
    return [states, values, targets.clone()]  # which are normalised, and so lie elsewhere


def actor_samples(agent: AgentSpec, device: torch.device) -> List[torch.Tensor]:
    """Observations, actions, log-probabilities and advantages, likewise."""
    *samples, advantage = _samples(device, agent.num_obs, agent.num_actions, agent.num_actions, 1)
    return [*samples, advantage.squeeze(-1)]


def _samples(device: torch.device, *sizes: int) -> List[torch.Tensor]:
    return Table(_zeros(device, *sizes)).rows(torch.arange(_ROWS, device=device))


def _zeros(device: torch.device, *sizes: int) -> List[torch.Tensor]:
    return [torch.zeros(_ROWS, size, device=device) for size in sizes]


@contextlib.contextmanager
def aside(device: torch.device):
    """Without gradients, and with the random state put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        yield
