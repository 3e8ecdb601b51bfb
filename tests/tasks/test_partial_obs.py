"""Go1PushPartialObs: who sees what, and learning from observations of unequal size."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import compose_config, make_task, random_rollout
from test_push import place

PARTIAL = "task=Go1PushPartialObs"
SCENE = dict(robots=[[1.0, 0.0, math.pi / 2], [1.0, 2.0, math.pi]], box=(0.0, 0.0, 0.3), goal=(1.0, 3.0))


def sizes(*overrides):
    return [agent.num_obs for agent in make_task(PARTIAL, *overrides).agents]


def test_sizes_follow_from_what_each_robot_is_blind_to():
    assert sizes() == [10, 8]
    assert sizes("+task.env.blind.agent_0=[partner]", "task.env.blind.agent_1=[goal,box_yaw]") == [6, 6]
    assert sizes("task.numAgents=3", "task.env.blind.agent_1=[partner]", "+task.env.blind.agent_2=[box_yaw]") == [14, 6, 12]
    assert sizes("task.env.observation=reference") == [8, 6]


def test_the_second_robot_sees_everything_but_the_goal_by_hand():
    task = make_task(PARTIAL)
    task.reset()
    place(task, 6, **SCENE)
    first, second = task.compute_observations()[6].split([10, 8])
    turn, other = 4 * (0.3 - math.pi), -math.pi / 2
    # box and partner lie 2 m to its left and 1 m ahead, or 2 m to its left
    expected = [1.0, 2.0, math.cos(turn), math.sin(turn), 0.0, 2.0, math.cos(other), math.sin(other)]
    torch.testing.assert_close(second, torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(first[:2], torch.tensor([3.0, 0.0]), atol=1e-5, rtol=0)  # the goal


def test_what_is_seen_does_not_change_and_the_critic_sees_all():
    partial, whole = make_task(PARTIAL), make_task()
    for task in (partial, whole):
        torch.manual_seed(5)
        task.reset()
    keep = [*range(10), *range(12, 20)]  # agent_1's first two columns were its goal
    assert torch.equal(partial.obs_buf, whole.obs_buf[:, keep])
    assert torch.equal(partial.states_buf, whole.states_buf)


def test_every_column_has_its_name():
    names = [[quantity.name for quantity in agent] for agent in make_task(PARTIAL).observation_names()]
    assert [len(agent) for agent in names] == [10, 8]
    assert names[0][:3] == ["goal_x_b", "goal_y_b", "box_x_b"] and names[1][:2] == ["box_x_b", "box_y_b"]
    assert names[1][4] == "agent_0_x_b"


@pytest.mark.parametrize("algo", ["HAPPO", "HATRPO"])
def test_actors_of_unequal_input_learn_side_by_side(algo):
    cfg = compose_config(PARTIAL, f"algo={algo}", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1")
    learner, rollout = random_rollout(make_task(PARTIAL).agents, cfg.algo)

    def input_weights():
        return [next(p for p in actor.parameters() if p.dim() == 2).detach().clone() for actor in learner.actors]

    before = input_weights()
    learner.update(rollout)
    assert [weight.shape[1] for weight in before] == [10, 8]
    assert not any(torch.equal(*pair) for pair in zip(before, input_weights()))
