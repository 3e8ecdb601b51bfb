"""Go1PushUpper: the level above a trained team. Its action is where the team shall push the box next.

The team below is a Go1Push with way-points; its policy is frozen. N environments, A robots, B obstacles.
"""
from __future__ import annotations

from typing import Callable, Dict, List

import torch
from torch import Tensor

from happo_gpu.config.push import UpperConfig
from happo_gpu.sim.base import Sim
from happo_gpu.tasks.push import Go1Push
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, Command, Quantity, box, to_commands

Act = Callable[[Tensor], Tensor]  # the frozen policy: observations of the team (N, O) to actions (N, U)


def sub_goal_reward(progress: Tensor, arrived: Tensor, touches: Tensor, to_way: Tensor, cfg: UpperConfig) -> Dict[str, Tensor]:
    """Terms (N,) of one control period.

    MAPush pays 0.3 / (1 + distance to the goal) and more for being somewhere, so that arriving ends an income;
    here only progress is paid, m by m.
    """
    scale = cfg.upper
    return {"reach": scale.reach * arrived, "progress": scale.progress * progress, "touch": scale.touch * touches,
            "way": scale.way / (1.0 + to_way) - scale.way}


class Go1PushUpper(VecTask):
    """One agent, which sees the whole map and gives a sub-goal in each of its decisions."""

    def __init__(self, sim: Sim, cfg: UpperConfig, team: Go1Push, act: Act, num_envs: int, device: torch.device) -> None:
        self._num_obstacles = len(team.scene.obstacles)
        num_obs = 10 + 4 * team.num_agents + 2 * self._num_obstacles
        super().__init__(
            sim, [AgentSpec("planner", num_obs, box(2))], num_envs, num_states=num_obs, num_values=1,
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
        )
        self.cfg, self.team, self._act, self.scene = cfg, team, act, team.scene
        self._clip = torch.tensor([cfg.env.clipActions] * 2, device=device)
        self._scale = torch.tensor([cfg.upper.farthest / cfg.env.clipActions] * 2, device=device)
        self.sub_goal = torch.zeros(num_envs, 2, device=device)  # m
        # One episode for both: the team counts no steps of its own.
        team.progress_buf, team.terminated_buf = self.progress_buf, self.terminated_buf
        self.goal = team.goal
        terms = {f"reward_{name}": torch.zeros(num_envs, device=device) for name in ("sub_goal_reach", "progress", "touch", "way")}
        self.episode_sums = {**team.episode_sums, **terms}
        self._since_decision = 0  # control steps

    def pre_physics_step(self, actions: Tensor) -> None:
        """The sub-goal stays where it is in the map until the next decision."""
        offset = to_commands(actions, self._clip, self._scale)
        self.sub_goal.copy_(self.sim.object_pose[:, 0, :2] + offset)
        self._since_decision = 0

    def physics_step(self) -> None:
        if self._since_decision % self.cfg.upper.teamSteps == 0:
            self.team.pre_physics_step(self._act(self.team.observations_towards(self.sub_goal)))
        self._since_decision += 1
        self.team.physics_step()

    def compute_reward(self, alive: Tensor) -> Tensor:
        team = self.team
        before, leg = team.previous_distance.clone(), team.leg.clone()
        touched = team.episode_sums["obstacle"].clone() if self._num_obstacles else torch.zeros_like(alive)
        team.compute_reward(alive)
        same_leg = (team.leg == leg).to(alive.dtype)  # the next way-point is farther off, which is no step back
        terms = sub_goal_reward(
            same_leg * (before - team.previous_distance), (team.success & (alive > 0.0)).to(alive.dtype),
            team.episode_sums["obstacle"] - touched if self._num_obstacles else touched,
            torch.linalg.vector_norm(self.sub_goal - team.goal, dim=-1), self.cfg,
        )
        for name, term in zip(("sub_goal_reach", "progress", "touch", "way"), terms.values()):
            self.episode_sums[f"reward_{name}"].add_(alive * term)
        return (alive * sum(terms.values())).unsqueeze(-1)

    def compute_observations(self) -> Tensor:
        """The map as :meth:`observation_names` says; offsets are from the box, along the map's axes."""
        sim, team = self.sim, self.team
        robots, pushed = sim.agent_pose, sim.object_pose[:, 0]
        centre, turn = pushed[:, :2], self.cfg.object.symmetry * pushed[:, 2:3]
        columns = [centre, turn.cos(), turn.sin(), self.sub_goal - centre, team.goal - centre, team.way[:, -1] - centre]
        columns += [(robots[..., :2] - centre.unsqueeze(1)).flatten(1), robots[..., 2].cos(), robots[..., 2].sin()]
        columns += [(sim.obstacle_pose[..., :2] - centre.unsqueeze(1)).flatten(1)] if self._num_obstacles else []
        return torch.cat(columns, -1)

    def observation_names(self) -> List[List[Quantity]]:
        def place(name: str) -> List[Quantity]:
            return [Quantity(f"{name}_{axis}", "m") for axis in "xy"]

        robots = [f"agent_{i}" for i in range(self.team.num_agents)]
        names = place("box") + [Quantity("cos(box_yaw)"), Quantity("sin(box_yaw)")]
        for each in ("sub_goal", "way_point", "goal", *robots):
            names += place(each)
        names += [Quantity(f"{function}({robot}_yaw)") for function in ("cos", "sin") for robot in robots]
        return [names + [axis for i in range(self._num_obstacles) for axis in place(f"obstacle_{i}")]]

    def action_names(self) -> List[List[Command]]:
        """An offset from the box."""
        return [[Command(f"sub_goal_{axis}", "m", float(self.cfg.env.clipActions), self.cfg.upper.farthest / self.cfg.env.clipActions)
                 for axis in "xy"]]

    def scripted_actions(self) -> Tensor:
        """The next way-point, or as far towards it as can be commanded."""
        return (self.team.goal - self.sim.object_pose[:, 0, :2]) / self._scale

    def compute_states(self) -> Tensor:
        return self.compute_observations()

    def episode_metrics(self) -> Dict[str, Tensor]:
        own = {name: value for name, value in self.episode_sums.items() if name not in self.team.episode_sums}
        return {**self.team.episode_metrics(), **own}

    def snapshot(self) -> Dict[str, Tensor]:
        return self.team.snapshot()

    def reset_where(self, mask: Tensor) -> None:
        self.team.reset_where(mask)
        self.sub_goal.copy_(torch.where(mask.unsqueeze(-1), self.team.goal, self.sub_goal))

    def _persistent(self) -> Dict[str, Tensor]:
        return {**self.team._persistent(), **super()._persistent(), "sub_goal": self.sub_goal}
