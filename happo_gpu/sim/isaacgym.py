"""Worlds of Go1s in Isaac Gym: PhysX on CUDA. Written to its documented interface (Preview 4) and not run by us."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from isaacgym import gymapi, gymtorch  # before torch: happo_gpu.isaac sees to it
import torch
from torch import Tensor

from happo_gpu.config.sims import IsaacGymLegsConfig
from happo_gpu.sim import go1, go1_urdf
from happo_gpu.sim.base import GRAVITY, ObjectSpec
from happo_gpu.sim.worlds import OBJECT_Q, OBJECT_V, ROBOT_Q, ROBOT_V, LeggedWorlds, matrix, rotated


class IsaacGymWorlds(LeggedWorlds):
    """As :class:`happo_gpu.sim.worlds.LeggedWorlds` says, in single precision; a process can have them once.

    * The robots are those of go1_urdf. The joints' friction of 0.2 N m is left out: PhysX has none in N m.
    * PhysX takes the mean of two bodies' frictions. Floor, object, robot and lower legs get those whose means are the configured ones of
      floor and object, robot and object, floor and feet. Two robots meet with more than that of robot and object.
    * Of the parameters only the latency and the objects' friction may differ from world to world.
    * A setter of Isaac Gym counts once in a physics step (IsaacGymEnvs#181): what is placed is handed over in one piece before the next
      one. That takes index lists, for which the host waits for the device, as it does for new frictions at resets.
    * PhysX remembers contacts that nobody can save: a resumed run continues from the same state, not bit for bit.
    """

    cfg: IsaacGymLegsConfig

    def _open(self, contact_friction: float, obstacles: Sequence[Tuple[float, ...]]) -> None:
        n, a, m = self.num_envs, self.num_robots, self.num_objects
        self._gym = gymapi.acquire_gym()
        self._sim = self._gym.create_sim(self.device.index or 0, -1, gymapi.SIM_PHYSX, _physics(self.cfg))  # -1: no graphics
        self._floor = self.objects[0].friction
        self._add_floor()
        robot, objects = self._assets(contact_friction)
        self._envs, self._boxes = self._populate(robot, objects)
        self._gym.prepare_sim(self._sim)
        # Isaac Gym's own memory, world by world: robots, then objects. Position, quaternion with w last, velocities in the world.
        self._roots = gymtorch.wrap_tensor(self._gym.acquire_actor_root_state_tensor(self._sim)).view(n, a + m, 13)
        self._joints = gymtorch.wrap_tensor(self._gym.acquire_dof_state_tensor(self._sim)).view(n, a, go1.NUM_JOINTS, 2)
        self._actors = torch.arange(n * (a + m), dtype=torch.int32, device=self.device).view(n, a + m)
        names = self._gym.get_asset_dof_names(robot)
        self._theirs = torch.tensor([names.index(f"{leg}_{joint}") for leg in go1.LEGS for joint in go1.JOINTS], device=self.device)  # of ours
        self._ours = torch.argsort(self._theirs)
        corners = [self._gym.get_env_origin(env) for env in self._envs]
        self._origins = torch.tensor([[[corner.x, corner.y, corner.z]] for corner in corners], device=self.device)  # (N, 1, 3)
        # The same in the order and frames of LeggedWorlds.
        self._qpos = torch.zeros(n, a * ROBOT_Q + m * OBJECT_Q, device=self.device)
        self._qvel = torch.zeros(n, a * ROBOT_V + m * OBJECT_V, device=self.device)
        self._robot_q, self._robot_v = self._qpos[:, : a * ROBOT_Q].unflatten(1, (a, ROBOT_Q)), self._qvel[:, : a * ROBOT_V].unflatten(1, (a, ROBOT_V))
        self._object_q, self._object_v = self._qpos[:, a * ROBOT_Q :].unflatten(1, (m, OBJECT_Q)), self._qvel[:, a * ROBOT_V :].unflatten(1, (m, OBJECT_V))
        for coordinates in (self._robot_q, self._object_q):
            coordinates[..., 3] = 1.0
        self._control = torch.zeros(n, self.cfg.substeps, a * go1.NUM_JOINTS, device=self.device)
        self._placed = torch.ones(n, dtype=torch.bool, device=self.device)  # and not yet told to PhysX
        self._friction = self.nominal["object_friction"].clone()  # as PhysX has it

    # -- before the simulation ---------------------------------------------------------------

    def _add_floor(self) -> None:
        plane = gymapi.PlaneParams()
        plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
        plane.static_friction = plane.dynamic_friction = self._floor
        self._gym.add_ground(self._sim, plane)

    def _assets(self, contact_friction: float) -> Tuple[gymapi.Asset, List[gymapi.Asset]]:
        """The robot and the objects, with their frictions."""
        gym, objects = self._gym, []
        with tempfile.TemporaryDirectory() as folder:
            robot = self._loaded(folder, "go1.urdf", go1_urdf.robot())
            for i, each in enumerate(self.objects):
                objects.append(self._loaded(folder, f"object_{i}.urdf", go1_urdf.pushed(each)))
                self._rub(objects[-1], {"object": 2.0 * each.friction - self._floor})
        trunk, feet = 2.0 * contact_friction - self._floor, 2.0 * go1.FOOT_FRICTION[0] - self._floor
        self._rub(robot, {name: feet if name.endswith("_calf") else trunk for name in gym.get_asset_rigid_body_names(robot)})
        return robot, objects

    def _loaded(self, folder: str, name: str, urdf: str) -> gymapi.Asset:
        Path(folder, name).write_text(urdf)
        options = gymapi.AssetOptions()
        options.angular_damping = options.linear_damping = 0.0
        options.replace_cylinder_with_capsule = False
        return self._gym.load_asset(self._sim, folder, name, options)

    def _rub(self, asset: gymapi.Asset, friction: Dict[str, float]) -> None:
        """Gives all shapes of the bodies named their friction."""
        gym, shapes = self._gym, self._gym.get_asset_rigid_shape_properties(asset)
        for name, span in zip(gym.get_asset_rigid_body_names(asset), gym.get_asset_rigid_body_shape_indices(asset)):
            for shape in shapes[span.start : span.start + span.count]:
                shape.friction = max(friction[name], 0.0)
        gym.set_asset_rigid_shape_properties(asset, shapes)

    def _populate(self, robot: gymapi.Asset, objects: List[gymapi.Asset]) -> Tuple[List[gymapi.Env], List[List[int]]]:
        """The environments, and the handles of the objects in each."""
        gym, cfg = self._gym, self.cfg
        drives = gym.get_asset_dof_properties(robot)
        for name, value in (("driveMode", int(gymapi.DOF_MODE_POS)), ("stiffness", cfg.stiffness), ("damping", cfg.damping),
                            ("armature", go1.ARMATURE), ("friction", 0.0)):
            drives[name].fill(value)
        half = 0.5 * cfg.spacing
        envs, boxes = [], []
        for i in range(self.num_envs):
            env = gym.create_env(self._sim, gymapi.Vec3(-half, -half, 0.0), gymapi.Vec3(half, half, half), int(self.num_envs**0.5))
            for j in range(self.num_robots):  # shapes that share a bit of the filter do not meet: those of one robot
                handle = gym.create_actor(env, robot, gymapi.Transform(), f"robot_{j}", i, 1 << j)
                gym.set_actor_dof_properties(env, handle, drives)
            envs.append(env)
            boxes.append([gym.create_actor(env, each, gymapi.Transform(), f"object_{j}", i, 0) for j, each in enumerate(objects)])
        return envs, boxes

    # -- what an engine does -----------------------------------------------------------------

    def _advance(self) -> None:
        gym, sim = self._gym, self._sim
        told = self._tell()  # kept until the physics has read it
        for controls in self._control.unbind(1):
            targets = controls.unflatten(1, (self.num_robots, go1.NUM_JOINTS)).index_select(-1, self._ours)
            gym.set_dof_position_target_tensor(sim, gymtorch.unwrap_tensor(targets))
            gym.simulate(sim)
        del told
        gym.refresh_actor_root_state_tensor(sim)
        gym.refresh_dof_state_tensor(sim)
        self._take()

    def _tell(self) -> List[Tensor]:
        """Hands over the state of the worlds that were placed since the last step. Returns the index lists."""
        placed = self._placed.nonzero().squeeze(-1)
        if not len(placed):
            return []
        where = self._placed.view(-1, 1, 1)
        joints = torch.stack((self._robot_q[..., 7:], self._robot_v[..., 6:]), -1).index_select(2, self._ours)  # (N, A, J, 2)
        self._roots.copy_(torch.where(where, self._root_states(), self._roots))
        self._joints.copy_(torch.where(where.unsqueeze(-1), joints, self._joints))
        self._placed.zero_()
        actors = self._actors[placed]  # (n, A + M)
        everything, robots = actors.flatten(), actors[:, : self.num_robots].flatten()  # objects have no joints to be set
        for write, state, which in ((self._gym.set_actor_root_state_tensor_indexed, self._roots, everything),
                                    (self._gym.set_dof_state_tensor_indexed, self._joints, robots)):
            write(self._sim, gymtorch.unwrap_tensor(state), gymtorch.unwrap_tensor(which), len(which))
        return [everything, robots]

    def _root_states(self) -> Tensor:
        """As Isaac Gym keeps them, (N, A + M, 13)."""
        pose = torch.cat((self._robot_q[..., :7], self._object_q), 1)
        speed = torch.cat((self._robot_v[..., :6], self._object_v), 1)
        spin = rotated(matrix(pose[..., 3:]), speed[..., 3:])
        return torch.cat((pose[..., :3] + self._origins, pose[..., 4:], pose[..., 3:4], speed[..., :3], spin), -1)

    def _take(self) -> None:
        """Reads Isaac Gym's state."""
        a, roots = self.num_robots, self._roots
        pose = torch.cat((roots[..., :3] - self._origins, roots[..., 6:7], roots[..., 3:6]), -1)
        speed = torch.cat((roots[..., 7:10], rotated(matrix(pose[..., 3:]).transpose(-1, -2), roots[..., 10:])), -1)
        joints = self._joints.index_select(2, self._theirs)
        self._robot_q.copy_(torch.cat((pose[:, :a], joints[..., 0]), -1))
        self._robot_v.copy_(torch.cat((speed[:, :a], joints[..., 1]), -1))
        self._object_q.copy_(pose[:, a:])
        self._object_v.copy_(speed[:, a:])

    def _parameters(self) -> Dict[str, float]:
        return {name: value for name, value in super()._parameters().items() if name in ("latency", "object_friction")}

    def _write_params(self, mask: Tensor) -> None:
        wanted = self.params["object_friction"]
        for i in (mask & (wanted != self._friction)).nonzero().flatten().tolist():
            friction = round(max(2.0 * float(wanted[i]) - self._floor, 0.0), 3)  # PhysX has room for 64,000 different ones
            for handle in self._boxes[i]:
                shapes = self._gym.get_actor_rigid_shape_properties(self._envs[i], handle)
                for shape in shapes:
                    shape.friction = friction
                self._gym.set_actor_rigid_shape_properties(self._envs[i], handle, shapes)
        self._friction.copy_(torch.where(mask, wanted, self._friction))

    def _forget(self, mask: Tensor) -> None:
        """What PhysX remembers of contacts goes with the bodies that are moved."""

    def _engine_state(self) -> Dict[str, Tensor]:
        return {"qpos": self._qpos, "qvel": self._qvel}

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        """None: the GPU pipeline tells the sum of a body's contact forces, not where they act."""
        return torch.zeros(0, 2), torch.zeros(0, 2)

    # -- what has to be told -----------------------------------------------------------------

    def place(self, mask: Tensor, pose: Tensor, height: Tensor, joints: Tensor, velocity: Tensor) -> None:
        super().place(mask, pose, height, joints, velocity)
        self._placed |= mask

    def place_objects(self, mask: Tensor, pose: Tensor) -> None:
        super().place_objects(mask, pose)
        self._placed |= mask

    def kick(self, trunks: Tensor, objects: Tensor) -> None:
        super().kick(trunks, objects)
        self._placed |= (trunks != 0.0).flatten(1).any(-1) | (objects != 0.0).flatten(1).any(-1)

    def refresh(self) -> None:
        self._placed.fill_(True)
        super().refresh()


def _physics(cfg: IsaacGymLegsConfig) -> gymapi.SimParams:
    params = gymapi.SimParams()
    params.dt, params.substeps, params.up_axis, params.gravity = cfg.dt, 1, gymapi.UP_AXIS_Z, gymapi.Vec3(0.0, 0.0, -GRAVITY)
    params.use_gpu_pipeline = params.physx.use_gpu = True
    params.physx.solver_type = 1  # TGS
    params.physx.num_position_iterations, params.physx.num_velocity_iterations = cfg.iterations, cfg.velocity_iterations
    params.physx.contact_offset, params.physx.rest_offset = cfg.contact_offset, 0.0
    params.physx.max_gpu_contact_pairs = cfg.contact_pairs
    params.physx.contact_collection = gymapi.CC_NEVER
    return params
