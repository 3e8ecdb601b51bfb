"""MAPush's measurement: a deterministic policy, the first episode of every environment."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch
from torch import Tensor


@torch.no_grad()
def first_episodes(task, policy: Callable[[Tensor], Tensor]) -> Dict[str, Tensor]:
    """Runs every environment until its first episode has ended; returns the metrics, each (N,).

    Later episodes of environments that finish early are ignored: counting them would favour short,
    successful ones.
    """
    task.reset()
    pending = torch.ones(task.num_envs, dtype=torch.bool, device=task.device)
    metrics: Dict[str, Tensor] = {}
    while True:
        _, _, reset, extras = task.step(policy(task.obs_buf))
        first = pending & reset
        for name, value in extras["episode"].items():
            metrics[name] = torch.where(first, value, metrics.get(name, torch.zeros_like(value)))
        pending &= ~reset
        if not bool(pending.any()):
            return metrics


def evaluate(task, policy: Callable[[Tensor], Tensor], seed: int) -> Dict[str, Any]:
    """Success rate with its 95 % interval and MAPush's other figures, as plain numbers.

    The random state of the caller is put back afterwards: evaluating does not change a training run.
    ``finished_time`` counts a failure as a whole episode, as MAPush does; ``collaboration_degree`` is
    the share of time that all robots were near the object, over successful episodes.
    """
    devices = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        metrics = {name: value.double().cpu() for name, value in first_episodes(task, policy).items()}
    success = metrics["success"]
    episodes, rate = len(success), float(success.mean())
    seconds = metrics["length"] * task.sim.dt
    limit = task.max_episode_length * task.sim.dt
    finished = torch.where(success > 0.5, seconds, torch.full_like(seconds, limit))
    low, high = wilson_interval(rate, episodes)
    return {
        "episodes": episodes,
        "success_rate": rate,
        "success_rate_ci95": [low, high],
        "finished_time": float(finished.mean()),
        "finished_time_of_successes": float((finished * success).sum() / max(1.0, float(success.sum()))),
        "collaboration_degree": float((metrics["collaboration"] * success).sum() / max(1.0, float(success.sum()))),
        "collision_rate": float(metrics["collision"].mean()),
        "mean_return": float(metrics["return"].mean()),
        "final_distance": float(metrics["final_distance"].mean()),
    }


def wilson_interval(rate: float, n: int) -> Tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson, 1927)."""
    z = 1.959964
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def report(result: Dict[str, Any]) -> str:
    """The result as lines for a person."""
    low, high = result["success_rate_ci95"]
    return "\n".join((
        f"success rate          {100 * result['success_rate']:.1f} %  "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}, {result['episodes']} first episodes)",
        f"finished time         {result['finished_time']:.2f} s  (failures count as a whole episode; "
        f"successes alone {result['finished_time_of_successes']:.2f} s)",
        f"collaboration degree  {result['collaboration_degree']:.3f}",
        f"collision rate        {100 * result['collision_rate']:.2f} %",
        f"mean return           {result['mean_return']:.3f}",
        f"final distance        {result['final_distance']:.3f} m",
    ))


def write(path: Path, result: Dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"=> writing '{path}'", flush=True)
