"""Ways through a field of obstacles: RRT* (Karaman and Frazzoli, 2011), all problems in lockstep on one device.

Obstacles count as circles that hold them, inflated by what must stay clear, so that a segment's distance to one is exact.
Shapes: P problems, B obstacles, J nodes of a tree, W way-points; lengths in m. No library fitted: those for motion planning
(OMPL for one) solve one problem at a time on the host, and bring a C++ stack for what is a page here.
"""
from __future__ import annotations

import itertools
from typing import NamedTuple, Tuple

import torch
from torch import Tensor

GOAL_BIAS = 0.1  # share of samples that are the goal itself


class Field(NamedTuple):
    """Where one may be: between two corners of the map, outside circles."""

    low: Tensor  # (2,)
    high: Tensor  # (2,)
    centres: Tensor  # (P, B, 2)
    radius: float


def is_clear(start: Tensor, end: Tensor, field: Field) -> Tensor:
    """Whether segments (P, ..., 2) stay outside the circles, (P, ...)."""
    centres = field.centres.view(len(field.centres), *[1] * (start.dim() - 2), -1, 2)  # (P, ..., B, 2)
    start, end = start.unsqueeze(-2), end.unsqueeze(-2)
    along = end - start
    share = ((centres - start) * along).sum(-1) / (along * along).sum(-1).clamp(min=1e-12)
    nearest = start + share.clamp(0.0, 1.0).unsqueeze(-1) * along
    return (_length(centres - nearest) >= field.radius).all(-1)


def grow(start: Tensor, goal: Tensor, field: Field, nodes: int, step: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Trees of ``nodes`` from start (P, 2): points (P, J, 2), parents (P, J), costs (P, J), inf where a sample came to nothing.

    A node is at most ``step`` from the node nearest to its sample; it takes the best parent within twice that, and becomes
    the parent of whom that makes nearer. A cost is then too high for what lies below, never too low.
    """
    count = len(start)
    points = start.unsqueeze(1).repeat(1, nodes, 1)
    parents = torch.zeros(count, nodes, dtype=torch.int64, device=start.device)
    costs = torch.full((count, nodes), float("inf"), device=start.device)
    costs[:, 0] = 0.0
    for k in range(1, nodes):
        sample = field.low + (field.high - field.low) * torch.rand_like(start)
        towards_goal = torch.rand(count, 1, device=start.device) < GOAL_BIAS
        sample = torch.where(towards_goal, goal, sample)
        known, cost = points[:, :k], costs[:, :k]
        away = _length(sample.unsqueeze(1) - known).masked_fill(cost.isinf(), float("inf"))
        distance, nearest = away.min(1, keepdim=True)  # (P, 1)
        base = _at(known, nearest)
        new = base + (sample - base) * (step / distance.clamp(min=1e-6)).clamp(max=1.0)
        edge = _length(new.unsqueeze(1) - known)  # (P, k)
        usable = is_clear(known, new.unsqueeze(1).expand_as(known), field) & (edge <= 2.0 * step)
        through = (cost + edge).masked_fill(~usable, float("inf"))
        best, parent = through.min(1, keepdim=True)
        points[:, k], costs[:, k], parents[:, k] = new, best[:, 0], parent[:, 0]
        shorter = usable & (best + edge < cost) & cost.isfinite()
        costs[:, :k] = torch.where(shorter, best + edge, cost)
        parents[:, :k] = torch.where(shorter, torch.full_like(parent, k), parents[:, :k])
    return points, parents, costs


def plan(start: Tensor, goal: Tensor, field: Field, nodes: int, step: float, way_points: int) -> Tuple[Tensor, Tensor]:
    """Way-points (P, W, 2) spread evenly over the way, the last of them the goal, and whether there is a way, (P,)."""
    points, parents, costs = grow(start, goal, field, nodes, step)
    ends = goal.unsqueeze(1).expand_as(points)
    total = (costs + _length(ends - points)).masked_fill(~is_clear(points, ends, field), float("inf"))
    length, node = total.min(1, keepdim=True)
    path = [goal, _at(points, node)]
    for _ in range(nodes - 1):  # the root is its own parent
        node = parents.gather(1, node)
        path.append(_at(points, node))
    return spread(torch.stack(path[::-1], 1), way_points), length[:, 0].isfinite()


def spread(path: Tensor, way_points: int) -> Tensor:
    """W points (P, W, 2) at equal distances along paths (P, J, 2): without their starts, with their ends."""
    edges = _length(path[:, 1:] - path[:, :-1])
    steps = (torch.zeros_like(edges[:, 0]), *edges.unbind(1))
    walked = torch.stack(list(itertools.accumulate(steps)), 1)  # (P, J); cumsum is not deterministic on CUDA
    share = torch.arange(1, way_points + 1, device=path.device) / way_points
    wanted = walked[:, -1:] * share
    index = torch.searchsorted(walked.contiguous(), wanted).clamp(1, path.shape[1] - 1)  # the first node at or beyond
    before, after = walked.gather(1, index - 1), walked.gather(1, index)
    part = ((wanted - before) / (after - before).clamp(min=1e-9)).clamp(0.0, 1.0).unsqueeze(-1)
    low, high = (path.gather(1, i.unsqueeze(-1).expand(-1, -1, 2)) for i in (index - 1, index))
    return low + part * (high - low)


def _length(vector: Tensor) -> Tensor:
    return torch.sqrt((vector * vector).sum(-1))


def _at(points: Tensor, index: Tensor) -> Tensor:
    """(P, 2) of points (P, J, 2), by index (P, 1)."""
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, 2)).squeeze(1)
