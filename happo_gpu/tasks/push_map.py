"""Maps of the long pushes: obstacles, a goal far away, and the way there. Drawn and planned once, when the task is built.

Coordinates are those of an episode: the box starts at the origin. P maps, B obstacles, W way-points.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.config.push import ArenaConfig
from happo_gpu.tasks import planner

CANDIDATES = 64  # places drawn for an obstacle, of which the first that is free is taken
NODES = 160  # of a planner's tree
STEP = 0.75  # m, its longest branch; MAPush's


class Maps(NamedTuple):
    """Ready to be dealt to environments."""

    obstacles: Tensor  # (P, B, 3) x, y, yaw
    way: Tensor  # (P, W, 2) m, ends at the goal


def draw_maps(cfg: ArenaConfig, goal_distance: float, start_room: float, device: torch.device) -> Maps:
    """Maps that have a way; ``start_room`` is the radius about the box's start that robots need, m."""
    count = cfg.maps
    low, high = torch.tensor([row[0] for row in cfg.sides], device=device), torch.tensor([row[1] for row in cfg.sides], device=device)
    aside = max(0.0, min(-cfg.sides[1][0], cfg.sides[1][1]) - cfg.clearance)  # m from the middle to where no goal lies
    widest = math.asin(min(1.0, 0.5 * aside / goal_distance))
    angle = widest * (2.0 * torch.rand(count, device=device) - 1.0)
    goal = goal_distance * torch.stack((angle.cos(), angle.sin()), -1)
    holds = math.hypot(*cfg.obstacleHalfExtents[:2])
    radius = holds + cfg.clearance
    places = []
    for i in range(cfg.obstacles):
        drawn = low + (high - low) * torch.rand(count, CANDIDATES, 2, device=device)
        if i == 0:  # one is in the way
            share = 0.3 + 0.4 * torch.rand(count, CANDIDATES, 1, device=device)
            drawn = share * goal.unsqueeze(1) + (2.0 * torch.rand_like(drawn) - 1.0)
        free = (torch.linalg.vector_norm(drawn, dim=-1) > max(start_room + holds, radius))
        free &= torch.linalg.vector_norm(drawn - goal.unsqueeze(1), dim=-1) > radius
        first = free.to(torch.int8).argmax(1).view(-1, 1, 1).expand(-1, 1, 2)
        places.append(drawn.gather(1, first).squeeze(1))
    centres = torch.stack(places, 1) if places else goal.new_zeros(count, 0, 2)  # (P, B, 2)
    way, found = planner.plan(torch.zeros_like(goal), goal, planner.Field(low, high, centres, radius), NODES, STEP, cfg.wayPoints)
    yaw = 2.0 * math.pi * torch.rand(count, cfg.obstacles, 1, device=device)
    if not bool(found.any()):
        raise ConfigError(f"task.arena: none of {count} maps has a way to the goal; write task.arena.clearance smaller than {cfg.clearance}")
    other = torch.multinomial(found.to(goal.dtype), count, replacement=True)
    keep = torch.where(found, torch.arange(count, device=device), other)  # a map without a way gives its place to another
    return Maps(torch.cat((centres, yaw), -1)[keep], way[keep])
