"""cfg/task of Go1Walk."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Tuple

from happo_gpu.config.schema import between, check_pairs, limit, non_negative, positive


@dataclass(frozen=True)
class WalkEnvConfig:
    """task.env of Go1Walk."""

    numEnvs: int = limit(low=1)
    episodeLength: int = limit(low=1)  # control steps
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
class LoadConfig:
    """A box that stands in the way of some commands, or comes against the robot."""

    share: float = between(0.0, 1.0)  # of commands
    driven: float = between(0.0, 1.0)  # of these boxes
    drivenSpeed: Tuple[float, ...] = non_negative(2)  # m/s
    drivenForce: Tuple[float, ...] = non_negative(2)  # N
    gap: Tuple[float, ...] = non_negative(2)  # m
    aside: float = non_negative()  # m
    robotReach: Tuple[float, ...] = positive(2)  # m
    halfExtents: Tuple[float, ...] = positive(3)  # m
    mass: float = positive()  # kg
    inertia: float = positive()  # kg m^2
    friction: float = positive()
    contactFriction: float = non_negative()


@dataclass(frozen=True)
class WalkConfig:
    """cfg/task/Go1Walk.yaml."""

    name: str = field()
    env: WalkEnvConfig = field()
    load: LoadConfig = field()
    gait: GaitConfig = field()
    reward: WalkRewardConfig = field()
    noise: NoiseConfig = field()
    randomize: Dict[str, Tuple[float, ...]] = field()  # parameter: factors [low, high]

    def check(self) -> None:
        check_pairs("task.randomize", self.randomize, "factors")
