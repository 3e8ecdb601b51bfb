"""What the adapter does with what IsaacGymEnvs' interface tells it, on a stand-in; and, where it is installed, the real thing."""
from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import build, distributed
from happo_gpu.config import ConfigError
from happo_gpu.tasks import single
from happo_gpu.tasks.isaacgymenvs import IsaacGymEnvs


class Counter:
    """The interface of isaacgymenvs' VecTask (1.5.1) and its lateness: who ended is reset in the step after. No proof that Isaac Gym runs."""

    num_envs, num_obs, num_states, num_actions, max_episode_length = 3, 2, 0, 5, 7

    def __init__(self):
        self.reset_buf, self.age = torch.ones(3, dtype=torch.long), torch.zeros(3)
        self.falls_at = torch.tensor([99.0, 3.0, 99.0])

    def zero_actions(self):
        return torch.zeros(3, 5)

    def step(self, actions):
        self.age = torch.where(self.reset_buf > 0, torch.zeros(3), self.age + 1)
        late = self.age >= self.max_episode_length - 1
        self.reset_buf[:] = late | (self.age == self.falls_at)
        self.actions = actions
        return {"obs": torch.stack((self.age, -self.age), -1)}, self.age * 10.0, self.reset_buf, {"time_outs": late.long() * self.reset_buf}


def adapter(split=None):
    task = IsaacGymEnvs(SimpleNamespace(env=SimpleNamespace(name="Counter", split=split or {})), Counter(), CPU)
    task.reset()
    return task


def test_a_split_puts_every_output_in_the_column_that_it_names():
    task = adapter({"front": (3, 0), "back": (1, 4, 2)})
    assert [(agent.name, agent.num_obs, agent.num_actions) for agent in task.agents] == [("front", 2, 2), ("back", 2, 3)]
    task.step(torch.tensor([[30.0, 0.0, 10.0, 40.0, 20.0]]).expand(3, -1))
    assert task._env.actions[0].tolist() == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert torch.equal(task.obs_buf[:, :2], task.obs_buf[:, 2:])


def test_without_a_split_there_is_one_agent():
    assert [(agent.name, agent.num_actions) for agent in adapter().agents] == [("Counter", 5)]


@pytest.mark.parametrize("split", [{"front": (0, 1)}, {"front": (0, 1, 2), "back": (2, 3, 4)}, {"all": (0, 1, 2, 3, 4, 5)}])
def test_a_split_that_is_none_is_refused(split):
    with pytest.raises(ConfigError, match="each of the 5 actions"):
        adapter(split)


def test_what_was_reached_is_final_and_the_step_after_is_not_learned_from():
    task = adapter()
    for step in range(1, 7):
        _, reward, reset, extras = task.step(torch.zeros(3, 5))
        if step == 3:
            assert reset.tolist() == [False, True, False] and not extras["time_outs"].any()
            assert extras["final_states"][1].tolist() == [3.0, -3.0]
            assert extras["episode"]["return"][1] == 60.0 and extras["episode"]["length"][1] == 3.0
            assert task.active_buf[:, 0].tolist() == [1.0, 0.0, 1.0]
        if step == 4:
            assert task.active_buf.all() and reward[1] == 0.0
    assert reset.tolist() == [True, False, True] == extras["time_outs"].tolist()


def test_without_isaac_gym_it_is_one_line_that_says_what_to_install():
    code = "import sys; sys.modules['isaacgym'] = None; from happo_gpu import isaac; isaac.before_torch({'task': {'name': 'IsaacGymEnvs'}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs the package isaacgym; install NVIDIA's Isaac Gym Preview 4" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(importlib.util.find_spec("isaacgymenvs") is not None, reason="it is installed")
def test_commands_that_cannot_import_it_in_time_say_so_in_one_line():
    cfg = compose_config("task=IsaacGymEnvs", "task.env.name=Ant", "sim_device=cpu", "rl_device=cpu")
    with pytest.raises(ConfigError, match="task=IsaacGymEnvs: .*only python train.py imports Isaac Gym in time"):
        build.build_task(cfg, 3, CPU, "eager")


@pytest.mark.parametrize("seed, rank, expected", [(5, 0, 5), (5, 2, 2_000_011), (-1, 2, -1)])
def test_environments_of_every_process_have_a_seed_of_their_own(monkeypatch, seed, rank, expected):
    given = []
    monkeypatch.setitem(build.SINGLE_TASKS, "IsaacGymEnvs", lambda cfg, device, seed: given.append(seed))
    monkeypatch.setattr(single, "_MADE", {})
    monkeypatch.setattr(distributed, "RANK", rank)
    build.build_task(compose_config("task=IsaacGymEnvs", "task.env.name=Ant", "sim_device=cpu", "rl_device=cpu", f"seed={seed}"), 3, CPU, "eager")
    assert given == [expected]


def test_isaac_gym_itself():
    pytest.importorskip("isaacgym", reason="NVIDIA's Isaac Gym Preview 4 is a closed download")
    code = ("import isaacgym, sys; sys.path.insert(0, 'tests'); from conftest import compose_config, CPU; from happo_gpu import build; import torch; "
            "cfg = compose_config('task=IsaacGymEnvs', 'task.env.name=Cartpole', 'num_envs=7'); device = build.device_of(cfg); "
            "task = build.build_task(cfg, 7, device, 'eager'); task.reset(); "
            "obs, reward, reset, extras = task.step(torch.zeros(7, 1, device=device)); "
            "assert obs['obs'].shape == (7, 4) and reward.shape == (7, 1) and reset.dtype == extras['time_outs'].dtype == torch.bool")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_its_settings_are_read():
    cfg = compose_config("task=IsaacGymEnvs", "task.env.name=Humanoid", "+task.env.split.front=[0,1]")
    assert cfg.task.env.split == {"front": (0, 1)} and cfg.task.env.name == "Humanoid"
