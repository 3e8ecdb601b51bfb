"""Meet: a walker that steers and a tram that picks a gear come together on a line. No simulator."""
from __future__ import annotations

from typing import Dict

import torch
from torch import Tensor

from happo_gpu.config.tasks import SmallConfig
from happo_gpu.tasks.vec_task import VecTask
from happo_gpu.types import AgentSpec, box, discrete

# The walker sees where it is and how far off the tram is; the tram sees only how far off the walker is.
AGENTS = (AgentSpec("walker", 2, box(1)), AgentSpec("tram", 1, discrete(3)))
WALK, RIDE = 0.05, 0.1  # half widths of the line per step


class Meet(VecTask):
    """Reward 1 - |gap| / 2 every step, until time runs out."""

    def __init__(self, cfg: SmallConfig, num_envs: int, device: torch.device) -> None:
        super().__init__(
            None, list(AGENTS), num_envs, num_states=2, num_values=1 if cfg.env.teamReward else len(AGENTS),
            max_episode_length=cfg.env.episodeLength, decimation=cfg.env.controlFrequencyInv, device=device,
        )
        self.place = torch.zeros(num_envs, 2, device=device)  # (N, A) in [-1, 1]
        self.move = torch.zeros(num_envs, 2, device=device)  # (N, A) per step

    def pre_physics_step(self, actions: Tensor) -> None:
        walk, gear = actions.unbind(-1)  # columns side by side; a choice is its index: 0, 1 or 2
        self.move.copy_(torch.stack((WALK * walk.clamp(-1.0, 1.0), RIDE * (gear - 1.0)), -1))

    def physics_step(self) -> None:
        self.place.add_(self.move).clamp_(-1.0, 1.0)

    def compute_reward(self, alive: Tensor) -> Tensor:
        closeness = 1.0 - 0.5 * self._gap().abs()  # (N,)
        return (alive * closeness).unsqueeze(-1).expand(-1, self.num_values)  # (N, K)

    def compute_observations(self) -> Tensor:
        return torch.stack((self.place[:, 0], self._gap(), -self._gap()), -1)  # (N, O): two columns, then one

    def compute_states(self) -> Tensor:
        return self.place

    def episode_metrics(self) -> Dict[str, Tensor]:
        return {"score": self.episode_return / self.progress_buf.clamp(min=1)}

    def reset_where(self, mask: Tensor) -> None:
        anywhere = 2.0 * torch.rand_like(self.place) - 1.0
        self.place.copy_(torch.where(mask.unsqueeze(-1), anywhere, self.place))

    def scripted_actions(self) -> Tensor:
        """Both close the gap as fast as they can; optional, and a bound on what can be learned."""
        gear = 1.0 - (self._gap() / RIDE).round().clamp(-1.0, 1.0)
        return torch.stack((self._gap() / WALK, gear), -1)

    def _gap(self) -> Tensor:
        return self.place[:, 1] - self.place[:, 0]

    def _persistent(self) -> Dict[str, Tensor]:
        return {**super()._persistent(), "place": self.place}  # what a resumed run needs
