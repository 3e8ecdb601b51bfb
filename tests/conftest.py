"""Shared builders: a composed config and a small task, as users get them."""
from __future__ import annotations

import copy
import functools
import os
from types import SimpleNamespace
from typing import Tuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from happo_gpu import accelerate, build, captured, config, threads
from happo_gpu.algo.on_policy import OnPolicyLearner
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


class Anything:
    """In place of a CUDA stream, and of what makes one current: nothing waits for anything."""

    def __init__(self, *args):
        pass

    def wait_stream(self, other):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


class Tape(TorchDispatchMode):
    """In place of torch.cuda.graph: what is recorded runs, and every operation is kept with the memory and the numbers that it had."""

    def __init__(self, graph, **options):
        super().__init__()
        graph.operations = self._operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        done = operation(*args, **(kwargs or {}))
        self._operations.append((operation, args, kwargs or {}, done))
        return done


class Graph:
    """In place of a CUDA graph."""

    recorded = 0  # of all that a test has replayed

    def __init__(self):
        Graph.recorded += 1

    @torch.no_grad()
    def replay(self):
        for operation, args, kwargs, before in self.operations:
            given = {_memory(each) for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)}
            for old, new in zip(tree_flatten(before)[0], tree_flatten(operation(*args, **kwargs))[0]):
                if isinstance(old, torch.Tensor) and _memory(old) not in given:  # else a view, or written in place
                    old.detach().copy_(new)


def _memory(tensor):
    return tensor.untyped_storage()._cdata


@pytest.fixture
def emulated_graphs(monkeypatch):
    """accelerate=graph without a GPU."""
    stand_ins = {"Stream": Anything, "current_stream": Anything, "stream": Anything, "set_stream": Anything, "CUDAGraph": Graph, "graph": Tape,
                 "graph_pool_handle": Anything, "get_sync_debug_mode": Anything, "set_sync_debug_mode": Anything}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(accelerate, "_warned", set())
    monkeypatch.setattr(Graph, "recorded", 0)
    captured._recorder.cache_clear()
    yield Graph
    captured._recorder.cache_clear()
