"""The embedded simulator: velocity-servoed robots push boxes in the plane, in pure torch.

A Go1 under its walking policy is, seen from above, a body that follows velocity commands with a
bounded force: F = K (v_ref - v) up to a traction limit, where v_ref is the delayed command behind a
dead zone, plus a slow trim and the ripple of the gait. Robots and box touch through implicit
spring-dampers, and the ground holds the box by Coulomb friction on an ellipsoidal limit surface.
Nothing branches on data, so a step is one fixed sequence of kernels on any device.

Rows are environment-last, (A, 3, N): neighbouring worlds are neighbours in memory, which is what
both SIMD lanes and GPU threads want. The views that tasks see are environment-first.
"""
from __future__ import annotations

import math
from itertools import combinations
from typing import Callable, Dict, List, Sequence, Tuple, Union

import torch
from torch import Tensor

from happo_gpu.config.sims import PlanarConfig
from happo_gpu.geometry import rotate, rotate_back
from happo_gpu.loops import repeat
from happo_gpu.sim.base import GRAVITY, ObjectSpec, Scene, Sim
from happo_gpu.sim.contact import Body, Contact, ContactLaw, Frame, contact_force, support_friction
from happo_gpu.sim.footprints import Footprints, kinds_of, per_robot

FIXED = Body(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # what a contact with an obstacle meets: no speed, and no push moves it


def torsion_scale(each: ObjectSpec) -> float:
    """How much farther out an object rests on the ground than the 1.2 m cuboid of cfg's torsion radius."""
    cuboid = ObjectSpec((0.6, 0.6, 0.25), each.mass, each.inertia, each.friction)
    mean = [sum(spec.supports()) / len(spec.supports()) for spec in (each, cuboid)]
    return mean[0] / mean[1]


class PlanarSim(Sim):
    """N worlds of A robots and one object; see :class:`happo_gpu.sim.base.Sim` for the contract."""

    def __init__(self, scene: Scene, cfg: PlanarConfig, num_envs: int, device: torch.device) -> None:
        if len(scene.objects) != 1:
            raise ValueError(f"sim=planar holds one object, the task has {len(scene.objects)}")
        self.cfg, self.scene, self.num_envs, self.device = cfg, scene, num_envs, device
        self.dt = cfg.dt * cfg.substeps
        num_agents, n = len(scene.robots), num_envs

        def rows(*shape: int) -> Tensor:
            return torch.zeros(*shape, n, device=device)

        self._robot_pose, self._robot_vel = rows(num_agents, 3), rows(num_agents, 3)  # (A, 3, N)
        self._box_pose, self._box_vel = rows(3), rows(3)  # (3, N)
        self._v_ref, self._v_ref_last = rows(num_agents, 3), rows(num_agents, 3)  # (A, 3, N) m/s
        self._model_vel, self._trim = rows(num_agents, 3), rows(num_agents, 3)  # (A, 3, N) m/s
        self._gait_phase = rows(num_agents)  # (A, N) rad
        self._heading, self._box_heading = rows(num_agents, 2), rows(2)  # (A, 2, N), (2, N) cos, sin
        self._since_command = torch.zeros(1, device=device)  # s; a tensor, so that no substep recompiles
        self._wrench = rows(num_agents, 3)  # (A, 3, N) N, N, N m, world
        self._pairs = list(combinations(range(num_agents), 2))
        drives = self._drives = [cfg.drive_of(robot.drive) for robot in scene.robots]
        shapes = self._shapes = Footprints(drives, scene.objects[0], scene.obstacles, device)
        self._stretch_box = rows(num_agents, shapes.num_on_object)  # (A, C, N) m
        self._stretch_pair = rows(len(self._pairs), 4)  # (P, 4, N) m
        self._obstacle_pose = rows(len(scene.obstacles), 3)  # (B, 3, N)
        self._stretch_robot_obstacle = rows(num_agents, shapes.num_on_obstacles)  # m
        self._stretch_box_obstacle = rows(shapes.num_object_on_obstacles)  # m

        self.agent_pose, self.agent_vel = self._robot_pose.permute(2, 0, 1), self._robot_vel.permute(2, 0, 1)
        self.object_pose = self._box_pose.unsqueeze(0).permute(2, 0, 1)
        self.object_vel = self._box_vel.unsqueeze(0).permute(2, 0, 1)
        self.obstacle_pose = self._obstacle_pose.permute(2, 0, 1)
        self.fallen = torch.zeros(n, num_agents, dtype=torch.bool, device=device)
        self.nominal = self._nominal_params()
        self.params = {name: value.clone() for name, value in self.nominal.items()}
        alike = kinds_of(drives)

        def axes(rows) -> Tensor:  # (1 or A, 3, 1)
            return torch.tensor([list(values) for values in rows], device=device).unsqueeze(-1)

        self._lag = axes([[1.0 - math.exp(-self.dt / tau) for tau in drive.model_time] for drive in alike])
        self._trim_limit, self._ripple = axes([d.trim_limit for d in alike]), axes([d.ripple for d in alike])
        self._ripple_frequency = per_robot([drive.ripple_frequency for drive in alike], device)
        self._dead_zone, self._dead_zone_width = (per_robot([getattr(drive, name) for drive in alike], device)
                                                  for name in ("dead_zone", "dead_zone_width"))
        gains = [drive.trim_rate * self.dt for drive in alike]
        self._trim_gain = gains[0] if len(gains) == 1 else torch.tensor(gains, device=device).view(-1, 1, 1)
        self._trims, self._has_dead_zone = any(d.trim_rate for d in alike), any(d.dead_zone for d in alike)

        # accelerate.py may replace these two with compiled versions of themselves.
        self.servo: Callable[..., None] = self._servo
        self.substep: Callable[..., None] = self._substep

    def _nominal_params(self) -> Dict[str, Tensor]:
        scene, box, drives = self.scene, self.scene.objects[0], self._drives

        def fill(values: List[float]) -> Tensor:  # (len(values), N)
            column = torch.tensor(values, device=self.device).unsqueeze(-1)
            return column.repeat(1, self.num_envs)

        robots = scene.robots
        return {
            "robot_mass": fill([r.mass for r in robots]),
            "robot_inertia": fill([r.inertia for r in robots]),
            "servo_gain": fill([drive.gain for drive in drives]),
            "servo_stiffness": torch.stack([fill(list(drive.stiffness)) for drive in drives]),
            "force_limit": torch.stack([fill(list(drive.force_limit)) for drive in drives]),
            "torque_limit": fill([drive.torque_limit for drive in drives]),
            "latency": fill([drive.latency for drive in drives]),
            "object_mass": fill([box.mass])[0],
            "object_inertia": fill([box.inertia])[0],
            "object_friction": fill([box.friction])[0],
            "torsion_radius": fill([self.cfg.torsion_radius * torsion_scale(box)])[0],
            "contact_friction": fill([scene.contact_friction * self.cfg.friction_share])[0],
        }

    # -- Sim ---------------------------------------------------------------------------------

    def randomize(self, mask: Tensor, ranges: Dict[str, Sequence[Union[float, Tensor]]]) -> None:
        """Likewise; an inertia that is not named follows its mass, as that of the same shape with another density does."""
        super().randomize(mask, ranges)
        for body in ("robot", "object"):
            mass, inertia = f"{body}_mass", f"{body}_inertia"
            if mass in ranges and inertia not in ranges:
                self.params[inertia].copy_(self.nominal[inertia] * self.params[mass] / self.nominal[mass])

    def step(self, commands: Tensor) -> None:
        self.servo(commands)
        repeat(self.cfg.substeps, self.substep)

    def pushes(self, world: int) -> Tuple[Tensor, Tensor]:
        contact = self._shapes.on_object(self._frame(slice(None)), self._box_frame())
        force_x, force_y, *_ = contact_force(contact, self._body(slice(None)), self._box_body(), self.params["contact_friction"],
                                             self._stretch_box, self._law)  # on the robots, (A, C, N)
        points, forces = torch.stack((contact.point_x, contact.point_y), -1), -torch.stack((force_x, force_y), -1)
        return points[..., world, :].flatten(0, 1), forces[..., world, :].flatten(0, 1)

    def reset(self, mask: Tensor, agent_pose: Tensor, object_pose: Tensor) -> None:
        self._robot_pose.copy_(torch.where(mask, agent_pose.permute(1, 2, 0), self._robot_pose))
        self._box_pose.copy_(torch.where(mask, object_pose[:, 0].permute(1, 0), self._box_pose))
        for state in (
            self._robot_vel, self._box_vel, self._v_ref, self._v_ref_last, self._model_vel,
            self._trim, self._stretch_box, self._stretch_pair, self._stretch_robot_obstacle, self._stretch_box_obstacle,
        ):
            state.masked_fill_(mask, 0.0)  # not a product: 0 * NaN is NaN
        self._refresh_headings()
        phase = 2.0 * math.pi * torch.rand_like(self._gait_phase)
        self._gait_phase.copy_(torch.where(mask, phase, self._gait_phase))

    def place_obstacles(self, mask: Tensor, pose: Tensor) -> None:
        self._obstacle_pose.copy_(torch.where(mask, pose.permute(1, 2, 0), self._obstacle_pose))

    def state_dict(self) -> Dict[str, Tensor]:
        state = {
            name: getattr(self, "_" + name)
            for name in (
                "robot_pose", "robot_vel", "box_pose", "box_vel", "v_ref", "v_ref_last", "model_vel",
                "trim", "gait_phase", "heading", "box_heading", "stretch_box", "stretch_pair",
                *(("obstacle_pose", "stretch_robot_obstacle", "stretch_box_obstacle") if self.scene.obstacles else ()),
            )
        }
        state.update({"params/" + name: value for name, value in self.params.items()})
        return state

    # -- one control period ------------------------------------------------------------------

    def _servo(self, commands: Tensor) -> None:
        """Commands (N, A, 3) to the velocity that the legs will try to hold, body frame."""
        command = commands.permute(1, 2, 0)  # (A, 3, N)
        vx, vy = rotate_back(
            self._robot_vel[:, 0], self._robot_vel[:, 1], self._heading[:, 0], self._heading[:, 1]
        )
        vel_b = torch.stack((vx, vy, self._robot_vel[:, 2]), 1)
        model_vel, trim = self._model_vel, self._trim
        if self._trims:
            model_vel = model_vel + self._lag * (command - model_vel)
            limit = self._trim_limit
            trim = trim + self._trim_gain * (model_vel - vel_b)
            trim = torch.minimum(torch.maximum(trim, -limit), limit)
        wanted = command + trim
        speed = torch.sqrt((wanted * wanted).sum(1))  # (A, N) of (vx, vy, wz), as it was measured
        gain = self.params["servo_gain"]
        if self._has_dead_zone:
            gain = gain * ((speed - self._dead_zone) / self._dead_zone_width).clamp(0.0, 1.0)
        phase = self._gait_phase + 2.0 * math.pi * self._ripple_frequency * self.dt
        phase = torch.where(phase > 2.0 * math.pi, phase - 2.0 * math.pi, phase)
        moving = (gain * speed * 10.0).clamp(max=1.0)  # a robot that stands does not sway
        sway = torch.stack((torch.sin(2.0 * phase), torch.sin(phase), torch.cos(phase)), 1)
        amplitude = math.sqrt(2.0) * self._ripple  # standard deviation to amplitude
        self._since_command.zero_()
        self._v_ref_last.copy_(self._v_ref)
        self._v_ref.copy_(gain.unsqueeze(1) * wanted + amplitude * (moving.unsqueeze(1) * sway))
        self._model_vel.copy_(model_vel)
        self._trim.copy_(trim)
        self._gait_phase.copy_(phase)

    def _substep(self) -> None:
        """One physics step: servo, contacts, ground friction, integration."""
        dt, params = self.cfg.dt, self.params
        self._wrench.copy_(self._servo_wrench())
        on_box = self._add_box_contacts().sum(0)  # (3, N)
        self._add_pair_contacts()
        if self.scene.obstacles:
            on_box = on_box + self._add_obstacle_contacts()
        vel, pose = self._robot_vel, self._robot_pose
        inverse = torch.stack((1.0 / params["robot_mass"],) * 2 + (1.0 / params["robot_inertia"],), 1)
        vel.add_(dt * self._wrench * inverse)  # (A, 3, N)
        pose.add_(dt * vel)
        mass, inertia = params["object_mass"], params["object_inertia"]
        force_max = GRAVITY * params["object_friction"] * mass
        impulse = dt * on_box
        box_vel = support_friction(
            self._box_vel[0] + impulse[0] / mass, self._box_vel[1] + impulse[1] / mass,
            self._box_vel[2] + impulse[2] / inertia, mass, inertia,
            force_max, force_max * params["torsion_radius"], dt,
        )
        self._box_vel.copy_(torch.stack(box_vel))
        self._box_pose.add_(dt * self._box_vel)
        self._since_command.add_(dt)
        self._refresh_headings()

    def _refresh_headings(self) -> None:
        yaw, box_yaw = self._robot_pose[:, 2], self._box_pose[2]
        self._heading.copy_(torch.stack((yaw.cos(), yaw.sin()), 1))
        self._box_heading.copy_(torch.stack((box_yaw.cos(), box_yaw.sin())))

    def _servo_wrench(self) -> Tensor:
        """Ground reaction on each robot under its legs' velocity servo, world frame. (A, 3, N)"""
        params, cos, sin = self.params, self._heading[:, 0], self._heading[:, 1]
        # The new reference rules only once the latency is over.
        fresh = self._since_command + 1e-6 >= params["latency"]
        vx, vy = rotate_back(self._robot_vel[:, 0], self._robot_vel[:, 1], cos, sin)
        error = [
            torch.where(fresh, self._v_ref[:, axis], self._v_ref_last[:, axis]) - v
            for axis, v in enumerate((vx, vy, self._robot_vel[:, 2]))
        ]
        force_x, force_y, torque = (params["servo_stiffness"][:, axis] * e for axis, e in enumerate(error))
        limit_x, limit_y = params["force_limit"][:, 0], params["force_limit"][:, 1]
        excess = torch.sqrt((force_x / limit_x) ** 2 + (force_y / limit_y) ** 2).clamp(min=1.0)
        torque = torch.minimum(torch.maximum(torque, -params["torque_limit"]), params["torque_limit"])
        return torch.stack((*rotate(force_x / excess, force_y / excess, cos, sin), torque), 1)

    def _add_box_contacts(self) -> Tensor:
        """Adds the box's push to every robot's wrench; returns the robots' on the box, (A, 3, N)."""
        contact = self._shapes.on_object(self._frame(slice(None)), self._box_frame())
        on_robot, on_box = self._resolve(contact, self._body(slice(None)), self._box_body(), self._stretch_box)
        self._wrench.add_(on_robot)
        return on_box

    def _box_frame(self) -> Frame:
        return Frame(self._box_pose[0], self._box_pose[1], self._box_heading[0], self._box_heading[1])

    def _box_body(self) -> Body:
        return Body(*self._box_pose[:2], *self._box_vel, 1.0 / self.params["object_mass"], 1.0 / self.params["object_inertia"])

    def _add_obstacle_contacts(self) -> Tensor:
        """Adds the obstacles' push to every robot's wrench; returns theirs on the box, (3, N)."""
        frames = [Frame(x, y, yaw.cos(), yaw.sin()) for x, y, yaw in self._obstacle_pose.unbind()]
        on_robot, _ = self._resolve(self._shapes.on_obstacles(self._frame(slice(None)), frames), self._body(slice(None)), FIXED,
                                    self._stretch_robot_obstacle)
        self._wrench.add_(on_robot)
        on_box, _ = self._resolve(self._shapes.object_on_obstacles(self._box_frame(), frames), self._box_body(), FIXED, self._stretch_box_obstacle)
        return on_box

    def _add_pair_contacts(self) -> None:
        """Adds the robots' push on each other to their wrenches."""
        for pair, (i, j) in enumerate(self._pairs):
            contact = self._shapes.pair(i, j, self._frame(i), self._frame(j))
            on_first, on_second = self._resolve(contact, self._body(i), self._body(j), self._stretch_pair[pair])
            self._wrench[i].add_(on_first)
            self._wrench[j].add_(on_second)

    def _resolve(self, contact: Contact, first: Body, second: Body, stretch: Tensor) -> Tuple[Tensor, Tensor]:
        """Sums C contacts' wrenches on both bodies, each (..., 3, N), and moves the springs."""
        fx, fy, torque1, torque2, new_stretch = contact_force(
            contact, first, second, self.params["contact_friction"], stretch, self._law
        )
        stretch.copy_(new_stretch)
        fx, fy = fx.sum(-2), fy.sum(-2)
        on_first, on_second = (fx, fy, torque1.sum(-2)), (-fx, -fy, torque2.sum(-2))
        return torch.stack(on_first, -2), torch.stack(on_second, -2)

    def _frame(self, index) -> Frame:
        pose, heading = self._robot_pose[index], self._heading[index]
        return Frame(pose[..., 0, :], pose[..., 1, :], heading[..., 0, :], heading[..., 1, :])

    def _body(self, index) -> Body:
        """Robots as contact bodies, fields (..., 1, N)."""
        pose, vel = self._robot_pose[index], self._robot_vel[index]
        inv_mass, inv_inertia = 1.0 / self.params["robot_mass"][index], 1.0 / self.params["robot_inertia"][index]
        x, y = pose[..., 0:1, :], pose[..., 1:2, :]
        vx, vy, omega = vel[..., 0:1, :], vel[..., 1:2, :], vel[..., 2:3, :]
        return Body(x, y, vx, vy, omega, inv_mass.unsqueeze(-2), inv_inertia.unsqueeze(-2))

    @property
    def _law(self) -> ContactLaw:
        cfg = self.cfg
        return ContactLaw(cfg.contact_stiffness, cfg.contact_damping, cfg.tangent_damping, cfg.mass_split, cfg.dt)
