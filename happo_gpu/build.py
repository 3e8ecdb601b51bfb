"""The composition root: from a config to the objects of a run. Alone names concrete classes."""
from __future__ import annotations

import functools
import math
import os
import random
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
import yaml

from happo_gpu import accelerate, checkpoint, console, distributed, memory, precision, warm_up
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.config import Config, ConfigError
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.config.push import PushConfig, UpperConfig
from happo_gpu.config.schema import typed
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.config.walk import WalkConfig
from happo_gpu.data.rollout import Rollout
from happo_gpu.log import Logger, Sink
from happo_gpu.sim.planar import PlanarSim
from happo_gpu.sim.walking import WalkingSim
from happo_gpu.tasks import single
from happo_gpu.tasks.crew import Crew
from happo_gpu.tasks.harvest import Harvest
from happo_gpu.tasks.isaacgymenvs import make as make_isaacgymenvs
from happo_gpu.tasks.isaaclab import make as make_isaaclab
from happo_gpu.tasks.parallel_env import MaMuJoCo, PettingZoo
from happo_gpu.tasks.push import Go1Push, scene_of
from happo_gpu.tasks.push_upper import Act, Go1PushUpper
from happo_gpu.tasks.recall import Recall
from happo_gpu.tasks.spread import Spread
from happo_gpu.tasks.walk import Go1Walk, objects_of
from happo_gpu.tracking import WandbRun
from happo_gpu.trainer import EVALUATION_SEED, Camera, Trainer

_RANK_STRIDE = 1_000_003  # between the seeds of processes: runs with neighbouring seeds share none
SMALL_TASKS = {"Spread": Spread, "Harvest": Harvest, "Recall": Recall, "Crew": Crew}  # no simulator
OUTSIDE_TASKS = {"PettingZoo": PettingZoo, "MaMuJoCo": MaMuJoCo}  # bring their own
SINGLE_TASKS = {"IsaacGymEnvs": make_isaacgymenvs, "IsaacLab": make_isaaclab}  # likewise, one in a process


def device_of(cfg: Config) -> torch.device:
    """The device of simulation and learning; '' takes a GPU if there is one, each process its own."""
    chosen = []
    for key in ("sim_device", "rl_device"):
        name = getattr(cfg, key) or (f"cuda:{distributed.LOCAL_RANK}" if torch.cuda.is_available() else "cpu")
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
    if chosen[0].type == "cuda":
        torch.cuda.set_device(chosen[0])  # streams, graphs and timing events are made on the current device
    return chosen[0]


def seed_everything(seed: int, deterministic: bool) -> int:
    """Seeds before anything is built; -1 draws a seed. Returns the one in force.

    Of several processes each draws its own numbers; what must be equal is shared by the learner.
    """
    if seed < 0:
        seed = distributed.agree(random.SystemRandom().randrange(2**31))
    torch.manual_seed(_own_seed(seed))
    random.seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return seed


def _own_seed(seed: int) -> int:
    """Of this process, for its environments and noise; 32 bits, which all who are given one take."""
    return (seed + _RANK_STRIDE * distributed.RANK) % 2**32


def build_task(cfg: Config, num_envs: int, device: torch.device, mode: str, training: bool = False):
    """The task on its simulator, accelerated as ``mode`` says; with its curriculum, if it has one, for ``training`` only."""
    if cfg.task.name in SINGLE_TASKS:
        seed = cfg.seed if cfg.seed < 0 else _own_seed(cfg.seed)
        return single.shared(cfg.task, device, lambda: SINGLE_TASKS[cfg.task.name](cfg.task, device, seed))
    whole = {**SMALL_TASKS, **OUTSIDE_TASKS}.get(cfg.task.name)
    if whole:
        return whole(cfg.task, num_envs, device)
    if cfg.sim.name == "isaacgym":
        return single.shared((cfg.task, cfg.sim), device, lambda: _simulated(cfg, cfg.task.env.numEnvs, device, mode, training))
    return _simulated(cfg, num_envs, device, mode, training)


def _simulated(cfg: Config, num_envs: int, device: torch.device, mode: str, training: bool):
    sim = _build_sim(cfg, num_envs, device)
    unknown = sorted(set(cfg.task.randomize) - set(sim.params))
    if unknown:
        raise ConfigError(f"task.randomize.{unknown[0]} is no parameter of sim={cfg.sim.name}; known: {', '.join(sorted(sim.params))}")
    if isinstance(cfg.task, WalkConfig):
        return Go1Walk(sim, cfg.task, num_envs, device)
    task = Go1Push(sim, cfg.task, num_envs, device, training)
    if isinstance(cfg.task, UpperConfig):
        task = Go1PushUpper(sim, cfg.task, task, _frozen_policy(cfg.task, task, device), num_envs, device)
    if mode in ("compile", "graph") and isinstance(sim, PlanarSim):
        _accelerate(task, sim, num_envs, device, capture=mode == "graph")
    return task


def _accelerate(task, sim: PlanarSim, num_envs: int, device: torch.device, capture: bool) -> None:
    whole = [] if isinstance(task, Go1PushUpper) else [(task, "advance", "control_steps")]  # its leader decides within a decision
    end = (task, "conclude", "end_decision")
    if device.type == "cuda":
        hot = [(sim, "servo", "_servo"), (sim, "substep", "_substep"), (task, "after_physics", "post_physics_step")]
        accelerate.compile_hot(hot, num_envs, capture and not whole)
        if capture and whole:
            accelerate.capture([*whole, end])
        return
    # What is called by something compiled is compiled only when it is called by itself: by a team's leader, or while it is filmed.
    hot = [(sim, "step", "step"), (task, "after_physics", "post_physics_step")]
    accelerate.compile_envs([*hot, end, *whole], num_envs)


def _build_sim(cfg: Config, num_envs: int, device: torch.device):
    walks = isinstance(cfg.task, WalkConfig)
    if cfg.sim.name == "planar":
        if walks:
            raise ConfigError(f"task={cfg.task.name} moves joints, which sim=planar has none of; write sim=mujoco")
        return PlanarSim(scene_of(cfg.task), cfg.sim, num_envs, device)
    if not walks and any(robot.drive != "legs" for robot in scene_of(cfg.task).robots):
        raise ConfigError(f"sim={cfg.sim.name} has robots on legs only, and task={cfg.task.name} has others; write sim=planar")
    if cfg.sim.name == "isaacgym" and walks:
        raise ConfigError(f"sim=isaacgym has the pushing tasks only, and not task={cfg.task.name}; write sim=mujoco")
    if cfg.sim.name in ("mujoco_warp", "isaacgym") and not walks and scene_of(cfg.task).obstacles:
        raise ConfigError(f"sim={cfg.sim.name} has no obstacles yet, and task={cfg.task.name} has some; write sim=mujoco or sim=planar")
    kind = _legged_worlds(cfg.sim.name, device)
    if walks:
        return kind(1, objects_of(cfg.task), cfg.task.load.contactFriction, cfg.sim.legs, num_envs, device)
    return WalkingSim(scene_of(cfg.task), cfg.sim, num_envs, device, kind)


def _legged_worlds(name: str, device: torch.device):
    """The class of worlds that sim=mujoco, sim=mujoco_warp or sim=isaacgym steps."""
    if name == "isaacgym":
        if device.type != "cuda":
            raise ConfigError(f"sim=isaacgym steps on CUDA, not on {device}; write sim=mujoco")
        try:
            from happo_gpu.sim.isaacgym import IsaacGymWorlds
        except ImportError as error:
            raise ConfigError(f"sim=isaacgym: {error}; only python train.py imports Isaac Gym in time") from error
        return IsaacGymWorlds
    if name == "mujoco" and device.type != "cpu":
        raise ConfigError(f"sim=mujoco steps on the CPU, not on {device}; write sim=mujoco_warp, or sim_device=cpu rl_device=cpu")
    try:
        if name == "mujoco":
            from happo_gpu.sim.legged import Go1Worlds as Worlds
        else:
            from happo_gpu.sim.legged_warp import Go1WarpWorlds as Worlds
    except ImportError as error:
        package, extra = ("mujoco", "mujoco") if name == "mujoco" else ("mujoco-warp", "gpu-physics")
        raise ConfigError(f"sim={name} needs the package {package}; write pip install -e '.[{extra}]'") from error
    return Worlds


def _frozen_policy(cfg: UpperConfig, team: Go1Push, device: torch.device) -> Act:
    """What the team of task=Go1PushUpper does, as another run learned it."""
    if not cfg.upper.checkpoint:
        raise ConfigError(f"task={cfg.name} leads a trained team; write task.upper.checkpoint=runs/<a run of Go1Push>/nn/Go1Push.pth")
    path = Path(cfg.upper.checkpoint)
    if not path.is_file():
        raise ConfigError(f"task.upper.checkpoint={path} does not exist; give a .pth file, e.g. runs/<run>/nn/Go1Push.pth")
    saved = path.parent.parent / "config.yaml"
    if not saved.is_file():
        raise ConfigError(f"{saved} does not exist: it says which model the checkpoint is of; give a checkpoint where its run left it")
    algo = typed(AlgoConfig, yaml.safe_load(saved.read_text())["algo"], "algo")
    if algo.model.recurrent != "none":
        raise ConfigError(f"task.upper.checkpoint={path} has a memory, which nobody clears below; give one with algo.model.recurrent=none")
    learner = OnPolicyLearner(team.agents, team.num_states, team.num_values, team.per_agent_states, algo, device, 0)
    checkpoint.put_weights(checkpoint.load(path, device), learner, path)
    policy = learner.policy(team.num_envs, deterministic=True)
    return lambda obs: policy.act(obs, None, team.reset_buf)[0]


def build_learner(cfg: Config, task, device: torch.device, seed: int) -> OnPolicyLearner:
    precision.allow(cfg.algo.model.precision)
    return OnPolicyLearner(
        task.agents, task.num_states, task.num_values, task.per_agent_states, cfg.algo, device, seed
    )


def _mode(cfg: Config, device: torch.device, steps: List[Tuple[int, int]]) -> str:
    """How to run so many control steps of so many environments each."""
    calls = sum(number for number, _ in steps) // cfg.task.env.controlFrequencyInv
    if isinstance(cfg.task, PushConfig) and isinstance(cfg.sim, PlanarConfig):
        calls *= 1 + cfg.task.env.controlFrequencyInv * cfg.sim.substeps
    return accelerate.choose(cfg.accelerate, device, sum(number * num_envs for number, num_envs in steps), calls)


def _training_mode(cfg: Config, device: torch.device) -> str:
    train, env = cfg.train, cfg.task.env
    steps = [(train.max_iterations * cfg.algo.episode_length * env.controlFrequencyInv, env.numEnvs)]  # of this process
    if train.eval_every:
        steps.append((math.ceil(train.max_iterations / train.eval_every) * env.episodeLength, train.eval_envs))
    return _mode(cfg, device, steps)


def build_trainer(
    cfg: Config, run_dir: Path, name: str, device: torch.device, seed: int, state: Optional[Dict[str, Any]] = None
) -> Trainer:
    """Everything that a training run needs, on ``device``; ``state`` is a checkpoint to continue."""
    mode = _training_mode(cfg, device)
    task = build_task(cfg, cfg.task.env.numEnvs, device, mode, training=True)
    with warm_up.aside(device):
        torch.manual_seed(EVALUATION_SEED)  # a task with maps draws them now: the same for every run, and for test=True with this seed
        eval_task = build_task(cfg, cfg.train.eval_envs, device, mode)
    learner = build_learner(cfg, task, device, seed)
    rollout = _rollout_like(task, cfg)
    logger = None
    if distributed.RANK == 0:
        logger = Logger(run_dir, build_sinks(cfg, run_dir, seed), state["frames"] if state else 0)
    trainer = Trainer(task, eval_task, learner, rollout, logger, cfg.train, run_dir, name, build_camera(cfg, eval_task.dt),
                      cfg.train.max_rollbacks if cfg.on_nan == "rollback" else 0)
    if mode == "compile":
        if warm_up.compile_learner(learner, trainer.policy, plain=task.available_buf is None and task.active_buf is None):
            accelerate.take_threads()
    elif mode == "graph":
        warm_up.capture_learner(learner, trainer.policy)
    for each in (task, eval_task):
        warm_up.run_task(each)
    task.reset(stagger=cfg.task.env.staggerEpisodes)
    if state:
        try:
            trainer.load_state_dict(state)
        except (RuntimeError, KeyError) as error:  # torch's for tensors of another size
            if memory.is_out_of_memory(error):
                raise
            raise ConfigError(f"the checkpoint does not fit ({str(error).strip().splitlines()[-1].strip()}); num_envs, task, networks and algorithm "
                              "of a resumed run are those that it had; write checkpoint= in place of resume= to take its weights alone") from error
    return trainer


def _rollout_like(task, cfg: Config) -> Rollout:
    model = cfg.algo.model
    return Rollout.like(task, cfg.algo.episode_length, cfg.algo.chunk, model.recurrent_n, model.hidden_sizes[-1])


def build_sinks(cfg: Config, run_dir: Path, seed: int) -> List[Sink]:
    tracking = [WandbRun(cfg, run_dir, seed)] if cfg.wandb_activate else []
    return [build_console(run_dir), *tracking]


def build_console(run_dir: Path) -> Sink:
    """A display on a terminal if rich is installed, else rl_games' lines."""
    if not console.on_terminal():
        return console.Lines(live=False)
    try:
        from happo_gpu.dashboard import Dashboard
    except ImportError:
        return console.Lines(live=True)
    return Dashboard(run_dir)


def predict_memory(cfg: Config, device: torch.device) -> memory.Need:
    """What training will need, known before any of it is allocated: from tasks of two and three environments."""
    with warm_up.aside(device):
        task, larger = (build_task(cfg, n, device, "eager") for n in (2, 3))
    rollout = _rollout_like(task, cfg)
    return memory.predict(cfg.algo, task, larger, rollout, cfg.task.env.numEnvs, cfg.train.eval_envs)


def build_camera(cfg: Config, dt: float) -> Optional[Camera]:
    """None without capture_video, and with one line of warning where no video can be drawn: no run fails over that."""
    if not cfg.capture_video:
        return None
    try:
        from happo_gpu import encode, outlines, video  # heavy to import; only runs that film need them

        encode.check_packages(".mp4")
        draw = functools.partial(video.try_write, outlines=outlines.outlines_of(cfg), dt=dt)
    except (ConfigError, ImportError) as error:
        print(f"warning: capture_video=True has no effect: {error}", flush=True)
        return None
    return Camera(cfg.capture_video_every, video.CAPTURED_ENVS, draw)


def build_test_task(cfg: Config, device: torch.device, evaluations: int = 1):
    """A task to evaluate on, so many times: what is worth compiling for many is not for one."""
    env = cfg.task.env
    mode = _mode(cfg, device, [(env.episodeLength * evaluations, env.numEnvs)])
    return build_task(cfg, env.numEnvs, device, mode)


def build_for_test(cfg: Config, device: torch.device, seed: int, evaluations: int = 1) -> Tuple[object, OnPolicyLearner]:
    """A task and a learner that will load a checkpoint's weights."""
    task = build_test_task(cfg, device, evaluations)
    return task, build_learner(cfg, task, device, seed)
