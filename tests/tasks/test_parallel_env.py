"""Environments of PettingZoo's interface: sizes, order of events, resets, time-outs, workers, faults; MPE and MaMuJoCo themselves."""
from __future__ import annotations

import copy
import functools
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import CPU, compose_raw
from happo_gpu import build
from happo_gpu.config import ConfigError, parse
from happo_gpu.outside import worker

pytest.importorskip("pettingzoo", reason="pip install -e '.[pettingzoo]'")
spaces = pytest.importorskip("gymnasium.spaces")
HERE = Path(__file__).parent
composed = functools.lru_cache(maxsize=None)(compose_raw)  # composing takes longer than most tests here


@pytest.fixture(autouse=True)
def _line_is_a_module(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def made(task="PettingZoo", num_envs=5, workers=0, options=None, **env):
    raw = copy.deepcopy(composed(f"task={task}"))
    raw["task"]["env"].update(env, numWorkers=workers)
    if options is not None:
        raw["task"]["env"]["options"] = options
    return build.build_task(parse(raw), num_envs, CPU, "eager")


def line(num_envs=5, workers=0, episodeLength=11, teamReward=True, deaths=False, **options):
    task = made("PettingZoo", num_envs, workers, options, id="parallel_line", episodeLength=episodeLength, teamReward=teamReward, deaths=deaths)
    task.reset()
    return task


def constant(task, one=0.0, two=0.0):
    return torch.tensor([[one, two]]).expand(task.num_envs, -1)


# -- an environment whose numbers are known ------------------------------------------------------


def test_unequal_agents_lie_side_by_side_and_without_a_state_the_critic_sees_all():
    task = line()
    assert [agent.num_obs for agent in task.agents] == [2, 3] and [agent.num_choices for agent in task.agents] == [0, 3]
    assert task.obs_buf.shape == (5, 5) and torch.equal(task.obs_buf, task.states_buf)
    assert task.available_buf.shape == (5, 3) and task.active_buf is None


def test_outputs_of_one_are_the_bounds_and_indices_begin_where_the_environment_says():
    task = line(teamReward=False)
    for output, given in ((-1.0, -2.0), (-9.0, -2.0), (0.0, 2.0), (1.0, 6.0), (7.0, 6.0)):
        _, reward, _, _ = task.step(constant(task, output, 2.0))
        assert reward[0].tolist() == [given, 70.0]  # two says 5 + 2


def test_the_team_earns_the_sum():
    task = line()
    assert task.step(constant(task, 1.0, 1.0))[1].tolist() == [[66.0]] * 5


def test_a_mask_closes_what_the_environment_closes():
    task = line()
    assert task.available_buf.all()
    task.step(constant(task, two=1.0))
    assert task.available_buf.tolist() == [[True, False, True]] * 5


@pytest.mark.parametrize("settings, steps, timed_out", [
    ({}, 7, True), ({"falls": 3}, 3, False), ({"episodeLength": 5}, 5, True),
    ({"falls": 7}, 7, False),  # both at once: it ended by itself
])
def test_an_episode_ends_when_its_environment_says_so_or_is_cut(settings, steps, timed_out):
    task = line(**settings)
    starts = task.obs_buf[:, 0].clone()
    for step in range(1, steps + 1):
        obs, _, reset, extras = task.step(constant(task))
        assert bool(reset.all()) == (step == steps) and reset.all() == reset.any()
        assert extras["final_states"][:, 1].eq(step).all()  # what was reached
    assert extras["time_outs"].all() == timed_out and extras["time_outs"].any() == timed_out
    assert obs["obs"][:, 1].eq(0).all() and torch.equal(extras["final_states"][:, 0], starts)  # after the reset and before it
    assert extras["episode"]["length"].eq(steps).all()


def test_every_environment_has_a_seed_of_its_own_and_none_is_reset_with_another():
    task = line(num_envs=7)
    before = task.obs_buf.clone()
    assert len(set(before[:, 0].tolist())) > 4
    mask = torch.tensor([n in (2, 3, 5) for n in range(7)])
    task.step(constant(task))
    task.reset_where(mask)
    after = task.compute_observations()
    assert after[:, 1].tolist() == [0.0 if m else 1.0 for m in mask] and torch.equal(after[~mask, 0], before[~mask, 0])
    assert not torch.equal(after[mask, 0], before[mask, 0])


def test_who_leaves_early_is_dead_until_the_others_are_done():
    task = line(leaves=2, deaths=True, teamReward=False)
    living = []
    for _ in range(7):
        obs, reward, _, extras = task.step(constant(task, 1.0, 1.0))
        living.append(task.active_buf[0].tolist())
        if len(living) == 4:
            assert reward[0].tolist() == [6.0, 0.0] and obs["obs"][0, 2:].eq(0).all()
    assert living == [[1, 1], *[[1, 0]] * 5, [1, 1]]  # two is shown where it ended, and decides nothing there
    assert extras["time_outs"].all()


def test_a_menu_begins_where_the_environment_says_and_an_action_has_its_shape():
    agents = (worker.Agent("menus", 1, (), (), (2, 3), (5, 100), (2,), ""), worker.Agent("matrix", 1, (0.0,) * 6, (1.0,) * 6, (), (), (2, 3), ""))
    environments = object.__new__(worker.Environments)
    environments._description, environments._actions = worker.Description(agents, 1, False), [slice(0, 2), slice(2, 8)]
    given = environments._acts(np.array([1, 2, 0, 1, 2, 3, 4, 5], np.float32), ["menus", "matrix"])
    assert given["menus"].tolist() == [6, 102] and given["matrix"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    space = spaces.MultiDiscrete([2, 3], start=[5, 100])
    assert worker._agent("menus", spaces.Box(0.0, 1.0, (1,)), space, {}) == agents[0]


def test_an_output_without_bounds_is_exported_as_it_is():
    task = line()
    assert [command.clip for own in task.action_names() for command in own] == [1.0, math.inf]  # two chooses
    task._bounded[0] = False
    assert task.action_names()[0][0].clip == math.inf


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("option, message", [
    ("fails", "of parallel_line: ValueError: the line snapped (parallel_line.py:"),
    ("leaves", "two left before the others; write task.env.deaths=true"),
])
def test_an_exception_in_an_environment_is_one_line_that_names_it(workers, option, message):
    task = line(workers=workers, **{option: 2})
    task.step(constant(task))
    with pytest.raises(ConfigError) as caught:
        task.step(constant(task))
    assert message in str(caught.value) and "environment 0" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("settings, message", [
    ({"id": "mpe2.simple_sprad_v3"}, "no such module; did you mean mpe2.simple_spread_v3?"),
    ({"id": "nonsense"}, "task.env.id=nonsense: no such module"), ({"id": "json"}, "has no parallel_env"),
    ({"options": {"nonsense": 3}}, "unexpected keyword argument 'nonsense'"),
])
def test_what_cannot_be_made_is_one_line(settings, message):
    with pytest.raises(ConfigError) as caught:
        made(**settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("task, module, message", [
    ("PettingZoo", "pettingzoo", "write pip install -e '.[pettingzoo]'"), ("PettingZoo", "mpe2", "write pip install -e '.[pettingzoo]'"),
    ("MaMuJoCo", "gymnasium_robotics", "write pip install -e '.[mamujoco]'"),
])
def test_a_missing_package_is_one_line(task, module, message, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="needs the package") as caught:
        made(task=task)
    assert message in str(caught.value)


# -- workers -------------------------------------------------------------------------------------


def played(task, steps=9, seed=29):
    torch.manual_seed(seed)
    task.reset()
    return record(task, steps)


def record(task, steps):
    seen = []
    for _ in range(steps):
        actions = constant(task, 0.5) + torch.rand(task.num_envs, 1) * torch.tensor([1.0, 0.0])
        _, reward, reset, extras = task.step(actions)
        seen += [value.clone() for value in (*task._saved().values(), reward, reset, extras["final_states"], *extras["episode"].values())]
    return seen


def test_the_number_of_workers_changes_no_number():
    alone = played(line())
    for workers in (2, 9):
        assert all(torch.equal(one, other) for one, other in zip(alone, played(line(workers=workers))))


def test_a_restored_task_continues_bit_for_bit():
    first, second = line(workers=2), line()
    record(first, 3)
    state = first.state_dict()
    torch.manual_seed(31)
    expected = record(first, 9)
    second.load_state_dict(state)
    torch.manual_seed(31)
    assert all(torch.equal(one, other) for one, other in zip(expected, record(second, 9)))


def test_workers_end_with_the_program_that_started_them_even_when_it_is_killed(tmp_path):
    code = ("import os, sys; sys.path[:0] = sys.argv[1:]; from test_parallel_env import *; task = line(workers=2); "
            "print(*[p.pid for p in task._pool._workers], flush=True); os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, str(HERE), str(HERE.parent)], capture_output=True, text=True)
    workers = [int(word) for word in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    until = time.time() + 30.0
    while any(running(pid) for pid in workers) and time.time() < until:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)


def running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_workers_import_no_torch():
    code = "import sys, happo_gpu.outside.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).returncode == 0


# -- MPE and MaMuJoCo ----------------------------------------------------------------------------


@pytest.mark.parametrize("name, continuous, obs, actions, choices", [
    ("simple_spread_v3", True, [18, 18, 18], [5, 5, 5], [0, 0, 0]), ("simple_spread_v3", False, [18, 18, 18], [1, 1, 1], [5, 5, 5]),
    ("simple_reference_v3", True, [21, 21], [15, 15], [0, 0]), ("simple_reference_v3", False, [21, 21], [1, 1], [50, 50]),
    ("simple_speaker_listener_v4", True, [3, 11], [3, 5], [0, 0]), ("simple_speaker_listener_v4", False, [3, 11], [1, 1], [3, 5]),
])
def test_mpe_has_its_documented_sizes_and_its_episodes_are_cut(name, continuous, obs, actions, choices):
    pytest.importorskip("mpe2", reason="pip install -e '.[pettingzoo]'")
    task = made(id=f"mpe2.{name}", options={"continuous_actions": continuous}, num_envs=3)
    assert [agent.num_obs for agent in task.agents] == obs and [agent.num_choices for agent in task.agents] == choices
    assert [agent.num_actions for agent in task.agents] == actions and task.num_states == sum(obs)
    task.reset()
    for step in range(25):
        assert not task.timeout_buf.any()
        _, reward, _, extras = task.step(torch.ones(3, task.num_actions))
    assert extras["time_outs"].all() and torch.isfinite(reward).all() and not torch.equal(extras["final_states"], task.states_buf)


@pytest.mark.parametrize("scenario, conf, actions, num_states", [("HalfCheetah", "2x3", [3, 3], 17), ("Ant", "4x2", [2, 2, 2, 2], 105)])
def test_mamujoco_shares_out_a_robot(scenario, conf, actions, num_states):
    pytest.importorskip("gymnasium_robotics", reason="pip install -e '.[mamujoco]'")
    task = made("MaMuJoCo", num_envs=3, scenario=scenario, agentConf=conf)
    assert [agent.num_actions for agent in task.agents] == actions and task.num_states == num_states
    assert [agent.num_obs for agent in task.agents] == [num_states + len(actions)] * len(actions)
    task.reset()
    _, reward, _, _ = task.step(torch.zeros(3, task.num_actions))
    own = [task.episode_sums[f"return_agent_{i}"] for i in range(len(actions))]
    assert all(torch.allclose(each, reward[:, 0]) for each in own)  # all get the robot's reward, once


def test_a_local_observation_is_what_the_agents_joints_are():
    pytest.importorskip("gymnasium_robotics", reason="pip install -e '.[mamujoco]'")
    near, far = (made("MaMuJoCo", num_envs=2, observation="local", agentObsk=k) for k in (0, 1))
    assert all(one.num_obs < other.num_obs < 17 for one, other in zip(near.agents, far.agents))


def test_what_training_cannot_begin_with_is_said_and_leaves_no_run_behind(tmp_path):
    done = subprocess.run([sys.executable, str(HERE.parent.parent / "train.py"), "task=PettingZoo", "task.env.id=parallel_line", "num_envs=5",
                           "+task.env.options.leaves=1", "~task.env.options.max_cycles", "~task.env.options.continuous_actions", "task.env.numWorkers=1", "num_threads=1"], cwd=str(tmp_path), capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(HERE)})
    assert done.returncode == 2 and "two left before the others; write task.env.deaths=true" in done.stderr, done.stderr
    assert not list(tmp_path.glob("runs/*"))
