"""The Unitree Go1 as every engine is told of it: links, joints and collision shapes. Imports no engine.

Masses, inertias, joint ranges, torque limits and collision primitives are those of Unitree's
description as MuJoCo Menagerie publishes it (unitree_go1, BSD-3-Clause); meshes are left out. Lengths in
metres, masses in kg, inertias in kg m^2 as (xx, yy, zz, xy, xz, yz) about the centre of mass.
"""
from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

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


class Shape(NamedTuple):
    """A collision primitive in the frame of its link."""

    kind: str  # box, cylinder, capsule or sphere
    size: Tuple[float, ...]  # half extents | radius and half the length | radius
    at: Tuple[float, ...] = (0.0, 0.0, 0.0)  # its centre
    along: str = "z"  # the axis of a cylinder or capsule
    ends: Tuple[float, ...] = ()  # of a capsule, instead of centre, axis and length: two points
    foot: bool = False


class Link(NamedTuple):
    """A rigid part and the joint that ties it to its parent; the trunk has neither."""

    name: str
    parent: str
    at: Tuple[float, ...]  # in the parent's frame
    mass: float
    com: Sequence[float]
    inertia: Sequence[float]
    joint: str
    shapes: Sequence[Shape]


def axis_of(joint: str) -> Tuple[float, float, float]:
    return (1.0, 0.0, 0.0) if joint == "hip" else (0.0, 1.0, 0.0)


def links() -> List[Link]:
    """Trunk, then hip, thigh and calf of each leg."""
    found = [Link("trunk", "", (0.0, 0.0, HOME_HEIGHT), TRUNK_MASS, TRUNK_COM, TRUNK_INERTIA, "", _TRUNK)]
    for leg in LEGS:
        front, left = 1.0 if leg[0] == "F" else -1.0, 1.0 if leg[1] == "L" else -1.0
        com, inertia = _mirrored(HIP_COM, HIP_INERTIA, front, -left)
        found.append(Link(f"{leg}_hip", "trunk", (front * HIP_X, left * HIP_Y, 0.0), HIP_MASS, com, inertia, "hip", _hip(left, front < 0.0)))
        com, inertia = _mirrored(THIGH_COM, THIGH_INERTIA, 1.0, -left)
        found.append(Link(f"{leg}_thigh", f"{leg}_hip", (0.0, left * THIGH_Y, 0.0), THIGH_MASS, com, inertia, "thigh", _THIGH))
        found.append(Link(f"{leg}_calf", f"{leg}_thigh", (0.0, 0.0, -LINK), CALF_MASS, CALF_COM, CALF_INERTIA, "calf", _CALF))
    return found


def _mirrored(com: Sequence[float], inertia: Sequence[float], flip_x: float, flip_y: float) -> Tuple[List[float], List[float]]:
    """A link reflected in x and y where the sign is -1."""
    xx, yy, zz, xy, xz, yz = inertia
    return [flip_x * com[0], flip_y * com[1], com[2]], [xx, yy, zz, flip_x * flip_y * xy, flip_x * xz, flip_y * yz]


_TRUNK = (
    Shape("box", (0.125, 0.04, 0.057)),
    *(Shape("cylinder", (0.058, 0.125), (0.0, y, 0.0), "x") for y in (-0.04, 0.04)),
    Shape("box", (0.005, 0.06, 0.05), (0.25, 0.0, 0.0)),  # the head
    *(Shape("capsule", (0.009, 0.035), (0.25, y, -0.01)) for y in (-0.06, 0.06)),
    Shape("capsule", (0.01, 0.06), (0.25, 0.0, -0.05), "y"),
    Shape("capsule", (0.021, 0.052), (0.255, 0.0, 0.0355), "y"),
)


def _hip(left: float, rear: bool) -> List[Shape]:
    shapes = [(0.046, 0.045), (0.031, 0.065)] + ([(0.046, 0.0)] if rear else [])  # radius, offset
    return [Shape("cylinder", (radius, 0.02), (0.0, left * offset, 0.0), "y") for radius, offset in shapes]


def _limb(radius: float, *lines: Tuple[float, ...]) -> List[Shape]:
    return [Shape("capsule", (radius,), ends=line) for line in lines]


_THIGH = _limb(0.015, (-0.02, 0, 0, -0.02, 0, -0.16), (0, 0, 0, -0.02, 0, -0.1), (-0.02, 0, -0.16, 0, 0, -0.2))
_CALF = [*_limb(0.01, (0, 0, 0, 0.02, 0, -0.13), (0.02, 0, -0.13, 0, 0, -0.2)), Shape("sphere", (FOOT_RADIUS,), (0.0, 0.0, -LINK), foot=True)]
