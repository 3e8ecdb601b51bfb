"""The composition root: from a config to the objects of a run. Alone names concrete classes."""
from __future__ import annotations

import contextlib
import functools
import os
import random
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch

from happo_gpu import accelerate, memory, precompile
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.config import Config, ConfigError
from happo_gpu.config.tasks import SmallConfig, WalkConfig
from happo_gpu.data.rollout import Rollout
from happo_gpu.log import Logger
from happo_gpu.sim.planar import PlanarSim
from happo_gpu.tasks.crew import Crew
from happo_gpu.tasks.harvest import Harvest
from happo_gpu.tasks.push import Go1Push, scene_of
from happo_gpu.tasks.recall import Recall
from happo_gpu.tasks.spread import Spread
from happo_gpu.tasks.walk import Go1Walk
from happo_gpu.trainer import Camera, Trainer

TASKS = {"Go1Push": Go1Push}
SMALL_TASKS = {"Spread": Spread, "Harvest": Harvest, "Recall": Recall, "Crew": Crew}  # no simulator


def device_of(cfg: Config) -> torch.device:
    """The device of simulation and learning; '' takes a GPU if there is one."""
    chosen = []
    for key in ("sim_device", "rl_device"):
        name = getattr(cfg, key) or ("cuda:0" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"{key}={name!r} is no device; write cpu, cuda:0 or cuda:1") from error
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"{key}={name!r} is not supported; write cpu or cuda:0")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"{key}={name!r} is absent: this torch sees {torch.cuda.device_count()} CUDA devices; write {key}=cpu"
            )
        chosen.append(device)
    if chosen[0] != chosen[1]:
        raise ConfigError(f"sim_device={chosen[0]} and rl_device={chosen[1]} differ; rollouts stay on one device")
    return chosen[0]


def seed_everything(seed: int, deterministic: bool) -> int:
    """Seeds before anything is built; -1 draws a seed. Returns the one in force."""
    if seed < 0:
        seed = random.SystemRandom().randrange(2**31)
    torch.manual_seed(seed)
    random.seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return seed


def build_task(cfg: Config, num_envs: int, device: torch.device, mode: str):
    """The task on its simulator, accelerated as ``mode`` says."""
    if isinstance(cfg.task, SmallConfig):
        return SMALL_TASKS[cfg.task.name](cfg.task, num_envs, device)
    sim = _build_sim(cfg, num_envs, device)
    unknown = sorted(set(cfg.task.randomize) - set(sim.params))
    if unknown:
        raise ConfigError(f"task.randomize.{unknown[0]} is no parameter of sim={cfg.sim.name}; known: {', '.join(sorted(sim.params))}")
    if isinstance(cfg.task, WalkConfig):
        return Go1Walk(sim, cfg.task, num_envs, device)
    task = TASKS[cfg.task.name](sim, cfg.task, num_envs, device)
    if mode == "compile" and isinstance(sim, PlanarSim):
        hot = [(sim, "servo", "_servo"), (sim, "substep", "_substep"), (task, "after_physics", "post_physics_step")]
        accelerate.compile_hot(hot, num_envs)
    return task


def _build_sim(cfg: Config, num_envs: int, device: torch.device):
    walks = isinstance(cfg.task, WalkConfig)
    if cfg.sim.name == "planar":
        if walks:
            raise ConfigError(f"task={cfg.task.name} moves joints, which sim=planar has none of; write sim=mujoco")
        return PlanarSim(scene_of(cfg.task), cfg.sim, num_envs, device)
    try:
        from happo_gpu.sim.legged import Go1Worlds
        from happo_gpu.sim.mujoco import MujocoSim
    except ImportError as error:
        raise ConfigError("sim=mujoco needs the package mujoco; write pip install -e '.[mujoco]'") from error
    if device.type != "cpu":
        raise ConfigError(f"sim=mujoco steps on the CPU, not on {device}; write sim_device=cpu rl_device=cpu")
    if walks:
        return Go1Worlds(1, (), 0.6, cfg.sim.legs, num_envs)
    return MujocoSim(scene_of(cfg.task), cfg.sim, num_envs, device)


def build_learner(cfg: Config, task, device: torch.device, seed: int) -> OnPolicyLearner:
    return OnPolicyLearner(
        task.agents, task.num_states, task.num_values, task.per_agent_states, cfg.algo, device, seed
    )


def total_env_steps(cfg: Config) -> int:
    env = cfg.task.env
    return cfg.train.max_iterations * cfg.algo.episode_length * env.numEnvs * env.controlFrequencyInv


def build_trainer(
    cfg: Config, run_dir: Path, name: str, device: torch.device, seed: int, state: Optional[Dict[str, Any]] = None
) -> Trainer:
    """Everything that a training run needs, on ``device``; ``state`` is a checkpoint to continue."""
    mode = accelerate.choose(cfg.accelerate, device, total_env_steps(cfg))
    task = build_task(cfg, cfg.task.env.numEnvs, device, mode)
    eval_task = build_task(cfg, cfg.train.eval_envs, device, mode)
    learner = build_learner(cfg, task, device, seed)
    rollout = _rollout_like(task, cfg)
    logger = Logger(run_dir, state["frames"] if state else 0)
    trainer = Trainer(task, eval_task, learner, rollout, logger, cfg.train, run_dir, name, build_camera(cfg, eval_task.dt),
                      cfg.train.max_rollbacks if cfg.on_nan == "rollback" else 0)
    if mode == "compile" and isinstance(task.sim, PlanarSim):
        _compile_with_help(task, cfg)
    for each in (task, eval_task):
        _warm_up(each)
    task.reset(stagger=cfg.task.env.staggerEpisodes)
    if state:
        trainer.load_state_dict(state)
    return trainer


def _rollout_like(task, cfg: Config) -> Rollout:
    model = cfg.algo.model
    return Rollout.like(task, cfg.algo.episode_length, cfg.algo.chunk, model.recurrent_n, model.hidden_sizes[-1])


def _compile_with_help(task, cfg: Config) -> None:
    """Compiles the physics step here while another process compiles the rest, if torch's cache is cold."""
    helper = precompile.Helper(cfg)
    try:
        with _aside(task.device):
            task.reset()
            task.sim.substep()
        helper.wait()
        _warm_up(task)
        helper.done()
    finally:
        helper.stop()


def predict_memory(cfg: Config, device: torch.device) -> memory.Need:
    """What training will need, known before any of it is allocated: from a task of two environments."""
    with _aside(device):
        task = build_task(cfg, 2, device, "eager")
    rollout = _rollout_like(task, cfg)
    return memory.predict(cfg.algo, task, rollout, cfg.task.env.numEnvs, cfg.train.eval_envs)


def build_camera(cfg: Config, dt: float) -> Optional[Camera]:
    """None without capture_video, and with one line of warning where no video can be drawn: no run fails over that."""
    if not cfg.capture_video:
        return None
    try:
        from happo_gpu import outlines, video  # heavy to import; only runs that film need them

        video.check_packages(".mp4")
        draw = functools.partial(video.try_write, outlines=outlines.outlines_of(cfg), dt=dt)
    except (ConfigError, ImportError) as error:
        print(f"warning: capture_video=True has no effect: {error}", flush=True)
        return None
    return Camera(cfg.capture_video_every, video.CAPTURED_ENVS, draw)


def _warm_up(task) -> None:
    """Compiles, or loads compiled code, before any clock of training runs."""
    with _aside(task.device):
        task.reset()
        task.step(torch.zeros(task.num_envs, task.num_actions, device=task.device))


@contextlib.contextmanager
def _aside(device: torch.device):
    """Without gradients, and with the random state put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        yield


def build_for_test(cfg: Config, device: torch.device, seed: int) -> Tuple[object, OnPolicyLearner]:
    """A task and a learner that will load a checkpoint's weights."""
    env = cfg.task.env
    mode = accelerate.choose(cfg.accelerate, device, env.numEnvs * env.episodeLength)
    task = build_task(cfg, env.numEnvs, device, mode)
    return task, build_learner(cfg, task, device, seed)
