"""Worlds of Go1s in any engine: all but the stepping, in torch on any device."""
from __future__ import annotations

from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.config.sims import LeggedConfig
from happo_gpu.sim import go1
from happo_gpu.sim.base import LeggedSim, ObjectSpec

ROBOT_Q, ROBOT_V = 7 + go1.NUM_JOINTS, 6 + go1.NUM_JOINTS  # coordinates and speeds of a robot
OBJECT_Q, OBJECT_V = 7, 6
CPU = torch.device("cpu")


class LeggedWorlds(LeggedSim):
    """N worlds of A Go1s and M objects; see :class:`happo_gpu.sim.base.LeggedSim` for the contract.

    An engine opens its worlds and hands out its coordinates, speeds and controls as live tensors, in MuJoCo's order; what
    tasks read are float32 copies of them, made after every step and reset.

    Attributes:
        object_pose, object_vel: (N, M, 3) in the plane: x, y, yaw and their rates, world frame.
        lin_vel_w: (N, A, 3) m/s. yaw_rate: (N, A) rad/s, world frame.
    """

    _qpos: Tensor  # (N, nq) robots: position, quaternion with w first, joints; then objects: position, quaternion
    _qvel: Tensor  # (N, nv) likewise: velocity in the world, rotation rate in the body's own frame, joints
    _control: Tensor  # (N, substeps, nu) rad

    def __init__(self, num_robots: int, objects: Sequence[ObjectSpec], contact_friction: float, cfg: LeggedConfig,
                 num_envs: int, device: torch.device = CPU, obstacles: Sequence[Tuple[float, ...]] = ()) -> None:
        self.cfg, self.num_envs, self.num_robots, self.num_objects = cfg, num_envs, num_robots, len(objects)
        self.dt, self.objects, self.num_obstacles, self.device = cfg.dt * cfg.substeps, tuple(objects), len(obstacles), device
        n, a = num_envs, num_robots
        self._targets = torch.tensor(go1.HOME, device=device).repeat(n, a, 1)  # (N, A, J) rad, of the period before
        self._torque_limit = torch.tensor([go1.TORQUE_LIMIT[joint] for joint in go1.JOINTS] * len(go1.LEGS), device=device)
        self._joint_low, self._joint_high = (torch.tensor([go1.JOINT_RANGE[joint][end] for joint in go1.JOINTS] * len(go1.LEGS), device=device)
                                             for end in (0, 1))  # (J,) rad
        self._since = torch.arange(cfg.substeps, device=device) * cfg.dt  # (substeps,) s into the period
        self.nominal = {name: torch.full((n,), float(value), device=device) for name, value in self._parameters().items()}
        self.params = {name: value.clone() for name, value in self.nominal.items()}
        self._open(contact_friction, obstacles)

        def rows(*shape: int) -> Tensor:
            return torch.zeros(n, *shape, device=device)

        self.position, self.yaw, self.fallen = rows(a, 3), rows(a), torch.zeros(n, a, dtype=torch.bool, device=device)
        self.lin_vel_w, self.yaw_rate = rows(a, 3), rows(a)
        self.lin_vel_b, self.ang_vel_b, self.gravity_b = rows(a, 3), rows(a, 3), rows(a, 3)
        self.joint_pos, self.joint_vel, self.torque = rows(a, go1.NUM_JOINTS), rows(a, go1.NUM_JOINTS), rows(a, go1.NUM_JOINTS)
        self.object_pose, self.object_vel = rows(len(objects), 3), rows(len(objects), 3)
        self.obstacle_pose = rows(len(obstacles), 3)
        everywhere = torch.ones(n, dtype=torch.bool, device=device)
        self.place(everywhere, rows(a, 3), rows(a) + go1.HOME_HEIGHT, self._targets.clone(), rows(a, 6))

    # -- what an engine does -----------------------------------------------------------------

    def _open(self, contact_friction: float, obstacles: Sequence[Tuple[float, ...]]) -> None:
        """Makes the worlds: sets ``_qpos``, ``_qvel`` and ``_control``."""
        raise NotImplementedError

    def _advance(self) -> None:
        """The physics steps of one control period, under the controls that are set."""
        raise NotImplementedError

    def _write_params(self, mask: Tensor) -> None:
        """Brings the worlds in mask (N,) up to date with ``params``."""
        raise NotImplementedError

    def _stand_obstacles(self, mask: Tensor) -> None:
        """Puts the obstacles of the worlds in mask (N,) where ``obstacle_pose`` says; an engine may have none."""

    def _forget(self, mask: Tensor) -> None:
        """Clears what the engine remembers of the worlds in mask (N,) besides coordinates and speeds."""
        raise NotImplementedError

    def _engine_state(self) -> Dict[str, Tensor]:
        """Live tensors of all that a bit-equal continuation needs of the engine."""
        raise NotImplementedError

    def _parameters(self) -> Dict[str, float]:
        """What may differ from world to world, as configured; it takes effect at a world's next reset."""
        named = {"foot_friction": go1.FOOT_FRICTION[0], "trunk_mass": go1.TRUNK_MASS, "motor_strength": 1.0, "latency": self.cfg.latency}
        if self.objects:
            named.update(object_friction=self.objects[0].friction, object_mass=self.objects[0].mass)
        return named

    # -- stepping ----------------------------------------------------------------------------

    def step_joints(self, targets: Tensor) -> None:
        fresh = self._since >= self.params["latency"].unsqueeze(-1) - 1e-6  # (N, substeps)
        held = torch.where(fresh.view(*fresh.shape, 1, 1), targets.unsqueeze(1), self._targets.unsqueeze(1))
        self._control.copy_(held.flatten(2))
        self._targets.copy_(targets)
        self._advance()
        self._read_state()

    def place(self, mask: Tensor, pose: Tensor, height: Tensor, joints: Tensor, velocity: Tensor) -> None:
        if self._is_empty(mask):  # as in most steps
            return
        for robot in range(self.num_robots):
            q, v = robot * ROBOT_Q, robot * ROBOT_V
            coordinates = (pose[:, robot, :2], height[:, robot : robot + 1], upright(pose[:, robot, 2]), joints[:, robot])
            self._put(mask, self._qpos[:, q : q + ROBOT_Q], *coordinates)
            self._put(mask, self._qvel[:, v : v + ROBOT_V], velocity[:, robot], torch.zeros_like(joints[:, robot]))
        self._targets.copy_(torch.where(mask.view(-1, 1, 1), joints, self._targets))
        self._forget(mask)
        self._write_params(mask)
        self._read_state()

    def place_objects(self, mask: Tensor, pose: Tensor) -> None:
        if self._is_empty(mask):
            return
        for i, each in enumerate(self.objects):
            q, v = self._object_columns(i)
            height = torch.full_like(pose[:, i, :1], each.half_extents[2])
            self._put(mask, self._qpos[:, q : q + OBJECT_Q], pose[:, i, :2], height, upright(pose[:, i, 2]))
            self._put(mask, self._qvel[:, v : v + OBJECT_V], torch.zeros_like(self._qvel[:, :OBJECT_V]))
        self._read_state()

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        """As :meth:`happo_gpu.sim.base.Sim.place_obstacles`."""
        self.obstacle_pose.copy_(torch.where(mask.view(-1, 1, 1), pose, self.obstacle_pose))
        self._stand_obstacles(mask)

    def kick(self, trunks: Tensor, objects: Tensor) -> None:
        if self._is_empty(trunks) and self._is_empty(objects):
            return
        for robot in range(self.num_robots):
            v = robot * ROBOT_V
            self._qvel[:, v : v + 6].add_(trunks[:, robot])
        for i in range(self.num_objects):
            _, v = self._object_columns(i)
            self._qvel[:, v : v + 2].add_(objects[:, i])
        self._read_state()

    def _is_empty(self, change: Tensor) -> bool:
        """Whether there is nothing to do; where the answer would make the host wait for the device, it is not asked."""
        return change.device.type == "cpu" and not change.any()

    @staticmethod
    def _put(mask: Tensor, where: Tensor, *values: Tensor) -> None:
        """Writes values, side by side, into ``where`` (N, ...) in the worlds of mask (N,)."""
        where.copy_(torch.where(mask.unsqueeze(-1), torch.cat([value.to(where.dtype) for value in values], -1), where))

    # -- reading -----------------------------------------------------------------------------

    def _object_columns(self, i: int) -> Tuple[int, int]:
        """Where the coordinates and speeds of an object begin."""
        return self.num_robots * ROBOT_Q + i * OBJECT_Q, self.num_robots * ROBOT_V + i * OBJECT_V

    def _read_state(self) -> None:
        qpos, qvel, a = self._qpos.to(torch.float32), self._qvel.to(torch.float32), self.num_robots
        q = qpos[:, : a * ROBOT_Q].unflatten(1, (a, ROBOT_Q))  # (N, A, 19)
        v = qvel[:, : a * ROBOT_V].unflatten(1, (a, ROBOT_V))  # (N, A, 18)
        turn = matrix(q[..., 3:7])  # (N, A, 3, 3) body to world
        self.position.copy_(q[..., :3])
        self.yaw.copy_(torch.atan2(turn[..., 1, 0], turn[..., 0, 0]))
        self.lin_vel_w.copy_(v[..., :3])
        self.lin_vel_b.copy_((turn * v[..., :3].unsqueeze(-1)).sum(-2))
        self.ang_vel_b.copy_(v[..., 3:6])  # MuJoCo keeps a free body's rotation rate in its own frame
        self.yaw_rate.copy_((turn[..., 2, :] * v[..., 3:6]).sum(-1))
        self.gravity_b.copy_(-turn[..., 2, :])
        self.joint_pos.copy_(q[..., 7:])
        self.joint_vel.copy_(v[..., 6:])
        self.torque.copy_(self._torques())
        # Tilt of the trunk and its height.
        tilted = turn[..., 2, 2] < self.cfg.fall_cosine
        low = (q[..., 2] < self.cfg.fall_height[0]) | (q[..., 2] > self.cfg.fall_height[1])
        self.fallen.copy_(tilted | low)
        for i in range(self.num_objects):
            at, speed = self._object_columns(i)
            turn = matrix(qpos[:, at + 3 : at + 7])
            self.object_pose[:, i, :2] = qpos[:, at : at + 2]
            self.object_pose[:, i, 2] = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
            self.object_vel[:, i, :2] = qvel[:, speed : speed + 2]
            self.object_vel[:, i, 2] = (turn[:, 2, :] * qvel[:, speed + 3 : speed + 6]).sum(-1)

    def _torques(self) -> Tensor:
        cfg = self.cfg
        targets = torch.minimum(torch.maximum(self._targets, self._joint_low), self._joint_high)  # as MuJoCo's ctrlrange does
        wanted = cfg.stiffness * (targets - self.joint_pos)
        if "motor_strength" in self.params:
            wanted = wanted * self.params["motor_strength"].view(-1, 1, 1)
        limit = self._torque_limit
        return torch.minimum(torch.maximum(wanted, -limit), limit) - cfg.damping * self.joint_vel

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        """As :meth:`happo_gpu.sim.base.Sim.pushes`."""
        raise NotImplementedError

    # -- checkpoint --------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Tensor]:
        """Live tensors: writing a saved state into them restores it, once :meth:`refresh` is called."""
        state = {**self._engine_state(), "targets": self._targets}
        if self.num_obstacles:
            state["obstacle_pose"] = self.obstacle_pose
        state.update({"params/" + name: value for name, value in self.params.items()})
        return state

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])
        self.refresh()

    def refresh(self) -> None:
        """Brings models and views up to date after the tensors of state_dict were written."""
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self._write_params(everywhere)
        self._stand_obstacles(everywhere)
        self._read_state()


def upright(yaw: Tensor) -> Tensor:
    """Quaternions (N, 4), w first, of turns about the vertical axis (N,), in double precision."""
    half = 0.5 * yaw.double()
    return torch.stack((half.cos(), 0 * half, 0 * half, half.sin()), -1)


def rotated(turn: Tensor, vector: Tensor) -> Tensor:
    """Vectors (..., 3) by matrices (..., 3, 3)."""
    return (turn * vector.unsqueeze(-2)).sum(-1)


def matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4), w first."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
