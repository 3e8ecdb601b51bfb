"""Worlds of Go1s in an engine of the MuJoCo family: its model, with parameters that differ from world to world."""
from __future__ import annotations

from typing import List, Sequence, Tuple

import mujoco
import numpy as np
import torch
from torch import Tensor

from happo_gpu.sim import go1, go1_mujoco
from happo_gpu.sim.worlds import LeggedWorlds


class MujocoWorlds(LeggedWorlds):
    """As :class:`happo_gpu.sim.worlds.LeggedWorlds` says.

    Attributes:
        models: the host's models; the first is the nominal one.
    """

    models: List[mujoco.MjModel]

    def _open(self, contact_friction: float, obstacles: Sequence[Tuple[float, ...]]) -> None:
        cfg = self.cfg
        motors = go1_mujoco.Motors(cfg.stiffness, cfg.damping)
        model = go1_mujoco.build(self.num_robots, motors, cfg.dt, self.objects, contact_friction, cfg.iterations, cfg.ls_iterations, obstacles)
        self._trunks = [model.body(f"robot_{i}").id for i in range(self.num_robots)]
        self._feet = [model.geom(f"robot_{i}_{leg}_foot").id for i in range(self.num_robots) for leg in go1.LEGS]
        self._boxes = [model.body(f"object_{i}").id for i in range(self.num_objects)]
        self._blocks = [model.body(f"obstacle_{i}").id for i in range(self.num_obstacles)]
        self._soles = [model.geom(f"object_{i}_ground{end}").id for i, each in enumerate(self.objects) for end in go1_mujoco.endings(each)]
        self._posed, self._scratch = mujoco.MjData(model), mujoco.MjData(model)
        self._open_model(model)

    def _open_model(self, model: mujoco.MjModel) -> None:
        """Makes the worlds: sets ``models``, ``_qpos``, ``_qvel`` and ``_control``."""
        raise NotImplementedError

    def _model_of(self, world: int) -> mujoco.MjModel:
        """A host model with this world's parameters."""
        raise NotImplementedError

    # -- parameters --------------------------------------------------------------------------

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

    # -- for pictures ------------------------------------------------------------------------

    def posed(self, world: int) -> mujoco.MjData:
        """The host's data of one world as it stands: poses of its bodies, contacts. Good until the next call."""
        model, data = self._model_of(world), self._posed
        for field, value in ((data.qpos, self._qpos[world]), (data.qvel, self._qvel[world]), (data.ctrl, self._control[world, -1])):
            field[:] = value.cpu().numpy()
        mujoco.mj_forward(model, data)
        return data

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        model, data = self._model_of(world), self.posed(world)
        points, forces, wrench = [], [], np.zeros(6)
        for i, contact in enumerate(data.contact):
            kinds = [model.geom_contype[geom] for geom in contact.geom]
            pushed = [kind == go1_mujoco.PUSHED for kind in kinds]
            if any(pushed) and max(kinds) >= go1_mujoco.FIRST_ROBOT:  # by a robot, not by an obstacle
                mujoco.mj_contactForce(model, data, i, wrench)  # on the second geom, in the contact's frame
                force = contact.frame.reshape(3, 3).T @ wrench[:3]
                points.append(contact.pos[:2])
                forces.append((force if pushed[1] else -force)[:2])
        return torch.tensor(np.array(points)).view(-1, 2), torch.tensor(np.array(forces)).view(-1, 2)
