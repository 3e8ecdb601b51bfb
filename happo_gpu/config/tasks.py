"""cfg/task: what each task needs to know; those of the robots have files of their own."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple, Union

from happo_gpu.config.push import PushConfig, UpperConfig
from happo_gpu.config.schema import between, choice, limit
from happo_gpu.config.walk import WalkConfig


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


SINGLE = (IsaacGymEnvsConfig, IsaacLabConfig)  # whose simulator runs once in a process
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
