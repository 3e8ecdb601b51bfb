"""The curriculum of the pushing tasks: what moves an environment's difficulty, and what its difficulty moves."""
from __future__ import annotations

import json
import math

import pytest
import torch

from conftest import CPU, compose_config, make_task
from happo_gpu import build
from happo_gpu.tasks.curriculum import after_episode, range_at
from test_push import place
from test_trainer import make

NEAR = ["+task.curriculum.easiest.goalDistance=[1.1,1.3]", "task.curriculum.step=0.25"]
MASS = ["+task.randomize.object_mass=[2.0,2.0]", "+task.curriculum.easiest.object_mass=[1.0,1.0]"]


def trained_task(*overrides, num_envs=7):
    return build.build_task(compose_config(f"num_envs={num_envs}", *overrides), num_envs, CPU, "eager", training=True)


def goal_distances(task):
    return torch.linalg.vector_norm(task.goal, dim=-1)


def test_difficulty_goes_up_with_a_success_and_down_with_a_failure_from_0_to_1():
    before, success = torch.tensor([0.0, 0.5, 0.9, 0.0, 0.5]), torch.tensor([True, True, True, False, False])
    assert after_episode(before, success, 0.25).tolist() == [0.25, 0.75, 1.0, 0.0, 0.25]


def test_a_range_widens_from_the_easiest_to_exactly_the_usual_one():
    low, high = range_at(torch.tensor([0.0, 0.25, 1.0]), (1.1, 1.3), (1.5, 2.9))
    torch.testing.assert_close(low, torch.tensor([1.1, 1.2, 1.5]))
    torch.testing.assert_close(high, torch.tensor([1.3, 1.7, 2.9]))
    assert torch.equal(torch.stack((low, high))[:, 2], torch.tensor([1.5, 2.9]))


def test_only_environments_whose_episode_has_ended_become_harder_or_easier():
    task = trained_task(*NEAR, "task.env.controlFrequencyInv=5")
    task.reset()
    assert task.difficulty.tolist() == [0.0] * 7
    task.difficulty.fill_(0.5)
    place(task, 2, [[-2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]], goal=(0.99, 0.0))  # succeeds
    task.progress_buf[4] = 995  # runs out of time
    metrics = task.step(torch.zeros(7, 6))[3]["episode"]
    assert task.difficulty.tolist() == [0.5, 0.5, 0.75, 0.5, 0.25, 0.5, 0.5]
    assert metrics["difficulty"].tolist() == [0.5] * 7  # of the episode that was played


def test_goals_are_as_far_as_an_environments_difficulty_says():
    task = trained_task(*NEAR, num_envs=1009)
    task.reset()
    assert goal_distances(task).min() >= 1.1 - 1e-5 and goal_distances(task).max() <= 1.3 + 1e-5
    task.difficulty.copy_(torch.linspace(0.0, 1.0, 1009))
    low, high = range_at(after_episode(task.difficulty, task.success, 0.25), (1.1, 1.3), (1.5, 3.0))
    task.reset()
    share = (goal_distances(task) - low) / (high - low)
    assert share.min() > -1e-4 and share.max() < 1.0 + 1e-4 and share[800:].std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.15)


def test_a_randomised_parameter_follows_the_difficulty_too():
    task = trained_task(*MASS, "task.curriculum.step=0.5")
    task.reset()
    assert task.sim.params["object_mass"].tolist() == [4.0] * 7
    task.difficulty.fill_(1.0)
    task.reset_where(torch.tensor([n == 3 for n in range(7)]))  # a failure: down to 0.5
    assert task.sim.params["object_mass"].tolist() == [6.0 if n == 3 else 4.0 for n in range(7)]


def test_at_full_difficulty_everything_is_drawn_as_without_a_curriculum():
    usual, curriculum = make_task(*MASS[:1]), trained_task(*NEAR, *MASS)
    curriculum.difficulty.fill_(1.0)
    curriculum.success.fill_(True)
    for task in (usual, curriculum):
        torch.manual_seed(5)
        task.reset()
    assert torch.equal(usual.obs_buf, curriculum.obs_buf) and torch.equal(usual.goal, curriculum.goal)
    for name, value in usual.sim.params.items():
        assert torch.equal(value, curriculum.sim.params[name]), name


def test_evaluations_play_at_the_usual_ranges(tmp_path):
    trainer = make(tmp_path, *NEAR)
    for task, low in ((trainer.task, 1.1), (trainer.eval_task, 1.5)):
        task.reset()
        assert goal_distances(task).min() >= low - 1e-5
        assert (goal_distances(task).max() <= 1.3 + 1e-5) == (low == 1.1)
        assert ("difficulty" in task.episode_metrics()) == ("difficulty" in task.state_dict()["buffers"]) == (low == 1.1)


def test_the_mean_difficulty_is_logged(tmp_path):
    make(tmp_path, NEAR[0], "task.env.successDistance=3.1").run()  # every step succeeds: five steps of 0.05 an iteration
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["Episode/difficulty"] for line in lines] == pytest.approx([0.1, 0.35, 0.6, 0.85, 1.0, 1.0])
