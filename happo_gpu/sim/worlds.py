"""Worlds of Go1s in an engine of the MuJoCo family: all but the stepping, in torch on any device."""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import mujoco
import numpy as np
import torch
from torch import Tensor

from happo_gpu.config.sims import LeggedConfig
from happo_gpu.sim import go1
from happo_gpu.sim.base import LeggedSim, ObjectSpec

_ROBOT_Q, _ROBOT_V = 7 + go1.NUM_JOINTS, 6 + go1.NUM_JOINTS  # coordinates and speeds of a robot
_OBJECT_Q, _OBJECT_V = 7, 6
CPU = torch.device("cpu")


class LeggedWorlds(LeggedSim):
    """N worlds of A Go1s and M objects; see :class:`happo_gpu.sim.base.LeggedSim` for the contract.

    An engine opens its worlds on a model and hands out its coordinates, speeds and controls as live tensors; what
    tasks read are float32 copies of them, made after every step and reset.

    Attributes:
        object_pose, object_vel: (N, M, 3) in the plane: x, y, yaw and their rates, world frame.
        lin_vel_w: (N, A, 3) m/s. yaw_rate: (N, A) rad/s, world frame.
        models: the host's models; the first is the nominal one.
    """

    models: List[mujoco.MjModel]
    _qpos: Tensor  # (N, nq) robots, then objects
    _qvel: Tensor  # (N, nv)
    _control: Tensor  # (N, substeps, nu) rad

    def __init__(self, num_robots: int, objects: Sequence[ObjectSpec], contact_friction: float, cfg: LeggedConfig,
                 num_envs: int, device: torch.device = CPU, obstacles: Sequence[Tuple[float, ...]] = ()) -> None:
        motors = go1.Motors(cfg.stiffness, cfg.damping)
        model = go1.build(num_robots, motors, cfg.dt, objects, contact_friction, cfg.iterations, cfg.ls_iterations, obstacles)
        self.cfg, self.num_envs, self.num_robots, self.num_objects = cfg, num_envs, num_robots, len(objects)
        self.dt, self.objects, self.num_obstacles, self.device = cfg.dt * cfg.substeps, tuple(objects), len(obstacles), device
        n, a = num_envs, num_robots
        self._targets = torch.tensor(go1.HOME, device=device).repeat(n, a, 1)  # (N, A, J) rad, of the period before
        self._read_model(model)
        self._posed, self._scratch = mujoco.MjData(model), mujoco.MjData(model)
        self._torque_limit = torch.tensor([go1.TORQUE_LIMIT[joint] for joint in go1.JOINTS] * len(go1.LEGS), device=device)
        self._since = torch.arange(cfg.substeps, device=device) * cfg.dt  # (substeps,) s into the period
        self._open(model)

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

    def _open(self, model: mujoco.MjModel) -> None:
        """Makes the worlds: sets ``models``, ``_qpos``, ``_qvel`` and ``_control``."""
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

    def _model_of(self, world: int) -> mujoco.MjModel:
        """A host model with this world's parameters."""
        raise NotImplementedError

    def _engine_state(self) -> Dict[str, Tensor]:
        """Live tensors of all that a bit-equal continuation needs of the engine."""
        raise NotImplementedError

    # -- parameters --------------------------------------------------------------------------

    def _read_model(self, model: mujoco.MjModel) -> None:
        """Nominal parameters; what a world's model holds follows ``params`` at its next reset."""
        self._trunks = [model.body(f"robot_{i}").id for i in range(self.num_robots)]
        self._feet = [model.geom(f"robot_{i}_{leg}_foot").id for i in range(self.num_robots) for leg in go1.LEGS]
        self._boxes = [model.body(f"object_{i}").id for i in range(self.num_objects)]
        self._blocks = [model.body(f"obstacle_{i}").id for i in range(self.num_obstacles)]
        self._soles = [model.geom(f"object_{i}_ground{end}").id for i, each in enumerate(self.objects) for end in go1.endings(each)]

        def fill(value: float) -> Tensor:
            return torch.full((self.num_envs,), float(value), device=self.device)

        self.nominal = {
            "foot_friction": fill(go1.FOOT_FRICTION[0]), "trunk_mass": fill(go1.TRUNK_MASS),
            "motor_strength": fill(1.0), "latency": fill(self.cfg.latency),
        }
        if self.objects:
            self.nominal["object_friction"] = fill(self.objects[0].friction)
            self.nominal["object_mass"] = fill(self.objects[0].mass)
        self.params = {name: value.clone() for name, value in self.nominal.items()}

    def _bodies(self, name: str) -> List[int]:
        """Those whose mass is the parameter of that name."""
        return self._trunks if name == "trunk_mass" else self._boxes

    def _write(self, model: mujoco.MjModel, name: str, value: float) -> None:
        if name == "foot_friction":
            model.geom_friction[self._feet, 0] = value
        elif name == "object_friction":
            model.geom_friction[self._soles, 0] = value
        elif name == "motor_strength":
            model.actuator_gainprm[:, 0] = value * self.cfg.stiffness
            model.actuator_biasprm[:, 1] = -value * self.cfg.stiffness
        elif name in ("trunk_mass", "object_mass"):
            for body in self._bodies(name):
                model.body_inertia[body] *= value / model.body_mass[body]
                model.body_mass[body] = value
            mujoco.mj_setConst(model, self._scratch)

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
            q, v = robot * _ROBOT_Q, robot * _ROBOT_V
            coordinates = (pose[:, robot, :2], height[:, robot : robot + 1], upright(pose[:, robot, 2]), joints[:, robot])
            self._put(mask, self._qpos[:, q : q + _ROBOT_Q], *coordinates)
            self._put(mask, self._qvel[:, v : v + _ROBOT_V], velocity[:, robot], torch.zeros_like(joints[:, robot]))
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
            self._put(mask, self._qpos[:, q : q + _OBJECT_Q], pose[:, i, :2], height, upright(pose[:, i, 2]))
            self._put(mask, self._qvel[:, v : v + _OBJECT_V], torch.zeros_like(self._qvel[:, :_OBJECT_V]))
        self._read_state()

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        """As :meth:`happo_gpu.sim.base.Sim.place_obstacles`."""
        self.obstacle_pose.copy_(torch.where(mask.view(-1, 1, 1), pose, self.obstacle_pose))
        self._stand_obstacles(mask)

    def kick(self, change: Tensor) -> None:
        if self._is_empty(change):
            return
        for robot in range(self.num_robots):
            v = robot * _ROBOT_V
            self._qvel[:, v : v + 6].add_(change[:, robot])
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
        return self.num_robots * _ROBOT_Q + i * _OBJECT_Q, self.num_robots * _ROBOT_V + i * _OBJECT_V

    def _read_state(self) -> None:
        qpos, qvel, a = self._qpos.to(torch.float32), self._qvel.to(torch.float32), self.num_robots
        q = qpos[:, : a * _ROBOT_Q].unflatten(1, (a, _ROBOT_Q))  # (N, A, 19)
        v = qvel[:, : a * _ROBOT_V].unflatten(1, (a, _ROBOT_V))  # (N, A, 18)
        turn = _matrix(q[..., 3:7])  # (N, A, 3, 3) body to world
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
            turn = _matrix(qpos[:, at + 3 : at + 7])
            self.object_pose[:, i, :2] = qpos[:, at : at + 2]
            self.object_pose[:, i, 2] = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
            self.object_vel[:, i, :2] = qvel[:, speed : speed + 2]
            self.object_vel[:, i, 2] = (turn[:, 2, :] * qvel[:, speed + 3 : speed + 6]).sum(-1)

    def _torques(self) -> Tensor:
        cfg = self.cfg
        strength = self.params["motor_strength"].view(-1, 1, 1)
        wanted = strength * cfg.stiffness * (self._targets - self.joint_pos)
        limit = self._torque_limit
        return torch.minimum(torch.maximum(wanted, -limit), limit) - cfg.damping * self.joint_vel

    # -- for pictures ------------------------------------------------------------------------

    def posed(self, world: int) -> mujoco.MjData:
        """The host's data of one world as it stands: poses of its bodies, contacts. Good until the next call."""
        model, data = self._model_of(world), self._posed
        for field, value in ((data.qpos, self._qpos[world]), (data.qvel, self._qvel[world]), (data.ctrl, self._control[world, -1])):
            field[:] = value.cpu().numpy()
        mujoco.mj_forward(model, data)
        return data

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        """As :meth:`happo_gpu.sim.base.Sim.pushes`."""
        model, data = self._model_of(world), self.posed(world)
        points, forces, wrench = [], [], np.zeros(6)
        for i, contact in enumerate(data.contact):
            kinds = [model.geom_contype[geom] for geom in contact.geom]
            pushed = [kind == go1.PUSHED for kind in kinds]
            if any(pushed) and max(kinds) >= go1.FIRST_ROBOT:  # by a robot, not by an obstacle
                mujoco.mj_contactForce(model, data, i, wrench)  # on the second geom, in the contact's frame
                force = contact.frame.reshape(3, 3).T @ wrench[:3]
                points.append(contact.pos[:2])
                forces.append((force if pushed[1] else -force)[:2])
        return torch.tensor(np.array(points)).view(-1, 2), torch.tensor(np.array(forces)).view(-1, 2)

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


def _matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4), w first."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
