"""Go1Walk: commands, rewards by hand, falls, noise and what survives a checkpoint."""
from __future__ import annotations

import dataclasses
import math

import pytest
import torch

pytest.importorskip("mujoco", reason="sim=mujoco needs the extra [mujoco]")

from conftest import make_task  # noqa: E402
from happo_gpu.sim import locomotion  # noqa: E402
from happo_gpu.tasks.walk import closeness  # noqa: E402

CALM = ["task.noise.level=0", "task.env.kickVelocity=0", "task.env.startVelocity=0", "task.load.share=0"]


def walk(*overrides, num_envs: int = 5):
    task = make_task("task=Go1Walk", "sim=mujoco", *overrides, num_envs=num_envs)
    task.reset()
    return task


def test_closeness_falls_to_one_over_e_at_its_width():
    assert closeness(torch.tensor(0.09), 0.3) == pytest.approx(math.exp(-1.0))


def test_without_actions_the_robot_trots_on_the_spot_and_stays_up():
    task = walk(*CALM)
    for _ in range(60):
        task.step(torch.zeros(5, 12))
    assert not task.episode_sums["fell"].any() and (task.sim.position[:, 0, 2] > 0.18).all()
    assert (task.progress_buf == 60).all()


def test_a_fall_ends_the_episode_and_is_paid_for_once():
    task = walk(*CALM)
    task.sim._state[2, 4:8] = [0.0, 1.0, 0.0, 0.0]  # on its back
    task.sim.refresh()
    _, reward, reset, extras = task.step(torch.zeros(5, 12))
    assert reset.tolist() == [False, False, True, False, False]
    assert not extras["time_outs"].any() and extras["episode"]["fell"][2] == 1.0
    assert reward[2, 0] < -0.9 and (reward[[0, 1, 3, 4], 0] >= 0.0).all()


def test_perfect_tracking_earns_every_tracking_term():
    task = walk(*CALM)
    task.command.copy_(torch.tensor([0.3, -0.2, 0.4]))
    task.sim.lin_vel_b[:, 0] = torch.tensor([0.3, -0.2, 0.0])
    task.sim.ang_vel_b[:, 0] = torch.tensor([0.0, 0.0, 0.4])
    task.compute_reward(torch.ones(5))
    sums = {name: float(value[0]) for name, value in task.episode_sums.items()}
    assert [sums[f"reward_{term}"] for term in ("linear", "linear_fine", "turn", "turn_fine")] == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert sums["error_linear"] == pytest.approx(0.0, abs=1e-6) and sums["reward_bounce"] == 0.0


def test_commands_hold_for_their_time_and_stay_in_their_box():
    task = walk(*CALM, "task.env.commandSeconds=[0.06,0.06]", "task.env.commandLimit=[0.5,0.3,0.1]")
    seen = []
    for _ in range(13):
        seen.append(task.command.clone())
        task.step(torch.zeros(5, 12))
    changes = [bool((a != b).any()) for a, b in zip(seen, seen[1:])]
    assert changes.count(True) in (3, 4)  # 0.06 s are three steps
    assert (torch.stack(seen).abs() <= torch.tensor([0.5, 0.3, 0.1])).all()


def test_noise_reaches_the_observation_and_not_the_critics_state():
    task = walk("task.noise.level=1.0", "task.env.kickVelocity=0")
    first, second = task.compute_observations(), task.compute_observations()
    assert (first[:, :33] != second[:, :33]).all() and torch.equal(first[:, 33:], second[:, 33:])
    assert torch.equal(task.compute_states(), task.compute_states())


def test_the_observation_is_the_one_that_the_walking_policy_builds():
    task = walk(*CALM)
    task.step(torch.randn(5, 12))
    sim = task.sim
    senses = locomotion.Senses(*(v[:, 0] for v in (sim.lin_vel_b, sim.ang_vel_b, sim.gravity_b, sim.joint_pos, sim.joint_vel)))
    assert torch.equal(task.obs_buf, locomotion.observe(senses, task.action, task.command, task.phase[:, 0]))


def test_a_kick_moves_the_trunk_by_at_most_its_velocity():
    task = walk("task.env.kickVelocity=0.7", "task.env.kickSeconds=0.02", "task.env.startVelocity=0")
    before = task.sim.lin_vel_w[:, 0].clone()
    task.sim.kick(task._shoves(), torch.zeros(5, 1, 2))
    change = task.sim.lin_vel_w[:, 0] - before
    assert (change[:, :2].abs() <= 0.7).all() and (change[:, :2].abs() > 0.0).any(-1).all() and change[:, 2].abs().max() == 0.0


def test_a_restored_task_goes_on_bit_for_bit():
    one, other = walk(), walk()
    actions = 0.1 * torch.randn(61, 5, 12)
    for each in actions[:7]:
        one.step(each)
    other.load_state_dict(one.state_dict())
    for task in (one, other):
        torch.manual_seed(11)
        for each in actions[7:]:  # past changes of the command
            task.step(each)
    assert torch.equal(one.obs_buf, other.obs_buf) and torch.equal(one.rew_buf, other.rew_buf)


def test_a_box_in_the_way_is_clear_of_the_robot_and_where_the_command_leads():
    task = walk(*CALM[:-1], "task.load.share=1", "task.load.driven=0", "task.load.gap=[0.1,0.1]", "task.load.aside=0", num_envs=101)
    box, command = task.sim.object_pose[:, 0], task.command
    yaw = task.sim.yaw[:, 0]
    moving = command[:, :2].norm(dim=-1) > 0.0
    way = yaw + torch.atan2(command[:, 1], command[:, 0])
    bearing = torch.atan2(box[:, 1], box[:, 0])
    assert torch.cos(bearing - way)[moving].min() > 0.999
    heading = way - yaw
    robot = 0.38 * heading.cos().abs() + 0.2 * heading.sin().abs()
    side = way - box[:, 2]
    clear = box[:, :2].norm(dim=-1) - robot - 0.6 * (side.cos().abs() + side.sin().abs())
    assert torch.allclose(clear, torch.full_like(clear, 0.1), atol=1e-4)


def test_without_a_share_no_box_comes_near():
    task = walk(*CALM, num_envs=11)
    assert task.sim.object_pose[:, 0, :2].norm(dim=-1).min() > 4.0


def driven(*overrides):
    return walk(*CALM[:-1], "task.load.share=1", "task.load.driven=1", "task.load.aside=0", "task.env.commandSeconds=[9,9]", *overrides, num_envs=7)


def test_a_driven_box_comes_straight_at_the_robot_at_its_speed():
    task = driven("task.load.gap=[1.0,1.0]", "task.load.drivenSpeed=[0.4,0.4]", "task.load.drivenForce=[20,20]")
    start = task.sim.object_pose[:, 0, :2].clone()
    for _ in range(40):
        task.step(torch.zeros(7, 12))
    moved = task.sim.object_pose[:, 0, :2] - start
    towards = -start / start.norm(dim=-1, keepdim=True)
    assert torch.allclose((moved * towards).sum(-1), torch.full((7,), 0.3), atol=0.04)  # 0.8 s, less the time to speed up
    assert torch.allclose(moved.norm(dim=-1), (moved * towards).sum(-1), atol=0.01)
    assert ((task.sim.object_vel[:, 0, :2] * towards).sum(-1) > 0.3).all()


def test_a_driven_box_speeds_up_as_its_force_allows():
    task = driven("task.load.gap=[1.0,1.0]", "task.load.drivenSpeed=[5.0,5.0]", "task.load.drivenForce=[20,20]", "task.randomize.object_mass=[2,2]",
                  "task.randomize.object_friction=[1,1]")
    for _ in range(11):
        task.step(torch.zeros(7, 12))
    unbraked = 0.02 * 0.55 * 9.81  # m/s: the friction that the last shove has yet to meet
    assert task.sim.object_vel[:, 0, :2].norm(dim=-1).tolist() == pytest.approx([11 * 0.02 * 20.0 / 8.0 + unbraked] * 7, rel=0.15)


def test_a_new_command_without_a_box_ends_the_push():
    task = driven("task.load.drivenSpeed=[0.3,0.3]")
    assert (task.drive.norm(dim=-1) > 0.2).all()
    task.cfg = dataclasses.replace(task.cfg, load=dataclasses.replace(task.cfg.load, share=0.0))
    task._resample_commands(torch.tensor([True] * 3 + [False] * 4))
    assert (task.drive.norm(dim=-1) > 0.2).tolist() == [False] * 3 + [True] * 4
