"""On torch's device without memory: everything that a run computes stays where its task is, as a GPU demands."""
from __future__ import annotations

import pytest
import torch

from conftest import compose_config
from happo_gpu import accelerate, build, warm_up
from happo_gpu.algo import batch, on_policy
from happo_gpu.data.collect import collect

NOWHERE = torch.device("meta")
SHORT = ["num_envs=37", "algo.episode_length=2", "task.env.controlFrequencyInv=1", "algo.ppo_epoch=1", "algo.critic_epoch=1",
         "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1"]


@pytest.mark.parametrize("overrides", [
    [], ["algo=HATRPO"], ["algo=MAPPO"], ["task=Go1WheeledPush"], ["task=Go1PushCylinder"], ["task=Go1PushTee"], ["task=Go1PushHeading"],
    ["task=Go1PushPartialObs", "algo.model.normalize_input=true", "task.env.teamReward=false"],
    ["+task.curriculum.easiest.goalDistance=[1.1,1.3]", "task.noise.position=0.01", "+task.randomize.object_mass=[0.5,1.0]"],
    ["task=Spread"], ["task=Recall", "algo.episode_length=8"], ["task=Crew"],
], ids=" ".join)
def test_a_rollout_and_an_update_leave_their_device_nowhere(monkeypatch, overrides):
    monkeypatch.setitem(batch.PIECE_ROWS, "meta", 41)
    monkeypatch.setitem(on_policy._FASTEST, "meta", {})
    cfg = compose_config(*SHORT, *overrides)
    task = build.build_task(cfg, 37, NOWHERE, "eager", training=True)
    learner = build.build_learner(cfg, task, NOWHERE, 1)
    warm_up.run_learner(learner)
    with torch.no_grad():
        task.reset(stagger=True)
    rollout = build._rollout_like(task, cfg)
    collect(task, learner.policy(37), rollout)
    stats = learner.update(rollout)
    assert [tag for tag, value in stats.items() if value.device != NOWHERE] == []
    state = {**task._persistent(), **(task.sim.state_dict() if task.sim else {})}
    assert [name for name, value in state.items() if value.device != NOWHERE] == []


def test_a_recording_that_fails_changes_nothing_but_the_way_it_runs(emulated_graphs, monkeypatch, capsys):
    def refuse(graph, **options):
        raise RuntimeError("operation not permitted when stream is capturing")

    class Counter:
        device = torch.device("cpu")

        def __init__(self):
            self.sum = torch.zeros(1)
            self.add = self._add

        def _add(self, value):
            self.sum.add_(value)

    Counter.__module__ = "happo_gpu.tests"
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    counter = Counter()
    accelerate.capture([(counter, "add", "_add")])
    counter.add(torch.ones(1))
    assert counter.sum.item() == 1.0 and "running it eagerly" in capsys.readouterr().out
