"""What accelerate=graph records, replayed operation by operation without a GPU: the same decisions, resets and values, bit for bit."""
from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch

from conftest import CPU, compose_config, make_task
from happo_gpu import accelerate, build, warm_up
from happo_gpu.data.collect import collect

CUDA = SimpleNamespace(type="cuda")  # what decides how a task is made faster
SHORT = ["algo.episode_length=3", "task.env.episodeLength=50", "task.env.controlFrequencyInv=5"]


@pytest.mark.parametrize("overrides", [
    [], ["task=Go1PushLong"], ["+task.curriculum.easiest.goalDistance=[1.1,1.3]", "task.noise.position=0.01"],
], ids=" ".join)
def test_rollouts_in_graphs_are_those_without(emulated_graphs, monkeypatch, capsys, overrides):
    monkeypatch.setattr(accelerate, "compile_hot", lambda *args: None)
    cfg, ends = compose_config("num_envs=37", *SHORT, *overrides), []
    for captured in (False, True):
        torch.manual_seed(5)
        task = make_task(*SHORT, *overrides, num_envs=37)
        learner = build.build_learner(cfg, task, CPU, 1)
        rollout, policy = build._rollout_like(task, cfg), learner.policy(37)
        if captured:
            build._accelerate(task, task.sim, 37, CUDA, capture=True)
            warm_up.capture_learner(learner, policy)
        torch.manual_seed(7)
        with torch.no_grad():
            task.reset(stagger=True)
        found = []
        for _ in range(4):
            collect(task, policy, rollout)
            values = learner.evaluate_rollout(rollout)
            kept = [getattr(rollout, field.name) for field in fields(rollout)] + [values.values, values.returns]
            found += [each.clone() for each in kept if isinstance(each, torch.Tensor)] + list(task.state_dict()["buffers"].values())
        ends.append(found)
    assert len(ends[0]) == len(ends[1]) > 40 and all(torch.equal(mine, theirs) for mine, theirs in zip(ends[1], ends[0]))
    assert emulated_graphs.recorded == 4 and capsys.readouterr().out == ""  # physics, its end, samples and values
