from __future__ import annotations

import pytest
import torch

from conftest import make_task
from happo_gpu.evaluate import evaluate, first_episodes, wilson_interval


class Scripted:
    """A task whose environment n ends for the first time at step n + 1, and then at every step."""

    num_envs, device = 5, torch.device("cpu")

    def reset(self):
        self.t, self.obs_buf = 0, torch.zeros(5, 1)

    def step(self, actions):
        self.t += 1
        reset = torch.arange(5) < self.t
        return None, None, reset, {"episode": {"length": torch.full((5,), float(self.t))}}


class Still:
    """A policy that stands still."""

    def act(self, obs, available, first):
        return torch.zeros(7, 6), None


def test_only_the_first_episode_of_each_environment_counts():
    metrics = first_episodes(Scripted(), lambda: torch.zeros(5, 1))
    assert metrics["length"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_wilson_interval_of_a_known_proportion():
    low, high = wilson_interval(0.9, 100)  # published value 0.826 to 0.945
    assert low == pytest.approx(0.826, abs=1e-3) and high == pytest.approx(0.945, abs=1e-3)
    for n in range(1, 100):
        assert wilson_interval(0.0, n)[0] == 0.0 and wilson_interval(1.0, n)[1] == 1.0


def test_failures_count_as_a_whole_episode_in_finished_time():
    task = make_task("task.env.episodeLength=20", "task.env.controlFrequencyInv=10")
    result = evaluate(task, Still(), seed=1)
    assert result["success_rate"] == 0.0 and result["finished_time"] == pytest.approx(20 * 0.02)
    assert result["episodes"] == 7


def test_evaluation_leaves_the_callers_random_state_alone():
    task = make_task("task.env.episodeLength=20", "task.env.controlFrequencyInv=10")
    before = torch.get_rng_state()
    evaluate(task, Still(), seed=1)
    assert torch.equal(before, torch.get_rng_state())
