"""What tests/test_distributed.py starts in one process and in several: the same rollouts, learned from in shares."""
from __future__ import annotations

import dataclasses
import sys

import conftest
import torch
from conftest import CPU, compose_config, random_rollout
from torch import Tensor

from happo_gpu import distributed
from happo_gpu.types import AgentSpec, box, discrete

NUM_ENVS = 12
WHOLE = ["algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", "algo.model.hidden_sizes=[16,8]", "algo.model.normalize_input=true",
         "algo.episode_length=4", "algo.ppo_epoch=2", "algo.critic_epoch=2"]  # each update is a dozen sums over all processes
MOVERS = [AgentSpec("a", 5, box(2)), AgentSpec("b", 3, box(3))]
CHOOSERS = [AgentSpec("a", 5, discrete(3)), AgentSpec("b", 7, discrete(2))]
CASES = {
    "happo": (["algo=HAPPO"], MOVERS, {}),
    "adaptive": (["algo=HAPPO", "algo.adaptive_kl=0.01", "algo.use_linear_lr_decay=false"], MOVERS, {}),
    "deaths": (["algo=HAPPO"], CHOOSERS, {"masks": True, "deaths": True, "num_values": 2}),
    "hatrpo": (["algo=HATRPO"], CHOOSERS, {"deaths": True}),
    "shared": (["algo=MAPPO"], [AgentSpec("a", 5, box(2)), AgentSpec("b", 5, box(2))], {}),
    "memory": (["algo=HAPPO", "algo.model.recurrent=chunked", "algo.model.data_chunk_length=2"], MOVERS, {}),
}


def updates_of(case: str) -> int:
    """On busy cores a sum over all processes takes tens of milliseconds, and a step of HATRPO takes sixty: 20 in slow tests only."""
    return 3 if case == "hatrpo" and distributed.SIZE < 4 else 20


def own_share(rollout):
    each = NUM_ENVS // distributed.SIZE
    rows = slice(distributed.RANK * each, (distributed.RANK + 1) * each)
    tensors = {f.name: getattr(rollout, f.name) for f in dataclasses.fields(rollout)}
    cut = {name: value[:, rows].contiguous() for name, value in tensors.items() if isinstance(value, Tensor)}
    return dataclasses.replace(rollout, **cut, hidden=[hidden[:, rows].contiguous() for hidden in rollout.hidden])


def main(output: str) -> None:
    torch.set_num_threads(1)
    distributed.start(CPU)
    conftest.N = NUM_ENVS
    weights = {}
    for name, (overrides, agents, shape) in CASES.items():
        torch.manual_seed(5)
        learner, rollout = random_rollout(agents, compose_config(*WHOLE, *overrides).algo, **shape)
        if distributed.RANK:  # what the first one has must win
            for parameter in learner.critic.parameters():
                parameter.data.add_(1.0)
        distributed.share(learner.critic)
        share = own_share(rollout)
        last = updates_of(name)
        for update in range(1, last + 1):
            learner.update(share)
            if update in (1, last):
                weights[name, "first" if update == 1 else "last"] = torch.cat(
                    [p.detach().reshape(-1) for net in (*learner.actors, learner.critic) for p in net.parameters()])
    torch.save(weights, f"{output}_{distributed.RANK}.pt")
    distributed.stop()


if __name__ == "__main__":
    main(sys.argv[1])
