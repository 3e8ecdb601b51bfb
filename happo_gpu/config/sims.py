"""cfg/sim: what each simulator needs to know."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Tuple, Union

from happo_gpu.config.schema import between, limit, non_negative, positive


@dataclass(frozen=True)
class DriveConfig:
    """How a robot follows velocity commands, and its footprint."""

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
    nose_radius: float = non_negative()  # m; 0: no nose
    front: float = field()  # m
    rear: float = field()  # m
    radius: float = positive()  # m

    @property
    def circles(self) -> List[Tuple[float, float]]:
        """(x, radius) of rear, front and, if there is one, nose: m along the heading."""
        return [(self.rear, self.radius), (self.front, self.radius)] + [(self.nose_x, self.nose_radius)] * (self.nose_radius > 0.0)

    @property
    def tip(self) -> float:
        """m along the heading to which nose or body reach."""
        return max(x + radius for x, radius in self.circles)


@dataclass(frozen=True)
class PlanarConfig(DriveConfig):
    """cfg/sim/planar.yaml: the drive of robots on legs, that of robots on wheels, and the physics."""

    name: str = field()
    dt: float = between(1e-4, 0.02)  # s
    substeps: int = between(1, 100)  # physics steps per control period
    wheels: DriveConfig = field()
    torsion_radius: float = positive()  # m
    friction_share: float = between(0.0, 1.0)
    contact_stiffness: float = positive()  # N/m
    contact_damping: float = non_negative()  # N s/m
    tangent_damping: float = non_negative()  # N s/m
    mass_split: float = limit(low=1.0)

    def drive_of(self, kind: str) -> DriveConfig:
        return {"legs": self, "wheels": self.wheels}[kind]


@dataclass(frozen=True)
class LeggedConfig:
    """sim.legs of cfg/sim/mujoco.yaml: whole robots."""

    dt: float = between(1e-4, 0.02)  # s
    substeps: int = between(1, 100)  # physics steps per control period
    stiffness: float = positive()  # N m/rad
    damping: float = non_negative()  # N m s/rad
    latency: float = non_negative()  # s
    iterations: int = limit(low=1)
    ls_iterations: int = limit(low=1)
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


@dataclass(frozen=True)
class WarpLegsConfig(LeggedConfig):
    """sim.legs of cfg/sim/mujoco_warp.yaml."""

    contacts: int = limit(low=1)  # room per world
    constraints: int = limit(low=1)  # room per world


@dataclass(frozen=True)
class MujocoWarpConfig(MujocoConfig):
    """cfg/sim/mujoco_warp.yaml."""

    legs: WarpLegsConfig = field()


@dataclass(frozen=True)
class IsaacGymLegsConfig(LeggedConfig):
    """sim.legs of cfg/sim/isaacgym.yaml."""

    velocity_iterations: int = limit(low=0)
    contact_offset: float = non_negative()  # m
    contact_pairs: int = limit(low=1)  # room in all
    spacing: float = positive()  # m


@dataclass(frozen=True)
class IsaacGymConfig(MujocoConfig):
    """cfg/sim/isaacgym.yaml."""

    legs: IsaacGymLegsConfig = field()


SimConfig = Union[PlanarConfig, MujocoConfig, MujocoWarpConfig, IsaacGymConfig]
SIM_CONFIGS: Dict[str, type] = {"planar": PlanarConfig, "mujoco": MujocoConfig, "mujoco_warp": MujocoWarpConfig, "isaacgym": IsaacGymConfig}
