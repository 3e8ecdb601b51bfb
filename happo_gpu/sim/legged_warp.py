"""Worlds of Go1s in MuJoCo Warp: the model of sim=mujoco on CUDA, or slowly on the CPU, in memory that torch shares."""
from __future__ import annotations

import warnings
from typing import Dict

import mujoco
import mujoco_warp as engine
import torch
import warp
from torch import Tensor

from happo_gpu.sim.base import Ranges
from happo_gpu.sim.mujoco_worlds import MujocoWorlds

# Fields of the model that differ from world to world, and those that follow from them.
_OWN = ("geom_friction", "actuator_gainprm", "actuator_biasprm", "body_mass", "body_inertia",
        "body_subtreemass", "body_invweight0", "dof_invweight0")


class Go1WarpWorlds(MujocoWorlds):
    """As :class:`happo_gpu.sim.mujoco_worlds.MujocoWorlds` says, in single precision.

    On CUDA a control period is one graph, captured at the first step, and nothing crosses to the host.
    """

    def _open_model(self, model: mujoco.MjModel) -> None:
        cfg, n = self.cfg, self.num_envs
        warp.config.log_level = warp.LOG_WARNING  # else it lists every kernel that it loads
        warp.init()
        self.models = [model]
        rows = {"foot_friction": self._feet, "object_friction": self._soles, "motor_strength": list(range(model.nu)),
                "trunk_mass": self._trunks, "object_mass": self._boxes}
        self._rows = {name: torch.tensor(each, dtype=torch.int64, device=self.device) for name, each in rows.items()}
        self._inertia_per_mass = torch.tensor(model.body_inertia / model.body_mass.clip(1e-9)[:, None], dtype=torch.float32, device=self.device)
        with self._beside_torch(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the floor has no friction: feet and objects bring theirs
            self._model = engine.put_model(model, {name: n for name in _OWN})
            # To stop at the largest number of iterations is no fault; running out of room for contacts is.
            self._model.opt.warn_overflow &= ~engine.OverflowType.ITERATIONS
            self._data = engine.make_data(model, nworld=n, nconmax=cfg.contacts, njmax=cfg.constraints)
            self._fields = {name: warp.to_torch(getattr(self._model, name)) for name in _OWN}
            periods = torch.zeros(cfg.substeps, n, model.nu, device=self.device)  # each physics step's controls in one piece
            self._controls = [warp.from_torch(controls) for controls in periods]
        self._control = periods.transpose(0, 1)
        self._qpos, self._qvel, self._warm = (warp.to_torch(each) for each in (self._data.qpos, self._data.qvel, self._data.qacc_warmstart))
        self._graph = None
        self._masses_vary, self._constants_due = False, True  # the first ones too, so that all are of one precision

    # -- stepping ----------------------------------------------------------------------------

    def _advance(self) -> None:
        if self.device.type == "cpu":
            with self._beside_torch():
                self._physics_steps()
            return
        if self._graph is None:
            self._graph = self._captured()
        warp.capture_launch(self._graph, stream=warp.stream_from_torch(self.device))

    def _physics_steps(self) -> None:
        for controls in self._controls:
            warp.copy(self._data.ctrl, controls)
            engine.step(self._model, self._data)

    def _captured(self):
        """The physics steps of a control period as a CUDA graph; kernels are compiled before, in a run that is undone."""
        before = {name: value.clone() for name, value in self._engine_state().items()}
        with self._beside_torch():
            self._physics_steps()
        for name, value in self._engine_state().items():
            value.copy_(before[name])
        torch.cuda.synchronize(self.device)
        # Torch's own stream, the device's default, cannot be captured.
        with warp.ScopedStream(warp.Stream(warp.device_from_torch(self.device))), warp.ScopedCapture() as capture:
            self._physics_steps()
        return capture.graph

    def _beside_torch(self):
        """Warp's work goes to the device, and there to the stream, that torch uses: each sees what the other wrote before."""
        return warp.ScopedDevice("cpu") if self.device.type == "cpu" else warp.ScopedStream(warp.stream_from_torch(self.device))

    # -- parameters --------------------------------------------------------------------------

    def randomize(self, mask: Tensor, ranges: Ranges) -> None:
        self._masses_vary |= any(name.endswith("_mass") for name in ranges)
        self._constants_due |= self._masses_vary
        super().randomize(mask, ranges)

    def refresh(self) -> None:
        self._constants_due = True
        super().refresh()

    def _write_params(self, mask: Tensor) -> None:
        params, fields = self.params, self._fields

        def put(column: Tensor, which: Tensor, value: Tensor) -> None:
            """Writes value (N, 1 or K) to K columns (N, ...) in the worlds of the mask."""
            old = column.index_select(1, which)
            column.index_copy_(1, which, torch.where(mask.unsqueeze(-1), value.expand_as(old), old))

        for name in params.keys() & {"foot_friction", "object_friction"}:
            put(fields["geom_friction"][:, :, 0], self._rows[name], params[name].unsqueeze(-1))
        stiffness = self.cfg.stiffness * params["motor_strength"].unsqueeze(-1)
        put(fields["actuator_gainprm"][:, :, 0], self._rows["motor_strength"], stiffness)
        put(fields["actuator_biasprm"][:, :, 1], self._rows["motor_strength"], -stiffness)
        for name in params.keys() & {"trunk_mass", "object_mass"}:
            which, mass = self._rows[name], params[name].unsqueeze(-1)
            put(fields["body_mass"], which, mass)
            for axis in range(3):
                put(fields["body_inertia"][:, :, axis], which, mass * self._inertia_per_mass[which, axis])
        if self._constants_due:  # not asked of the masses themselves: the host would have to wait for the answer
            self._constants_due = self._masses_vary
            with self._beside_torch():
                engine.set_const(self._model, self._data, engine.SetConstGroup.FIXED | engine.SetConstGroup.INERT0)

    # -- the rest of what an engine does -----------------------------------------------------

    def _forget(self, mask: Tensor) -> None:
        self._warm.masked_fill_(mask.unsqueeze(-1), 0.0)

    def _model_of(self, world: int) -> mujoco.MjModel:
        model = self.models[0]
        for name, value in self.params.items():
            self._write(model, name, float(value[world]))
        return model

    def _engine_state(self) -> Dict[str, Tensor]:
        return {"qpos": self._qpos, "qvel": self._qvel, "warm_start": self._warm}
