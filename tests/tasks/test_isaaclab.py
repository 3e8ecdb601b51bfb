"""What the adapter does with what Isaac Lab's interface tells it, on a small environment that keeps to it; and, where it is installed, the real thing."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import gymnasium
import pytest
import torch
from conftest import CPU, compose_config

from happo_gpu.config import ConfigError
from happo_gpu.tasks import isaaclab

ROOT = Path(__file__).resolve().parent.parent.parent
N = 3
PUSH, STAY = 1.0, 1.0  # the scout's force, the mule's choice
SHOWN = [-1.0, 2.0, 0.0, 2.0, -1.0]  # both agents' observations of a new episode that starts 1 m and 2 m from the middle

# What the real packages have in these places: isaaclab/app/app_launcher.py, isaaclab_tasks/utils/parse_cfg.py.
LAUNCHER = """
import sys
class AppLauncher:
    def __init__(self, launcher_args=None, **kwargs):
        print("started", launcher_args, "before torch:", "torch" not in sys.modules, flush=True)
        self.app = self
"""
PARSER = """
import gymnasium
def parse_env_cfg(task_name, device="cuda:0", num_envs=None, use_fabric=None):
    cfg = gymnasium.spec(task_name).kwargs["env_cfg_entry_point"]()
    cfg.sim, cfg.scene = getattr(cfg, "sim", cfg), getattr(cfg, "scene", cfg)
    cfg.sim.device, cfg.scene.num_envs = device, num_envs
    return cfg
"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    parser = ModuleType("isaaclab_tasks.utils")
    exec(PARSER, vars(parser))
    monkeypatch.setitem(sys.modules, "isaaclab_tasks", ModuleType("isaaclab_tasks"))
    monkeypatch.setitem(sys.modules, "isaaclab_tasks.utils", parser)


def adapter(name="carts:Carts-v0", team=True, **options):
    env = SimpleNamespace(id=name, numEnvs=N, teamReward=team, options=options)
    task = isaaclab.make(SimpleNamespace(env=env), CPU, 5)
    task.reset()
    return task


def played(task, steps, force=PUSH, choice=STAY):
    for _ in range(steps):
        _, reward, reset, extras = task.step(torch.tensor([force, choice]).expand(N, 2))
    return reward, reset, extras


def test_agents_keep_their_own_sizes_and_kinds_of_action():
    task = adapter(starts=(1.0, 2.0))
    assert [(agent.name, agent.num_obs, agent.action_space.choices) for agent in task.agents] == [("scout", 3, ()), ("mule", 2, (3,))]
    assert (task.num_envs, task.num_states, task.max_episode_length, task.dt) == (N, 5, 29, 0.1)
    assert task.obs_buf.tolist() == task.states_buf.tolist() == [SHOWN] * N
    assert task._env.cfg.seed == 5


def test_an_environment_may_change_its_actions_but_not_those_that_are_learned_from():
    task, drawn = adapter(), torch.tensor([[7.0, 2.0]] * N)
    task.step(drawn)
    assert task._env.actions["scout"].tolist() == [[1.0]] * N and task._env.actions["mule"].tolist() == [[2]] * N
    assert drawn.tolist() == [[7.0, 2.0]] * N


@pytest.mark.parametrize("name, place, speed", [("carts:Carts-v0", -0.476, 2.44), ("carts:CartsTold-v0", -0.1808, 2.952)])
def test_a_time_out_bootstraps_from_what_was_reached_or_where_nobody_tells_from_the_step_before(name, place, speed):
    task = adapter(name, starts=(1.0, 2.0), episode_length_s=0.5)
    reward, reset, extras = played(task, 3)
    assert not reset.any() and task.states_buf[0].tolist() == pytest.approx([-0.476, 2.0, 2.44, 2.0, -0.476])
    reward, reset, extras = played(task, 1)
    assert reset.all() and extras["time_outs"].all()
    assert extras["final_states"].tolist() == [pytest.approx([place, 2.0, speed, 2.0, place])] * N
    assert task.obs_buf.tolist() == task.states_buf.tolist() == [SHOWN] * N and not task.progress_buf.any()
    assert reward[0].tolist() == pytest.approx([-1.1 * 2.1808])
    assert extras["episode"]["length"].tolist() == [4.0] * N
    assert extras["episode"]["return_mule"][0] == pytest.approx(0.1 * extras["episode"]["return_scout"][0])
    assert extras["episode"]["return"][0] == pytest.approx(-1.1 * (2.9 + 2.72 + 2.476 + 2.1808))


def test_a_state_of_its_own_is_the_critics_and_that_of_the_step_before_at_a_time_out():
    task = adapter("carts:CartsTold-v0", starts=(1.0, 2.0), episode_length_s=0.5, state_space=5)
    _, _, extras = played(task, 4)
    assert extras["final_states"][0].tolist() == pytest.approx([-0.476, 2.0, 2.44, 0.0, 3.0])
    assert task.states_buf[0].tolist() == [-1.0, 2.0, 0.0, 0.0, 0.0] and task.obs_buf[0].tolist() == SHOWN
    assert not task._env.cfg.compute_final_obs  # its observations again, for nothing


def test_a_crash_is_a_termination():
    reward, reset, extras = played(adapter(starts=(2.9, 0.0)), 2, force=-1.0)
    assert reset.all() and not extras["time_outs"].any() and reward[0].tolist() == pytest.approx([-1.1 * 3.18 - 5.0])


def test_an_environment_ends_when_all_of_its_agents_have():
    task = adapter(starts=(2.9, 2.8), alone=True)
    assert not played(task, 2, force=-1.0)[1].any()
    assert played(task, 2, force=-1.0, choice=2.0)[1].all()


def test_running_out_of_time_is_a_termination_where_the_task_is_of_finite_length():
    _, reset, extras = played(adapter(episode_length_s=0.5, is_finite_horizon=True), 4, force=0.0)
    assert reset.all() and not extras["time_outs"].any()


def test_a_reward_each_or_their_sum():
    reward, *_ = played(adapter(starts=(1.0, 2.0), team=False), 1)
    assert reward.tolist() == [pytest.approx([-2.9, -0.29])] * N


def test_a_resumed_run_begins_new_episodes():
    task = adapter(starts=(1.0, 2.0))
    played(task, 2)
    task.load_state_dict(task.state_dict())
    assert task.obs_buf.tolist() == [SHOWN] * N and not task.progress_buf.any()


@pytest.mark.parametrize("name, options, line", [
    ("carts:Carts-v1", {}, "task.env.id=carts:Carts-v1: "),
    ("nowhere:Carts-v0", {}, "task.env.id=nowhere:Carts-v0: No module named 'nowhere'; write an id of Isaac Lab, or package:id"),
    ("carts:Cart-v0", {}, "task.env.id=carts:Cart-v0 has one agent; task=IsaacLab takes a DirectMARLEnv"),
    ("carts:Carts-v0", {"episode_lengths_s": 1}, "task.env.options.episode_lengths_s is not known to carts:Carts-v0; did you mean episode_length_s?"),
])
def test_what_cannot_be_made_is_one_line(name, options, line):
    with pytest.raises(ConfigError) as error:
        adapter(name, **options)
    assert str(error.value).startswith(line)


def test_an_observation_of_several_parts_is_refused():
    space = gymnasium.spaces.Dict({"joints": gymnasium.spaces.Box(-1.0, 1.0, (7,))})
    with pytest.raises(ConfigError, match="takes observations and states that are a Box, and that of scout is Dict"):
        isaaclab._size(space, "scout")


def command(*arguments, **environment):
    return subprocess.run([sys.executable, str(ROOT / "train.py"), "task=IsaacLab", "sim_device=cpu", "rl_device=cpu", *arguments], text=True,
                          capture_output=True, timeout=300, **environment)


def test_without_isaac_lab_it_is_one_line_that_says_what_to_install(tmp_path):
    done = command(cwd=str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("error: task=IsaacLab needs the package isaaclab; install NVIDIA's Isaac Sim and Isaac Lab")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_trainer_learns_on_it_and_starts_isaac_sim_before_torch(tmp_path):
    for path, text in {"isaaclab/__init__.py": "", "isaaclab/app.py": LAUNCHER, "isaaclab_tasks/__init__.py": "", "isaaclab_tasks/utils.py": PARSER}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), str(ROOT)])
    done = command("task.env.id=carts:Carts-v0", "num_envs=61", "max_iterations=12", "eval_every=12", "algo.episode_length=29", "algo.lr=0.005",
                   "algo.critic_lr=0.005", "algo.adaptive_kl=0", "algo.ppo_epoch=5", "algo.critic_epoch=5", "seed=1", "num_threads=1", "accelerate=eager",
                   cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    assert "started {'headless': True, 'device': 'cpu'} before torch: True" in done.stdout and done.stdout.count("started") == 1
    (metrics,) = tmp_path.glob("runs/IsaacLabHAPPO_*/metrics.jsonl")
    first, *_, last = (json.loads(line) for line in metrics.read_text().splitlines())
    assert first["Episode/return"] < -50.0 and last["evaluation"]["mean_return"] > -30.0  # carts that meet at once: about -16
    assert last["evaluation"]["episodes"] == 61  # in the environments of training


def test_isaac_lab_itself(tmp_path):
    pytest.importorskip("isaaclab", reason="Isaac Lab needs Isaac Sim and its Python")
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), "task=IsaacLab", "num_envs=64", "max_iterations=3"], cwd=str(tmp_path),
                          capture_output=True, text=True)
    assert "MAX EPOCHS NUM!" in done.stdout, done.stderr


def test_its_settings_are_read():
    cfg = compose_config("task=IsaacLab", "task.env.id=Isaac-Shadow-Hand-Over-Direct-v0", "+task.env.options.episode_length_s=5.0")
    assert cfg.task.env.options == {"episode_length_s": 5.0} and cfg.train.eval_every == 0
