"""Full-body physics behind the pushing tasks' seam: Go1s that walk on a learned policy, in any engine of theirs."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple, Type

import torch
from torch import Tensor

from happo_gpu.config.sims import MujocoConfig
from happo_gpu.sim import go1, locomotion
from happo_gpu.sim.base import Ranges, Scene, Sim
from happo_gpu.sim.worlds import LeggedWorlds


def senses_of(worlds: LeggedWorlds) -> locomotion.Senses:
    return locomotion.Senses(worlds.lin_vel_b, worlds.ang_vel_b, worlds.gravity_b, worlds.joint_pos, worlds.joint_vel)


class WalkingSim(Sim):
    """N worlds of A whole Go1s and the task's objects; see :class:`happo_gpu.sim.base.Sim` for the contract.

    A velocity command becomes joint targets once in a control period, by the walking policy. An optional
    integral trim around that policy (as in cfg/sim/planar.yaml) lifts commands over its dead zone.
    """

    def __init__(self, scene: Scene, cfg: MujocoConfig, num_envs: int, device: torch.device, kind: Type[LeggedWorlds]) -> None:
        self.cfg, self.scene, self.num_envs, self.device = cfg, scene, num_envs, device
        num_agents = len(scene.robots)
        self.worlds = kind(num_agents, scene.objects, scene.contact_friction, cfg.legs, num_envs, device, scene.obstacles)
        self.dt = self.worlds.dt
        path = Path(cfg.locomotion) if cfg.locomotion else locomotion.OWN_POLICY
        self.walk = locomotion.load(path, (num_envs, num_agents), self.dt, device)
        self.params, self.nominal = self.worlds.params, self.worlds.nominal
        self.fallen = self.worlds.fallen

        def rows() -> Tensor:
            return torch.zeros(num_envs, num_agents, 3, device=device)

        self.agent_pose, self.agent_vel = rows(), rows()
        self.object_pose, self.object_vel = self.worlds.object_pose, self.worlds.object_vel
        self.obstacle_pose = self.worlds.obstacle_pose
        self._trim, self._model = rows(), rows()
        self._trim_limit = torch.tensor(cfg.trim_limit, device=device)
        self._lag = 1.0 - torch.exp(-self.dt / torch.tensor(cfg.model_time, device=device))

    def step(self, commands: Tensor) -> None:
        worlds = self.worlds
        self.worlds.step_joints(self.walk.targets(senses_of(worlds), self._trimmed(commands)))
        self._read()

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        return self.worlds.pushes(world)

    def reset(self, mask: Tensor, agent_pose: Tensor, object_pose: Tensor) -> None:
        n, a = agent_pose.shape[:2]
        height = torch.full((n, a), go1.HOME_HEIGHT, device=self.device)
        joints = locomotion.constant(go1.HOME, self.device).expand(n, a, -1)
        self.worlds.place(mask, agent_pose, height, joints, torch.zeros(n, a, 6, device=self.device))
        self.worlds.place_objects(mask, object_pose)
        self.walk.reset(mask)
        for state in (self._trim, self._model):
            state.masked_fill_(mask.view(-1, 1, 1), 0.0)  # not a product: 0 * NaN is NaN
        self._read()

    def randomize(self, mask: Tensor, ranges: Ranges) -> None:
        self.worlds.randomize(mask, ranges)  # whose engine may keep constants of its own

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        self.worlds.place_obstacles(mask, pose)

    def state_dict(self) -> Dict[str, Tensor]:
        return {**self.worlds.state_dict(), "phase": self.walk.phase, "last_action": self.walk.last_action,
                "trim": self._trim, "model": self._model}

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.worlds.refresh()
        self._read()

    def _trimmed(self, commands: Tensor) -> Tensor:
        """Command plus the integral of reference model minus measured velocity, (N, A, 3)."""
        cfg, worlds = self.cfg, self.worlds
        if cfg.trim_rate <= 0.0:
            return commands
        self._model.add_(self._lag * (commands - self._model))
        measured = torch.cat((worlds.lin_vel_b[..., :2], worlds.ang_vel_b[..., 2:]), -1)
        self._trim.add_(cfg.trim_rate * self.dt * (self._model - measured))
        self._trim.copy_(torch.minimum(torch.maximum(self._trim, -self._trim_limit), self._trim_limit))
        return commands + self._trim

    def _read(self) -> None:
        worlds = self.worlds
        self.agent_pose.copy_(torch.cat((worlds.position[..., :2], worlds.yaw.unsqueeze(-1)), -1))
        self.agent_vel.copy_(torch.cat((worlds.lin_vel_w[..., :2], worlds.yaw_rate.unsqueeze(-1)), -1))
