"""Meet: a step by hand, and a policy that is known to be good."""
import torch
from conftest import make_task

from happo_gpu.evaluate import first_episodes


def test_the_walker_steers_and_the_tram_picks_a_gear():
    task = make_task("task=Meet")
    task.reset()
    task.place.copy_(torch.tensor([0.2, 0.7]).expand(7, 2))
    _, reward, _, _ = task.step(torch.tensor([0.5, 0.0]).expand(7, 2))
    torch.testing.assert_close(task.place[3], torch.tensor([0.225, 0.6]))
    torch.testing.assert_close(reward[3], torch.tensor([1.0 - 0.375 / 2]))


def test_the_scripted_policy_meets():
    task = make_task("task=Meet", num_envs=101)
    assert first_episodes(task, task.scripted_actions)["score"].mean() > 0.9
