"""Fills a rollout: policies act, the task answers."""
from __future__ import annotations

from typing import Callable, Sequence

import torch

from happo_gpu.data.rollout import Rollout


@torch.no_grad()
def collect(
    task, policy, rollout: Rollout, on_step: Sequence[Callable[[dict], None]] = (),
    lap: Callable[[str], None] = lambda phase: None,
) -> None:
    """Steps ``task`` once per row of ``rollout``, under ``policy`` (nets.policy.Policy).

    ``on_step`` functions read each step's extras; ``lap`` is told when a phase (``inference``,
    ``step``) has ended.
    """
    chunk = rollout.num_steps // len(rollout.hidden[0]) if rollout.hidden else 0
    for t in range(rollout.num_steps):
        rollout.obs[t].copy_(task.obs_buf)
        rollout.states[t].copy_(task.states_buf)
        rollout.first[t].copy_(task.reset_buf)
        if rollout.available is not None:
            rollout.available[t].copy_(task.available_buf)
        if rollout.active is not None:
            rollout.active[t].copy_(task.active_buf)
        if chunk and t % chunk == 0:
            for row, hidden in zip(rollout.hidden, policy.hidden):
                row[t // chunk].copy_(hidden)
        actions, log_probs = policy.act(task.obs_buf, task.available_buf, task.reset_buf)
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
