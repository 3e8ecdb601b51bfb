"""The scripted team: order, patience, and a push straight at the goal."""
from __future__ import annotations

import math

import pytest
import torch

from happo_gpu.tasks.push_script import LANE, MARGIN, lanes, pushing_commands

HALF, REACH, LIMIT = (0.6, 0.6), 0.38, torch.tensor([0.5, 0.4, 0.3])
CIRCLE = math.hypot(*HALF) + REACH + MARGIN


def command(robots, box=(0.0, 0.0, 0.0), goal=(2.0, 0.0)):
    return pushing_commands(torch.tensor([robots]), torch.tensor([box]), torch.tensor([goal]), HALF, REACH, LIMIT)[0]


def on_circle(angle, yaw=0.0):
    """``angle`` is counted from behind the box, towards the left."""
    return [-CIRCLE * math.cos(angle), CIRCLE * math.sin(angle), yaw]


def test_lanes_go_by_the_order_around_the_box():
    angle = torch.tensor([[3.0, -0.1, 0.5, -2.0, 1.0]])
    lane, pushes = lanes(-angle.cos(), angle.sin(), HALF)
    assert (lane / LANE).tolist() == [[2.0, -1.0, 0.0, -2.0, 1.0]]
    assert pushes.tolist() == [[False, True, True, False, True]]  # the box is 1.2 m wide


def test_a_robot_in_front_walks_along_the_circle_and_not_into_the_box():
    vx, vy, turn = command([on_circle(2.9)])[0].tolist()
    assert vy == pytest.approx(0.4) and abs(vx) < 0.2 and turn == 0.0  # leftward of the goal, then back


def test_the_first_in_place_waits_for_the_last():
    first, last = [-CIRCLE, -0.5 * LANE, 0.0], on_circle(1.5)
    waits = command([first, last])
    assert waits[0].abs().max() < 1e-5 and waits[1].abs().max() > 0.3
    there = [-CIRCLE, 0.5 * LANE, 0.0]
    torch.testing.assert_close(command([first, there]), torch.tensor([[0.5, 0.0, 0.0]] * 2), atol=1e-5, rtol=0)


def test_commands_are_the_same_world_wherever_it_lies_and_in_the_robot_s_own_frame():
    turn, robot = 0.7, [-0.9, 0.1, 0.0]
    cos, sin = math.cos(turn), math.sin(turn)
    moved = [3.0 + cos * robot[0] - sin * robot[1], 1.0 + sin * robot[0] + cos * robot[1], turn]
    torch.testing.assert_close(command([moved], (3.0, 1.0, 0.4), (3.0 + 2.0 * cos, 1.0 + 2.0 * sin)), command([robot]), atol=1e-5, rtol=0)
    left = command([[-CIRCLE, 0.0, math.pi / 2]])[0]  # it faces left: the goal is to its right
    assert left[1] == pytest.approx(-0.4) and left[0] == pytest.approx(0.0, abs=1e-5) and left[2] == pytest.approx(-0.3)


def test_robots_too_near_give_way_to_each_other():
    apart = command([on_circle(1.5), on_circle(1.7)]), command([on_circle(1.5), on_circle(2.5)])
    assert not torch.allclose(apart[0][0], apart[1][0])
    closer = command([[-1.5, 0.15, 0.0], [-1.5, -0.15, 0.0]])
    assert closer[0, 1] > 0.3 and closer[1, 1] < -0.3
