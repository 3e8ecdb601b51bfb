"""Reward terms and measures of the pushing family: pure functions of named state. N environments, A robots."""
from __future__ import annotations

from typing import Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.geometry import box_distance, nearest_edge_normal, rotate, rotate_back, wrap_to_pi
from happo_gpu.sim.base import ObjectSpec, Rectangle, Scene


def distance_reward(previous: Tensor, current: Tensor) -> Tensor:
    """Progress of the box to the goal, less a little for being far: 100 (2 (D' - D) - 0.01 D)."""
    return 100.0 * (2.0 * (previous - current) - 0.01 * current)


def approach_reward(to_box: Tensor) -> Tensor:
    """-(d + 0.5)^2 for each robot's distance to the box, (N, A)."""
    return -((to_box + 0.5) ** 2)


def contact_weight(to_box: Tensor) -> Tensor:
    """How far a robot takes part, (N, A), by its distance to the cuboid's centre: 1 up to 0.8 m, 0 from 1.6 m on (het-MAPush)."""
    return (1.0 - (to_box - 0.8) / 0.8).clamp(0.0, 1.0)


def proximity(between: Tensor) -> Tensor:
    """1 / (0.02 + d / 3) of the distances to the other robots, (N, A, A-1), summed: (N, A)."""
    return (1.0 / (0.02 + between / 3.0)).sum(-1)


def occlusion_reward(offset_x: Tensor, offset_y: Tensor, box_yaw: Tensor, goal_x: Tensor, goal_y: Tensor,
                     polygon: Sequence[Tuple[float, float]]) -> Tensor:
    """How well each robot stands behind the face opposite to the goal: t . n in [-1, 1], (N, A).

    n is the inward normal of the face nearest to the robot, t the direction from box to goal, or of the arc that leads there.

    Args:
        offset_x, offset_y: robots relative to the box, world axes, (N, A).
        box_yaw: (N, 1). goal_x, goal_y: goal relative to the box, world axes, (N, 1).
    """
    cos, sin = box_yaw.cos(), box_yaw.sin()
    normal_x, normal_y = nearest_edge_normal(*rotate_back(offset_x, offset_y, cos, sin), polygon)
    normal_x, normal_y = rotate(normal_x, normal_y, cos, sin)
    length = torch.sqrt(goal_x * goal_x + goal_y * goal_y).clamp(min=1e-6)
    return (goal_x * normal_x + goal_y * normal_y) / length


def distance_to_object(x_b: Tensor, y_b: Tensor, spec: ObjectSpec) -> Tensor:
    """Signed distance of points in the object's frame to its outline, m; negative inside."""
    if spec.round:
        return torch.sqrt(x_b * x_b + y_b * y_b) - spec.radius
    parts = [box_distance(x_b - part.x, y_b - part.y, part.half_x, part.half_y)[0] for part in spec.rectangles]
    return torch.stack(parts).amin(0) if len(parts) > 1 else parts[0]


def gap_to_obstacles(box: Tensor, obstacles: Tensor, scene: Scene) -> Tensor:
    """m between an object at (N, 3) and the nearest of the obstacles at (N, B, 3), (N,); not above 0 where they touch.

    Of two rectangles that do not cross, a corner of one is the point nearest to the other.
    """
    spec, gaps = scene.objects[0], []
    for (half_x, half_y, _), pose in zip(scene.obstacles, obstacles.unbind(1)):
        def of_obstacle(x: Tensor, y: Tensor) -> Tensor:
            return box_distance(*_seen_from(pose, x, y), half_x, half_y)[0]

        if spec.round:
            gaps.append(of_obstacle(box[:, 0], box[:, 1]) - spec.radius)
            continue
        corners = [corner for part in spec.rectangles for corner in part.corners()]
        gaps += [of_obstacle(*_placed(box, *corner)) for corner in corners]
        gaps += [distance_to_object(*_seen_from(box, *_placed(pose, *corner)), spec)
                 for corner in Rectangle(0.0, 0.0, half_x, half_y).corners()]
    return torch.stack(gaps).amin(0)


def _placed(pose: Tensor, x: float, y: float) -> Tuple[Tensor, Tensor]:
    """A point of bodies at (N, 3), in the world."""
    x_w, y_w = rotate(x, y, pose[:, 2].cos(), pose[:, 2].sin())
    return pose[:, 0] + x_w, pose[:, 1] + y_w


def _seen_from(pose: Tensor, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
    """Points of the world, in the frames of bodies at (N, 3)."""
    return rotate_back(x - pose[:, 0], y - pose[:, 1], pose[:, 2].cos(), pose[:, 2].sin())


def turn_left(box_yaw: Tensor, goal_yaw: Tensor, symmetry: int) -> Tensor:
    """What a box has yet to turn by, rad, at most half a turn / symmetry: turning by a full turn / symmetry changes nothing."""
    return wrap_to_pi(symmetry * (goal_yaw - box_yaw)) / symmetry


def distance_with_turn(distance: Tensor, turn: Tensor, weight: float) -> Tensor:
    """sqrt(d^2 + (weight * turn)^2), m: MAPush's distance where the heading counts; weight in m/rad."""
    return torch.sqrt(distance * distance + (weight * turn) ** 2)


def start_of_arc(goal_x: Tensor, goal_y: Tensor, turn: Tensor) -> Tuple[Tensor, Tensor]:
    """Direction in which the circular arc starts that ends at the goal having turned by ``turn``: the chord's, turned back by half."""
    half = -0.5 * turn
    return rotate(goal_x, goal_y, half.cos(), half.sin())
