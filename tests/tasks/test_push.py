"""Go1Push: reward terms by hand, order of events, spawn."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import make_task
from happo_gpu.tasks.push_reward import approach_reward, distance_reward, occlusion_reward, proximity

SQUARE = [(-0.6, -0.6), (0.6, -0.6), (0.6, 0.6), (-0.6, 0.6)]


def place(task, n, robots, box=(0.0, 0.0, 0.0), goal=None):
    """Puts environment n in a given state."""
    task.sim.agent_pose[n] = torch.tensor(robots)
    task.sim.object_pose[n, 0] = torch.tensor(box)
    task.sim._refresh_headings()
    if goal is not None:
        task.goal[n] = torch.tensor(goal)
        task.previous_distance[n] = math.dist(goal, box[:2])


def test_distance_term_pays_progress_and_charges_distance():
    # 100 (2 * 0.01 - 0.01 * 2) = 0: a centimetre of progress at two metres breaks even
    assert distance_reward(torch.tensor(2.01), torch.tensor(2.0)).item() == pytest.approx(0.0, abs=1e-4)


def test_approach_and_proximity_terms():
    assert approach_reward(torch.tensor(1.5)).item() == -4.0
    assert proximity(torch.tensor([[[0.54, 2.94]]])).item() == pytest.approx(1 / 0.2 + 1.0)


@pytest.mark.parametrize("robot, box_yaw, expected", [
    ((-1.0, 0.1), 0.0, 1.0),    # behind the face opposite to a goal at +x
    ((1.0, 0.1), 0.0, -1.0),    # in front
    ((0.1, -1.0), 0.0, 0.0),    # at the side
    ((-1.0, 0.0), math.pi / 4 + 0.01, math.cos(math.pi / 4 - 0.01)),  # box turned
])
def test_occlusion_term_rewards_standing_behind_the_box(robot, box_yaw, expected):
    x, y = (torch.tensor([[v]]) for v in robot)
    value = occlusion_reward(x, y, torch.tensor([[box_yaw]]), torch.tensor([[2.0]]), torch.tensor([[0.0]]), SQUARE)
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_success_ends_the_episode_and_pays_once():
    task = make_task("task.env.controlFrequencyInv=5")
    task.reset()
    place(task, 2, [[-2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]], goal=(0.99, 0.0))
    _, reward, reset, extras = task.step(torch.zeros(7, 6))
    assert reset.tolist() == [n == 2 for n in range(7)]
    assert not extras["time_outs"].any()
    assert extras["episode"]["success"][2] == 1.0 and extras["episode"]["length"][2] == 1.0
    assert extras["episode"]["reward_reach"][2] == pytest.approx(task.cfg.reward.reach)
    assert reward[2, 0] > 0.9 * task.cfg.reward.reach  # not five times


def test_collision_of_trunks_is_an_exception():
    task = make_task("task.env.controlFrequencyInv=1")
    task.reset()
    place(task, 3, [[-2.0, 0.0, 0.0], [-2.0, 0.2, 0.0]], goal=(2.5, 0.0))
    _, reward, reset, extras = task.step(torch.zeros(7, 6))
    assert reset[3] and not extras["time_outs"][3]
    assert extras["episode"]["collision"][3] == 1.0 and reward[3, 0] < task.cfg.reward.exception + 1.0


def test_time_out_comes_at_the_thousandth_step_and_is_no_termination():
    task = make_task("task.env.controlFrequencyInv=5", "task.env.episodeLength=1000")
    task.reset()
    task.progress_buf[4] = 990
    assert not task.step(torch.zeros(7, 6))[2].any()
    _, _, reset, extras = task.step(torch.zeros(7, 6))
    assert reset.tolist() == extras["time_outs"].tolist() == [n == 4 for n in range(7)]
    assert extras["episode"]["length"][4] == 1000.0 and task.progress_buf[4] == 0


def test_final_state_is_the_one_before_the_reset():
    task = make_task("task.env.controlFrequencyInv=5")
    task.reset()
    task.progress_buf[1] = 995
    place(task, 1, [[-1.3, 0.0, 0.0], [1.5, 1.5, 0.0]], goal=(2.7, 0.0))
    _, _, reset, extras = task.step(torch.zeros(7, 6))
    assert reset[1]
    assert extras["final_states"][1, 0] == pytest.approx(2.7, abs=0.01)  # distance to the old goal
    other = torch.tensor([n != 1 for n in range(7)])
    assert torch.equal(extras["final_states"][other], task.states_buf[other])
    assert not torch.equal(extras["final_states"][1], task.states_buf[1])


def test_dense_reward_of_the_last_step_belongs_to_the_old_episode():
    task = make_task("task.env.controlFrequencyInv=1")
    task.reset()
    place(task, 5, [[-2.0, 1.5, 0.0], [-2.0, -1.5, 0.0]], goal=(0.9, 0.0))
    _, _, _, extras = task.step(torch.zeros(7, 6))
    # a resting box: no progress, only -0.01 D, however far the next episode's goal is
    assert extras["episode"]["reward_distance"][5] == pytest.approx(
        -0.9 * task.cfg.reward.distance * task.cfg.reward.shapingScale, rel=1e-3
    )


def test_reset_touches_only_masked_environments():
    task = make_task(num_envs=11)
    task.reset()
    task.step(torch.randn(11, 6))
    before = {name: value.clone() for name, value in {**task._persistent(), **task.sim.state_dict()}.items()}
    mask = torch.tensor([n in (2, 7) for n in range(11)])
    task._reset_bookkeeping(mask)
    task.reset_where(mask)
    for name, value in {**task._persistent(), **task.sim.state_dict()}.items():
        axis = 0 if name in task._persistent() else -1
        kept = torch.tensor([n for n in range(11) if n not in (2, 7)])
        assert torch.equal(value.index_select(axis, kept), before[name].index_select(axis, kept)), name
    assert not torch.equal(task.goal[2], before["goal"][2])


def test_separated_spawn_never_overlaps_and_reference_spawn_sometimes_does():
    def closest(*overrides):
        task = make_task(*overrides, num_envs=5003)
        task.reset()
        pose = task.sim.agent_pose
        return (pose[:, 0, :2] - pose[:, 1, :2]).norm(dim=-1), pose[..., :2].norm(dim=-1), task

    between, from_box, task = closest()
    reach = task.cfg.robot.reach
    assert between.min() >= 2 * reach - 1e-4
    assert from_box.min() >= math.hypot(0.6, 0.6) + reach - 1e-4
    between, from_box, _ = closest("task.env.spawn=reference")
    assert (between < 0.25).float().mean().item() == pytest.approx(0.063, abs=0.012)  # TASK: 6.3 %
    assert from_box.min() >= 1.2 and from_box.max() <= 1.3


def test_observation_of_each_robot_is_in_its_own_frame():
    task = make_task()
    task.reset()
    place(task, 6, [[1.0, 0.0, math.pi / 2], [1.0, 2.0, math.pi]], box=(0.0, 0.0, 0.3), goal=(1.0, 3.0))
    first, second = task.compute_observations()[6].view(2, 10)
    angle = 4 * (0.3 - math.pi / 2)
    expected = [3.0, 0.0, 0.0, 1.0, math.cos(angle), math.sin(angle), 2.0, 0.0, math.cos(math.pi / 2), 1.0]
    torch.testing.assert_close(first, torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(second[:2], torch.tensor([0.0, -1.0]), atol=1e-5, rtol=0)


def test_reference_observation_is_mapush_s_eight_numbers():
    task = make_task("task.env.observation=reference")
    task.reset()
    place(task, 0, [[1.0, 0.0, math.pi / 2], [1.0, 2.0, math.pi]], box=(0.0, 0.0, 0.3), goal=(1.0, 3.0))
    first = task.compute_observations()[0, :8]
    expected = [3.0, 0.0, 0.0, 1.0, 0.3 + 1.5 * math.pi, 2.0, 0.0, math.pi / 2]
    torch.testing.assert_close(first, torch.tensor(expected), atol=1e-5, rtol=0)


def test_critic_state_does_not_change_when_the_world_is_turned_and_moved():
    task = make_task()
    task.reset()
    place(task, 0, [[1.0, 0.2, 0.4], [-1.0, 2.0, 1.1]], box=(0.3, -0.2, 0.3), goal=(1.0, 3.0))
    turn, shift = 0.9, (2.0, -1.0)

    def move(x, y):
        return (math.cos(turn) * x - math.sin(turn) * y + shift[0], math.sin(turn) * x + math.cos(turn) * y + shift[1])

    place(task, 1, [[*move(1.0, 0.2), 0.4 + turn], [*move(-1.0, 2.0), 1.1 + turn]],
          box=(*move(0.3, -0.2), 0.3 + turn), goal=move(1.0, 3.0))
    states = task.compute_states()
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=0)


def test_team_reward_is_the_mean_of_the_agents_rewards():
    def one_step(team):
        torch.manual_seed(11)
        task = make_task(f"task.env.teamReward={team}")
        task.reset()
        return task.step(torch.ones(7, 6))[1].clone()

    team, each = one_step("true"), one_step("false")
    assert team.shape == (7, 1) and each.shape == (7, 2)
    torch.testing.assert_close(team[:, 0], each.mean(-1))


@pytest.mark.parametrize("weighted, shares", [(False, (1.0, 1.0)), (True, (0.75, 0.0))])
def test_a_moving_cuboid_pays_all_alike_or_each_by_its_distance(weighted, shares):
    task = make_task("task.env.teamReward=false", f"task.reward.contactWeighted={weighted}", "task.env.controlFrequencyInv=1")
    task.reset()
    place(task, 3, [[-1.0, 0.0, 0.0], [0.0, 1.7, 0.0]], goal=(2.5, 0.0))  # 1 - (1.0 - 0.8) / 0.8 of the push, and none
    task.sim.object_vel[3, 0, 0] = 0.2
    paid = task.compute_reward(torch.ones(7))
    task.sim.object_vel[3, 0, 0] = 0.09  # too slow
    pushes = (paid - task.compute_reward(torch.ones(7)))[3] / (task.cfg.reward.push * task.cfg.reward.shapingScale)
    assert pushes.tolist() == pytest.approx(shares, abs=1e-3)


def test_initial_ages_are_spread_over_the_episode():
    task = make_task("task.env.controlFrequencyInv=10", num_envs=997)
    task.reset(stagger=True)
    ages = task.progress_buf
    assert int((ages % 10).sum()) == 0
    assert ages.float().mean().item() == pytest.approx(495, abs=40) and int(ages.max()) < 1000


def test_three_robots_and_one_robot_work():
    for agents in (1, 3):
        task = make_task(f"task.numAgents={agents}")
        task.reset()
        obs, reward, _, _ = task.step(torch.randn(7, 3 * agents))
        assert obs["obs"].shape == (7, agents * (6 + 4 * (agents - 1)))
        assert obs["states"].shape == (7, 6 + 7 * agents) and bool(torch.isfinite(reward).all())


def test_actions_beyond_the_clip_command_the_limit():
    task = make_task()
    task.reset()
    task.pre_physics_step(torch.full((7, 6), -9.0))
    assert torch.equal(task.commands, torch.full((7, 2, 3), -0.5))
