"""Worlds of Go1s in MuJoCo's C engine, stepped on all cores."""
from __future__ import annotations

import copy
from typing import Dict

import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout
from torch import Tensor

from happo_gpu import threads
from happo_gpu.sim.mujoco_worlds import MujocoWorlds
from happo_gpu.sim.worlds import upright


class Go1Worlds(MujocoWorlds):
    """As :class:`happo_gpu.sim.mujoco_worlds.MujocoWorlds` says, on the CPU, in double precision.

    Every world has a model of its own, so that physical parameters may differ.
    """

    def _open_model(self, model: mujoco.MjModel) -> None:
        cfg, n, num_state = self.cfg, self.num_envs, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        assert num_state == 1 + model.nq + model.nv  # time, positions, speeds
        self.models = [model] + [copy.copy(model) for _ in range(n - 1)]
        count = threads.count()
        self._data = [mujoco.MjData(model) for _ in range(count)]
        self._rollout = Rollout(nthread=count)
        self._state = np.zeros((n, num_state))
        self._states = np.zeros((n, cfg.substeps, num_state))
        self._controls = np.zeros((n, cfg.substeps, model.nu))
        state, self._control = torch.from_numpy(self._state), torch.from_numpy(self._controls)
        self._qpos, self._qvel = state[:, 1 : 1 + model.nq], state[:, 1 + model.nq :]
        self._written: Dict[str, Tensor] = {name: value.clone() for name, value in self.nominal.items()}

    def _advance(self) -> None:
        # Its checks ask every model for its sizes, at every call.
        self._rollout.rollout(self.models, self._data, self._state, self._controls, nstep=self.cfg.substeps, state=self._states, skip_checks=True)
        np.copyto(self._state, self._states[:, -1])

    def _write_params(self, mask: Tensor) -> None:
        """Writes to the models only what has changed."""
        for name, value in self.params.items():
            stale = mask & (value != self._written[name])
            for i in stale.nonzero().flatten().tolist():
                self._write(self.models[i], name, float(value[i]))
            self._written[name].copy_(torch.where(mask, value, self._written[name]))

    def _stand_obstacles(self, mask: Tensor) -> None:
        for i in mask.nonzero().flatten().tolist() if self._blocks else ():
            model, pose = self.models[i], self.obstacle_pose[i].double()
            model.body_pos[self._blocks, :2] = pose[:, :2].numpy()
            model.body_quat[self._blocks] = upright(pose[:, 2]).numpy()

    def _forget(self, mask: Tensor) -> None:
        self._state[mask.numpy(), 0] = 0.0  # time

    def _model_of(self, world: int) -> mujoco.MjModel:
        return self.models[world]

    def _engine_state(self) -> Dict[str, Tensor]:
        return {"state": torch.from_numpy(self._state)}
