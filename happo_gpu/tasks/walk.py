"""Go1Walk: one robot learns to follow velocity commands, joint by joint. Its policy drives the full-body simulators.

The network's output is added to a trot in place (sim.locomotion.Gait), so learning starts from a robot that
lifts its feet. Shapes: N environments, one robot each, 12 joints; ``_b`` in the trunk's frame.
"""
from __future__ import annotations

import math
from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.config.walk import WalkConfig
from happo_gpu.geometry import rotate
from happo_gpu.sim import locomotion
from happo_gpu.sim.base import GRAVITY, LeggedSim, ObjectSpec
from happo_gpu.sim.locomotion import NUM_JOINTS, Gait, Senses
from happo_gpu.tasks.noise import blurred
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, box

TERMS = ("linear", "linear_fine", "turn", "turn_fine", "bounce", "roll", "tilt", "height", "pose", "torque", "jerk", "power")
JOINTS = tuple(f"{leg}_{joint}" for leg in ("FR", "FL", "RR", "RL") for joint in ("hip", "thigh", "calf"))  # as HOME


FAR = 3.0  # m from a robot that starts anew to a box that is not in its way


def closeness(error_sq: Tensor, width: float) -> Tensor:
    """exp(-error^2 / width^2), in (0, 1]."""
    return torch.exp(-error_sq / (width * width))


def _reach(half: Sequence[float], angle: Tensor) -> Tensor:
    """How far a rectangle of these half extents reaches in a direction of its own frame, m."""
    return half[0] * angle.cos().abs() + half[1] * angle.sin().abs()


def objects_of(cfg: WalkConfig) -> Tuple[ObjectSpec, ...]:
    """The box that stands in the way."""
    box = cfg.load
    return (ObjectSpec(box.halfExtents, box.mass, box.inertia, box.friction),)


class Go1Walk(VecTask):
    """Velocity tracking with domain randomisation, kicks, loads to push and noisy senses; a fall ends the episode."""

    def __init__(self, sim: LeggedSim, cfg: WalkConfig, num_envs: int, device: torch.device) -> None:
        env = cfg.env
        super().__init__(
            sim, [AgentSpec("robot", locomotion.NUM_OBS, box(NUM_JOINTS))], num_envs, num_states=locomotion.NUM_OBS + 3,
            num_values=1, max_episode_length=env.episodeLength, decimation=env.controlFrequencyInv, device=device,
        )
        self.cfg = cfg
        self.gait = Gait(cfg.gait.frequency, cfg.gait.lift)
        self.command = torch.zeros(num_envs, 3, device=device)  # m/s, m/s, rad/s
        self.command_left = torch.zeros(num_envs, dtype=torch.int64, device=device)  # control steps
        self.phase = torch.zeros(num_envs, 1, device=device)  # cycles
        self.action = torch.zeros(num_envs, NUM_JOINTS, device=device)
        self.last_action = torch.zeros(num_envs, NUM_JOINTS, device=device)
        self.targets = torch.zeros(num_envs, 1, NUM_JOINTS, device=device)  # rad
        self.drive = torch.zeros(num_envs, 2, device=device)  # m/s that somebody pushes the box at, world frame
        self.drive_force = torch.zeros(num_envs, device=device)  # N over the box's friction
        self._command_limit = torch.tensor(env.commandLimit, device=device)
        self._home = torch.tensor(locomotion.HOME, device=device)
        noise = cfg.noise
        self._noise = Senses(*(noise.level * scale for scale in (
            noise.linVel, noise.angVel, noise.gravity, noise.jointPos, noise.jointVel)))
        sums = ["fell", "error_linear", "error_turn"] + [f"reward_{term}" for term in TERMS]
        self.episode_sums = {name: torch.zeros(num_envs, device=device) for name in sums}

    # -- hooks -------------------------------------------------------------------------------

    def pre_physics_step(self, actions: Tensor) -> None:
        limit = self.cfg.env.clipActions
        self.last_action.copy_(self.action)
        self.action.copy_(actions.clamp(-limit, limit))
        self.targets.copy_(locomotion.joint_targets(self.action.unsqueeze(1), self.phase, self.gait, self.cfg.env.actionScale))

    def physics_step(self) -> None:
        self.sim.step_joints(self.targets)

    def post_physics_step(self) -> None:
        super().post_physics_step()
        self.phase.copy_(self.gait.advance(self.phase, self.dt))
        self._resample_commands(self.command_left <= 0)
        self.command_left.sub_(1)
        self.sim.kick(self._shoves(), self._pushes())

    def compute_reward(self, alive: Tensor) -> Tensor:
        sim, scale = self.sim, self.cfg.reward
        lin, ang, gravity = sim.lin_vel_b[:, 0], sim.ang_vel_b[:, 0], sim.gravity_b[:, 0]  # (N, 3)
        error_sq = ((lin[:, :2] - self.command[:, :2]) ** 2).sum(-1)
        turn_sq = (ang[:, 2] - self.command[:, 2]) ** 2
        torque, joint_vel = sim.torque[:, 0], sim.joint_vel[:, 0]  # (N, 12)
        terms = {
            "linear": scale.linear * closeness(error_sq, 0.5),
            "linear_fine": scale.linear_fine * closeness(error_sq, 0.12),
            "turn": scale.turn * closeness(turn_sq, 0.5),
            "turn_fine": scale.turn_fine * closeness(turn_sq, 0.18),
            "bounce": scale.bounce * lin[:, 2] ** 2,
            "roll": scale.roll * (ang[:, :2] ** 2).sum(-1),
            "tilt": scale.tilt * (gravity[:, :2] ** 2).sum(-1),
            "height": scale.height * (sim.position[:, 0, 2] - self.cfg.gait.height) ** 2,
            "pose": scale.pose * ((sim.joint_pos[:, 0] - self._home) ** 2).sum(-1),
            "torque": scale.torque * (torque * torque).sum(-1),
            "jerk": scale.jerk * ((self.action - self.last_action) ** 2).sum(-1),
            "power": scale.power * (torque * joint_vel).abs().sum(-1),
        }  # (N,)
        fell = (alive > 0.0) & sim.fallen[:, 0]
        self.terminated_buf.logical_or_(fell)
        for name, term in terms.items():
            self.episode_sums[f"reward_{name}"].add_(alive * term)
        self.episode_sums["fell"].add_(fell)
        self.episode_sums["error_linear"].add_(alive * error_sq.sqrt())
        self.episode_sums["error_turn"].add_(alive * turn_sq.sqrt())
        # Never negative: or a robot that cannot walk yet would learn to fall at once.
        return (self.dt * alive * sum(terms.values()).clamp(min=0.0) + scale.fall * fell).unsqueeze(-1)

    def compute_observations(self) -> Tensor:
        return self._seen(Senses(*(blurred(value, width) for value, width in zip(self._senses(), self._noise))))

    def observation_names(self) -> List[List[Quantity]]:
        """As :func:`locomotion.observe` lays them out; joint positions count from standing."""
        def three(name: str, unit: str) -> List[Quantity]:
            return [Quantity(f"{name}_{axis}_b", unit) for axis in "xyz"]

        def joints(name: str, unit: str) -> List[Quantity]:
            return [Quantity(f"{joint}_{name}", unit) for joint in JOINTS]

        command = [Quantity("command_x_b", "m/s"), Quantity("command_y_b", "m/s"), Quantity("command_yaw_rate", "rad/s")]
        return [three("velocity", "m/s") + three("angular_velocity", "rad/s") + three("gravity", "1")
                + joints("offset", "rad") + joints("velocity", "20 rad/s") + joints("last_action", f"{self.cfg.env.actionScale} rad")
                + command + [Quantity("sin(gait_phase)"), Quantity("cos(gait_phase)")]]

    def action_names(self) -> List[List[Command]]:
        """Joint angles that come on top of the gait's."""
        env = self.cfg.env
        return [[Command(f"{joint}_added_to_gait", "rad", env.clipActions, env.actionScale) for joint in JOINTS]]

    def compute_states(self) -> Tensor:
        """The observation without noise, the trunk's height, and the friction and strength that no robot can feel."""
        hidden = (self.sim.params["foot_friction"], self.sim.params["motor_strength"])
        return torch.cat((self._seen(self._senses()), self.sim.position[:, 0, 2:3], torch.stack(hidden, -1)), -1)

    def episode_metrics(self) -> Dict[str, Tensor]:
        length = self.progress_buf.clamp(min=1)
        return {name: value if name == "fell" else value / length for name, value in self.episode_sums.items()}

    def reset_where(self, mask: Tensor) -> None:
        n, env = self.num_envs, self.cfg.env
        self.sim.randomize(mask, self.cfg.randomize)
        pose = torch.zeros(n, 1, 3, device=self.device)
        pose[..., 2] = 2.0 * math.pi * torch.rand(n, 1, device=self.device)
        height = torch.full((n, 1), self.cfg.gait.height + 0.01, device=self.device)
        joints = self._home + 0.1 * (2.0 * torch.rand(n, 1, NUM_JOINTS, device=self.device) - 1.0)
        velocity = env.startVelocity * (2.0 * torch.rand(n, 1, 6, device=self.device) - 1.0)
        self.sim.place(mask, pose, height, joints, velocity)
        row = mask.unsqueeze(-1)
        self.phase.copy_(torch.where(row, torch.rand_like(self.phase), self.phase))
        for value in (self.action, self.last_action):
            value.masked_fill_(row, 0.0)  # not a product: 0 * NaN is NaN
        self.sim.place_objects(mask, torch.full((n, 1, 3), FAR, device=self.device))
        self._resample_commands(mask)

    # -- pieces ------------------------------------------------------------------------------

    def _senses(self) -> Senses:
        sim = self.sim
        return Senses(*(value[:, 0] for value in (sim.lin_vel_b, sim.ang_vel_b, sim.gravity_b, sim.joint_pos, sim.joint_vel)))

    def _seen(self, senses: Senses) -> Tensor:
        return locomotion.observe(senses, self.action, self.command, self.phase[:, 0])

    def _resample_commands(self, mask: Tensor) -> None:
        """Uniform in the box; one command in four along a single axis, one in ten zero."""
        env, n = self.cfg.env, self.num_envs
        command = self._command_limit * (2.0 * torch.rand(n, 3, device=self.device) - 1.0)
        kind, axis = torch.rand(n, device=self.device), torch.randint(3, (n,), device=self.device)
        single = torch.nn.functional.one_hot(axis, 3).to(command.dtype)
        command = torch.where((kind < 0.25).unsqueeze(-1), command * single, command)
        command = torch.where((kind > 0.9).unsqueeze(-1), torch.zeros_like(command), command)
        low, high = env.commandSeconds
        left = ((low + (high - low) * torch.rand(n, device=self.device)) / self.dt).long()
        self.command.copy_(torch.where(mask.unsqueeze(-1), command, self.command))
        self.command_left.copy_(torch.where(mask, left, self.command_left))
        self.drive.masked_fill_(mask.unsqueeze(-1), 0.0)
        self._stand_in_the_way(mask & (torch.rand(n, device=self.device) < self.cfg.load.share))

    def _stand_in_the_way(self, mask: Tensor) -> None:
        """Puts the box, turned anyhow, where the command leads, clear of the robot by load.gap; one that will be driven, on any side."""
        n, load = self.num_envs, self.cfg.load

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, device=self.device)

        driven = torch.rand(n, device=self.device) < load.driven
        heading = torch.atan2(self.command[:, 1], self.command[:, 0])  # of the way, in the robot's frame
        heading = torch.where(driven, uniform(-math.pi, math.pi), heading)
        way, turn = self.sim.yaw[:, 0] + heading, uniform(0.0, 2.0 * math.pi)
        robot = _reach(load.robotReach, heading)
        box = _reach(load.halfExtents, way - turn)
        ahead, aside = robot + box + uniform(*load.gap), uniform(-load.aside, load.aside)
        x, y = rotate(ahead, aside, way.cos(), way.sin())
        position = self.sim.position[:, 0]
        self.sim.place_objects(mask, torch.stack((position[:, 0] + x, position[:, 1] + y, turn), -1).unsqueeze(1))
        speed = -uniform(*load.drivenSpeed) * driven
        self.drive.copy_(torch.where(mask.unsqueeze(-1), torch.stack((speed * way.cos(), speed * way.sin()), -1), self.drive))
        self.drive_force.copy_(torch.where(mask, uniform(*load.drivenForce), self.drive_force))

    def _shoves(self) -> Tensor:
        """Now and then somebody shoves the trunk: by how much it speeds up, (N, 1, 6) m/s and rad/s."""
        env, change = self.cfg.env, torch.zeros(self.num_envs, 1, 6, device=self.device)
        if env.kickVelocity <= 0.0:
            return change
        struck = torch.rand(self.num_envs, device=self.device) < self.dt / env.kickSeconds
        change[:, 0, :2] = env.kickVelocity * (2.0 * torch.rand(self.num_envs, 2, device=self.device) - 1.0)
        return change * struck.view(-1, 1, 1)

    def _pushes(self) -> Tensor:
        """Of the boxes that are driven, with all of the force until 0.2 m/s are missing, then less and less: (N, 1, 2) m/s that they speed up by."""
        params, speed = self.sim.params, torch.linalg.vector_norm(self.drive, dim=-1)
        along = self.drive / speed.clamp(min=1e-6).unsqueeze(-1)  # (N, 2)
        lacking = speed - (along * self.sim.object_vel[:, 0, :2]).sum(-1)
        force = self.drive_force * (lacking / 0.2).clamp(0.0, 1.0) + GRAVITY * params["object_friction"] * params["object_mass"] * (lacking > 0.0)
        change = self.dt * force / params["object_mass"] * (speed > 0.0)
        return (change.unsqueeze(-1) * along).unsqueeze(1)

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "command": self.command, "command_left": self.command_left, "phase": self.phase,
                "drive": self.drive, "drive_force": self.drive_force, "action": self.action, "last_action": self.last_action}
