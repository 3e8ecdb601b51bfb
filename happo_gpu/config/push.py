"""cfg/task of the pushing tasks."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, Tuple

from happo_gpu.config.schema import ConfigError, between, check_pairs, choice, limit, non_negative, positive, rows


@dataclass(frozen=True)
class PushEnvConfig:
    """task.env of the pushing tasks; camelCase as IsaacGymEnvs users type it."""

    numEnvs: int = limit(low=1)
    episodeLength: int = limit(low=1)  # control steps
    controlFrequencyInv: int = limit(low=1)  # control steps per decision of the policy
    staggerEpisodes: bool = field()
    spawn: str = choice("separated", "reference")
    observation: str = choice("default", "reference")
    teamReward: bool = field()
    clipActions: float = positive()
    commandLimit: Tuple[float, ...] = positive(3)  # m/s, m/s, rad/s
    spawnRadius: Tuple[float, ...] = positive(2)  # m
    goalDistance: Tuple[float, ...] = positive(2)  # m
    successDistance: float = positive()  # m
    successYaw: float = between(0.0, 3.1416)  # rad; 0: any heading
    yawWeight: float = non_negative()  # m/rad
    collisionDistance: float = non_negative()  # m
    collaborationDistance: float = positive()  # m
    blind: Dict[str, Tuple[str, ...]] = limit(choices=("goal", "box_yaw", "partner"))  # agent: what it does not see


@dataclass(frozen=True)
class PushRewardConfig:
    """Scales of MAPush's seven reward terms, and of one for obstacles."""

    reach: float = field()
    exception: float = field()
    distance: float = field()
    approach: float = field()
    collision: float = field()
    push: float = field()
    obstacle: float = field()
    ocb: float = field()
    shapingScale: float = positive()  # multiplies the dense terms
    contactWeighted: bool = field()


@dataclass(frozen=True)
class CurriculumConfig:
    """Easier episodes first, in training."""

    step: float = between(0.001, 1.0)
    easiest: Dict[str, Tuple[float, ...]] = field()  # goalDistance or a key of task.randomize: [low, high] at difficulty 0


@dataclass(frozen=True)
class PushNoiseConfig:
    """Largest error of what a robot sees."""

    position: float = non_negative()  # m
    angle: float = non_negative()  # rad


@dataclass(frozen=True)
class RobotConfig:
    mass: float = positive()  # kg
    inertia: float = positive()  # kg m^2
    reach: float = positive()  # m


@dataclass(frozen=True)
class OtherRobotConfig(RobotConfig):
    drive: str = choice("legs", "wheels")


@dataclass(frozen=True)
class ObjectConfig:
    halfExtents: Tuple[float, ...] = positive(3)  # m
    round: bool = field()
    parts: Tuple[Tuple[float, ...], ...] = rows(4)  # m
    polygon: Tuple[Tuple[float, ...], ...] = rows(2)  # m
    symmetry: int = limit(low=1)
    mass: float = positive()  # kg
    inertia: float = positive()  # kg m^2
    friction: float = positive()
    contactFriction: float = non_negative()


@dataclass(frozen=True)
class ArenaConfig:
    """Where goal=sequence leads: maps with obstacles."""

    sides: Tuple[Tuple[float, ...], ...] = rows(2)  # m
    obstacles: int = between(0, 8)
    obstacleHalfExtents: Tuple[float, ...] = positive(3)  # m
    clearance: float = positive()  # m
    wayPoints: int = between(1, 64)
    maps: int = between(1, 65536)


@dataclass(frozen=True)
class PushConfig:
    """cfg/task/Go1Push.yaml and the tasks that change its numbers."""

    name: str = field()
    numAgents: int = between(1, 8)
    goal: str = choice("random", "sequence")
    env: PushEnvConfig = field()
    reward: PushRewardConfig = field()
    curriculum: CurriculumConfig = field()
    noise: PushNoiseConfig = field()
    robot: RobotConfig = field()
    otherRobots: Dict[str, OtherRobotConfig] = field()  # agent: the robot that it is instead
    object: ObjectConfig = field()
    arena: ArenaConfig = field()
    randomize: Dict[str, Tuple[float, ...]] = field()  # parameter: factors [low, high]

    def check(self) -> None:
        env = self.env
        if env.episodeLength % env.controlFrequencyInv:
            raise ConfigError(
                f"task.env.episodeLength={env.episodeLength} is no multiple of "
                f"task.env.controlFrequencyInv={env.controlFrequencyInv}: episodes end with a decision"
            )
        if self.object.round and self.object.parts:
            raise ConfigError("task.object.round=true with task.object.parts: an object is one or the other; write task.object.parts=[]")
        if self.goal == "sequence" and env.successYaw:
            raise ConfigError(f"task.goal=sequence with task.env.successYaw={env.successYaw}: way-points have no heading; "
                              "write task.env.successYaw=0.0")
        if self.goal == "sequence":
            _check_sides(self.arena.sides, env.goalDistance[0])
        _check_agents("task.env.blind", env.blind, self.numAgents)
        _check_agents("task.otherRobots", self.otherRobots, self.numAgents)
        check_pairs("task.randomize", self.randomize, "factors")
        check_pairs("task.curriculum.easiest", self.curriculum.easiest, "numbers")
        drawn = [*self.randomize] + ["goalDistance"] * (self.goal == "random")
        for name in self.curriculum.easiest:
            if name not in drawn:
                raise ConfigError(f"task.curriculum.easiest.{name}: no reset draws it; drawn are: "
                                  f"{', '.join(drawn + ['what +task.randomize.<parameter>=[low,high] adds'])}")


@dataclass(frozen=True)
class SubGoalConfig:
    """The level above a team, and its reward."""

    checkpoint: str = field()
    teamSteps: int = limit(low=1)  # control steps
    farthest: float = positive()  # m
    reach: float = field()
    progress: float = field()
    touch: float = field()
    way: float = field()


@dataclass(frozen=True)
class UpperConfig(PushConfig):
    """cfg/task/Go1PushUpper.yaml."""

    upper: SubGoalConfig = field()

    def check(self) -> None:
        super().check()
        env, upper = self.env, self.upper
        if self.goal != "sequence":
            raise ConfigError(f"task.goal={self.goal}: task={self.name} leads along way-points; write task.goal=sequence")
        if env.controlFrequencyInv % upper.teamSteps:
            raise ConfigError(f"task.env.controlFrequencyInv={env.controlFrequencyInv} is no multiple of task.upper.teamSteps="
                              f"{upper.teamSteps}: a sub-goal holds for whole decisions of the team")


def _check_sides(sides: Tuple[Tuple[float, ...], ...], goal_distance: float) -> None:
    if len(sides) != 2 or not all(low < 0.0 < high for low, high in sides) or sides[0][1] < goal_distance:
        raise ConfigError(f"task.arena.sides={[list(side) for side in sides]}: write [[low, high], [low, high]] in x and y, m, "
                          f"with the box's start, 0, within both and the goal, x = {goal_distance:g}, within the first")


def _check_agents(path: str, named: Iterable[str], num_agents: int) -> None:
    agents = [f"agent_{i}" for i in range(num_agents)]
    for name in named:
        if name not in agents:
            raise ConfigError(f"{path}.{name}: the task has no such agent; write one of: {', '.join(agents)}")
