"""What a run will need is known before it allocates, and what it took is near it."""
from __future__ import annotations

import re

import pytest
import torch
from children import Child
from conftest import CPU, compose_config

from happo_gpu import build, memory


def need(*overrides):
    return build.predict_memory(compose_config(*overrides), CPU)


def test_simulator_and_rollout_are_predicted_to_the_byte(tmp_path):
    cfg = compose_config("num_envs=101", "algo.episode_length=7", "train.eval_envs=13", "algo.actor_num_mini_batch=1")
    trainer = build.build_trainer(cfg, tmp_path, "it", CPU, 1)
    predicted = build.predict_memory(cfg, CPU)
    assert predicted.rollout == memory.tensor_bytes(trainer.rollout)
    tasks = memory.tensor_bytes(trainer.task) + memory.tensor_bytes(trainer.eval_task)
    assert predicted.simulator == pytest.approx(tasks, rel=0.07)  # less what the last step left


def test_networks_are_counted_to_the_weight():
    for overrides in (["task=Harvest", "algo.model.recurrent=chunked", "algo.model.hidden_sizes=[71,53]", "algo.model.data_chunk_length=5"],
                      ["algo.model.hidden_sizes=[73,61]"]):
        cfg = compose_config(*overrides, "num_envs=3", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1")
        task = build.build_task(cfg, 3, CPU, "eager")
        learner = build.build_learner(cfg, task, CPU, 1)
        weights = sum(p.numel() for net in (*learner.actors, learner.critic) for p in net.parameters())
        assert build.predict_memory(cfg, CPU).networks / 16 == pytest.approx(weights, rel=0.05)  # not biases of a GRU, deviations, norms


def test_twice_the_environments_need_twice_the_rollout_and_wider_layers_more():
    eighths = ("algo.actor_num_mini_batch=8", "algo.critic_num_mini_batch=8")
    small, twice = need("num_envs=4096", *eighths), need("num_envs=8192", *eighths)
    wide = need("num_envs=4096", "algo.model.hidden_sizes=[128,128]", *eighths)
    assert twice.rollout == 2 * small.rollout
    assert small.update < twice.update < 1.5 * small.update  # layers are worked off in pieces of the same size
    assert wide.update > 1.5 * small.update and wide.simulator == small.simulator


def test_predicting_draws_no_random_number():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    need("num_envs=3", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
                                   RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")])
def test_every_way_of_running_out_is_known(error):
    assert memory.is_out_of_memory(error) and not memory.is_out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.slow
def test_the_main_command_takes_what_was_predicted(tmp_path):
    child = Child(tmp_path, "task=Go1Push", "num_envs=4096", "accelerate=eager", "max_iterations=2", "eval_every=0", "num_threads=1")
    assert child.end() == 0, child.console
    predicted, took = (float(re.search(pattern, child.console).group(1))
                       for pattern in (r"memory: ([\d.]+) MB \(", r"of them ([\d.]+) MB for this run"))
    assert took == pytest.approx(predicted, rel=0.3)
