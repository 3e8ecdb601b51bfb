"""Frictional contact in the plane, as pure functions of tensors.

Rows are environment-last, (..., N), so that neighbouring environments are neighbouring in memory.
A contact is an implicit spring-damper along its normal and a Coulomb-limited
spring with memory along its tangent. The memory matters: a memoryless (viscous) tangent lets a
light body creep under a load that friction should hold.
"""
from __future__ import annotations

from typing import NamedTuple, Tuple, Union

import torch
from torch import Tensor

from happo_gpu.geometry import box_distance, rotate, rotate_back
from happo_gpu.sim.base import Rectangle


class Contact(NamedTuple):
    """A candidate contact between two bodies; the normal points from the second to the first."""

    point_x: Tensor  # (..., N) world, m
    point_y: Tensor
    normal_x: Tensor  # (..., N) world, unit
    normal_y: Tensor
    depth: Tensor  # (..., N) m, positive where the bodies overlap


class Body(NamedTuple):
    """Pose, velocity and inverse inertia of a body, broadcastable against its contact."""

    x: Tensor
    y: Tensor
    vx: Tensor
    vy: Tensor
    omega: Tensor
    inv_mass: Tensor
    inv_inertia: Tensor


class ContactLaw(NamedTuple):
    """Contact constants, the same for every contact."""

    stiffness: float  # N/m, normal and tangential
    damping: float  # N s/m, normal
    tangent_damping: float  # N s/m
    mass_split: float  # contacts that may load one body at once; divides its effective mass
    dt: float  # s


class Frame(NamedTuple):
    """Position and heading of a body; cosine and sine are carried, not recomputed per contact."""

    x: Tensor  # (..., N) world, m
    y: Tensor
    cos: Tensor
    sin: Tensor


Length = Union[float, Tensor]  # m; a tensor where robots differ


def circle_box_contact(
    x: Tensor, y: Tensor, radius: Length, box: Frame, half_x: float, half_y: float
) -> Contact:
    """A circle at world (x, y) against a rectangle."""
    x_b, y_b = rotate_back(x - box.x, y - box.y, box.cos, box.sin)
    distance, normal_x, normal_y = box_distance(x_b, y_b, half_x, half_y)
    normal_x, normal_y = rotate(normal_x, normal_y, box.cos, box.sin)
    depth = radius - distance
    reach = radius - 0.5 * depth  # the contact point lies half-way through the overlap
    return Contact(x - reach * normal_x, y - reach * normal_y, normal_x, normal_y, depth)


def flank_corner_contact(
    robot: Frame, rear: Length, front: Length, radius: Length, box: Frame, half_x: float, half_y: float
) -> Contact:
    """The rectangle's nearest corner against the straight flank of a robot.

    Only where the corner projects strictly between the flank's ends: beyond them the end circles
    see the corner, so no overlap is counted twice.
    """
    mid = 0.5 * (rear + front)
    mid_x, mid_y = rotate_back(
        robot.x + mid * robot.cos - box.x, robot.y + mid * robot.sin - box.y, box.cos, box.sin
    )
    corner_x, corner_y = rotate(
        torch.copysign(torch.full_like(mid_x, half_x), mid_x),
        torch.copysign(torch.full_like(mid_y, half_y), mid_y),
        box.cos, box.sin,
    )
    corner_x, corner_y = corner_x + box.x, corner_y + box.y
    along, across = rotate_back(corner_x - robot.x, corner_y - robot.y, robot.cos, robot.sin)
    inside = (along > rear) & (along < front)
    depth = torch.where(inside, radius - across.abs(), -1.0)
    side = torch.copysign(torch.ones_like(across), across)
    return Contact(corner_x, corner_y, side * robot.sin, -side * robot.cos, depth)


def not_in(part: Rectangle, frame: Frame, contact: Contact, surface_x: Tensor, surface_y: Tensor) -> Contact:
    """Drops contacts whose point on the surface lies in or on another part of the object: that part holds it."""
    x_b, y_b = rotate_back(surface_x - frame.x, surface_y - frame.y, frame.cos, frame.sin)
    outside = box_distance(x_b, y_b, part.half_x, part.half_y)[0] > 1e-5
    return contact._replace(depth=torch.where(outside, contact.depth, -1.0))


def corners_contact(first: Rectangle, first_frame: Frame, second: Rectangle, second_frame: Frame) -> Contact:
    """Two rectangles, (8, N): the corners of each against the other. Frames lie in the rectangles' centres, fields (N,)."""
    inward = circle_box_contact(*_corners_of(first, first_frame), 0.0, second_frame, second.half_x, second.half_y)
    outward = circle_box_contact(*_corners_of(second, second_frame), 0.0, first_frame, first.half_x, first.half_y)
    outward = outward._replace(normal_x=-outward.normal_x, normal_y=-outward.normal_y)
    return Contact(*(torch.cat(both) for both in zip(inward, outward)))


def _corners_of(rectangle: Rectangle, frame: Frame) -> Tuple[Tensor, Tensor]:
    """World x and y, (4, N)."""
    signs = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    corners = [rotate(i * rectangle.half_x, j * rectangle.half_y, frame.cos, frame.sin) for i, j in signs]
    return torch.stack([frame.x + x for x, _ in corners]), torch.stack([frame.y + y for _, y in corners])


def circle_disc_contact(x: Tensor, y: Tensor, radius: Length, disc_x: Tensor, disc_y: Tensor, disc_radius: float) -> Contact:
    """A circle at world (x, y) against another one; the normal points from the second to the first."""
    dx, dy = x - disc_x, y - disc_y
    distance = torch.sqrt(dx * dx + dy * dy).clamp(min=1e-6)
    normal_x, normal_y = dx / distance, dy / distance
    depth = radius + disc_radius - distance
    reach = disc_radius - 0.5 * depth
    return Contact(disc_x + reach * normal_x, disc_y + reach * normal_y, normal_x, normal_y, depth)


def nearest_on_axis(x: Tensor, y: Tensor, robot: Frame, rear: Length, front: Length) -> Tuple[Tensor, Tensor]:
    """The point of a capsule's axis, world, that is nearest to (x, y)."""
    along = (robot.cos * (x - robot.x) + robot.sin * (y - robot.y)).clamp(rear, front)
    return robot.x + along * robot.cos, robot.y + along * robot.sin


def end_segment_contact(
    x: Tensor, y: Tensor, end_radius: float, robot: Frame, rear: float, front: float, radius: float
) -> Contact:
    """A circle at world (x, y), one capsule's end, against another capsule's axis; the normal points from capsule to circle."""
    dx, dy = x - robot.x, y - robot.y
    along = (robot.cos * dx + robot.sin * dy).clamp(rear, front)
    dx, dy = dx - along * robot.cos, dy - along * robot.sin
    distance = torch.sqrt(dx * dx + dy * dy).clamp(min=1e-6)
    normal_x, normal_y = dx / distance, dy / distance
    middle = 0.5 * distance  # of the overlap, from the circle's centre
    if end_radius != radius:
        middle = middle + 0.5 * (end_radius - radius)
    return Contact(x - middle * normal_x, y - middle * normal_y, normal_x, normal_y, end_radius + radius - distance)


def contact_force(
    contact: Contact, first: Body, second: Body, friction: Tensor, stretch: Tensor,
    law: ContactLaw,
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Force on the first body at a contact, and the tangential spring's new stretch.

    Args:
        contact: candidate contact, each field (..., N).
        first, second: the bodies, fields broadcastable to (..., N).
        friction: Coulomb coefficient, broadcastable to (..., N).
        stretch: tangential spring memory, m, (..., N).
        law: constants.

    Returns:
        Force x and y on the first body (N), torque on the first, torque on the second (N m), and
        the new stretch, all (..., N). The second body's force is the opposite.
    """
    nx, ny = contact.normal_x, contact.normal_y
    arm1_x, arm1_y = contact.point_x - first.x, contact.point_y - first.y
    arm2_x, arm2_y = contact.point_x - second.x, contact.point_y - second.y
    rel_x = first.vx - first.omega * arm1_y - second.vx + second.omega * arm2_y
    rel_y = first.vy + first.omega * arm1_x - second.vy - second.omega * arm2_x
    v_normal, v_tangent = rel_x * nx + rel_y * ny, rel_y * nx - rel_x * ny  # tangent = (-ny, nx)

    lever1_n, lever2_n = arm1_x * ny - arm1_y * nx, arm2_x * ny - arm2_y * nx
    lever1_t, lever2_t = arm1_x * nx + arm1_y * ny, arm2_x * nx + arm2_y * ny
    inv_mass = first.inv_mass + second.inv_mass
    compliance_n = inv_mass + lever1_n * lever1_n * first.inv_inertia + lever2_n * lever2_n * second.inv_inertia
    compliance_t = inv_mass + lever1_t * lever1_t * first.inv_inertia + lever2_t * lever2_t * second.inv_inertia

    # Backward Euler for one contact alone: the denominators make any stiffness stable.
    touching = contact.depth > 0.0
    k, dt, split = law.stiffness, law.dt, law.mass_split
    rate_n, rate_t = law.damping + dt * k, law.tangent_damping + dt * k
    normal = (k * contact.depth - rate_n * v_normal) / (1.0 + dt * rate_n * split * compliance_n)
    normal = torch.where(touching, normal.clamp(min=0.0), 0.0)
    yield_t = 1.0 + dt * rate_t * split * compliance_t
    tangent = -(k * stretch + rate_t * v_tangent) / yield_t
    limit = friction * normal
    tangent = torch.minimum(torch.maximum(tangent, -limit), limit)
    slack = limit * yield_t / k  # the stretch at which a resting spring bears the whole limit
    stretch = torch.minimum(torch.maximum(stretch + dt * v_tangent, -slack), slack)

    force_x, force_y = normal * nx - tangent * ny, normal * ny + tangent * nx
    torque1 = normal * lever1_n + tangent * lever1_t
    torque2 = -(normal * lever2_n + tangent * lever2_t)
    return force_x, force_y, torque1, torque2, stretch


def support_friction(
    vx: Tensor, vy: Tensor, omega: Tensor, mass: Tensor, inertia: Tensor,
    force_max: Tensor, torque_max: Tensor, dt: float,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Coulomb friction of the ground under a sliding body, one backward-Euler step.

    Forces and torque lie in the ellipsoid |f|^2 / force_max^2 + t^2 / torque_max^2 <= 1 (the limit
    surface of Goyal, Ruina and Papadopoulos, 1991) and oppose the velocity *after* the step, so a
    body comes to rest exactly and does not creep. The multiplier s >= 0 solves
    sum_i A_i v_i^2 / (s + b_i)^2 = 1 with A the squared semi-axes and b_i = dt A_i / M_i; it is
    found by Newton steps on the reciprocal square root, nearly linear in s. s = 0 is sticking.

    Args:
        vx, vy, omega: (N,) velocity and yaw rate; returned damped.
        mass, inertia, force_max, torque_max: (N,) kg, kg m^2, N, N m.
    """
    a_lin, a_rot = force_max * force_max, torque_max * torque_max
    b_lin, b_rot = dt * a_lin / mass, dt * a_rot / inertia
    e_lin = a_lin * (vx * vx + vy * vy)
    e_rot = a_rot * omega * omega
    s = torch.zeros_like(e_lin)
    for _ in range(4):
        inv_lin, inv_rot = 1.0 / (s + b_lin), 1.0 / (s + b_rot)
        q_lin, q_rot = e_lin * inv_lin * inv_lin, e_rot * inv_rot * inv_rot
        q = q_lin + q_rot
        slope = (q_lin * inv_lin + q_rot * inv_rot).clamp(min=1e-20)
        s = (s + q * (torch.sqrt(q) - 1.0) / slope).clamp(min=0.0)
    keep_lin, keep_rot = s / (s + b_lin), s / (s + b_rot)
    return vx * keep_lin, vy * keep_lin, omega * keep_rot
