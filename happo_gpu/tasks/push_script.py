"""A hand-written team for Go1Push that sees everything: behind the box in order, lined up, then straight to the goal.

All happens in the frame of the push: origin at the box, x axis from box to goal. Each robot has a lane, a line parallel to x.
Lanes go by the robots' order around the box, so that no robot has to pass another. A function of poses alone: it remembers
nothing, and a robot that lost the box simply walks round again. Shapes: N environments, A agents.
"""
from __future__ import annotations

import math
from typing import Tuple

import torch
from torch import Tensor

from happo_gpu.geometry import rotate, rotate_back, wrap_to_pi

LANE = 0.5  # m between neighbouring lanes: two bodies side by side, and room to sway
MARGIN = 0.05  # m between the circle that robots walk on and the nearest that a robot on it could touch the box
READY = 0.2  # m beside its lane at which a robot counts as lined up
KEEP_AWAY = 0.5  # m between robots at which they begin to give way; not more than LANE, or they would push each other out of it
GAIN = 3.0  # 1/s, of errors in place and heading


def pushing_commands(agents: Tensor, box: Tensor, goal: Tensor, half: Tuple[float, float], reach: float,
                     limit: Tensor) -> Tensor:
    """Body-frame velocity commands (N, A, 3), m/s, m/s, rad/s.

    Args:
        agents: (N, A, 3) x, y, yaw, and box: (N, 3), in the world. goal: (N, 2).
        half: half extents of the box, m. reach: farthest point of a robot from its centre, m.
        limit: (3,) largest commands.
    """
    to_goal = goal - box[:, :2]
    heading = torch.atan2(to_goal[:, 1], to_goal[:, 0]).unsqueeze(-1)  # (N, 1)
    cos, sin = heading.cos(), heading.sin()
    x, y = rotate_back(agents[..., 0] - box[:, 0:1], agents[..., 1] - box[:, 1:2], cos, sin)  # (N, A)
    lane, pushes = lanes(x, y, half)
    circle = math.hypot(*half) + reach + MARGIN  # m
    behind = (x < 0.0) & ((y - lane).abs() < READY)
    ready = (behind | ~pushes).all(-1, keepdim=True)  # (N, 1)

    go_x, go_y = around(x, y, lane, circle)
    # On its lane a robot holds it, waiting just clear of the box, or pushing when all are there.
    wait_x = GAIN * (-circle - x)
    line_x = torch.where(ready & pushes, limit[0].expand_as(x), wait_x)
    line_y = GAIN * (lane - y)
    vx, vy = torch.where(behind, line_x, go_x), torch.where(behind, line_y, go_y)
    away_x, away_y = give_way(x, y)
    vx, vy = vx + away_x, vy + away_y

    turn = wrap_to_pi(heading - agents[..., 2])  # (N, A): everybody faces the goal, walking sideways if need be
    vx_b, vy_b = rotate(vx, vy, turn.cos(), turn.sin())
    excess = torch.maximum(vx_b.abs() / limit[0], vy_b.abs() / limit[1]).clamp(min=1.0)  # slower, not another way
    return torch.stack((vx_b / excess, vy_b / excess, (GAIN * turn).clamp(-limit[2], limit[2])), -1)


def lanes(x: Tensor, y: Tensor, half: Tuple[float, float]) -> Tuple[Tensor, Tensor]:
    """Each robot's lane (N, A), m beside the line to the goal, and whether the box is wide enough for it to push."""
    angle = torch.atan2(y, -x)  # 0 straight behind the box
    order = angle.argsort(-1).argsort(-1)  # (N, A), 0 for the rightmost
    lane = LANE * (order - 0.5 * (x.shape[-1] - 1))
    return lane, lane.abs() < min(half)


def around(x: Tensor, y: Tensor, lane: Tensor, circle: float) -> Tuple[Tensor, Tensor]:
    """Velocity along the circle towards where the lane meets it behind the box; m/s, of any size above walking pace."""
    radius = torch.sqrt(x * x + y * y).clamp(min=1e-6)
    angle = torch.atan2(y, -x)
    left = torch.asin((lane / circle).clamp(-1.0, 1.0)) - angle  # never through the front: order would be lost
    inward, along = GAIN * (radius - circle), GAIN * circle * left
    along = along.clamp(-1.0, 1.0)
    out_x, out_y = x / radius, y / radius
    # angle grows clockwise as seen from above with x ahead: its direction is (out_y, -out_x).
    return -inward * out_x + along * out_y, -inward * out_y - along * out_x


def give_way(x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
    """Velocity (N, A) away from whoever is too near, m/s."""
    away_x, away_y = torch.zeros_like(x), torch.zeros_like(y)
    for k in range(1, x.shape[-1]):
        from_x, from_y = x - x.roll(k, 1), y - y.roll(k, 1)
        distance = torch.sqrt(from_x * from_x + from_y * from_y).clamp(min=1e-6)
        push = GAIN * (KEEP_AWAY - distance).clamp(min=0.0) / distance
        away_x, away_y = away_x + push * from_x, away_y + push * from_y
    return away_x, away_y
