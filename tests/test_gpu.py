"""On a GPU: graphs compute what eager code does, nothing waits for the host, and it learns. benchmarks/gpu_check.py runs them."""
from __future__ import annotations

import pytest
import torch

from conftest import compose_config
from happo_gpu import accelerate, build, warm_up
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.data.collect import collect
from happo_gpu.data.rollout import Rollout
from happo_gpu.types import AgentSpec, box

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def _every_warning(monkeypatch):
    monkeypatch.setattr(accelerate, "_warned", set())  # what falls back to eager code says so once


@pytest.mark.parametrize("mode", ["compile", "graph"])
def test_an_accelerated_task_computes_what_the_eager_one_does(mode, capsys):
    num_envs = 1009
    cfg = compose_config(f"num_envs={num_envs}", "sim_device=cuda:0", "rl_device=cuda:0")
    tasks = [build.build_task(cfg, num_envs, GPU, each) for each in ("eager", mode)]
    with torch.no_grad():
        for task in tasks:
            task.reset()
        tasks[1].load_state_dict(tasks[0].state_dict())
        for _ in range(7):
            actions = torch.randn(num_envs, tasks[0].num_actions, device=GPU)
            for task in tasks:
                task.step(actions)
            for name, value in tasks[0].sim.state_dict().items():
                torch.testing.assert_close(tasks[1].sim.state_dict()[name], value, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(tasks[1].rew_buf, tasks[0].rew_buf, rtol=1e-3, atol=1e-3)
    assert capsys.readouterr().out == ""  # nothing was run eagerly


def test_captured_gradients_are_those_of_autograd_from_the_first_call_on(capsys):
    learner = OnPolicyLearner([AgentSpec("a", 5, box(2))], 11, 1, False, compose_config().algo, GPU, 1)
    (gradients,) = learner.actor_gradients
    samples = [torch.randn(331, 5), torch.randn(331, 2), -2.0 - torch.rand(331, 2), torch.randn(331), torch.tensor(0.5)]
    samples = [value.to(GPU) for value in samples]
    gradients.add_plain(*samples)
    expected = gradients.buffer.flat.clone()
    accelerate.capture([(gradients, "add_plain", "_add_plain")])
    for count in (1, 2, 3):
        gradients.buffer.zero()
        for _ in range(count):
            gradients.add_plain(*samples)
        torch.testing.assert_close(gradients.buffer.flat, count * expected, rtol=1e-4, atol=1e-6)
    assert capsys.readouterr().out == ""


def test_updates_in_graphs_end_where_eager_ones_do(capsys):
    cfg = compose_config("num_envs=1009", "sim_device=cuda:0", "rl_device=cuda:0", "algo.opti_eps=0.1")  # else Adam makes sums in another order large
    task, weights = build.build_task(cfg, 1009, GPU, "eager"), []
    for captured in (False, True):
        torch.manual_seed(5)
        learner = build.build_learner(cfg, task, GPU, 1)
        if captured:
            warm_up.capture_learner(learner, learner.policy(1))
        else:
            rollout, policy = Rollout.like(task, cfg.algo.episode_length), learner.policy(task.num_envs)
            task.reset()
            collect(task, policy, rollout)
        torch.manual_seed(7)
        for update in range(3):
            learner.set_progress(update / 5)  # whose rates no graph may remember
            learner.update(rollout)
        weights.append(torch.cat([each.buffer.weights for each in (*learner.actor_gradients, learner.critic_gradients)]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=1e-3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_rollout_and_an_update_never_wait_for_the_host(capsys, mode):
    cfg = compose_config("num_envs=1009", "sim_device=cuda:0", "rl_device=cuda:0")
    task = build.build_task(cfg, 1009, GPU, mode)
    learner = build.build_learner(cfg, task, GPU, 1)
    rollout, policy = Rollout.like(task, cfg.algo.episode_length), learner.policy(task.num_envs)
    if mode == "graph":
        warm_up.capture_learner(learner, policy)
    task.reset()
    for strict in (False, True):  # the first iteration compiles and records
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            collect(task, policy, rollout)
            learner.update(rollout)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert capsys.readouterr().out == ""


def test_resets_in_graphs_draw_new_numbers_from_the_seed():
    cfg = compose_config("num_envs=1009", "sim_device=cuda:0", "rl_device=cuda:0", "task.env.episodeLength=10")
    task = build.build_task(cfg, 1009, GPU, "graph")
    actions = torch.zeros(1009, task.num_actions, device=GPU)
    goals = []
    with torch.no_grad():
        task.reset()
        task.step(actions)  # which records
        for seed in (3, 3, 5):
            torch.manual_seed(seed)
            for _ in range(2):
                task.step(actions)
                goals.append(task.goal.clone())
    assert torch.equal(goals[0], goals[2]) and torch.equal(goals[1], goals[3])
    assert not any(torch.equal(goals[i], goals[j]) for i, j in ((0, 1), (0, 4), (1, 5)))
