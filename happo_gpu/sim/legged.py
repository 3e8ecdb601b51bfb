"""Worlds of Go1s in MuJoCo's C engine, stepped on all cores and read into torch tensors."""
from __future__ import annotations

import copy
from typing import Dict, List, Sequence, Tuple

import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout
from torch import Tensor

from happo_gpu.config.sims import LeggedConfig
from happo_gpu.sim import go1
from happo_gpu.sim.base import LeggedSim, ObjectSpec

_ROBOT_Q, _ROBOT_V = 7 + go1.NUM_JOINTS, 6 + go1.NUM_JOINTS  # coordinates and speeds of a robot
_OBJECT_Q, _OBJECT_V = 7, 6


class Go1Worlds(LeggedSim):
    """N worlds of A Go1s and M objects; see :class:`happo_gpu.sim.base.LeggedSim` for the contract.

    The engine's own state is (N, 1 + nq + nv) float64; the tensors that tasks read are copies of it, made
    after every step and reset. Every world has a model of its own, so that physical parameters may differ.

    Attributes:
        object_pose, object_vel: (N, M, 3) in the plane: x, y, yaw and their rates, world frame.
        lin_vel_w: (N, A, 3) m/s. yaw_rate: (N, A) rad/s, world frame.
    """

    def __init__(self, num_robots: int, objects: Sequence[ObjectSpec], contact_friction: float, cfg: LeggedConfig,
                 num_envs: int, obstacles: Sequence[Tuple[float, ...]] = ()) -> None:
        motors = go1.Motors(cfg.stiffness, cfg.damping)
        model = go1.build(num_robots, motors, cfg.dt, objects, contact_friction, cfg.iterations, cfg.ls_iterations, obstacles)
        self.cfg, self.num_envs, self.num_robots, self.num_objects = cfg, num_envs, num_robots, len(objects)
        self.dt, self.objects, self.obstacle_count = cfg.dt * cfg.substeps, tuple(objects), len(obstacles)
        self.models: List[mujoco.MjModel] = [model] + [copy.copy(model) for _ in range(num_envs - 1)]
        threads = torch.get_num_threads()
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._posed = mujoco.MjData(model)
        self._rollout = Rollout(nthread=threads)
        self._nq, self._nv = model.nq, model.nv
        n, a, num_state = num_envs, num_robots, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        assert num_state == 1 + model.nq + model.nv  # time, positions, speeds
        self._state = np.zeros((n, num_state))
        self._states = np.zeros((n, cfg.substeps, num_state))
        self._control = np.zeros((n, cfg.substeps, model.nu))
        self._targets = torch.tensor(go1.HOME).repeat(n, a, 1)  # (N, A, J) rad, of the period before
        self._read_model()
        self._torque_limit = torch.tensor([go1.TORQUE_LIMIT[joint] for joint in go1.JOINTS] * len(go1.LEGS))
        self._since = torch.arange(cfg.substeps) * cfg.dt  # (substeps,) s into the period

        def rows(*shape: int) -> Tensor:
            return torch.zeros(n, *shape)

        self.position, self.yaw, self.fallen = rows(a, 3), rows(a), torch.zeros(n, a, dtype=torch.bool)
        self.lin_vel_w, self.yaw_rate = rows(a, 3), rows(a)
        self.lin_vel_b, self.ang_vel_b, self.gravity_b = rows(a, 3), rows(a, 3), rows(a, 3)
        self.joint_pos, self.joint_vel, self.torque = rows(a, go1.NUM_JOINTS), rows(a, go1.NUM_JOINTS), rows(a, go1.NUM_JOINTS)
        self.object_pose, self.object_vel = rows(len(objects), 3), rows(len(objects), 3)
        self.obstacle_pose = rows(len(obstacles), 3)
        everywhere = torch.ones(n, dtype=torch.bool)
        self.place(everywhere, rows(a, 3), rows(a) + go1.HOME_HEIGHT, self._targets.clone(), rows(a, 6))

    # -- parameters --------------------------------------------------------------------------

    def _read_model(self) -> None:
        """Nominal parameters; what a world's model holds follows ``params`` at its next reset."""
        model, n = self.models[0], self.num_envs
        self._trunks = [model.body(f"robot_{i}").id for i in range(self.num_robots)]
        self._feet = [model.geom(f"robot_{i}_{leg}_foot").id for i in range(self.num_robots) for leg in go1.LEGS]
        self._boxes = [model.body(f"object_{i}").id for i in range(self.num_objects)]
        self._blocks = [model.body(f"obstacle_{i}").id for i in range(self.obstacle_count)]
        self._soles = [model.geom(f"object_{i}_ground{end}").id for i, each in enumerate(self.objects) for end in go1.endings(each)]

        def fill(value: float) -> Tensor:
            return torch.full((n,), float(value))

        self.nominal = {
            "foot_friction": fill(go1.FOOT_FRICTION[0]), "trunk_mass": fill(go1.TRUNK_MASS),
            "motor_strength": fill(1.0), "latency": fill(self.cfg.latency),
        }
        if self.objects:
            self.nominal["object_friction"] = fill(self.objects[0].friction)
            self.nominal["object_mass"] = fill(self.objects[0].mass)
        self.params = {name: value.clone() for name, value in self.nominal.items()}
        self._written: Dict[str, Tensor] = {name: value.clone() for name, value in self.nominal.items()}

    def _write_models(self, mask: Tensor) -> None:
        """Brings the models of some worlds up to date with ``params``, where these have changed."""
        for name, value in self.params.items():
            stale = mask & (value != self._written[name])
            for i in stale.nonzero().flatten().tolist():
                self._write(self.models[i], name, float(value[i]))
            self._written[name].copy_(torch.where(mask, value, self._written[name]))

    def _write(self, model: mujoco.MjModel, name: str, value: float) -> None:
        if name == "foot_friction":
            model.geom_friction[self._feet, 0] = value
        elif name == "object_friction":
            model.geom_friction[self._soles, 0] = value
        elif name == "motor_strength":
            model.actuator_gainprm[:, 0] = value * self.cfg.stiffness
            model.actuator_biasprm[:, 1] = -value * self.cfg.stiffness
        elif name in ("trunk_mass", "object_mass"):
            bodies = self._trunks if name == "trunk_mass" else self._boxes
            for body in bodies:
                model.body_inertia[body] *= value / model.body_mass[body]
                model.body_mass[body] = value
            mujoco.mj_setConst(model, self._data[0])

    # -- stepping ----------------------------------------------------------------------------

    def step_joints(self, targets: Tensor) -> None:
        cfg = self.cfg
        fresh = self._since >= self.params["latency"].unsqueeze(-1) - 1e-6  # (N, substeps)
        held = torch.where(fresh.view(*fresh.shape, 1, 1), targets.unsqueeze(1), self._targets.unsqueeze(1))
        np.copyto(self._control, held.flatten(2).numpy())
        self._targets.copy_(targets)
        self._rollout.rollout(self.models, self._data, self._state, self._control, nstep=cfg.substeps,
                              state=self._states)
        np.copyto(self._state, self._states[:, -1])
        self._read_state()

    def place(self, mask: Tensor, pose: Tensor, height: Tensor, joints: Tensor, velocity: Tensor) -> None:
        where = mask.numpy()
        if not where.any():  # as in most steps
            return
        for robot in range(self.num_robots):
            q, v = self._columns(robot)
            self._state[where, q : q + 2] = pose[mask, robot, :2].double().numpy()
            self._state[where, q + 2] = height[mask, robot].double().numpy()
            half = 0.5 * pose[mask, robot, 2].double()
            self._state[where, q + 3 : q + 7] = torch.stack((half.cos(), 0 * half, 0 * half, half.sin()), -1).numpy()
            self._state[where, q + 7 : q + _ROBOT_Q] = joints[mask, robot].double().numpy()
            self._state[where, v : v + 6] = velocity[mask, robot].double().numpy()
            self._state[where, v + 6 : v + _ROBOT_V] = 0.0
        self._state[where, 0] = 0.0
        self._targets.copy_(torch.where(mask.view(-1, 1, 1), joints, self._targets))
        self._write_models(mask)
        self._read_state()

    def place_objects(self, mask: Tensor, pose: Tensor) -> None:
        where = mask.numpy()
        if not where.any():
            return
        for i, each in enumerate(self.objects):
            q, v = self._object_columns(i)
            half = 0.5 * pose[mask, i, 2].double()
            self._state[where, q : q + 2] = pose[mask, i, :2].double().numpy()
            self._state[where, q + 2] = each.half_extents[2]
            self._state[where, q + 3 : q + 7] = torch.stack((half.cos(), 0 * half, 0 * half, half.sin()), -1).numpy()
            self._state[where, v : v + 6] = 0.0
        self._read_state()

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        """As :meth:`happo_gpu.sim.base.Sim.place_obstacles`: each world's own model holds where they stand."""
        self.obstacle_pose.copy_(torch.where(mask.view(-1, 1, 1), pose, self.obstacle_pose))
        self._stand_obstacles(mask)

    def _stand_obstacles(self, mask: Tensor) -> None:
        for n in mask.nonzero().flatten().tolist() if self._blocks else ():
            model, pose = self.models[n], self.obstacle_pose[n].double()
            model.body_pos[self._blocks, :2] = pose[:, :2].numpy()
            half = 0.5 * pose[:, 2]
            model.body_quat[self._blocks] = torch.stack((half.cos(), 0 * half, 0 * half, half.sin()), -1).numpy()

    def kick(self, change: Tensor) -> None:
        if not change.any():
            return
        for robot in range(self.num_robots):
            _, v = self._columns(robot)
            self._state[:, v : v + 6] += change[:, robot].double().numpy()
        self._read_state()

    # -- reading -----------------------------------------------------------------------------

    def _columns(self, robot: int) -> tuple:
        return 1 + robot * _ROBOT_Q, 1 + self._nq + robot * _ROBOT_V

    def _object_columns(self, i: int) -> tuple:
        return (1 + self.num_robots * _ROBOT_Q + i * _OBJECT_Q, 1 + self._nq + self.num_robots * _ROBOT_V + i * _OBJECT_V)

    def _read_state(self) -> None:
        state, a, nq = torch.from_numpy(self._state).to(torch.float32), self.num_robots, self._nq
        q = state[:, 1 : 1 + a * _ROBOT_Q].unflatten(1, (a, _ROBOT_Q))  # (N, A, 19)
        v = state[:, 1 + nq : 1 + nq + a * _ROBOT_V].unflatten(1, (a, _ROBOT_V))  # (N, A, 18)
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
            turn = _matrix(state[:, at + 3 : at + 7])
            self.object_pose[:, i, :2] = state[:, at : at + 2]
            self.object_pose[:, i, 2] = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
            self.object_vel[:, i, :2] = state[:, speed : speed + 2]
            self.object_vel[:, i, 2] = (turn[:, 2, :] * state[:, speed + 3 : speed + 6]).sum(-1)

    def _torques(self) -> Tensor:
        cfg = self.cfg
        strength = self.params["motor_strength"].view(-1, 1, 1)
        wanted = strength * cfg.stiffness * (self._targets - self.joint_pos)
        limit = self._torque_limit
        return torch.minimum(torch.maximum(wanted, -limit), limit) - cfg.damping * self.joint_vel

    # -- for pictures ------------------------------------------------------------------------

    def posed(self, world: int) -> mujoco.MjData:
        """The engine's data of one world as it stands: poses of its bodies, contacts. Good until the next call."""
        model, data = self.models[world], self._posed
        mujoco.mj_setState(model, data, self._state[world], mujoco.mjtState.mjSTATE_FULLPHYSICS)
        data.ctrl[:] = self._control[world, -1]
        mujoco.mj_forward(model, data)
        return data

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        """As :meth:`happo_gpu.sim.base.Sim.pushes`."""
        model, data = self.models[world], self.posed(world)
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
        state = {"state": torch.from_numpy(self._state), "targets": self._targets}
        if self._blocks:
            state["obstacle_pose"] = self.obstacle_pose
        state.update({"params/" + name: value for name, value in self.params.items()})
        return state

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])
        self.refresh()

    def refresh(self) -> None:
        """Brings models and views up to date after the tensors of state_dict were written."""
        everywhere = torch.ones(self.num_envs, dtype=torch.bool)
        self._write_models(everywhere)
        self._stand_obstacles(everywhere)
        self._read_state()


def _matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4), w first."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
