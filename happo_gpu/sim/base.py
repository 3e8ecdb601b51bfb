"""The seam between tasks and physics: what a task may ask of any simulator.

A simulator owns its state and never rebinds a tensor, so the views that it hands out stay live and
a CUDA graph may remember their addresses.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor

GRAVITY = 9.81  # m/s^2
Ranges = Dict[str, Sequence[Union[float, Tensor]]]  # parameter: lowest and highest factor


@dataclass(frozen=True)
class RobotSpec:
    """A robot as every simulator sees it."""

    name: str
    mass: float  # kg
    inertia: float  # kg m^2 about the vertical axis
    drive: str = "legs"  # or wheels, which do not go sideways


class Rectangle(NamedTuple):
    """Part of an object seen from above, in the object's frame."""

    x: float  # m, its centre
    y: float
    half_x: float
    half_y: float

    def corners(self) -> List[Tuple[float, float]]:
        """Counter-clockwise."""
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return [(self.x + across * self.half_x, self.y + along * self.half_y) for across, along in signs]

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it or on its edge."""
        return abs(x - self.x) < self.half_x + 1e-5 and abs(y - self.y) < self.half_y + 1e-5


@dataclass(frozen=True)
class ObjectSpec:
    """A pushed object whose frame lies in its centre of mass; ``friction`` is between object and ground.

    A cuboid of ``half_extents``; with ``parts`` a union of upright cuboids as high, which may touch but not
    overlap; if ``round`` an upright cylinder of radius half_extents[0].
    """

    half_extents: Tuple[float, float, float]  # m
    mass: float  # kg
    inertia: float  # kg m^2 about the vertical axis
    friction: float
    parts: Tuple[Rectangle, ...] = ()
    round: bool = False

    @property
    def radius(self) -> float:
        """m, of a round object."""
        return self.half_extents[0]

    @property
    def rectangles(self) -> Tuple[Rectangle, ...]:
        """All of an object that is not round."""
        return self.parts or (Rectangle(0.0, 0.0, *self.half_extents[:2]),)

    def supports(self) -> List[float]:
        """Distances of the points on which a rigid object rests, m: its corners, except where parts meet; or its rim."""
        if self.round:
            return [self.radius]
        rectangles = self.rectangles
        return [math.hypot(*corner) for each in rectangles for corner in each.corners()
                if not any(other.holds(*corner) for other in rectangles if other is not each)]

    @property
    def reach(self) -> float:
        """m from the centre to the farthest point."""
        return max(self.supports())


@dataclass(frozen=True)
class Scene:
    """The bodies of a task: A robots, M objects and B obstacles; ``contact_friction`` acts between bodies."""

    robots: Tuple[RobotSpec, ...]
    objects: Tuple[ObjectSpec, ...]
    contact_friction: float
    obstacles: Tuple[Tuple[float, float, float], ...] = ()  # half extents of boxes that nothing moves, m


class Randomized:
    """Physical parameters that differ between worlds.

    Attributes:
        params: name -> (..., N), in force. nominal: likewise, as configured.
    """

    params: Dict[str, Tensor]
    nominal: Dict[str, Tensor]

    def randomize(self, mask: Tensor, ranges: Ranges) -> None:
        """Redraws parameters where mask (N,) is true: nominal times U[low, high], one draw a world; low and high may be (N,)."""
        for name, (low, high) in ranges.items():
            param = self.params[name]
            factor = low + (high - low) * torch.rand(param.shape[-1], device=param.device)  # (N,)
            param.copy_(torch.where(mask, self.nominal[name] * factor, param))


class Sim(Randomized):
    """N parallel worlds of A robots and M objects.

    Attributes:
        agent_pose: (N, A, 3) x, y, yaw in the world frame, m and rad. A live view.
        agent_vel: (N, A, 3) vx, vy, yaw rate in the world frame.
        object_pose, object_vel: (N, M, 3) likewise.
        obstacle_pose: (N, B, 3) x, y, yaw of what never moves.
        fallen: (N, A) bool, robots that have tipped over.
        dt: control period, s.
        params: physical parameters, each (..., N), which :meth:`randomize` redraws.
    """

    agent_pose: Tensor
    agent_vel: Tensor
    object_pose: Tensor
    object_vel: Tensor
    obstacle_pose: Tensor
    fallen: Tensor
    dt: float

    def step(self, commands: Tensor) -> None:
        """Advances one control period under body-frame velocity commands (N, A, 3), m/s, rad/s."""
        raise NotImplementedError

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        """Where robots touch the objects of a world and how hard: points and forces on the objects (P, 2), world frame, m and N.

        For pictures: reads the state and changes nothing.
        """
        raise NotImplementedError

    def reset(self, mask: Tensor, agent_pose: Tensor, object_pose: Tensor) -> None:
        """Places the bodies at rest where mask (N,) is true; other worlds are untouched."""
        raise NotImplementedError

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        """Puts obstacles at pose (N, B, 3) where mask (N,) is true; only asked where the scene has any."""
        raise NotImplementedError

    def state_dict(self) -> Dict[str, Tensor]:
        """Everything that a bit-equal continuation needs."""
        raise NotImplementedError

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        """Writes a saved state into the existing tensors."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])


class LeggedSim(Randomized):
    """N parallel worlds of A legged robots and M objects, driven joint by joint; what a locomotion task may ask.

    Attributes, all live and float32, ``_b`` in the frame of the trunk:
        position: (N, A, 3) trunk in the world, m.
        yaw: (N, A) rad.
        lin_vel_b, ang_vel_b: (N, A, 3) m/s, rad/s.
        gravity_b: (N, A, 3) unit vector that points down.
        joint_pos, joint_vel, torque: (N, A, J) rad, rad/s, N m at the end of the control period.
        fallen: (N, A) bool.
        dt: control period, s.
    """

    position: Tensor
    yaw: Tensor
    lin_vel_b: Tensor
    ang_vel_b: Tensor
    gravity_b: Tensor
    joint_pos: Tensor
    joint_vel: Tensor
    torque: Tensor
    fallen: Tensor
    dt: float

    def step_joints(self, targets: Tensor) -> None:
        """Advances one control period with joint position targets (N, A, J), rad."""
        raise NotImplementedError

    def place(self, mask: Tensor, pose: Tensor, height: Tensor, joints: Tensor, velocity: Tensor) -> None:
        """Puts robots at pose (N, A, 3) and height (N, A) with joints (N, A, J) and trunk velocity (N, A, 6) where mask (N,)."""
        raise NotImplementedError

    def place_objects(self, mask: Tensor, pose: Tensor) -> None:
        """Puts objects at pose (N, M, 3) at rest on the ground where mask (N,)."""
        raise NotImplementedError

    def kick(self, trunks: Tensor, objects: Tensor) -> None:
        """Adds to velocities, world frame: (N, A, 6) m/s and rad/s of the trunks, (N, M, 2) m/s of the objects."""
        raise NotImplementedError
