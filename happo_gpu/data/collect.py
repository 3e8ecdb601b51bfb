"""Fills a rollout: policies act, the task answers."""
from __future__ import annotations

from typing import Callable, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu.data.rollout import Rollout

Policy = Callable[[Tensor], Tuple[Tensor, Tensor]]  # (N, O) -> actions, log-probs, both (N, U)


@torch.no_grad()
def collect(
    task, act: Policy, rollout: Rollout, on_step: Sequence[Callable[[dict], None]] = (),
    lap: Callable[[str], None] = lambda phase: None,
) -> None:
    """Steps ``task`` once per row of ``rollout``.

    ``on_step`` functions read each step's extras; ``lap`` is told when a phase (``inference``,
    ``step``) has ended.
    """
    for t in range(rollout.num_steps):
        rollout.obs[t].copy_(task.obs_buf)
        rollout.states[t].copy_(task.states_buf)
        actions, log_probs = act(task.obs_buf)
        lap("inference")
        _, rewards, reset, extras = task.step(actions)
        lap("step")
        rollout.actions[t].copy_(actions)
        rollout.log_probs[t].copy_(log_probs)
        rollout.rewards[t].copy_(rewards)
        rollout.final_states[t].copy_(extras["final_states"])
        rollout.truncated[t].copy_(extras["time_outs"])
        rollout.terminated[t].copy_(reset & ~extras["time_outs"])
        for read in on_step:
            read(extras)
