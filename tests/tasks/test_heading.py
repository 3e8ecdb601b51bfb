"""Go1PushHeading: goals with a heading, by hand."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import make_task
from happo_gpu.evaluate import actor, first_episodes
from happo_gpu.tasks.push_reward import distance_with_turn, start_of_arc, turn_left
from test_push import place

HEADING = "task=Go1PushHeading"


def test_what_is_left_to_turn_is_wrapped_and_knows_the_symmetry():
    box, goal = torch.tensor(3.0), torch.tensor(-3.0)
    assert turn_left(box, goal, 1).item() == pytest.approx(2.0 * math.pi - 6.0)
    # a cuboid whose four sides all may lead: pi / 2 too far is right, pi / 2 + 0.1 is 0.1 too far
    assert turn_left(torch.tensor(math.pi / 2 + 0.1), torch.tensor(0.0), 4).item() == pytest.approx(-0.1, abs=1e-5)


def test_distance_counts_the_heading_as_mapush_does():
    assert distance_with_turn(torch.tensor(3.0), torch.tensor(-2.0), 2.0).item() == 5.0


@pytest.mark.parametrize("turn, expected", [(math.pi / 2, (math.sqrt(0.5), -math.sqrt(0.5))), (math.pi, (0.0, -1.0)), (0.0, (1.0, 0.0))])
def test_a_quarter_circle_to_the_left_starts_half_a_quarter_to_the_right_of_its_chord(turn, expected):
    x, y = start_of_arc(torch.tensor(2.0), torch.tensor(0.0), torch.tensor(turn))
    assert (x.item() / 2.0, y.item() / 2.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("distance, turn, success", [(0.9, 0.29, True), (0.9, -0.31, False), (1.1, 0.0, False)])
def test_success_needs_position_and_heading(distance, turn, success):
    task = make_task(HEADING, "task.env.controlFrequencyInv=1")
    task.reset()
    task.goal_yaw[2] = 3.0
    place(task, 2, [[-2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]], box=(0.0, 0.0, 3.0 - turn), goal=(distance, 0.0))
    _, _, reset, extras = task.step(torch.zeros(7, 6))
    assert bool(reset[2]) == success and bool(extras["episode"]["success"][2]) == success
    left = math.hypot(distance, turn)  # 1 m/rad
    assert extras["episode"]["final_distance"][2].item() == pytest.approx(left, abs=1e-4)


def test_each_robot_sees_the_goals_heading_in_its_own_frame_and_the_critic_what_is_left():
    task = make_task(HEADING)
    task.reset()
    assert [agent.num_obs for agent in task.agents] == [12, 12] and task.num_states == 22
    task.goal_yaw[6] = 0.5
    place(task, 6, [[1.0, 0.0, math.pi / 2], [1.0, 2.0, math.pi]], box=(0.0, 0.0, 0.3), goal=(1.0, 3.0))
    first = task.compute_observations()[6, :12]
    goal, box = 0.5 - math.pi / 2, 0.3 - math.pi / 2
    expected = [3.0, 0.0, math.cos(goal), math.sin(goal), 0.0, 1.0, math.cos(box), math.sin(box)]
    torch.testing.assert_close(first[:8], torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.compute_states()[6, 20:], torch.tensor([math.cos(0.2), math.sin(0.2)]), atol=1e-5, rtol=0)
    assert task.observation_names()[0][2].name == "cos(goal_yaw_b)"


def test_the_ocb_term_looks_along_the_arc():
    task = make_task(HEADING, "task.env.controlFrequencyInv=1", "task.env.teamReward=false", "task.reward.shapingScale=1.0")
    task.reset()
    task.goal_yaw[0] = math.pi / 2  # from 0: the arc starts 45 degrees to the right, so behind and left face count alike
    place(task, 0, [[-2.0, 0.1, 0.0], [0.1, 2.0, 0.0]], goal=(2.0, 0.0))
    _, _, _, extras = task.step(torch.zeros(7, 6))
    assert extras["episode"]["reward_ocb"][0].item() == pytest.approx(0.004 * math.sqrt(0.5), rel=1e-3)


def test_goals_are_turned_anyhow_and_the_first_distance_knows_it():
    task = make_task(HEADING, num_envs=997)
    task.reset()
    turn = turn_left(task.sim.object_pose[:, 0, 2], task.goal_yaw, 1)
    assert turn.abs().mean().item() == pytest.approx(math.pi / 2, abs=0.1)
    torch.testing.assert_close(task.previous_distance, torch.sqrt(task.goal.norm(dim=-1) ** 2 + turn**2))


def test_the_scripted_team_gets_some_boxes_turned():
    task = make_task(HEADING, "task.env.controlFrequencyInv=10", num_envs=31)
    assert float(first_episodes(task, actor(task, None))["success"].mean()) >= 0.3
