"""Shared builders: a composed config and a small task, as users get them."""
from __future__ import annotations

import copy
import functools
import os
from types import SimpleNamespace
from typing import Tuple

import pytest
import torch

from happo_gpu import accelerate, build, config, threads
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.captured import Captured
from happo_gpu.config.files import composed_raw
from happo_gpu.data.rollout import Rollout

CPU = torch.device("cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what tests start: they share the cores, and threads that wait for each other spin
T, N, S = 4, 13, 17  # steps, environments and state size of random rollouts


# Long files of few tests: two processes, of which each takes whole files, would otherwise end with one of them.
LONG = ("test_end_to_end.py", "test_view.py", "test_docs.py", "test_distributed.py")


def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def compose_raw(*overrides: str) -> dict:
    return copy.deepcopy(_composed(overrides))


@functools.lru_cache(maxsize=None)  # Hydra takes a fifth of a second, and many tests start from the same config
def _composed(overrides: Tuple[str, ...]) -> dict:
    return composed_raw(overrides)


def compose_config(*overrides: str) -> config.Config:
    return config.parse(compose_raw("accelerate=eager", *overrides))


def make_task(*overrides: str, num_envs: int = 7):
    cfg = compose_config(f"num_envs={num_envs}", "test=True", *overrides)  # to act in: fewer than there are minibatches will do
    return build.build_task(cfg, num_envs, CPU, "eager")


def random_rollout(agents, cfg, num_values=1, per_agent_states=False, masks=False, deaths=False, seed=0):
    """A learner, and a rollout of T steps in N environments in which it acted on noise."""
    num_choices, states = sum(a.num_choices for a in agents), (N, len(agents), S) if per_agent_states else (N, S)
    task = SimpleNamespace(
        agents=agents, num_envs=N, num_actions=sum(a.num_actions for a in agents), device=CPU,
        obs_buf=torch.zeros(N, sum(a.num_obs for a in agents)), states_buf=torch.zeros(states),
        rew_buf=torch.zeros(N, num_values), reset_buf=torch.zeros(N, dtype=torch.bool),
        available_buf=torch.ones(N, num_choices, dtype=torch.bool) if masks else None,
        active_buf=torch.ones(N, len(agents)) if deaths else None,
    )
    learner = OnPolicyLearner(agents, S, num_values, per_agent_states, cfg, CPU, seed)
    rollout = Rollout.like(task, T, learner.chunk, cfg.model.recurrent_n, cfg.model.hidden_sizes[-1])
    policy = learner.policy(N)
    for name in ("obs", "states", "final_states", "rewards"):
        getattr(rollout, name).normal_()
    for t in range(T):
        rollout.first[t] = torch.rand(N) < 0.2
        if masks:
            starts = torch.cat([torch.arange(n) for a in agents for n in a.action_space.choices]) == 0
            rollout.available[t] = (torch.rand(N, num_choices) < 0.6) | starts  # the first is always there
        if deaths:
            rollout.active[t] = (torch.rand(N, len(agents)) < 0.7).float()
        if learner.chunk and t % learner.chunk == 0:
            for rows, hidden in zip(rollout.hidden, policy.hidden):
                rows[t // learner.chunk].copy_(hidden)
        available = rollout.available[t] if masks else None
        rollout.actions[t], rollout.log_probs[t] = policy.act(rollout.obs[t], available, rollout.first[t])
    return learner, rollout


@pytest.fixture(autouse=True)
def _seed_and_one_thread(monkeypatch):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    monkeypatch.setattr(threads, "_own", None)


class Nothing:
    """In place of CUDA's streams, graphs and what records them: what is recorded runs instead, and no stream waits for another."""

    def __init__(self, *args):
        pass

    def wait_stream(self, other):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


class Emulated(Captured):
    """A recording whose replay calls the method on the recording's own inputs: a graph reads and writes the same addresses every time."""

    def _record(self, args):
        recording = super()._record(args)
        recording.graph.replay = lambda: self._method(*recording.inputs)
        return recording


@pytest.fixture
def emulated_graphs(monkeypatch):
    """accelerate=graph without a GPU."""
    for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(accelerate, "Captured", Emulated)
