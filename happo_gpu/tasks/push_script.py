"""A hand-written pushing policy: walk round the object to a place behind it, then push towards the goal.

Pure functions of poses in the world, (N, A) for A robots; lengths in metres, angles in radians.
"""
from __future__ import annotations

import math
from typing import NamedTuple, Tuple, Union

import torch
from torch import Tensor

from happo_gpu.geometry import rotate, rotate_back, wrap_to_pi

ROOM = 0.45  # m between the object's reach and the circle on which robots walk round it
IN_PLACE = 0.25  # m beside its place at which a robot pushes
PULL = 2.0  # 1/s from an error of position to a velocity; likewise from an error of heading


class Wish(NamedTuple):
    """What each robot would like to do, world frame, (N, A)."""

    vx: Tensor
    vy: Tensor
    heading: Tensor


def wishes(robots: Tensor, box: Tensor, goal: Tensor, reach: float, spacing: float, aside: Union[float, Tensor] = 0.0) -> Wish:
    """Velocities in units of full speed, at most 1 long, and headings.

    Args:
        robots: (N, A, 3). box: (N, 3). goal: (N, 2). reach: of the object. spacing: between robots that push.
        aside: (N, 1), by how much all push left of the centre, which turns the object clockwise.
    """
    num_agents = robots.shape[1]
    to_goal = torch.atan2(goal[:, 1] - box[:, 1], goal[:, 0] - box[:, 0]).unsqueeze(-1)  # (N, 1)
    cos, sin = to_goal.cos(), to_goal.sin()
    ahead, left = rotate_back(robots[..., 0] - box[:, 0:1], robots[..., 1] - box[:, 1:2], cos, sin)  # (N, A)
    angle = torch.atan2(-left, -ahead)  # from straight behind, counter-clockwise
    # Places in the order of the angles: nobody has to pass another.
    rank = (angle.unsqueeze(-2) < angle.unsqueeze(-1)).sum(-1)
    place = spacing * (0.5 * (num_agents - 1) - rank) + aside  # m to the left
    orbit = reach + ROOM
    around = wrap_to_pi(torch.atan2(-place, torch.full_like(place, orbit)) - angle)
    away = torch.sqrt(ahead * ahead + left * left).clamp(min=1e-6)
    outward = (PULL * (orbit - away)).clamp(-1.0, 1.0)
    along = (PULL * orbit * around).clamp(-1.0, 1.0) * (1.0 - outward.abs()).clamp(min=0.3)
    walk = outward * ahead / away - along * left / away, outward * left / away + along * ahead / away
    aside = place - left
    pushes = (ahead < 0.0) & (aside.abs() < IN_PLACE)
    push = torch.ones_like(left), (PULL * aside).clamp(-1.0, 1.0)
    vx, vy = (torch.where(pushes, *pair) for pair in zip(push, walk))
    length = torch.sqrt(vx * vx + vy * vy).clamp(min=1.0)
    return Wish(*rotate(vx / length, vy / length, cos, sin), to_goal.expand_as(vx))


def on_legs(wish: Wish, yaw: Tensor, limit: Tuple[float, ...]) -> Tensor:
    """Commands (N, A, 3) of robots that walk in any direction; limits in m/s, m/s, rad/s."""
    vx, vy = rotate_back(wish.vx, wish.vy, yaw.cos(), yaw.sin())
    turn = (PULL * wrap_to_pi(wish.heading - yaw)).clamp(-limit[2], limit[2])
    return torch.stack((limit[0] * vx, limit[1] * vy, turn), -1)


def on_wheels(wish: Wish, yaw: Tensor, limit: Tuple[float, ...]) -> Tensor:
    """Commands (N, A, 3) of robots that go where they point: backwards rather than turn by more than a quarter."""
    vx, vy = rotate_back(wish.vx, wish.vy, yaw.cos(), yaw.sin())
    error = torch.atan2(vy, vx)
    backwards = error.abs() > 0.5 * math.pi
    error = torch.where(backwards, wrap_to_pi(error + math.pi), error)
    turn = (PULL * error).clamp(-limit[2], limit[2])
    return torch.stack((limit[0] * vx, torch.zeros_like(vx), turn), -1)
