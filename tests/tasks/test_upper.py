"""Go1PushUpper: sub-goals for a frozen team."""
from __future__ import annotations

import math

import pytest
import torch
import yaml

from conftest import compose_config, compose_raw, make_task
from happo_gpu import build, checkpoint
from happo_gpu.config import ConfigError
from test_push import place

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pusher(tmp_path_factory):
    """An untrained team's checkpoint, where its run left it."""
    run = tmp_path_factory.mktemp("run")
    cfg = compose_config("algo.model.hidden_sizes=[11,7]")
    task = build.build_task(cfg, 2, CPU, "eager")
    learner = build.build_learner(cfg, task, CPU, 5)
    checkpoint.save(run / "nn" / "Go1Push.pth", {"learner": learner.state_dict()})
    (run / "config.yaml").write_text(yaml.safe_dump(compose_raw("algo.model.hidden_sizes=[11,7]")))
    return run / "nn" / "Go1Push.pth", learner


def upper(pusher, *overrides):
    task = make_task("task=Go1PushUpper", f"task.upper.checkpoint={pusher[0]}", "task.arena.maps=3", *overrides)
    task.reset()
    return task


def test_a_sub_goal_is_an_offset_from_the_box_and_stays_in_the_map(pusher):
    task = upper(pusher)
    place(task.team, 4, [[1.0, 0.0, math.pi / 2], [1.0, 2.0, 0.0]], box=(0.5, -0.25, 0.0))
    task.pre_physics_step(torch.tensor([[0.4, -9.0]]).expand(7, 2))
    assert task.sub_goal[4].tolist() == pytest.approx([0.5 + 1.0, -0.25 - 2.5])
    before = task.sub_goal.clone()
    task.physics_step()
    assert torch.equal(task.sub_goal, before)


def test_the_team_acts_as_its_checkpoint_does_towards_the_sub_goal(pusher):
    task = upper(pusher)
    way_point = task.team.goal.clone()
    task.pre_physics_step(torch.full((7, 2), 0.6))
    task.team.goal.copy_(task.sub_goal)
    expected = pusher[1].policy(7, deterministic=True).act(task.team.compute_observations(), None, task.team.reset_buf)[0]
    task.team.goal.copy_(way_point)
    task.physics_step()
    limit = torch.tensor([0.5] * 6)
    torch.testing.assert_close(task.team.commands.flatten(1), expected.clamp(-1.0, 1.0) * limit)
    assert torch.equal(task.team.goal, way_point)


def test_the_team_decides_every_tenth_control_step(pusher):
    task, decided = upper(pusher), []
    act = task._act
    task._act = lambda obs: decided.append(task._since_decision) or act(obs)
    task.step(torch.zeros(7, 2))
    assert decided == [0, 10, 20, 30, 40]


def test_what_it_sees_by_hand(pusher):
    task = upper(pusher)
    place(task.team, 1, [[1.0, 0.0, math.pi / 2], [-1.0, 2.0, 0.0]], box=(0.5, -0.5, 0.1), goal=(2.0, 1.0))
    task.team.way[1, -1] = torch.tensor([8.0, 1.5])
    task.sub_goal[1] = torch.tensor([1.5, 0.0])
    pose = task.sim.obstacle_pose.clone()
    pose[1] = torch.tensor([[4.5, 0.5, 0.3], [0.5, 4.5, 0.0]])
    task.sim.place_obstacles(torch.ones(7, dtype=torch.bool), pose)
    expected = [0.5, -0.5, math.cos(0.4), math.sin(0.4), 1.0, 0.5, 1.5, 1.5, 7.5, 2.0,
                0.5, 0.5, -1.5, 2.5, 0.0, 1.0, 1.0, 0.0, 4.0, 1.0, 0.0, 5.0]
    torch.testing.assert_close(task.compute_observations()[1], torch.tensor(expected), atol=1e-5, rtol=0)
    assert [len(names) for names in task.observation_names()] == [22] and task.agents[0].num_obs == 22


def test_progress_is_paid_and_a_new_way_point_is_no_step_back(pusher):
    task = upper(pusher, "task.upper.way=0.0")
    team = task.team
    for n, x in ((2, 0.5), (3, 1.1)):
        team.way[n] = torch.tensor([[2.0, 0.0], [2.0, 2.0], [4.0, 2.0], [6.0, 2.0], [7.0, 2.0], [8.0, 2.0]])
        place(team, n, [[-2.0, 1.5, 0.0], [-2.0, -1.5, 0.0]], box=(x, 0.0, 0.0), goal=(2.0, 0.0))
        team.previous_distance[n] += 0.1  # 10 cm nearer than before
    reward = task.compute_reward(torch.ones(7))[:, 0]
    assert reward[2].item() == pytest.approx(0.1, abs=1e-5) and reward[3].item() == 0.0 and team.leg[3] == 1


def test_arriving_ends_the_episode_of_both_and_pays(pusher):
    task = upper(pusher)
    team = task.team
    team.leg[5] = 5
    team.way[5, -1] = torch.tensor([8.0, 2.0])
    place(team, 5, [[5.0, 3.5, 0.0], [5.0, 0.5, 0.0]], box=(7.1, 2.0, 0.0), goal=(8.0, 2.0))
    _, reward, reset, extras = task.step(torch.zeros(7, 2))
    assert reset.tolist() == [n == 5 for n in range(7)] and not extras["time_outs"].any()
    assert extras["episode"]["success"][5] == 1.0 and extras["episode"]["length"][5] == 1.0 and reward[5, 0] > 9.9
    assert not team.success.any() and task.progress_buf.tolist() == [0 if n == 5 else 50 for n in range(7)]


def test_what_is_missing_is_said_in_one_line(pusher):
    with pytest.raises(ConfigError, match="leads a trained team; write task.upper.checkpoint="):
        make_task("task=Go1PushUpper")
    with pytest.raises(ConfigError, match="no multiple of task.upper.teamSteps=7"):
        compose_config("task=Go1PushUpper", "task.upper.teamSteps=7")
    with pytest.raises(ConfigError, match="write task.goal=sequence"):
        compose_config("task=Go1PushUpper", "task.goal=random")


@pytest.mark.parametrize("task", ["Go1Push", "Go1PushHeading", "Go1PushLong", "Go1PushUpper", "Go1WheeledPush"])
def test_a_restored_task_of_the_family_continues_bit_for_bit(pusher, task):
    def made(seed):
        torch.manual_seed(13)  # of the maps
        which = [f"task.upper.checkpoint={pusher[0]}"] if task == "Go1PushUpper" else []
        whole = make_task(f"task={task}", "task.env.episodeLength=150", *(["task.arena.maps=5"] if task in ("Go1PushLong", "Go1PushUpper") else []), *which)
        torch.manual_seed(seed)
        whole.reset(stagger=True)
        return whole

    def play(whole):
        torch.manual_seed(29)
        seen = []
        for _ in range(7):  # episodes end on the way
            _, reward, reset, extras = whole.step(torch.randn(7, whole.num_actions))
            seen += [value.clone() for value in (whole.obs_buf, reward, reset, extras["final_states"], *extras["episode"].values())]
        return seen

    first, second = made(3), made(5)
    for _ in range(3):
        first.step(torch.randn(7, first.num_actions))
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, play(first), play(second)))
