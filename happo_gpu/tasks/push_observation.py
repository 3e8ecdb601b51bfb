"""What robots see of a push, and what the critic does.

Shapes: N environments, A agents. Poses and velocities are x, y, yaw in the world; ``goal`` is (N, 2) m and ``goal_yaw`` (N,) rad.
"""
from __future__ import annotations

import math
from typing import List, Tuple

import torch
from torch import Tensor

from happo_gpu.config.push import PushConfig
from happo_gpu.geometry import rotate_back
from happo_gpu.tasks.noise import blurred
from happo_gpu.types import Quantity


def columns_of(cfg: PushConfig, agent: int) -> List[Tuple[str, Quantity]]:
    """What an agent could see, all in its own frame and in this order: (input, column). Others as in MAPush: i-1, i-2, ..."""

    def angle(name: str, symmetry: int) -> List[Quantity]:
        if cfg.env.observation == "reference":
            return [Quantity(name, "rad")]
        turned = f"{symmetry}*{name}" if symmetry > 1 else name
        return [Quantity(f"cos({turned})"), Quantity(f"sin({turned})")]

    def position(name: str) -> List[Quantity]:
        return [Quantity(f"{name}_{axis}_b", "m") for axis in "xy"]

    symmetry = cfg.object.symmetry
    goal = position("goal") + (angle("goal_yaw_b", symmetry) if cfg.env.successYaw else [])
    inputs = [("goal", goal), ("box", position("box")), ("box_yaw", angle("box_yaw_b", symmetry))]
    for k in range(1, cfg.numAgents):
        name = f"agent_{(agent - k) % cfg.numAgents}"
        inputs.append(("partner", position(name) + angle(f"{name}_yaw_b", 1)))
    return [(what, column) for what, columns in inputs for column in columns]


def columns_seen(cfg: PushConfig, agent: int) -> List[int]:
    """Which of its columns an agent does see."""
    blind = cfg.env.blind.get(f"agent_{agent}", ())
    return [i for i, (what, _) in enumerate(columns_of(cfg, agent)) if what not in blind]


def observe(cfg: PushConfig, agents: Tensor, box: Tensor, goal: Tensor, goal_yaw: Tensor) -> Tensor:
    """All that robots at (N, A, 3) could see of a box at (N, 3), as :func:`columns_of` says, (N, A, columns); with errors drawn anew."""
    noise = cfg.noise
    x, y, yaw = agents.unbind(-1)  # (N, A)
    cos, sin = yaw.cos(), yaw.sin()

    def relative(px: Tensor, py: Tensor) -> List[Tensor]:
        return [blurred(value, noise.position) for value in rotate_back(px - x, py - y, cos, sin)]

    def turned(other: Tensor, symmetry: int) -> List[Tensor]:
        angle = blurred(other - yaw, noise.angle)
        if cfg.env.observation == "reference":
            return [torch.remainder(angle, 2.0 * math.pi)]
        return [(symmetry * angle).cos(), (symmetry * angle).sin()]

    symmetry = cfg.object.symmetry
    columns = relative(goal[:, 0:1], goal[:, 1:2])
    if cfg.env.successYaw:
        columns += turned(goal_yaw.unsqueeze(-1), symmetry)
    columns += relative(box[:, 0:1], box[:, 1:2]) + turned(box[:, 2:3], symmetry)
    for k in range(1, agents.shape[1]):
        other = agents.roll(k, 1)  # row a holds agent a - k
        columns += relative(other[..., 0], other[..., 1]) + turned(other[..., 2], 1)
    return torch.stack(columns, -1)


def num_states(cfg: PushConfig) -> int:
    """Columns of :func:`state`."""
    return 6 + 7 * cfg.numAgents + 2 * (cfg.env.successYaw > 0.0)


def state(cfg: PushConfig, agents: Tensor, velocity: Tensor, box: Tensor, box_vel: Tensor, goal: Tensor, goal_yaw: Tensor) -> Tensor:
    """Of robots (N, A, 3) and box (N, 3), seen from the box, x axis towards the goal: the same push looks the same wherever it happens; (N, S).

    Goal distance; box heading (cosine and sine of symmetry * yaw) and velocity; each robot's position, heading and velocity. All in
    that frame. Last, where the heading counts, cosine and sine of symmetry * what the box has yet to turn by.
    """
    goal_x, goal_y = goal[:, 0] - box[:, 0], goal[:, 1] - box[:, 1]
    distance = torch.sqrt(goal_x * goal_x + goal_y * goal_y).clamp(min=1e-6)
    cos, sin = (goal_x / distance).unsqueeze(-1), (goal_y / distance).unsqueeze(-1)  # (N, 1)
    heading = torch.atan2(goal_y, goal_x).unsqueeze(-1)
    turn = cfg.object.symmetry * (box[:, 2:3] - heading)
    robot_xy = rotate_back(agents[..., 0] - box[:, 0:1], agents[..., 1] - box[:, 1:2], cos, sin)
    robot_vel = rotate_back(velocity[..., 0], velocity[..., 1], cos, sin)
    yaw = agents[..., 2] - heading
    left = cfg.object.symmetry * (goal_yaw.unsqueeze(-1) - box[:, 2:3])
    return torch.cat((
        distance.unsqueeze(-1), turn.cos(), turn.sin(),
        *rotate_back(box_vel[:, 0:1], box_vel[:, 1:2], cos, sin), box_vel[:, 2:3],
        *robot_xy, yaw.cos(), yaw.sin(), *robot_vel, velocity[..., 2],
        *((left.cos(), left.sin()) if cfg.env.successYaw else ()),
    ), -1)
