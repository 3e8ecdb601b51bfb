"""A pushing task's bodies seen from above: their outlines and colours, for pictures and videos alike."""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from happo_gpu.config import Config, ConfigError
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.config.tasks import PushConfig

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00") * 5  # Okabe and Ito, for every kind of eye
GREY, GOLD, DARK_GOLD = "#555555", "#F0C000", "#B08A00"


@dataclass(frozen=True)
class Outlines:
    """Lengths in m; points (P, 2), each body in its own frame."""

    num_agents: int
    robot: np.ndarray
    nose: np.ndarray  # (1, 2), where a mark says which end is the front
    box: np.ndarray
    success: float  # radius of the goal
    around: float  # farthest that a start reaches from the box


def outlines_of(cfg: Config) -> Outlines:
    """Raises ConfigError for a task that has no such scene."""
    task = cfg.task
    if not isinstance(task, PushConfig):
        raise ConfigError(f"task={task.name} has no scene to draw from above; pictures, videos and the viewer are for task=Go1Push")
    circles = circles_of(cfg)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * task.object.halfExtents[:2]
    nose = np.array([(max(x for x, _ in circles), 0.0)])
    return Outlines(task.numAgents, hull(circles), nose, corners, task.env.successDistance,
                    task.env.spawnRadius[1] + task.robot.reach)


def circles_of(cfg: Config) -> List[Tuple[float, float]]:
    """(x, radius) of the circles along a robot's heading whose hull is its footprint."""
    sim, reach = cfg.sim, cfg.task.robot.reach
    if isinstance(sim, PlanarConfig):  # what it collides
        return [(sim.rear, sim.radius), (sim.front, sim.radius), (sim.nose_x, sim.nose_radius)]
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
