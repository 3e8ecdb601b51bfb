"""The typed schema of a run: every key, its type and its range. Imports no torch.

YAML under ``cfg/`` holds the values, each once; these classes hold names, types and limits, and no
defaults that could hide a number. :func:`parse` turns the composed YAML into one :class:`Config` or
raises :class:`ConfigError`, whose single line says what was given, what is allowed and what to write.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import typing
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union


class ConfigError(ValueError):
    """A key, value or file that the user gave cannot be used; the message is one line."""


def _limit(
    low: float = -math.inf, high: float = sys.float_info.max, choices: Sequence[str] = (), size: int = 0
) -> Any:
    return field(metadata={"low": low, "high": high, "choices": tuple(choices), "size": size})


def positive(size: int = 0) -> Any:
    return _limit(low=sys.float_info.min, size=size)  # the smallest number above zero


def non_negative(size: int = 0) -> Any:
    return _limit(low=0.0, size=size)


def between(low: float, high: float) -> Any:
    return _limit(low=low, high=high)


def choice(*names: str) -> Any:
    return _limit(choices=names)


MaybeInt = Union[int, str]  # '' means: the default of the task or train file


# -- task ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PushEnvConfig:
    """task.env of the pushing tasks; camelCase as IsaacGymEnvs users type it."""

    numEnvs: int = _limit(low=1)
    episodeLength: int = _limit(low=1)  # control steps
    controlFrequencyInv: int = _limit(low=1)  # control steps per decision of the policy
    staggerEpisodes: bool = field()
    spawn: str = choice("separated", "reference")
    observation: str = choice("default", "reference")
    teamReward: bool = field()
    clipActions: float = positive()
    commandLimit: Tuple[float, ...] = positive(3)  # m/s, m/s, rad/s
    spawnRadius: Tuple[float, ...] = positive(2)  # m
    goalDistance: Tuple[float, ...] = positive(2)  # m
    successDistance: float = positive()  # m
    collisionDistance: float = non_negative()  # m
    collaborationDistance: float = positive()  # m


@dataclass(frozen=True)
class PushRewardConfig:
    """Scales of MAPush's seven reward terms."""

    reach: float = field()
    exception: float = field()
    distance: float = field()
    approach: float = field()
    collision: float = field()
    push: float = field()
    ocb: float = field()
    shapingScale: float = positive()  # multiplies the five dense terms


@dataclass(frozen=True)
class RobotConfig:
    mass: float = positive()  # kg
    inertia: float = positive()  # kg m^2
    reach: float = positive()  # m


@dataclass(frozen=True)
class ObjectConfig:
    halfExtents: Tuple[float, ...] = positive(3)  # m
    symmetry: int = _limit(low=1)
    mass: float = positive()  # kg
    inertia: float = positive()  # kg m^2
    friction: float = positive()
    contactFriction: float = non_negative()


@dataclass(frozen=True)
class PushConfig:
    """cfg/task/Go1Push.yaml."""

    name: str = field()
    numAgents: int = between(1, 8)
    env: PushEnvConfig = field()
    reward: PushRewardConfig = field()
    robot: RobotConfig = field()
    object: ObjectConfig = field()
    randomize: Dict[str, Tuple[float, ...]] = field()  # parameter: factors [low, high]

    def check(self) -> None:
        env = self.env
        if env.episodeLength % env.controlFrequencyInv:
            raise ConfigError(
                f"task.env.episodeLength={env.episodeLength} is no multiple of "
                f"task.env.controlFrequencyInv={env.controlFrequencyInv}: episodes end with a decision"
            )
        _check_factors(self.randomize)


def _check_factors(randomize: Dict[str, Tuple[float, ...]]) -> None:
    for key, (low, *high) in randomize.items():
        if len(high) != 1 or not 0.0 < low <= high[0]:
            raise ConfigError(f"task.randomize.{key}={[low] + high}: write two factors, 0 < low <= high")


@dataclass(frozen=True)
class SmallEnvConfig:
    """task.env of the small tasks."""

    numEnvs: int = _limit(low=1)
    episodeLength: int = _limit(low=2)
    controlFrequencyInv: int = between(1, 1)
    staggerEpisodes: bool = field()
    teamReward: bool = field()


@dataclass(frozen=True)
class SmallConfig:
    """cfg/task of the small tasks, which need no simulator."""

    name: str = field()
    env: SmallEnvConfig = field()

    def check(self) -> None:
        pass


@dataclass(frozen=True)
class WalkEnvConfig:
    """task.env of Go1Walk."""

    numEnvs: int = _limit(low=1)
    episodeLength: int = _limit(low=1)  # control steps
    controlFrequencyInv: int = between(1, 1)
    staggerEpisodes: bool = field()
    clipActions: float = positive()
    actionScale: float = positive()  # rad
    commandLimit: Tuple[float, ...] = non_negative(3)  # m/s, m/s, rad/s
    commandSeconds: Tuple[float, ...] = positive(2)
    startVelocity: float = non_negative()  # m/s, rad/s
    kickVelocity: float = non_negative()  # m/s
    kickSeconds: float = positive()


@dataclass(frozen=True)
class GaitConfig:
    frequency: float = non_negative()  # Hz
    lift: float = field()  # rad
    height: float = positive()  # m


@dataclass(frozen=True)
class WalkRewardConfig:
    """Per second and unit of the squared quantity; fall once."""

    linear: float = field()
    linear_fine: float = field()
    turn: float = field()
    turn_fine: float = field()
    bounce: float = field()
    roll: float = field()
    tilt: float = field()
    height: float = field()
    pose: float = field()
    torque: float = field()
    jerk: float = field()
    power: float = field()
    fall: float = field()


@dataclass(frozen=True)
class NoiseConfig:
    """Largest error of each sense; level multiplies all."""

    level: float = non_negative()
    linVel: float = non_negative()  # m/s
    angVel: float = non_negative()  # rad/s
    gravity: float = non_negative()
    jointPos: float = non_negative()  # rad
    jointVel: float = non_negative()  # rad/s


@dataclass(frozen=True)
class WalkConfig:
    """cfg/task/Go1Walk.yaml."""

    name: str = field()
    env: WalkEnvConfig = field()
    gait: GaitConfig = field()
    reward: WalkRewardConfig = field()
    noise: NoiseConfig = field()
    randomize: Dict[str, Tuple[float, ...]] = field()  # parameter: factors [low, high]

    def check(self) -> None:
        _check_factors(self.randomize)


TaskConfig = Union[PushConfig, WalkConfig, SmallConfig]
TASK_CONFIGS: Dict[str, type] = {
    "Go1Push": PushConfig, "Go1Walk": WalkConfig, "Spread": SmallConfig, "Harvest": SmallConfig, "Recall": SmallConfig, "Crew": SmallConfig,
}


# -- sim -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanarConfig:
    """cfg/sim/planar.yaml."""

    name: str = field()
    dt: float = between(1e-4, 0.02)  # s
    substeps: int = between(1, 100)  # physics steps per control period
    gain: float = positive()
    stiffness: Tuple[float, ...] = positive(3)  # N s/m, N s/m, N m s
    force_limit: Tuple[float, ...] = positive(2)  # N
    torque_limit: float = positive()  # N m
    latency: float = between(0.0, 0.02)  # s
    dead_zone: float = non_negative()
    dead_zone_width: float = positive()
    trim_rate: float = non_negative()  # 1/s
    trim_limit: Tuple[float, ...] = non_negative(3)  # m/s, m/s, rad/s
    model_time: Tuple[float, ...] = positive(3)  # s
    ripple: Tuple[float, ...] = non_negative(3)  # m/s, m/s, rad/s
    ripple_frequency: float = positive()  # Hz
    nose_x: float = field()  # m
    nose_radius: float = positive()  # m
    front: float = field()  # m
    rear: float = field()  # m
    radius: float = positive()  # m
    torsion_radius: float = positive()  # m
    friction_share: float = between(0.0, 1.0)
    contact_stiffness: float = positive()  # N/m
    contact_damping: float = non_negative()  # N s/m
    tangent_damping: float = non_negative()  # N s/m
    mass_split: float = _limit(low=1.0)


@dataclass(frozen=True)
class LeggedConfig:
    """sim.legs of cfg/sim/mujoco.yaml: whole robots."""

    dt: float = between(1e-4, 0.02)  # s
    substeps: int = between(1, 100)  # physics steps per control period
    stiffness: float = positive()  # N m/rad
    damping: float = non_negative()  # N m s/rad
    latency: float = non_negative()  # s
    iterations: int = _limit(low=1)
    ls_iterations: int = _limit(low=1)
    fall_cosine: float = between(-1.0, 1.0)
    fall_height: Tuple[float, ...] = positive(2)  # m


@dataclass(frozen=True)
class MujocoConfig:
    """cfg/sim/mujoco.yaml."""

    name: str = field()
    locomotion: str = field()  # a file; '': the project's own policy
    trim_rate: float = non_negative()  # 1/s
    trim_limit: Tuple[float, ...] = non_negative(3)  # m/s, m/s, rad/s
    model_time: Tuple[float, ...] = positive(3)  # s
    legs: LeggedConfig = field()


SimConfig = Union[PlanarConfig, MujocoConfig]
SIM_CONFIGS: Dict[str, type] = {"planar": PlanarConfig, "mujoco": MujocoConfig}


# -- algo ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelConfig:
    """Networks, with HARL's names."""

    hidden_sizes: Tuple[int, ...] = _limit(low=1)
    activation_func: str = choice("relu", "tanh", "elu", "silu", "selu", "sigmoid", "leaky_relu")
    use_feature_normalization: bool = field()
    use_layer_norm: bool = field()
    initialization_method: str = choice("orthogonal_", "xavier_uniform_")
    gain: float = positive()
    std_x_coef: float = positive()
    std_y_coef: float = positive()
    share_param: bool = field()
    multi_discrete: str = choice("separate", "harl")
    normalize_input: bool = field()
    recurrent: str = choice("none", "naive", "chunked")
    recurrent_n: int = between(1, 8)  # layers
    data_chunk_length: int = _limit(low=1)  # steps of a training sequence, if chunked


@dataclass(frozen=True)
class TrustRegionConfig:
    """HATRPO's step, with HARL's names."""

    kl_threshold: float = positive()
    ls_step: int = _limit(low=1)
    accept_ratio: float = non_negative()
    backtrack_coeff: float = between(0.0, 1.0)


@dataclass(frozen=True)
class AlgoConfig:
    """cfg/algo/*.yaml, with HARL's names."""

    name: str = choice("HAPPO", "MAPPO", "HAA2C", "HATRPO")
    actor_step: str = choice("ppo", "a2c", "trust_region")
    episode_length: int = _limit(low=1)  # rollout steps (decisions) per iteration
    gamma: float = between(0.0, 1.0)
    gae_lambda: float = between(0.0, 1.0)
    time_limit: str = choice("bootstrap", "mask", "terminal")
    lr: float = positive()
    critic_lr: float = positive()
    use_linear_lr_decay: bool = field()
    adaptive_kl: float = non_negative()  # 0: off
    opti_eps: float = positive()
    weight_decay: float = non_negative()
    ppo_epoch: int = _limit(low=1)
    critic_epoch: int = _limit(low=1)
    actor_num_mini_batch: int = _limit(low=1)
    critic_num_mini_batch: int = _limit(low=1)
    clip_param: float = positive()
    entropy_coef: float = non_negative()
    value_loss_coef: float = positive()
    use_clipped_value_loss: bool = field()
    use_huber_loss: bool = field()
    huber_delta: float = positive()
    use_max_grad_norm: bool = field()
    max_grad_norm: float = positive()
    use_valuenorm: bool = field()
    valuenorm_beta: float = between(0.0, 1.0)
    valuenorm_update: str = choice("minibatch", "iteration")
    action_aggregation: str = choice("prod", "mean")
    compound_factor: bool = field()
    fixed_order: bool = field()
    use_policy_active_masks: bool = field()
    trust_region: TrustRegionConfig = field()
    model: ModelConfig = field()


@dataclass(frozen=True)
class TrainConfig:
    """Length and cadence of a run; cfg/train/<Task><ALGO>.yaml tunes them together with algo."""

    max_iterations: int = _limit(low=1)
    log_every: int = _limit(low=1)
    eval_every: int = _limit(low=0)
    save_every: int = _limit(low=0)
    eval_envs: int = _limit(low=1)


# -- root ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """cfg/config.yaml with its groups."""

    task: TaskConfig = field()
    sim: SimConfig = field()
    algo: AlgoConfig = field()
    train: TrainConfig = field()
    num_envs: MaybeInt = _limit(low=1)
    seed: int = _limit(low=-1)
    torch_deterministic: bool = field()
    max_iterations: MaybeInt = _limit(low=1)
    log_every: MaybeInt = _limit(low=1)
    eval_every: MaybeInt = _limit(low=0)
    save_every: MaybeInt = _limit(low=0)
    sim_device: str = field()
    rl_device: str = field()
    headless: bool = field()
    test: bool = field()
    checkpoint: str = field()
    resume: str = field()
    experiment: str = field()
    capture_video: bool = field()
    capture_video_every: int = _limit(low=1)
    accelerate: str = choice("auto", "eager", "compile")
    num_threads: int = _limit(low=0)


def parse(raw: Mapping[str, Any]) -> Config:
    """Builds the typed config from nested plain data, or raises :class:`ConfigError`."""
    config = typed(Config, raw, "")
    config = _apply_root_overrides(config)
    config.task.check()
    _check_algo(config)
    if config.capture_video and not config.train.eval_every:
        raise ConfigError("capture_video=True films evaluations, and eval_every=0 asks for none; write eval_every=50")
    return config


def _check_algo(config: Config) -> None:
    algo, samples = config.algo, config.algo.episode_length * config.task.env.numEnvs
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
        samples //= length
    if algo.adaptive_kl and algo.use_linear_lr_decay:
        raise ConfigError("algo.adaptive_kl and algo.use_linear_lr_decay both set the learning rate; write one of them as 0 or false")
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
    return dataclasses.replace(config, task=task, train=dataclasses.replace(train, **given))


def nearest(name: str, known: Sequence[str]) -> str:
    """'did you mean x?' for the closest of the known names, else the list of them."""
    # A nested name often differs only in its last part; compare those first.
    leaves = {key.rsplit(".", 1)[-1]: key for key in known}
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if not close:
        close = [leaves[leaf] for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(leaves), 1, 0.6)]
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(sorted(known))


def flatten(raw: Mapping[str, Any], prefix: str = "") -> List[str]:
    """Dotted names of every key of nested data."""
    keys: List[str] = []
    for key, value in raw.items():
        keys.append(prefix + key)
        if isinstance(value, Mapping):
            keys += flatten(value, prefix + key + ".")
    return keys


def typed(cls: type, raw: Any, path: str) -> Any:
    """Builds a config class from nested plain data, or raises :class:`ConfigError`; ``path`` is its dotted name."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path or 'the config'} must be a group of keys, not {raw!r}")
    names = [f.name for f in dataclasses.fields(cls)]
    for key in raw:
        if key not in names:
            raise ConfigError(f"unknown key {_join(path, key)}; {nearest(key, names)}")
    missing = [name for name in names if name not in raw]
    if missing:
        raise ConfigError(f"missing key {_join(path, missing[0])}: add it to the YAML file or the command line")
    hints = typing.get_type_hints(cls)
    values = {
        f.name: _convert(raw[f.name], hints[f.name], _join(path, f.name), f.metadata)
        for f in dataclasses.fields(cls)
    }
    return cls(**values)


def _by_name(raw: Any, path: str, known: Dict[str, type]) -> type:
    """The class of a group whose ``name`` says which it is."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path} must be a group of keys, not {raw!r}")
    name = raw.get("name")
    if name not in known:
        raise ConfigError(f"{path}.name={name} is not known; {nearest(str(name), list(known))}")
    return known[name]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(value: Any, hint: Any, path: str, limits: Mapping[str, Any]) -> Any:
    for union, known in ((TaskConfig, TASK_CONFIGS), (SimConfig, SIM_CONFIGS)):
        if hint == union:
            hint = _by_name(value, path, known)
    if dataclasses.is_dataclass(hint):
        return typed(hint, value, path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return "" if value == "" else _convert(value, int, path, limits)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or not value:
            raise ConfigError(f"{path}={value!r} must be a list, e.g. {path}=[1,2]")
        if limits.get("size") and len(value) != limits["size"]:
            raise ConfigError(f"{path}={list(value)}: {limits['size']} numbers are needed")
        return tuple(_convert(item, args[0], path, limits) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r} must be a group of keys")
        return {key: _convert(item, args[1], _join(path, key), limits) for key, item in value.items()}
    return _scalar(value, hint, path, limits)


def _scalar(value: Any, hint: type, path: str, limits: Mapping[str, Any]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is str and value is None:
        value = ""
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # experiment=42
    if type(value) is not hint:
        kind = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}[hint]
        raise ConfigError(f"{path}={value!r} must be {kind}")
    if hint in (int, float):
        low, high = limits.get("low", -math.inf), limits.get("high", sys.float_info.max)
        if not low <= value <= high:
            raise ConfigError(f"{path}={value} is out of range; allowed: {_interval(low, high)}")
    choices = limits.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{path}={value!r} is not known; write one of: {', '.join(choices)}")
    return value


def _interval(low: float, high: float) -> str:
    if low == sys.float_info.min:
        return "above 0"
    if high == sys.float_info.max:
        return f"{low:g} or more"
    return f"{low:g} to {high:g}"
