"""The typed schema of a run: every key, its type and its range. Imports no torch.

YAML under ``cfg/`` holds the values, each once; these classes hold names, types and limits, and no
defaults that could hide a number. :func:`parse` turns the composed YAML into one :class:`Config` or
raises :class:`ConfigError`, whose single line says what was given, what is allowed and what to write.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Mapping, Union

from happo_gpu.config.algo import AlgoConfig, TrainConfig
from happo_gpu.config.push import PushConfig
from happo_gpu.config.schema import ConfigError, choice, limit, one_of, typed
from happo_gpu.config.sims import SIM_CONFIGS, PlanarConfig, SimConfig
from happo_gpu.config.tasks import SINGLE, TASK_CONFIGS, TaskConfig

MaybeInt = Union[int, str]  # '' means: the default of the task or train file


@dataclass(frozen=True)
class Config:
    """cfg/config.yaml with its groups."""

    task: TaskConfig = one_of(TASK_CONFIGS)
    sim: SimConfig = one_of(SIM_CONFIGS)
    algo: AlgoConfig = field()
    train: TrainConfig = field()
    num_envs: MaybeInt = limit(low=1)
    seed: int = limit(low=-1)
    torch_deterministic: bool = field()
    max_iterations: MaybeInt = limit(low=1)
    log_every: MaybeInt = limit(low=1)
    eval_every: MaybeInt = limit(low=0)
    save_every: MaybeInt = limit(low=0)
    sim_device: str = field()
    rl_device: str = field()
    headless: bool = field()
    test: bool = field()
    agent: str = choice("", "zero", "random", "scripted")
    checkpoint: str = field()
    resume: str = field()
    experiment: str = field()
    capture_video: bool = field()
    capture_video_every: int = limit(low=1)
    wandb_activate: bool = field()
    wandb_project: str = field()
    wandb_entity: str = field()
    wandb_group: str = field()
    wandb_name: str = field()
    accelerate: str = choice("auto", "eager", "compile", "graph")
    precision: str = choice("", "float32", "tf32", "bf16", "auto")
    num_threads: int = limit(low=0)
    on_nan: str = choice("stop", "rollback")


def parse(raw: Mapping[str, Any]) -> Config:
    """Builds the typed config from nested plain data, or raises :class:`ConfigError`."""
    config = typed(Config, raw, "")
    config = _apply_root_overrides(config)
    config.task.check()
    if config.agent and not config.test:
        raise ConfigError(f"agent={config.agent} acts in place of a policy, and training needs one; write test=True agent={config.agent}")
    if config.agent and config.checkpoint:
        raise ConfigError(f"agent={config.agent} and checkpoint= both say who acts; write one of them")
    _check_algo(config)
    if not config.test:  # a policy may act in fewer environments than it can learn from
        _check_mini_batches(config)
    if isinstance(config.task, PushConfig) and isinstance(config.sim, PlanarConfig):
        _check_latency(config.task, config.sim)
    single = "sim=isaacgym" if config.sim.name == "isaacgym" else f"task={config.task.name}" if isinstance(config.task, SINGLE) else ""
    if single and 0 < config.train.eval_every < config.train.max_iterations and not config.test:
        raise ConfigError(f"{single} runs once in a process, and evaluations while training would need another one; write eval_every=0, "
                          f"and test=True afterwards, or eval_every={config.train.max_iterations} for one at the end")
    if "/" in config.experiment or config.experiment in (".", ".."):
        raise ConfigError(f"experiment={config.experiment} names a directory in runs/, and its files; write it without a slash")
    if config.capture_video and not config.train.eval_every:
        raise ConfigError("capture_video=True films evaluations, and eval_every=0 asks for none; write eval_every=50")
    return config


def _check_latency(task: PushConfig, sim: PlanarConfig) -> None:
    period, nominal = sim.dt * sim.substeps, max(sim.latency, sim.wheels.latency)
    for path, pairs in (("task.randomize", task.randomize), ("task.curriculum.easiest", task.curriculum.easiest)):
        highest = nominal * max(pairs.get("latency", (0.0,)))
        if highest > period + 1e-9:
            raise ConfigError(f"{path}.latency={list(pairs['latency'])}: {highest:g} s is more than a control period, {period:g} s, by "
                              f"which sim=planar can delay a command at most; write factors up to {period / nominal:g}")


def _check_algo(config: Config) -> None:
    algo = config.algo
    if algo.model.share_param and algo.compound_factor:
        raise ConfigError("algo.model.share_param=true with algo.compound_factor=true: HAPPO's agents have "
                          "actors of their own; write algo=MAPPO to share one")
    if algo.model.share_param and algo.actor_step == "trust_region":
        raise ConfigError("algo.model.share_param=true with algo.actor_step=trust_region: write algo.model.share_param=false")
    if not algo.model.hidden_sizes:
        raise ConfigError("algo.model.hidden_sizes=[]: at least one layer is needed, e.g. [64,64]")
    if algo.model.recurrent != "none":
        length = algo.episode_length if algo.model.recurrent == "naive" else algo.model.data_chunk_length
        if algo.episode_length % length:
            raise ConfigError(f"algo.model.data_chunk_length={length} does not divide algo.episode_length="
                              f"{algo.episode_length}; write a divisor of it")
    if algo.adaptive_kl and algo.use_linear_lr_decay:
        raise ConfigError("algo.adaptive_kl and algo.use_linear_lr_decay both set the learning rate; write one of them as 0 or false")


def _check_mini_batches(config: Config) -> None:
    algo = config.algo
    samples = algo.episode_length * config.task.env.numEnvs // max(1, algo.chunk)
    for key in ("actor_num_mini_batch", "critic_num_mini_batch"):
        if getattr(algo, key) > samples:
            raise ConfigError(f"algo.{key}={getattr(algo, key)} is more than the {samples} "
                              f"{'samples' if algo.model.recurrent == 'none' else 'sequences'} of an iteration")


def _apply_root_overrides(config: Config) -> Config:
    """Root keys that are not empty win over the task's and the train file's."""
    env, train = config.task.env, config.train
    if config.num_envs != "":
        env = dataclasses.replace(env, numEnvs=config.num_envs)
    given = {
        key: getattr(config, key)
        for key in ("max_iterations", "log_every", "eval_every", "save_every")
        if getattr(config, key) != ""
    }
    task = dataclasses.replace(config.task, env=env)
    model = dataclasses.replace(config.algo.model, precision=config.precision or config.algo.model.precision)
    algo = dataclasses.replace(config.algo, model=model)
    return dataclasses.replace(config, task=task, algo=algo, train=dataclasses.replace(train, **given))
