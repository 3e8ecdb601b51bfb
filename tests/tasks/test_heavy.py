"""Go1PushHeavy: one robot cannot, two can; and the scripted policy that shows it."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import make_task
from happo_gpu.evaluate import actor, first_episodes
from happo_gpu.tasks.push_reward import distance_to_object
from happo_gpu.tasks.push_script import on_legs, on_wheels, wishes
from test_push import place

GRAVITY = 9.81
LIMIT = (0.5, 0.4, 0.3)


def wish_of(*robots, goal=(3.0, 0.0), spacing=0.6):
    return wishes(torch.tensor([robots]), torch.zeros(1, 3), torch.tensor([goal]), 0.85, spacing)


def test_robots_in_their_places_push_straight_at_the_goal():
    wish = wish_of((-1.0, 0.3, 0.0), (-1.0, -0.3, 0.0))
    assert wish.vx[0].tolist() == pytest.approx([1.0, 1.0]) and wish.vy[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_robot_beside_its_place_drifts_to_it_while_pushing():
    wish = wish_of((-1.0, 0.2, 0.0), (-1.0, -0.3, 0.0))  # 0.1 m short of 0.3: sideways by 2 / s * 0.1 m against 1 ahead
    assert (wish.vy[0, 0] / wish.vx[0, 0]).item() == pytest.approx(0.2, rel=1e-4)


def test_robots_in_front_walk_round_on_their_own_sides():
    wish = wish_of((1.3, 0.2, 0.0), (1.3, -0.2, 0.0))  # the circle is 1.3 m wide
    assert wish.vy[0, 0] > 0.9 and wish.vy[0, 1] < -0.9


def test_legs_go_sideways_and_wheels_turn_first():
    wish, yaw = wish_of((-1.0, 0.0, 0.0), spacing=0.0), torch.tensor([[math.pi / 2]])
    assert on_legs(wish, yaw, LIMIT)[0, 0].tolist() == pytest.approx([0.0, -0.4, -0.3], abs=1e-5)
    assert on_wheels(wish, yaw - 0.1, LIMIT)[0, 0].tolist() == pytest.approx([0.5 * math.sin(0.1), 0.0, -0.3], abs=1e-5)
    assert on_wheels(wish, yaw + 1.5, LIMIT)[0, 0, 0] < -0.49  # nearly about face: backwards


def test_the_load_is_beyond_one_robots_traction_anywhere_on_the_cuboid_and_within_twos():
    task = make_task("task=Go1PushHeavy", num_envs=997)
    task.reset()
    params = task.sim.params
    friction = params["object_friction"] * params["object_mass"] * GRAVITY  # N
    one = float(params["force_limit"][0, 0, 0])
    assert 87.0 < friction.min() < 89.0 and 105.0 < friction.max() < 107.0 and one == 66.0
    at_a_corner = (one / friction) ** 2 + (0.6 * one / (friction * params["torsion_radius"])) ** 2
    assert at_a_corner.max() < 1.0 and 2.0 * one > friction.max()  # inside the limit surface: it sticks


@pytest.mark.parametrize("agents, steps", [(1, 500), (2, 1000)])
def test_one_scripted_robot_does_not_move_it_and_two_bring_it_home(agents, steps):
    task = make_task("task=Go1PushHeavy", f"task.numAgents={agents}", "task.env.controlFrequencyInv=10",
                     f"task.env.episodeLength={steps}", num_envs=7)
    result = first_episodes(task, actor(task, None))
    if agents == 1:
        assert not result["success"].any() and result["final_distance"].min() > 1.45  # goals are 1.5 m away and more
    else:
        assert result["success"].mean() >= 0.8


@pytest.mark.parametrize("second, speed, pushing, together", [
    ((-0.9, -0.3), 0.1, 1.0, 1.0),  # both behind the face, 0.3 m from it
    ((-1.02, -0.3), 0.1, 1.0, 0.0),  # 0.42 m, where no attitude of a robot that reaches 0.38 m lets it touch
    ((-0.9, -0.3), 0.01, 0.0, 0.0),  # a box that rests is not pushed
])
def test_pushing_together_counts_when_the_box_moves_and_all_are_at_it(second, speed, pushing, together):
    task = make_task("task=Go1PushHeavy", "task.env.controlFrequencyInv=1")
    task.reset()
    place(task, 2, [[-0.9, 0.3, 0.0], [*second, 0.0]], goal=(2.5, 0.0))
    task.sim.object_vel[2, 0] = torch.tensor([speed, 0.0, 0.0])
    before = {name: task.episode_sums[name][2].item() for name in ("pushing", "pushing_together")}
    task.compute_reward(torch.ones(7))
    assert task.episode_sums["pushing"][2].item() - before["pushing"] == pushing
    assert task.episode_sums["pushing_together"][2].item() - before["pushing_together"] == together


def test_the_share_of_pushing_together_is_over_the_pushing_time_of_all_episodes():
    from happo_gpu.evaluate import _success

    zero = torch.zeros(2)
    metrics = {"success": torch.tensor([1.0, 0.0]), "pushing": torch.tensor([6.0, 2.0]), "pushing_together": torch.tensor([5.0, 0.0])}
    assert _success(metrics, zero + 4.0, 20.0)["pushing_together"] == pytest.approx(5.0 / 8.0)


def test_the_outline_of_a_tee_and_of_a_cylinder_by_hand():
    tee, cylinder = (make_task(f"task={name}").scene.objects[0] for name in ("Go1PushTee", "Go1PushCylinder"))
    x, y = torch.tensor([0.4, 0.0, 0.7]), torch.tensor([0.33333, 0.0, -0.16667])  # beside the stem, in the bar's middle, beyond its end
    assert distance_to_object(x, y, tee).tolist() == pytest.approx([0.15, -0.08333, 0.2], abs=1e-4)
    assert distance_to_object(torch.tensor(3.0), torch.tensor(4.0), cylinder).item() == pytest.approx(3.5)
