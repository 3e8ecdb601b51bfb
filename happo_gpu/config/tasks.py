"""cfg/task: what each task needs to know."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Tuple, Union

from happo_gpu.config.schema import ConfigError, between, choice, limit, non_negative, positive, rows


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
        _check_factors(self.randomize)


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


def _check_factors(randomize: Dict[str, Tuple[float, ...]]) -> None:
    for key, (low, *high) in randomize.items():
        if len(high) != 1 or not 0.0 < low <= high[0]:
            raise ConfigError(f"task.randomize.{key}={[low] + high}: write two factors, 0 < low <= high")


@dataclass(frozen=True)
class SmallEnvConfig:
    """task.env of the small tasks."""

    numEnvs: int = limit(low=1)
    episodeLength: int = limit(low=2)
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
    """A box that stands in the way of some commands."""

    share: float = between(0.0, 1.0)  # of commands
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
        _check_factors(self.randomize)


@dataclass(frozen=True)
class ParallelEnvConfig:
    """task.env of environments that others wrote, which run in worker processes."""

    numEnvs: int = limit(low=1)
    numWorkers: int = limit(low=0)
    episodeLength: int = limit(low=2)
    controlFrequencyInv: int = between(1, 1)
    staggerEpisodes: bool = field()
    teamReward: bool = field()


@dataclass(frozen=True)
class PettingZooEnvConfig(ParallelEnvConfig):
    id: str = field()
    options: Dict[str, Any] = field()  # passed on as they are
    deaths: bool = field()


@dataclass(frozen=True)
class PettingZooConfig:
    """cfg/task/PettingZoo.yaml."""

    name: str = field()
    env: PettingZooEnvConfig = field()

    def check(self) -> None:
        pass


@dataclass(frozen=True)
class MaMuJoCoEnvConfig(ParallelEnvConfig):
    scenario: str = field()
    agentConf: str = field()
    observation: str = choice("state", "local")
    agentObsk: int = limit(low=0)


@dataclass(frozen=True)
class MaMuJoCoConfig:
    """cfg/task/MaMuJoCo.yaml."""

    name: str = field()
    env: MaMuJoCoEnvConfig = field()

    def check(self) -> None:
        pass


@dataclass(frozen=True)
class IsaacGymEnvsEnvConfig:
    """task.env of IsaacGymEnvs' tasks; what has no annotation is theirs to say."""

    name: str = field()
    numEnvs: int = limit(low=1)
    split: Dict[str, Tuple[int, ...]] = limit(low=0)  # agent: its columns of the action
    overrides: Tuple[str, ...] = field()
    episodeLength, controlFrequencyInv, staggerEpisodes = 1000, 1, False


@dataclass(frozen=True)
class IsaacGymEnvsConfig:
    """cfg/task/IsaacGymEnvs.yaml."""

    name: str = field()
    env: IsaacGymEnvsEnvConfig = field()

    def check(self) -> None:
        pass


@dataclass(frozen=True)
class IsaacLabEnvConfig:
    """task.env of Isaac Lab's tasks; what has no annotation is theirs to say."""

    id: str = field()
    numEnvs: int = limit(low=1)
    options: Dict[str, Any] = field()  # of their config class
    teamReward: bool = field()
    episodeLength, controlFrequencyInv, staggerEpisodes = 1000, 1, False


@dataclass(frozen=True)
class IsaacLabConfig:
    """cfg/task/IsaacLab.yaml."""

    name: str = field()
    env: IsaacLabEnvConfig = field()

    def check(self) -> None:
        pass


WITHOUT_SIM = (SmallConfig, PettingZooConfig, MaMuJoCoConfig, IsaacGymEnvsConfig, IsaacLabConfig)  # or with one of their own
TaskConfig = Union[PushConfig, WalkConfig, SmallConfig, PettingZooConfig, MaMuJoCoConfig, IsaacGymEnvsConfig, IsaacLabConfig]
TASK_CONFIGS: Dict[str, type] = {
    "Go1Push": PushConfig, "Go1PushPartialObs": PushConfig, "Go1PushCylinder": PushConfig, "Go1PushTee": PushConfig,
    "Go1PushHeavy": PushConfig, "Go1WheeledPush": PushConfig, "Go1PushHeading": PushConfig, "Go1PushLong": PushConfig,
    "Go1PushUpper": UpperConfig,
    "Go1Walk": WalkConfig,
    "Spread": SmallConfig, "Harvest": SmallConfig, "Recall": SmallConfig, "Crew": SmallConfig,
    "PettingZoo": PettingZooConfig, "MaMuJoCo": MaMuJoCoConfig, "IsaacGymEnvs": IsaacGymEnvsConfig, "IsaacLab": IsaacLabConfig,
}
