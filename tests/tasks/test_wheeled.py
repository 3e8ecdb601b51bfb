"""Go1WheeledPush: unequal robots, unequal actions, each with a footprint and a drive of its own."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import make_task
from happo_gpu.config import ConfigError
from happo_gpu.evaluate import actor, first_episodes

WHEELED = "task=Go1WheeledPush"
TIP, SIDE = 0.229, 0.208  # m of the wheeled robot


def placed(robots, box=(9.0, 9.0, 0.0)):
    task = make_task(WHEELED, num_envs=len(robots))
    task.reset()
    everywhere = torch.ones(len(robots), dtype=torch.bool)
    task.sim.reset(everywhere, torch.tensor(robots), torch.tensor(box).expand(len(robots), 1, 3))
    return task


def run(task, actions, seconds):
    task.pre_physics_step(torch.tensor(actions).expand(task.num_envs, 5))
    for _ in range(round(seconds / task.dt)):
        task.physics_step()


def test_actions_are_three_and_two_and_the_wheeled_robot_is_never_told_to_go_sideways():
    task = make_task(WHEELED)
    assert [agent.num_actions for agent in task.agents] == [3, 2] and [len(names) for names in task.action_names()] == [3, 2]
    assert [command.name for command in task.action_names()[1]] == ["velocity_x_b", "yaw_rate"]
    task.pre_physics_step(torch.tensor([0.2, 0.4, 0.6, 0.8, -9.0]).repeat(7, 1))
    torch.testing.assert_close(task.commands[3], torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.0, -0.5]]))


def test_each_robot_follows_its_command_with_its_own_servo():
    task = placed([[[0.0, 0.0, 0.0], [4.0, 0.0, math.pi / 2]]])
    run(task, [1.0, 0.0, 0.0, 1.0, 0.0], 0.02)  # the latency of both
    run(task, [1.0, 0.0, 0.0, 1.0, 0.0], 0.02)
    # from rest towards 0.5 m/s at 184 N s/m, 92 N of which the wheels hold 90: four steps of 5 ms on 18.43 kg
    first = 0.005 * 90.0 / 18.43
    expected = 0.5 - (0.5 - first) * (1.0 - 0.005 * 184.0 / 18.43) ** 3
    assert task.sim.agent_vel[0, 1, 1].item() == pytest.approx(expected, rel=1e-4)
    run(task, [0.3, 0.0, 0.0, 0.3, 0.0], 2.0)
    assert task.sim.agent_vel[0, 1].tolist() == pytest.approx([0.0, 0.15, 0.0], abs=1e-3)  # no dead zone, no ripple


def test_wheels_hold_against_a_push_from_the_side_up_to_their_friction():
    task = placed([[[-0.276 - SIDE - 0.002, 0.0, 0.0], [0.0, 0.0, math.pi / 2]]])
    run(task, [1.0, 0.0, 0.0, 0.0, 0.0], 1.5)
    # the Go1's 66 N at most against 90 N: wheels give way only by the speed at which their servo balances it
    assert task.sim.agent_vel[0, 1, 0].item() < 66.0 / 184.0 and task.sim.params["force_limit"][1, 0, 0] == 90.0
    assert task.sim.params["robot_mass"][:, 0].tolist() == pytest.approx([12.74, 18.43])


@pytest.mark.parametrize("yaw, reach", [(0.0, TIP), (math.pi, TIP), (math.pi / 2, SIDE)])
def test_the_wheeled_robot_touches_the_box_with_its_own_outline(yaw, reach):
    def touching(gap):
        task = placed([[[5.0, 5.0, 0.0], [-0.6 - reach - gap, 0.0, yaw]]], box=(0.0, 0.0, 0.0))
        task.physics_step()
        return bool(task.sim.object_vel.abs().sum() > 0) or bool(task.sim.agent_vel[0, 1].abs().sum() > 1e-9)

    assert touching(-0.004) and not touching(0.002)


def test_unequal_robots_meet_where_their_outlines_do():
    def pushed(gap):
        task = placed([[[-0.276 - TIP - gap, 0.0, 0.0], [0.0, 0.0, 0.0]]])  # the Go1 behind, both along x
        task.physics_step()
        return task.sim.agent_vel[0, :, 0].tolist()

    apart, overlapping = pushed(0.003), pushed(-0.005)
    assert apart == [0.0, 0.0] and overlapping[0] < 0.0 < overlapping[1]
    assert 12.74 * overlapping[0] == pytest.approx(-18.43 * overlapping[1], rel=0.2)  # before the servos brake, equal impulses


def test_the_scripted_team_pushes_the_box_home():
    task = make_task(WHEELED, "task.env.controlFrequencyInv=10", num_envs=13)
    torch.manual_seed(7)
    assert float(first_episodes(task, actor(task, None))["success"].mean()) >= 0.8


def test_a_simulator_without_wheels_says_so():
    pytest.importorskip("mujoco")
    with pytest.raises(ConfigError, match="sim=mujoco has robots on legs only, and task=Go1WheeledPush has others; write sim=planar"):
        make_task(WHEELED, "sim=mujoco")
