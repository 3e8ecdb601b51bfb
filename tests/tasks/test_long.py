"""Go1PushLong: ways through obstacles, way-points one after the other, and what touches what."""
from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from conftest import compose_config, make_task
from happo_gpu import build
from happo_gpu.config import ConfigError
from happo_gpu.sim.base import ObjectSpec, Scene
from happo_gpu.tasks import planner
from happo_gpu.tasks.push_map import draw_maps
from happo_gpu.tasks.push_reward import gap_to_obstacles
from happo_gpu.trainer import EVALUATION_SEED
from test_push import place

LONG = "task=Go1PushLong"
CPU = torch.device("cpu")
LOW, HIGH = torch.tensor([-1.0, -5.0]), torch.tensor([9.0, 5.0])


def field(*centres, radius=1.0):
    return planner.Field(LOW, HIGH, torch.tensor([centres]), radius)


# -- maps ------------------------------------------------------------------------------------------


def test_maps_that_have_a_way_are_all_dealt(monkeypatch):
    found, plan = [], planner.plan

    def planned(*args):
        way, clear = plan(*args)
        found.append(clear.clone().index_fill_(0, torch.tensor([3, 11]), False))  # at least these have none
        return way, found[-1]

    monkeypatch.setattr(planner, "plan", planned)
    arena = dataclasses.replace(compose_config(LONG).task.arena, maps=31)
    ways = draw_maps(arena, 8.0, 1.6, CPU).way.flatten(1)
    assert len(torch.unique(ways, dim=0)) == int(found[0].sum()) < len(ways) == 31


def test_maps_of_evaluations_are_the_same_whatever_the_run_s_seed(tmp_path):
    def way(seed):
        cfg = compose_config(LONG, "num_envs=5", "train.eval_envs=3", "task.arena.maps=5", f"seed={seed}", "algo.actor_num_mini_batch=1",
                             "algo.critic_num_mini_batch=1")
        trainer = build.build_trainer(cfg, tmp_path, "long", CPU, build.seed_everything(seed, False))
        trainer.logger.close()
        return trainer.task._maps.way, trainer.eval_task._maps.way

    (trained, evaluated), (otherwise, again) = way(1), way(2)
    assert torch.equal(evaluated, again) and not torch.equal(trained, otherwise)
    build.seed_everything(EVALUATION_SEED, False)
    assert torch.equal(make_task(LONG, "task.arena.maps=5", num_envs=3)._maps.way, evaluated)


# -- the planner -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end, clear", [((4.0, 0.0), False), ((0.9, 0.0), True), ((4.0, 3.0), True), ((4.0, 2.0), False)])
def test_a_segment_is_clear_if_its_nearest_point_is(end, clear):
    # the circle is centred 2 m ahead, 0.2 m to the right: (4, 3) passes it at 0.6 * 2 + 0.8 * 0.2 = 1.36 m, (4, 2) at 1.07 m
    start, end = torch.zeros(1, 2), torch.tensor([end])
    assert planner.is_clear(start, end, field((2.0, -0.2), radius=1.1)).tolist() == [clear]


def test_way_points_are_spread_evenly_over_a_bent_way_and_end_at_its_end():
    path = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [3.0, 5.0]]])  # 8 m; its start is there twice
    expected = [[2.0, 0.0], [3.0, 1.0], [3.0, 3.0], [3.0, 5.0]]
    torch.testing.assert_close(planner.spread(path, 4), torch.tensor([expected]))


def test_a_tree_s_branches_are_clear_and_its_costs_are_never_below_the_truth():
    torch.manual_seed(2)
    one = field((4.0, 0.3), (2.0, 3.0), radius=1.5)
    points, parents, costs = planner.grow(torch.zeros(1, 2), torch.tensor([[8.0, 0.0]]), one, nodes=101, step=0.7)
    used = costs[0].isfinite()
    used[0] = False  # the root has no branch
    ends, starts = points[0, used], points[0, parents[0, used]]
    assert int(used.sum()) > 40 and bool(planner.is_clear(starts.unsqueeze(0), ends.unsqueeze(0), one).all())
    edges = (ends - starts).norm(dim=-1)
    assert float(edges.max()) <= 1.4 + 1e-5 and bool((costs[0, used] >= costs[0, parents[0, used]] + edges - 1e-4).all())


def test_the_way_round_a_circle_is_nearly_the_shortest():
    torch.manual_seed(5)
    radius, n = 1.5, 7
    centres = torch.tensor([[[4.0, 0.0]]]).expand(n, 1, 2)
    goal = torch.tensor([[8.0, 0.0]]).expand(n, 2)
    way, found = planner.plan(torch.zeros(n, 2), goal, planner.Field(LOW, HIGH, centres, radius), 251, 0.75, 40)
    angle = math.asin(radius / 4.0)  # two tangents and the arc between them
    shortest = 2.0 * math.sqrt(16.0 - radius**2) + radius * 2.0 * angle
    length = torch.diff(way, dim=1, prepend=torch.zeros(n, 1, 2)).norm(dim=-1).sum(-1)
    assert bool(found.all()) and bool((length > shortest - 0.1).all()) and float(length.mean()) < 1.08 * shortest
    assert float((way - centres).norm(dim=-1).min()) > radius - 0.05
    torch.testing.assert_close(way[:, -1], goal)


def test_no_way_out_of_a_ring_is_found():
    ring = [(1.5 * math.cos(a), 1.5 * math.sin(a)) for a in torch.linspace(0.0, 2.0 * math.pi, 9)[:-1].tolist()]
    _, found = planner.plan(torch.zeros(1, 2), torch.tensor([[8.0, 0.0]]), field(*ring, radius=0.7), 61, 0.75, 3)
    assert found.tolist() == [False]


def test_maps_leave_room_at_the_start_and_a_clear_way():
    cfg = dataclasses.replace(compose_config(LONG).task.arena, maps=13)
    maps = draw_maps(cfg, 8.0, 1.6, CPU)
    holds, centres = math.hypot(0.5, 0.5), maps.obstacles[..., :2]
    assert maps.obstacles.shape == (13, 2, 3) and maps.way.shape == (13, 6, 2)
    assert float(centres.norm(dim=-1).min()) > 1.6 + holds
    assert maps.way[:, -1].norm(dim=-1).tolist() == pytest.approx([8.0] * 13, abs=1e-4)
    between = (maps.way.unsqueeze(2) - centres.unsqueeze(1)).norm(dim=-1)
    assert float(between.min()) > holds + cfg.clearance - 0.1  # chords between way-points may cut a little
    straight = planner.is_clear(torch.zeros(13, 2), maps.way[:, -1], planner.Field(LOW, HIGH, centres, holds + 0.6))
    assert float(straight.float().mean()) < 0.3  # the box on a straight line would hit


# -- the task --------------------------------------------------------------------------------------


def long_task(*overrides):
    task = make_task(LONG, "task.arena.maps=5", "task.env.controlFrequencyInv=1", *overrides)
    task.reset()
    task.way[3] = torch.tensor([[2.0, 0.0], [2.0, 2.0], [4.0, 2.0], [6.0, 2.0], [7.0, 2.0], [8.0, 2.0]])
    return task


def test_the_goal_is_the_next_way_point_and_its_jump_earns_nothing():
    task = long_task()
    place(task, 3, [[-2.0, 1.5, 0.0], [-2.0, -1.5, 0.0]], box=(1.1, 0.0, 0.0), goal=(2.0, 0.0))
    _, _, reset, _ = task.step(torch.zeros(7, 6))
    assert not reset[3] and task.leg[3] == 1 and task.goal[3].tolist() == [2.0, 2.0]
    assert task.previous_distance[3].item() == pytest.approx(math.hypot(0.9, 2.0), abs=1e-4)
    before = task.episode_sums["reward_distance"][3].clone()
    task.step(torch.zeros(7, 6))
    paid = (task.episode_sums["reward_distance"][3] - before).item()
    assert paid == pytest.approx(-0.00325 * 10.0 * math.hypot(0.9, 2.0), rel=1e-3)  # a resting box: distance alone, shaping 10


def test_the_last_way_point_is_success():
    task = long_task()
    task.leg[3] = 5
    place(task, 3, [[5.0, 3.5, 0.0], [5.0, 0.5, 0.0]], box=(7.1, 2.0, 0.0), goal=(8.0, 2.0))
    _, _, reset, extras = task.step(torch.zeros(7, 6))
    assert reset[3] and extras["episode"]["success"][3] == 1.0
    assert extras["episode"]["final_distance"][3].item() == pytest.approx(0.9, abs=1e-3) and task.leg[3] == 0


@pytest.mark.parametrize("box, gap", [
    ((0.0, 0.0, 0.0), 2.0 - 0.6 - 0.5),  # face to face
    ((0.0, 0.0, math.pi / 4), 1.5 - 0.6 * math.sqrt(2.0)),  # a corner of the box to a face
    ((0.0, 1.5, 0.0), math.hypot(0.9, 0.4)),  # corner to corner
])
def test_the_gap_between_box_and_obstacle(box, gap):
    scene = Scene((), (ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.96, 0.5),), 0.7, ((0.5, 0.5, 0.5), (0.1, 0.1, 0.5)))
    found = gap_to_obstacles(torch.tensor([box]), torch.tensor([[(2.0, 0.0, 0.0), (9.0, 9.0, 0.0)]]), scene)
    assert found.item() == pytest.approx(gap, abs=1e-5)


def test_touching_an_obstacle_is_counted_and_charged():
    task = long_task("task.reward.shapingScale=1.0")
    place(task, 3, [[-2.0, 1.5, 0.0], [-2.0, -1.5, 0.0]], goal=(2.0, 0.0))
    pose = task.sim.obstacle_pose.clone()
    pose[3] = torch.tensor([[1.12, 0.0, 0.0], [5.0, 5.0, 0.0]])  # 2 cm ahead of the box
    task.sim.place_obstacles(torch.ones(7, dtype=torch.bool), pose)
    task.step(torch.zeros(7, 6))
    assert task.episode_sums["obstacle"][3] == 1.0 and task.episode_sums["reward_obstacle"][3].item() == pytest.approx(-0.01)
    assert task.episode_metrics()["obstacle"][3] == 1.0


def test_a_pusher_s_policy_fits_and_way_points_have_no_heading():
    assert [agent.num_obs for agent in make_task(LONG, "task.arena.maps=2").agents] == [10, 10]
    with pytest.raises(ConfigError, match="way-points have no heading; write task.env.successYaw=0.0"):
        compose_config(LONG, "task.env.successYaw=0.3")
    for sides in ("[[-1,12]]", "[[1,12],[-7,7]]", "[[-1,7.5],[-7,7]]"):
        with pytest.raises(ConfigError, match="write .*low, high.* in x and y"):
            compose_config(LONG, f"task.arena.sides={sides}")
