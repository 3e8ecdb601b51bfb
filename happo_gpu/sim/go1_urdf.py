"""The Go1 and the objects that it pushes as URDF, for engines that read files."""
from __future__ import annotations

import math
from typing import List, Sequence, Tuple

from happo_gpu.sim import go1
from happo_gpu.sim.base import ObjectSpec

_TURN = {"x": (0.0, 0.5 * math.pi, 0.0), "y": (0.5 * math.pi, 0.0, 0.0), "z": (0.0, 0.0, 0.0)}  # roll, pitch, yaw of a z axis
_FASTEST = 100.0  # rad/s, which URDF wants to be told: no joint comes near


def robot() -> str:
    """Capsules are cylinders, which URDF has: they lose their round ends."""
    parts = []
    for link in go1.links():
        parts.append(_link(link.name, link.mass, link.com, link.inertia, [_shape(shape) for shape in link.shapes]))
        if link.joint:
            low, high = go1.JOINT_RANGE[link.joint]
            parts.append(f'<joint name="{link.name}" type="revolute"><parent link="{link.parent}"/><child link="{link.name}"/>'
                         f'<origin xyz="{_text(link.at)}"/><axis xyz="{_text(go1.axis_of(link.joint))}"/>'
                         f'<limit lower="{low}" upper="{high}" effort="{go1.TORQUE_LIMIT[link.joint]}" velocity="{_FASTEST}"/></joint>')
    return _robot("go1", parts)


def pushed(each: ObjectSpec) -> str:
    """A single link with a box for each part."""
    x, y, z = each.half_extents
    tipping = each.mass / 3.0 * max(y * y + z * z, x * x + z * z)
    shapes = [_collision(f'<cylinder radius="{each.radius}" length="{2 * z}"/>')] if each.round else [
        _collision(_box((part.half_x, part.half_y, z)), (part.x, part.y, 0.0)) for part in each.rectangles]
    return _robot("object", [_link("object", each.mass, (0.0, 0.0, 0.0), (tipping, tipping, each.inertia, 0.0, 0.0, 0.0), shapes)])


def _robot(name: str, parts: List[str]) -> str:
    return f'<?xml version="1.0"?>\n<robot name="{name}">\n' + "\n".join(parts) + "\n</robot>\n"


def _link(name: str, mass: float, com: Sequence[float], inertia: Sequence[float], shapes: List[str]) -> str:
    xx, yy, zz, xy, xz, yz = inertia
    return (f'<link name="{name}"><inertial><origin xyz="{_text(com)}"/><mass value="{mass}"/>'
            f'<inertia ixx="{xx}" iyy="{yy}" izz="{zz}" ixy="{xy}" ixz="{xz}" iyz="{yz}"/></inertial>{"".join(shapes)}</link>')


def _shape(shape: go1.Shape) -> str:
    if shape.kind == "box":
        return _collision(_box(shape.size), shape.at)
    if shape.kind == "sphere":
        return _collision(f'<sphere radius="{shape.size[0]}"/>', shape.at)
    if not shape.ends:
        return _collision(f'<cylinder radius="{shape.size[0]}" length="{2 * shape.size[1]}"/>', shape.at, _TURN[shape.along])
    start, end = shape.ends[:3], shape.ends[3:]
    x, y, z = (b - a for a, b in zip(start, end))
    assert y == 0.0, "a limb lies in its own plane"
    middle = tuple(0.5 * (a + b) for a, b in zip(start, end))
    return _collision(f'<cylinder radius="{shape.size[0]}" length="{math.hypot(x, z)}"/>', middle, (0.0, math.atan2(x, z), 0.0))


def _box(half: Sequence[float]) -> str:
    return f'<box size="{_text([2 * extent for extent in half])}"/>'


def _collision(geometry: str, at: Sequence[float] = (0.0, 0.0, 0.0), turn: Tuple[float, ...] = (0.0, 0.0, 0.0)) -> str:
    return f'<collision><origin xyz="{_text(at)}" rpy="{_text(turn)}"/><geometry>{geometry}</geometry></collision>'


def _text(numbers: Sequence[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
