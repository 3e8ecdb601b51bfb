"""Plane geometry shared by simulators and tasks: frames, angles, distances.

Frames: ``_w`` world, ``_b`` body. Angles in radians, lengths in metres. Every function is
pointwise: any shape goes in, the same shape comes out, so that one definition serves the
simulator's environment-last rows and the task's environment-first views.
"""
from __future__ import annotations

import math
from typing import Sequence, Tuple

import torch
from torch import Tensor


def wrap_to_pi(angle: Tensor) -> Tensor:
    """Maps an angle to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2.0 * math.pi) - math.pi


def rotate(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> Tuple[Tensor, Tensor]:
    """Body to world: rotates (x, y) by the angle whose cosine and sine are given."""
    return cos * x - sin * y, sin * x + cos * y


def rotate_back(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> Tuple[Tensor, Tensor]:
    """World to body: the inverse of :func:`rotate`."""
    return cos * x + sin * y, cos * y - sin * x


def box_distance(
    x_b: Tensor, y_b: Tensor, half_x: float, half_y: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """Signed distance of a point to a rectangle and the outward unit normal there.

    Point in the rectangle's frame; negative inside. Outside a corner the normal points from the
    corner to the point, inside it points to the nearest face.
    """
    beyond_x, beyond_y = x_b.abs() - half_x, y_b.abs() - half_y
    out_x, out_y = beyond_x.clamp(min=0.0), beyond_y.clamp(min=0.0)
    outside = torch.sqrt(out_x * out_x + out_y * out_y)
    distance = outside + torch.maximum(beyond_x, beyond_y).clamp(max=0.0)
    is_outside, x_face = outside > 1e-9, beyond_x > beyond_y
    inverse = 1.0 / outside.clamp(min=1e-9)
    normal_x = torch.where(is_outside, out_x * inverse, x_face.to(x_b.dtype))
    normal_y = torch.where(is_outside, out_y * inverse, (~x_face).to(x_b.dtype))
    return distance, torch.copysign(normal_x, x_b), torch.copysign(normal_y, y_b)


def nearest_edge_normal(
    x_b: Tensor, y_b: Tensor, polygon: Sequence[Tuple[float, float]]
) -> Tuple[Tensor, Tensor]:
    """Inward unit normal of the polygon edge that is nearest to a point, in the polygon's frame.

    The polygon is counter-clockwise. Distance is to the edge as a segment; of edges equally near
    (outside a corner) the first wins, as in MAPush. Equal means to 1e-5 m^2, beyond rounding.
    """
    best = torch.full_like(x_b, math.inf)
    normal_x, normal_y = torch.zeros_like(x_b), torch.zeros_like(y_b)
    for (ax, ay), (bx, by) in zip(polygon, list(polygon[1:]) + [polygon[0]]):
        ex, ey = bx - ax, by - ay
        length_sq = ex * ex + ey * ey
        along = (((x_b - ax) * ex + (y_b - ay) * ey) / length_sq).clamp(0.0, 1.0)
        dx, dy = x_b - ax - along * ex, y_b - ay - along * ey
        distance_sq = dx * dx + dy * dy
        nearer = distance_sq < best - 1e-5
        best = torch.where(nearer, distance_sq, best)
        inverse = 1.0 / math.sqrt(length_sq)
        normal_x = torch.where(nearer, torch.full_like(x_b, -ey * inverse), normal_x)
        normal_y = torch.where(nearer, torch.full_like(y_b, ex * inverse), normal_y)
    return normal_x, normal_y
