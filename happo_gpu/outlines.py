"""A pushing task's bodies seen from above: their outlines and colours, for pictures and videos alike."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from happo_gpu.config import Config, ConfigError
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.config.push import PushConfig
from happo_gpu.sim.base import ObjectSpec, Rectangle, RobotSpec
from happo_gpu.tasks.push import scene_of

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00") * 5  # Okabe and Ito, for every kind of eye
MARK = 0.07  # m from a robot's tip to the mark on it
GREY, GOLD, DARK_GOLD = "#555555", "#F0C000", "#B08A00"


@dataclass(frozen=True)
class Outlines:
    """Lengths in m; points (P, 2), each body in its own frame."""

    num_agents: int
    robot: np.ndarray  # (A, P, 2)
    nose: np.ndarray  # (A, 1, 2), where a mark says which end is the front
    box: np.ndarray  # (P, 2), the pushed object
    success: float  # radius of the goal
    around: float  # farthest that a start reaches from the box
    obstacles: List[np.ndarray]  # (P, 2) each


def outlines_of(cfg: Config) -> Outlines:
    """Raises ConfigError for a task that has no such scene."""
    task = cfg.task
    if not isinstance(task, PushConfig):
        raise ConfigError(f"task={task.name} has no scene to draw; pictures, videos and the viewer are for task=Go1Push and its family")
    scene = scene_of(task)
    robots = [circles_of(cfg, robot) for robot in scene.robots]
    noses = [[(max(x + radius for x, radius in circles) - MARK, 0.0)] for circles in robots]
    return Outlines(task.numAgents, np.stack([hull(circles) for circles in robots]), np.array(noses), outline_of(scene.objects[0]),
                    task.env.successDistance, task.env.spawnRadius[1] + task.robot.reach,
                    [np.array(Rectangle(0.0, 0.0, x, y).corners()) for x, y, _ in scene.obstacles])


def outline_of(pushed: ObjectSpec) -> np.ndarray:
    """(P, 2) m: the outline of an object, counter-clockwise."""
    if pushed.round:
        return hull([(0.0, pushed.radius)])
    return union(pushed.rectangles)


def union(rectangles: Sequence[Rectangle]) -> np.ndarray:
    """(P, 2) m: the outline of rectangles that together have one: the edges of their common grid that no two cells share."""
    xs = np.unique(np.round([r.x + side * r.half_x for r in rectangles for side in (-1, 1)], 4))
    ys = np.unique(np.round([r.y + side * r.half_y for r in rectangles for side in (-1, 1)], 4))
    after: Dict[Tuple[int, int], Tuple[int, int]] = {}
    cells = {(i, j) for i in range(len(xs) - 1) for j in range(len(ys) - 1)
             if any(r.holds(xs[i : i + 2].mean(), ys[j : j + 2].mean()) for r in rectangles)}
    for i, j in cells:
        for start, end, beyond in (((i, j), (i + 1, j), (i, j - 1)), ((i + 1, j), (i + 1, j + 1), (i + 1, j)),
                                   ((i + 1, j + 1), (i, j + 1), (i, j + 1)), ((i, j + 1), (i, j), (i - 1, j))):
            if beyond not in cells:
                after[start] = end
    path = [min(after)]
    while after[path[-1]] != path[0]:
        path.append(after[path[-1]])
    return np.array([(xs[i], ys[j]) for i, j in path])


def circles_of(cfg: Config, robot: RobotSpec) -> List[Tuple[float, float]]:
    """(x, radius) of the circles along a robot's heading whose hull is its footprint."""
    sim, reach = cfg.sim, cfg.task.robot.reach
    if isinstance(sim, PlanarConfig):  # what it collides
        return sim.drive_of(robot.drive).circles
    return [(-0.6 * reach, 0.4 * reach), (0.6 * reach, 0.4 * reach)]


def hull(circles: List[Tuple[float, float]]) -> np.ndarray:
    """(61, 2) m: the hull of circles on the x axis, by its support function."""
    angle = np.linspace(0.0, 2.0 * np.pi, 61)
    normal = np.stack((np.cos(angle), np.sin(angle)), -1)
    x, r = np.array(circles).T
    widest = (np.outer(normal[:, 0], x) + r).argmax(1)
    return r[widest, None] * normal + np.stack((x[widest], np.zeros(61)), -1)


def placed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (..., 2) of a body at its pose (x, y, yaw), in the world."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return pose[:2] + points @ np.array([[cos, sin], [-sin, cos]])
