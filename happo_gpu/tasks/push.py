"""Go1Push and its family: robots push an object, the box, to a goal. MAPush's task, term by term.

Positions are relative to where the box starts an episode, world axes; ``_b`` is the frame of the
robot or box named. Shapes: N environments, A agents.
"""
from __future__ import annotations

import itertools
import math
from typing import Dict, List, Tuple, Union

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.config.push import PushConfig
from happo_gpu.geometry import rotate_back
from happo_gpu.sim.base import ObjectSpec, Rectangle, RobotSpec, Scene, Sim
from happo_gpu.tasks import curriculum, push_observation, push_script
from happo_gpu.tasks.push_map import draw_maps
from happo_gpu.tasks.push_observation import columns_of, columns_seen
from happo_gpu.tasks.push_reward import (
    approach_reward,
    contact_weight,
    distance_reward,
    distance_to_object,
    distance_with_turn,
    gap_to_obstacles,
    occlusion_reward,
    proximity,
    start_of_arc,
    turn_left,
)
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, box, to_commands

PUSH_SPEED = 0.1  # m/s of the box that earns the push term
MOVING = 0.02  # m/s from which a box counts as being pushed: one that nobody pushes rests exactly
TOUCHING = 0.03  # m beyond its reach at which a robot is at the box: a gait makes contact come and go
DRIVEN = {"legs": (0, 1, 2), "wheels": (0, 2)}  # which of forward, sideways and turning a robot is commanded
TERMS = ("reach", "exception", "distance", "approach", "collision", "push", "ocb")


def scene_of(cfg: PushConfig) -> Scene:
    """The bodies of the task, for any simulator."""
    robots = []
    for i in range(cfg.numAgents):
        robot = cfg.otherRobots.get(f"agent_{i}", cfg.robot)
        robots.append(RobotSpec(f"robot_{i}", robot.mass, robot.inertia, getattr(robot, "drive", "legs")))
    each = cfg.object
    parts = tuple(Rectangle(*part) for part in each.parts)
    pushed = ObjectSpec(each.halfExtents, each.mass, each.inertia, each.friction, parts, each.round)
    obstacles = (cfg.arena.obstacleHalfExtents,) * cfg.arena.obstacles if cfg.goal == "sequence" else ()
    return Scene(tuple(robots), (pushed,), each.contactFriction, obstacles)


class Go1Push(VecTask):
    """A robots, one box, one goal; success is the box's centre within successDistance of the goal and, where successYaw
    is not zero, its heading within that of the goal's. With goal=sequence the goal is the next of several way-points, and
    success is the last one reached. Only a task for ``training`` has a curriculum: all others play at the usual ranges."""

    def __init__(self, sim: Sim, cfg: PushConfig, num_envs: int, device: torch.device, training: bool = False) -> None:
        env, num_agents, scene = cfg.env, cfg.numAgents, scene_of(cfg)
        driven = [DRIVEN[robot.drive] for robot in scene.robots]
        seen = [columns_seen(cfg, i) for i in range(num_agents)]
        super().__init__(
            sim,
            agents=[AgentSpec(f"agent_{i}", len(columns), box(len(driven[i]))) for i, columns in enumerate(seen)],
            num_envs=num_envs, num_states=push_observation.num_states(cfg),
            num_values=1 if env.teamReward else num_agents,
            max_episode_length=env.episodeLength, decimation=env.controlFrequencyInv, device=device,
        )
        self.cfg, self.num_agents, self.scene = cfg, num_agents, scene
        reaches = [cfg.otherRobots.get(f"agent_{i}", cfg.robot).reach for i in range(num_agents)]
        self._reach = max([cfg.robot.reach] + reaches)  # m
        self._at_box = torch.tensor(reaches, device=device) + TOUCHING  # (A,) m from a trunk's centre to the outline
        if env.spawn == "separated" and num_agents * self._minimum_gap() >= 2.0 * math.pi:
            raise ConfigError(f"task.numAgents={num_agents} robots do not fit on a ring of {env.spawnRadius[0]} m; "
                              "raise task.env.spawnRadius")
        half_x, half_y = cfg.object.halfExtents[:2]
        self._polygon = cfg.object.polygon or Rectangle(0.0, 0.0, half_x, half_y).corners()
        columns = [command for agent in self.action_names() for command in agent]
        self._clip = torch.tensor([command.clip for command in columns], device=device)  # (U,)
        self._scale = torch.tensor([command.scale for command in columns], device=device)  # (U,)
        self._driven = torch.tensor([3 * i + axis for i, axes in enumerate(driven) for axis in axes], device=device)  # (U,)
        self._on_wheels = torch.tensor([robot.drive == "wheels" for robot in scene.robots], device=device)  # (A,)
        self.commands = torch.zeros(num_envs, num_agents, 3, device=device)  # m/s, m/s, rad/s, body frame
        self.goal = torch.zeros(num_envs, 2, device=device)  # m
        self.goal_yaw = torch.zeros(num_envs, device=device)  # rad, of the box at the goal
        self.previous_distance = torch.zeros(num_envs, device=device)  # m, box to goal, one control step ago; see _left
        self.success = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.exception = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._easiest = cfg.curriculum.easiest if training else {}
        self.difficulty = torch.zeros(num_envs, device=device)  # 0 to 1, of each environment's episode; see curriculum
        self._maps = draw_maps(cfg.arena, env.goalDistance[0], self._ring() + self._reach, device) if cfg.goal == "sequence" else None
        self.way = torch.zeros(num_envs, cfg.arena.wayPoints if self._maps else 0, 2, device=device)  # (N, W, 2) m
        self.leg = torch.zeros(num_envs, dtype=torch.int64, device=device)  # which way-point is the goal
        width = len(columns_of(cfg, 0))
        self._seen = torch.tensor([a * width + i for a, columns in enumerate(seen) for i in columns], device=device)  # (O,)
        sums = ["together", "pushing", "pushing_together"] + [f"reward_{term}" for term in TERMS]
        sums += ["obstacle", "reward_obstacle"] if scene.obstacles else []
        self.episode_sums = {name: torch.zeros(num_envs, device=device) for name in sums}

    # -- hooks -------------------------------------------------------------------------------

    def pre_physics_step(self, actions: Tensor) -> None:
        self.commands.flatten(1).index_copy_(1, self._driven, to_commands(actions, self._clip, self._scale))

    def physics_step(self) -> None:
        self.sim.step(self.commands)

    def compute_reward(self, alive: Tensor) -> Tensor:
        cfg, env = self.cfg, self.cfg.env
        agents, box = self.sim.agent_pose, self.sim.object_pose[:, 0]
        goal_x, goal_y = self.goal[:, 0] - box[:, 0], self.goal[:, 1] - box[:, 1]  # (N,)
        distance, arrived = self._left(goal_x, goal_y, box[:, 2])
        ahead_x, ahead_y = goal_x, goal_y
        if env.successYaw:
            ahead_x, ahead_y = start_of_arc(goal_x, goal_y, turn_left(box[:, 2], self.goal_yaw, cfg.object.symmetry))
        offset_x, offset_y = agents[..., 0] - box[:, 0:1], agents[..., 1] - box[:, 1:2]  # (N, A)
        to_box = torch.sqrt(offset_x * offset_x + offset_y * offset_y)
        between = self._distances_to_others()  # (N, A, A-1)

        living = alive > 0.0
        success = living & arrived & self._on_last_leg()
        exception = living & self.sim.fallen.any(-1)
        if self.num_agents > 1:
            exception = exception | (living & (between < env.collisionDistance).flatten(1).any(-1))

        box_vel = self.sim.object_vel[:, 0]
        speed_sq = box_vel[:, 0] * box_vel[:, 0] + box_vel[:, 1] * box_vel[:, 1]
        moves = (speed_sq > PUSH_SPEED * PUSH_SPEED).unsqueeze(-1)
        scale, shaping = cfg.reward, cfg.reward.shapingScale
        terms = {
            "reach": scale.reach * success.unsqueeze(-1),
            "exception": scale.exception * exception.unsqueeze(-1),
            "distance": shaping * scale.distance * distance_reward(self.previous_distance, distance).unsqueeze(-1),
            "approach": shaping * scale.approach * approach_reward(to_box),
            "collision": shaping * scale.collision * proximity(between),
            "push": shaping * scale.push * (moves * contact_weight(to_box) if scale.contactWeighted else moves),
            "ocb": shaping * scale.ocb * occlusion_reward(
                offset_x, offset_y, box[:, 2:3], ahead_x.unsqueeze(-1), ahead_y.unsqueeze(-1), self._polygon
            ),
        }  # (N, A) or (N, 1)
        if self.scene.obstacles:
            touches = (gap_to_obstacles(box, self.sim.obstacle_pose, self.scene) < TOUCHING).to(alive.dtype)
            terms["obstacle"] = shaping * scale.obstacle * touches.unsqueeze(-1)
            self.episode_sums["obstacle"].add_(alive * touches)
        for name, term in terms.items():
            self.episode_sums[f"reward_{name}"].add_(alive * term.mean(-1))
        self.episode_sums["together"].add_(alive * (to_box < env.collaborationDistance).all(-1))
        pushing = alive * (speed_sq > MOVING * MOVING)
        outline = distance_to_object(*rotate_back(offset_x, offset_y, box[:, 2:3].cos(), box[:, 2:3].sin()), self.scene.objects[0])
        self.episode_sums["pushing"].add_(pushing)
        self.episode_sums["pushing_together"].add_(pushing * (outline < self._at_box).all(-1))
        self.previous_distance.copy_(distance)
        if self._maps:
            self._go_on(living & arrived & ~success, box)
        self.success.logical_or_(success)
        self.exception.logical_or_(exception)
        self.terminated_buf.logical_or_(success | exception)
        reward = sum(terms.values()) * alive.unsqueeze(-1)  # (N, A)
        return reward.mean(-1, keepdim=True) if env.teamReward else reward

    def compute_observations(self) -> Tensor:
        return self.observations_towards(self.goal)

    def observations_towards(self, goal: Tensor) -> Tensor:
        """What all would see if the goal were at (N, 2), agent by agent, less what one is blind to. Each call draws errors anew."""
        everything = push_observation.observe(self.cfg, self.sim.agent_pose, self.sim.object_pose[:, 0], goal, self.goal_yaw).flatten(1)
        return everything.index_select(1, self._seen) if self.cfg.env.blind else everything  # (N, O)

    def observation_names(self) -> List[List[Quantity]]:
        return [[columns_of(self.cfg, agent)[i][1] for i in columns_seen(self.cfg, agent)] for agent in range(self.num_agents)]

    def action_names(self) -> List[List[Command]]:
        """Velocities in the robot's own frame."""
        clip, limits = self.cfg.env.clipActions, self.cfg.env.commandLimit
        names = (("velocity_x_b", "m/s"), ("velocity_y_b", "m/s"), ("yaw_rate", "rad/s"))
        return [[Command(*names[axis], clip, limits[axis] / clip) for axis in DRIVEN[robot.drive]] for robot in self.scene.robots]

    def scripted_actions(self) -> Tensor:
        """Round the object and push; see push_script. Robots share the middle half of the object's breadth; to turn it they
        push beside its middle, along the arc to the goal."""
        agents, spec = self.sim.agent_pose, self.scene.objects[0]
        spacing = spec.half_extents[1] / max(1, self.num_agents - 1)
        pushed, goal, aside = self.sim.object_pose[:, 0], self.goal, 0.0
        if self.cfg.env.successYaw:
            turn = turn_left(pushed[:, 2], self.goal_yaw, self.cfg.object.symmetry)
            goal = pushed[:, :2] + torch.stack(start_of_arc(goal[:, 0] - pushed[:, 0], goal[:, 1] - pushed[:, 1], turn), -1)
            aside = (-2.0 * turn).clamp(-1.0, 1.0).unsqueeze(-1) * 0.9 * spec.half_extents[1]
        wish = push_script.wishes(agents, pushed, goal, spec.reach, spacing, aside)
        yaw, limit = agents[..., 2], self.cfg.env.commandLimit
        wheels = self._on_wheels.unsqueeze(-1)
        commands = torch.where(wheels, push_script.on_wheels(wish, yaw, limit), push_script.on_legs(wish, yaw, limit))
        return commands.flatten(1).index_select(1, self._driven) / self._scale

    def compute_states(self) -> Tensor:
        sim = self.sim
        return push_observation.state(self.cfg, sim.agent_pose, sim.agent_vel, sim.object_pose[:, 0], sim.object_vel[:, 0], self.goal, self.goal_yaw)

    def episode_metrics(self) -> Dict[str, Tensor]:
        length = self.progress_buf.clamp(min=1)
        metrics = {
            "success": self.success.to(torch.float32),
            "collision": self.exception.to(torch.float32),
            "final_distance": torch.linalg.vector_norm(self.way[:, -1] - self.sim.object_pose[:, 0, :2], dim=-1) if self._maps
            else self.previous_distance,
            "collaboration": self.episode_sums["together"] / length,
            "pushing": self.dt * self.episode_sums["pushing"],
            "pushing_together": self.dt * self.episode_sums["pushing_together"],
        }
        if self._easiest:
            metrics["difficulty"] = self.difficulty
        if self.scene.obstacles:
            metrics["obstacle"] = self.episode_sums["obstacle"] / length
        metrics.update({name: value for name, value in self.episode_sums.items() if name.startswith("reward_")})
        return metrics

    def snapshot(self) -> Dict[str, Tensor]:
        shown = {"agent_pose": self.sim.agent_pose, "object_pose": self.sim.object_pose, "goal": self.goal,
                 "success": self.success, "exception": self.exception}
        if self._maps:
            shown.update(obstacle_pose=self.sim.obstacle_pose, way=self.way)
        if self.cfg.env.successYaw:
            shown["goal_yaw"] = self.goal_yaw
        return shown

    def reset_where(self, mask: Tensor) -> None:
        cfg, n = self.cfg, self.num_envs
        if self._easiest:
            next_one = curriculum.after_episode(self.difficulty, self.success, cfg.curriculum.step)
            self.difficulty.copy_(torch.where(mask, next_one, self.difficulty))
        object_pose = torch.zeros(n, 1, 3, device=self.device)
        object_pose[:, 0, 2] = 2.0 * math.pi * torch.rand(n, device=self.device)
        agent_pose = self._spawn_robots()
        if self._maps:
            goal = self._deal_maps(mask)
            distance = torch.linalg.vector_norm(goal, dim=-1)
        else:
            low, high = self._range("goalDistance", cfg.env.goalDistance)
            distance = low + (high - low) * torch.rand(n, device=self.device)
            angle = 2.0 * math.pi * torch.rand(n, device=self.device)
            goal = torch.stack((distance * angle.cos(), distance * angle.sin()), -1)
        self.goal.copy_(torch.where(mask.unsqueeze(-1), goal, self.goal))
        if cfg.env.successYaw:
            self.goal_yaw.copy_(torch.where(mask, 2.0 * math.pi * torch.rand(n, device=self.device), self.goal_yaw))
            distance, _ = self._left(goal[:, 0], goal[:, 1], object_pose[:, 0, 2])
        self.previous_distance.copy_(torch.where(mask, distance, self.previous_distance))
        self.success.logical_and_(~mask)
        self.exception.logical_and_(~mask)
        self.sim.randomize(mask, {name: self._range(name, factors) for name, factors in cfg.randomize.items()})
        self.sim.reset(mask, agent_pose, object_pose)

    def move_goal(self, env: int, goal: Tensor) -> None:
        """Puts the goal (2,) of one environment elsewhere, m; the move itself earns nothing."""
        self.goal[env] = goal
        x, y, yaw = self.sim.object_pose[:, 0].unbind(-1)
        self.previous_distance[env] = self._left(self.goal[:, 0] - x, self.goal[:, 1] - y, yaw)[0][env]

    # -- pieces ------------------------------------------------------------------------------

    def _range(self, name: str, usual: Tuple[float, ...]) -> Tuple[Union[float, Tensor], ...]:
        """Low and high of what a reset draws: as configured, or (N,) by each environment's difficulty."""
        easiest = self._easiest.get(name)
        return curriculum.range_at(self.difficulty, easiest, usual) if easiest else usual

    def _left(self, goal_x: Tensor, goal_y: Tensor, box_yaw: Tensor) -> Tuple[Tensor, Tensor]:
        """Distance to the goal, m, and whether it is reached, (N,). Where the heading counts, the distance counts it too."""
        env = self.cfg.env
        distance = torch.sqrt(goal_x * goal_x + goal_y * goal_y)
        arrived = distance < env.successDistance
        if not env.successYaw:
            return distance, arrived
        turn = turn_left(box_yaw, self.goal_yaw, self.cfg.object.symmetry)
        return distance_with_turn(distance, turn, env.yawWeight), arrived & (turn.abs() < env.successYaw)

    def _on_last_leg(self) -> Tensor:
        return self.leg == self.way.shape[1] - 1 if self._maps else torch.ones_like(self.success)

    def _go_on(self, where: Tensor, box: Tensor) -> None:
        """Makes the next way-point the goal where (N,); that the goal jumps ahead earns nothing."""
        self.leg.add_(where)
        goal = self.way.gather(1, self.leg.view(-1, 1, 1).expand(-1, 1, 2)).squeeze(1)
        self.goal.copy_(torch.where(where.unsqueeze(-1), goal, self.goal))
        distance, _ = self._left(goal[:, 0] - box[:, 0], goal[:, 1] - box[:, 1], box[:, 2])
        self.previous_distance.copy_(torch.where(where, distance, self.previous_distance))

    def _deal_maps(self, mask: Tensor) -> Tensor:
        """A map at random where mask (N,); returns the first way-points, (N, 2)."""
        chosen = torch.randint(len(self._maps.way), (self.num_envs,), device=self.device)
        way = self._maps.way[chosen]
        self.way.copy_(torch.where(mask.view(-1, 1, 1), way, self.way))
        self.leg.masked_fill_(mask, 0)
        if self.scene.obstacles:
            self.sim.place_obstacles(mask, self._maps.obstacles[chosen])
        return way[:, 0]

    def _spawn_robots(self) -> Tensor:
        """Poses (N, A, 3) on a ring around the box, any heading.

        ``reference`` draws every angle by itself, as MAPush does: one start in 16 is a collision.
        ``separated`` draws uniformly among the angles at which no footprint, however it is turned,
        can overlap another or the box.
        """
        cfg, n, num_agents = self.cfg, self.num_envs, self.num_agents
        low, high = cfg.env.spawnRadius
        angle = 2.0 * math.pi * torch.rand(n, num_agents, device=self.device)
        if cfg.env.spawn == "separated":
            low, gap = self._ring(), self._minimum_gap()
            high = max(low, high)
            spacing = -torch.log(1.0 - torch.rand(n, num_agents, device=self.device))
            share = spacing / spacing.sum(-1, keepdim=True)  # uniform on the simplex
            gaps = gap + (2.0 * math.pi - num_agents * gap) * share
            angle = angle[:, 0:1] + torch.stack(list(itertools.accumulate(gaps.unbind(-1))), -1)  # cumsum is not deterministic on CUDA
        radius = low + (high - low) * torch.rand(n, num_agents, device=self.device)
        yaw = 2.0 * math.pi * torch.rand(n, num_agents, device=self.device)
        return torch.stack((radius * angle.cos(), radius * angle.sin(), yaw), -1)

    def _ring(self) -> float:
        """Smallest spawn radius at which no robot, however turned, reaches the box, m."""
        return max(self.cfg.env.spawnRadius[0], self.scene.objects[0].reach + self._reach)

    def _minimum_gap(self) -> float:
        """Angle on that ring between the centres of two robots whose reaches just touch, rad."""
        return 2.0 * math.asin(min(1.0, self._reach / self._ring()))

    def _distances_to_others(self) -> Tensor:
        """(N, A, A-1)"""
        xy = self.sim.agent_pose[..., :2]
        distances = [
            torch.sqrt(((xy - xy.roll(k, 1)) ** 2).sum(-1)) for k in range(1, self.num_agents)
        ]
        return torch.stack(distances, -1) if distances else xy.new_zeros(*xy.shape[:2], 0)

    def _persistent(self) -> Dict[str, Tensor]:
        named = super()._persistent()
        named.update(goal=self.goal, goal_yaw=self.goal_yaw, previous_distance=self.previous_distance, way=self.way, leg=self.leg)
        if self._easiest:
            named["difficulty"] = self.difficulty
        return named
