"""Where the bodies of the planar simulator may touch: candidate contacts of robots, object and obstacles, from their frames.

A robot is a capsule from rear to front, and before it a nose circle, if it has one. Fields of contacts are environment-last.
"""
from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.config.sims import DriveConfig
from happo_gpu.geometry import rotate
from happo_gpu.sim.base import ObjectSpec, Rectangle
from happo_gpu.sim.contact import (
    Contact,
    Frame,
    Length,
    circle_box_contact,
    circle_disc_contact,
    corners_contact,
    end_segment_contact,
    flank_corner_contact,
    nearest_on_axis,
    not_in,
)


def kinds_of(drives: Sequence[DriveConfig]) -> List[DriveConfig]:
    """One drive where all robots have the same, else all A."""
    return list(drives[:1] if all(drive == drives[0] for drive in drives) else drives)


def per_robot(values: Sequence[float], device: torch.device) -> Length:
    """A number, which compilers fold, or (A, 1) where robots differ."""
    return values[0] if len(values) == 1 else torch.tensor(values, device=device).unsqueeze(-1)


def three_circles(drive: DriveConfig) -> List[Tuple[float, float]]:
    """(x, radius) of nose, front and rear. A nose that a robot lacks has a radius below zero: it touches nothing."""
    rear, front, *nose = drive.circles
    return [*(nose or [(0.0, -1.0)]), front, rear]


def frame_of(part: Rectangle, body: Frame) -> Frame:
    """World frame of a part; the body's own where it lies in the centre, which costs nothing."""
    if part.x == part.y == 0.0:
        return body
    x, y = rotate(part.x, part.y, body.cos, body.sin)
    return body._replace(x=body.x + x, y=body.y + y)


def _joined(contacts: Sequence[Contact], dim: int) -> Contact:
    return Contact(*(torch.cat(fields, dim) for fields in zip(*contacts)))


class Footprints:
    """The shapes of A robots, one object and B obstacles; frames of robots are (A, N), of the object (N,).

    Attributes:
        num_on_object: candidate contacts of each robot with the object, C.
        num_on_obstacles: of each robot with all obstacles.
        num_object_on_obstacles: of the object with all obstacles.
    """

    def __init__(self, drives: Sequence[DriveConfig], spec: ObjectSpec, obstacles: Sequence[Tuple[float, ...]], device: torch.device) -> None:
        self._spec, self._obstacles = spec, [Rectangle(0.0, 0.0, x, y) for x, y, _ in obstacles]
        self.num_on_object = 2 if spec.round else 4 * len(spec.rectangles)
        self.num_on_obstacles = 4 * len(obstacles)
        self.num_object_on_obstacles = len(obstacles) * (1 if spec.round else 8 * len(spec.rectangles))
        self._drives = list(drives)
        alike = kinds_of(drives)

        def axes(rows: List[List[float]]) -> Tensor:  # (3, 1), or (A, 3, 1) where robots differ
            return torch.tensor(rows if len(rows) > 1 else rows[0], device=device).unsqueeze(-1)

        circles = [three_circles(drive) for drive in alike]  # of nose, front, rear
        self._circle_x = axes([[x for x, _ in three] for three in circles])  # m
        self._circle_radius = axes([[radius for _, radius in three] for three in circles])  # m
        self._front, self._rear, self._radius = (per_robot([getattr(drive, name) for drive in alike], device)
                                                 for name in ("front", "rear", "radius"))
        self._nose_radius = per_robot([radius for (_, radius), *_ in circles], device)
        # m, (2, 1): the ends of a capsule from rear to nose, robot against robot
        ends = [torch.tensor([[drive.tip - drive.radius], [drive.rear]], device=device) for drive in alike]
        self._ends = ends * (len(drives) // len(ends))

    def on_object(self, robots: Frame, body: Frame) -> Contact:
        """Of robots with the object, (A, num_on_object, N)."""
        if self._spec.round:
            return self._on_disc(robots, body)
        rectangles = self._spec.rectangles
        return self._on_rectangles(robots, rectangles, [frame_of(each, body) for each in rectangles])

    def on_obstacles(self, robots: Frame, frames: Sequence[Frame]) -> Contact:
        """Of robots with the obstacles in these frames, (A, num_on_obstacles, N)."""
        return self._on_rectangles(robots, self._obstacles, frames)

    def object_on_obstacles(self, body: Frame, frames: Sequence[Frame]) -> Contact:
        """Of the object with the obstacles in these frames, (num_object_on_obstacles, N)."""
        spec, contacts = self._spec, []
        for obstacle, frame in zip(self._obstacles, frames):
            if spec.round:
                touch = circle_box_contact(body.x, body.y, spec.radius, frame, obstacle.half_x, obstacle.half_y)
                contacts.append(Contact(*(field.unsqueeze(0) for field in touch)))
            else:
                contacts += [corners_contact(part, frame_of(part, body), obstacle, frame) for part in spec.rectangles]
        return _joined(contacts, 0)

    def pair(self, i: int, j: int, first: Frame, second: Frame) -> Contact:
        """Of robot i with robot j, capsules as long as nose and body, (4, N): the ends of each against the axis of the other."""
        of_first, of_second = self._ends_against(i, j, first, second), self._ends_against(j, i, second, first)  # (2, N)
        flipped = of_second._replace(normal_x=-of_second.normal_x, normal_y=-of_second.normal_y)
        return _joined((of_first, flipped), 0)

    def _on_rectangles(self, robots: Frame, rectangles: Sequence[Rectangle], frames: Sequence[Frame]) -> Contact:
        """Nose, front, rear and flank of every robot against each rectangle, (A, 4 * rectangles, N)."""
        circle_x, circle_y = _along(robots, self._circle_x)  # (A, 3, N)
        contacts: List[Contact] = []
        for rectangle, frame in zip(rectangles, frames):
            size = rectangle.half_x, rectangle.half_y
            circles = circle_box_contact(circle_x, circle_y, self._circle_radius, frame, *size)
            flank = flank_corner_contact(robots, self._rear, self._front, self._radius, frame, *size)
            for other, where in zip(rectangles, frames):
                if other is not rectangle:
                    half = 0.5 * circles.depth  # from the middle of the overlap to the surface
                    surface = circles.point_x + half * circles.normal_x, circles.point_y + half * circles.normal_y
                    circles = not_in(other, where, circles, *surface)
                    flank = not_in(other, where, flank, flank.point_x, flank.point_y)
            contacts += [circles, Contact(*(field.unsqueeze(1) for field in flank))]
        return _joined(contacts, 1)

    def _on_disc(self, robots: Frame, disc: Frame) -> Contact:
        """Nose and capsule, each once, against a round object, (A, 2, N)."""
        radius = self._spec.radius
        nose_x, nose_y = (value.squeeze(-2) for value in _along(robots, self._circle_x[..., :1, :]))  # (A, N)
        axis_x, axis_y = nearest_on_axis(disc.x, disc.y, robots, self._rear, self._front)
        nose = circle_disc_contact(nose_x, nose_y, self._nose_radius, disc.x, disc.y, radius)
        body = circle_disc_contact(axis_x, axis_y, self._radius, disc.x, disc.y, radius)
        return Contact(*(torch.stack(fields, 1) for fields in zip(nose, body)))

    def _ends_against(self, i: int, j: int, ends: Frame, axis: Frame) -> Contact:
        first, second = self._drives[i], self._drives[j]
        x, y = _along(ends, self._ends[i])
        return end_segment_contact(x, y, first.radius, axis, second.rear, second.tip - second.radius, second.radius)


def _along(robots: Frame, offset: Tensor) -> Tuple[Tensor, Tensor]:
    """Points on the robots' axes at the given offsets (C, 1) or (A, C, 1): world x and y, (..., C, N)."""
    x, y, cos, sin = (value.unsqueeze(-2) for value in robots)
    return x + offset * cos, y + offset * sin
