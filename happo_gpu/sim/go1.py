"""The Unitree Go1 and the worlds that it walks in, built in code for MuJoCo.

Masses, inertias, joint ranges, torque limits and collision primitives are those of Unitree's
description as MuJoCo Menagerie publishes it (unitree_go1, BSD-3-Clause); meshes are left out. Lengths in
metres, masses in kg, inertias in kg m^2 as (xx, yy, zz, xy, xz, yz) about the centre of mass.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import mujoco

from happo_gpu.sim.base import ObjectSpec
from happo_gpu.sim.locomotion import HOME, NUM_JOINTS  # noqa: F401  HOME is part of this description, too

# Legs and joints in the order of every joint tensor: 12 columns, leg by leg.
LEGS = ("FR", "FL", "RR", "RL")
JOINTS = ("hip", "thigh", "calf")  # abduction, flexion, knee
assert NUM_JOINTS == len(LEGS) * len(JOINTS)
HOME_HEIGHT = 0.27  # m of the trunk when standing

JOINT_RANGE = {"hip": (-0.863, 0.863), "thigh": (-0.686, 4.501), "calf": (-2.818, -0.888)}  # rad
TORQUE_LIMIT = {"hip": 23.7, "thigh": 23.7, "calf": 35.55}  # N m
ARMATURE, FRICTION_LOSS = 0.01, 0.2  # kg m^2, N m of every joint

TRUNK_MASS, TRUNK_COM = 5.204, (0.0223, 0.002, -0.0005)
TRUNK_INERTIA = (0.0168128, 0.0630095, 0.0716547, -0.000229676, -0.000294553, -4.18733e-05)
# Links of the front right leg; the others are its mirror images.
HIP_MASS, HIP_COM = 0.68, (-0.0049166, 0.00762615, -8.865e-05)
HIP_INERTIA = (0.00039938, 0.000733419, 0.000468422, 1.45897e-05, 1.24609e-06, -1.57518e-06)
THIGH_MASS, THIGH_COM = 1.009, (-0.00304722, 0.019315, -0.0305004)
THIGH_INERTIA = (0.0045988, 0.00468922, 0.000817448, -6.13737e-05, -0.00022753, -0.000610808)
CALF_MASS, CALF_COM = 0.195862, (0.00429862, 0.000976676, -0.146197)  # not mirrored: one part for all legs
CALF_INERTIA = (0.00148449, 0.00149764, 3.60682e-05, -6.18625e-07, -1.772e-05, -3.56628e-06)

HIP_X, HIP_Y, THIGH_Y, LINK = 0.1881, 0.04675, 0.08, 0.213  # trunk to hip, hip to thigh, thigh and calf length
FOOT_RADIUS, FOOT_FRICTION = 0.023, (0.8, 0.02, 0.01)

# Collision bits: what a geom is, and what it meets. A robot never meets itself.
FLOOR, GROUNDED, PUSHED = 1, 2, 4  # the floor; the object's underside; its sides
FIRST_ROBOT = 8


@dataclass(frozen=True)
class Motors:
    """Joint drives: torque = stiffness * (target - q) - damping * qd, up to the limits."""

    stiffness: float  # N m/rad
    damping: float  # N m s/rad


def build(num_robots: int, motors: Motors, dt: float, objects: Sequence[ObjectSpec] = (),
          contact_friction: float = 0.6, iterations: int = 10, ls_iterations: int = 20,
          obstacles: Sequence[Tuple[float, ...]] = ()) -> mujoco.MjModel:
    """Robots ``robot_0`` ... and objects ``object_0`` ... on a plane, in that order of coordinates; ``obstacle_0`` ... stand fast.

    Friction cones are elliptic: pyramidal ones turn a pushed box by 0.4 rad in 10 s (elliptic 0.03). One
    solver iteration leaves a push unconverged; 5 to 10 are enough.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    option = spec.option
    option.timestep, option.cone = dt, mujoco.mjtCone.mjCONE_ELLIPTIC
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver, option.iterations, option.ls_iterations = mujoco.mjtSolver.mjSOL_NEWTON, iterations, ls_iterations
    robots = ((1 << num_robots) - 1) * FIRST_ROBOT
    # Feet and objects bring their own friction; of two geoms the larger counts.
    spec.add_texture(name="tiles", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.80, 0.82, 0.85], rgb2=[0.74, 0.76, 0.79], width=128, height=128)
    tiles = spec.add_material(name="tiles", texrepeat=[1, 1], texuniform=True)  # 1 m, to see what moves
    tiles.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "tiles"
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], friction=[0.0, 0.0, 0.0],
                            contype=FLOOR, conaffinity=0, material="tiles")
    spec.worldbody.add_light(pos=[0, 0, 5], dir=[0, 0, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    for i in range(num_robots):
        bit = FIRST_ROBOT << i
        _add_robot(spec, f"robot_{i}", motors, contype=bit, conaffinity=FLOOR | PUSHED | (robots & ~bit),
                   friction=contact_friction)
    for i, each in enumerate(objects):
        _add_object(spec, f"object_{i}", each, robots, contact_friction)
    for i, size in enumerate(obstacles):
        body = spec.worldbody.add_body(name=f"obstacle_{i}", pos=[0, 0, size[2]])
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=list(size), contype=0, conaffinity=robots | PUSHED,
                      friction=[contact_friction, 0.005, 0.0001], rgba=[0.45, 0.45, 0.5, 1.0])
    return spec.compile()


def _add_object(spec: mujoco.MjSpec, name: str, each: ObjectSpec, robots: int, contact_friction: float) -> None:
    """An object whose friction with the floor differs from that with robots: two geoms in one place for each part."""
    x, y, z = each.half_extents
    body = spec.worldbody.add_body(name=name, pos=[0, 0, z])
    body.add_freejoint(name=name)
    body.mass, body.explicitinertial = each.mass, True
    tipping = each.mass / 3.0 * max(y * y + z * z, x * x + z * z)
    body.inertia = [tipping, tipping, each.inertia]
    shapes = [dict(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[each.radius, z, 0])] if each.round else [
        dict(type=mujoco.mjtGeom.mjGEOM_BOX, size=[part.half_x, part.half_y, z], pos=[part.x, part.y, 0]) for part in each.rectangles]
    colour, rest = [0.85, 0.6, 0.25, 1.0], [0.005, 0.0001]
    for end, shape in zip(endings(each), shapes):
        body.add_geom(name=f"{name}_ground{end}", contype=GROUNDED, conaffinity=FLOOR, friction=[each.friction, *rest], rgba=colour, **shape)
        body.add_geom(name=name + end, contype=PUSHED, conaffinity=robots, friction=[contact_friction, *rest], rgba=colour, **shape)


def endings(each: ObjectSpec) -> List[str]:
    """What the names of an object's geoms end in, one for each of its parts; the first has the object's own name."""
    return [f"_{i}" if i else "" for i in range(1 if each.round else len(each.rectangles))]


# -- one robot --------------------------------------------------------------------------------------


def _add_robot(spec: mujoco.MjSpec, name: str, motors: Motors, contype: int, conaffinity: int, friction: float) -> None:
    geom = dict(contype=contype, conaffinity=conaffinity, friction=[friction, 0.005, 0.0001], rgba=[0.3, 0.32, 0.36, 1.0])
    trunk = spec.worldbody.add_body(name=name, pos=[0, 0, HOME_HEIGHT])
    trunk.add_freejoint(name=name)
    _set_inertia(trunk, TRUNK_MASS, TRUNK_COM, TRUNK_INERTIA)
    _add_trunk_geoms(trunk, geom)
    for leg in LEGS:
        front, left = 1.0 if leg[0] == "F" else -1.0, 1.0 if leg[1] == "L" else -1.0
        hip = trunk.add_body(name=f"{name}_{leg}_hip", pos=[front * HIP_X, left * HIP_Y, 0])
        _set_inertia(hip, HIP_MASS, *_mirrored(HIP_COM, HIP_INERTIA, front, -left))
        _add_hip_geoms(hip, left, front < 0.0, geom)
        thigh = hip.add_body(name=f"{name}_{leg}_thigh", pos=[0, left * THIGH_Y, 0])
        _set_inertia(thigh, THIGH_MASS, *_mirrored(THIGH_COM, THIGH_INERTIA, 1.0, -left))
        _add_capsules(thigh, 0.015, [(-0.02, 0, 0, -0.02, 0, -0.16), (0, 0, 0, -0.02, 0, -0.1), (-0.02, 0, -0.16, 0, 0, -0.2)], geom)
        calf = thigh.add_body(name=f"{name}_{leg}_calf", pos=[0, 0, -LINK])
        _set_inertia(calf, CALF_MASS, CALF_COM, CALF_INERTIA)
        _add_capsules(calf, 0.01, [(0, 0, 0, 0.02, 0, -0.13), (0.02, 0, -0.13, 0, 0, -0.2)], geom)
        foot = dict(geom, friction=list(FOOT_FRICTION), rgba=[0.1, 0.1, 0.1, 1.0], priority=1)
        calf.add_geom(name=f"{name}_{leg}_foot", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[FOOT_RADIUS, 0, 0], pos=[0, 0, -LINK], **foot)
        for joint, body in zip(JOINTS, (hip, thigh, calf)):
            _add_motor(spec, body, f"{name}_{leg}_{joint}", joint, motors)


def _add_motor(spec: mujoco.MjSpec, body, name: str, joint: str, motors: Motors) -> None:
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[1, 0, 0] if joint == "hip" else [0, 1, 0],
                   range=list(JOINT_RANGE[joint]), limited=True, damping=[motors.damping, 0.0, 0.0], armature=ARMATURE,
                   frictionloss=FRICTION_LOSS)
    limit = TORQUE_LIMIT[joint]
    drive = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT,
                              ctrllimited=True, ctrlrange=list(JOINT_RANGE[joint]), forcelimited=True, forcerange=[-limit, limit])
    drive.set_to_position(kp=motors.stiffness)


def _mirrored(com: Sequence[float], inertia: Sequence[float], flip_x: float, flip_y: float) -> Tuple[List[float], List[float]]:
    """A link reflected in x and y where the sign is -1."""
    xx, yy, zz, xy, xz, yz = inertia
    return [flip_x * com[0], flip_y * com[1], com[2]], [xx, yy, zz, flip_x * flip_y * xy, flip_x * xz, flip_y * yz]


def _set_inertia(body, mass: float, com: Sequence[float], inertia: Sequence[float]) -> None:
    body.mass, body.ipos, body.fullinertia, body.explicitinertial = mass, list(com), list(inertia), True


_ALONG_X, _ALONG_Y = [0.70710678, 0, 0.70710678, 0], [0.70710678, 0.70710678, 0, 0]  # quaternions of a z axis


def _add_trunk_geoms(trunk, geom: dict) -> None:
    kinds = mujoco.mjtGeom
    trunk.add_geom(type=kinds.mjGEOM_BOX, size=[0.125, 0.04, 0.057], **geom)
    for y in (-0.04, 0.04):
        trunk.add_geom(type=kinds.mjGEOM_CYLINDER, size=[0.058, 0.125, 0], pos=[0, y, 0], quat=_ALONG_X, **geom)
    trunk.add_geom(type=kinds.mjGEOM_BOX, size=[0.005, 0.06, 0.05], pos=[0.25, 0, 0], **geom)  # the head
    for y in (-0.06, 0.06):
        trunk.add_geom(type=kinds.mjGEOM_CAPSULE, size=[0.009, 0.035, 0], pos=[0.25, y, -0.01], **geom)
    trunk.add_geom(type=kinds.mjGEOM_CAPSULE, size=[0.01, 0.06, 0], pos=[0.25, 0, -0.05], quat=_ALONG_Y, **geom)
    trunk.add_geom(type=kinds.mjGEOM_CAPSULE, size=[0.021, 0.052, 0], pos=[0.255, 0, 0.0355], quat=_ALONG_Y, **geom)


def _add_hip_geoms(hip, left: float, rear: bool, geom: dict) -> None:
    shapes = [(0.046, 0.045), (0.031, 0.065)] + ([(0.046, 0.0)] if rear else [])  # radius, offset
    for radius, offset in shapes:
        hip.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, 0.02, 0], pos=[0, left * offset, 0], quat=_ALONG_Y, **geom)


def _add_capsules(body, radius: float, lines: Sequence[Tuple[float, ...]], geom: dict) -> None:
    for line in lines:
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0, 0], fromto=list(line), **geom)
