"""The worlds that Go1s walk in, built in code for MuJoCo."""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import mujoco

from happo_gpu.sim import go1
from happo_gpu.sim.base import ObjectSpec

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

_ALONG = {"x": [0.70710678, 0, 0.70710678, 0], "y": [0.70710678, 0.70710678, 0, 0], "z": [1, 0, 0, 0]}  # quaternions of a z axis
_KINDS = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER, "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
          "sphere": mujoco.mjtGeom.mjGEOM_SPHERE}


def _add_robot(spec: mujoco.MjSpec, name: str, motors: Motors, contype: int, conaffinity: int, friction: float) -> None:
    geom = dict(contype=contype, conaffinity=conaffinity, friction=[friction, 0.005, 0.0001], rgba=[0.3, 0.32, 0.36, 1.0])
    bodies = {"": spec.worldbody}
    for link in go1.links():
        body = bodies[link.name] = bodies[link.parent].add_body(name=f"{name}_{link.name}" if link.parent else name, pos=list(link.at))
        body.mass, body.ipos, body.fullinertia, body.explicitinertial = link.mass, list(link.com), list(link.inertia), True
        for shape in link.shapes:
            _add_shape(body, shape, dict(geom, friction=list(go1.FOOT_FRICTION), rgba=[0.1, 0.1, 0.1, 1.0], priority=1,
                                         name=f"{name}_{link.name[:2]}_foot") if shape.foot else geom)
        if link.joint:
            _add_motor(spec, body, f"{name}_{link.name}", link.joint, motors)
        else:
            body.add_freejoint(name=name)


def _add_shape(body, shape: go1.Shape, geom: dict) -> None:
    where = dict(fromto=list(shape.ends)) if shape.ends else dict(pos=list(shape.at), quat=_ALONG[shape.along])
    body.add_geom(type=_KINDS[shape.kind], size=[*shape.size, 0, 0][:3], **where, **geom)


def _add_motor(spec: mujoco.MjSpec, body, name: str, joint: str, motors: Motors) -> None:
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=list(go1.axis_of(joint)),
                   range=list(go1.JOINT_RANGE[joint]), limited=True, damping=[motors.damping, 0.0, 0.0], armature=go1.ARMATURE,
                   frictionloss=go1.FRICTION_LOSS)
    limit = go1.TORQUE_LIMIT[joint]
    drive = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT,
                              ctrllimited=True, ctrlrange=list(go1.JOINT_RANGE[joint]), forcelimited=True, forcerange=[-limit, limit])
    drive.set_to_position(kp=motors.stiffness)
