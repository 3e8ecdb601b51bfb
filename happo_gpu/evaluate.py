"""MAPush's measurement: a deterministic policy, the first episode of every environment."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch
from torch import Tensor


@torch.no_grad()
def first_episodes(task, act: Callable[[], Tensor]) -> Dict[str, Tensor]:
    """Runs every environment until its first episode has ended; returns the metrics, each (N,).

    Later episodes of environments that finish early are ignored: counting them would favour short,
    successful ones. ``act`` reads the task's buffers.
    """
    task.reset()
    pending = torch.ones(task.num_envs, dtype=torch.bool, device=task.device)
    metrics: Dict[str, Tensor] = {}
    while True:
        _, _, reset, extras = task.step(act())
        first = pending & reset
        for name, value in extras["episode"].items():
            metrics[name] = torch.where(first, value, metrics.get(name, torch.zeros_like(value)))
        pending &= ~reset
        if not bool(pending.any()):
            return metrics


def actor(task, policy) -> Callable[[], Tensor]:
    """What acts in ``task``, on what its buffers hold: a nets.policy.Policy, or where that is None its scripted one."""

    def act() -> Tensor:
        if policy is None:
            return task.scripted_actions()
        return policy.act(task.obs_buf, task.available_buf, task.reset_buf)[0]

    return act


def evaluate(task, policy, seed: int) -> Dict[str, Any]:
    """The task's metrics over first episodes, as plain numbers; success with its 95 % interval.

    ``policy`` is a nets.policy.Policy, or None for the task's own scripted one. The random state of
    the caller is put back afterwards: evaluating does not change a training run.
    """
    act = actor(task, policy)
    devices = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        metrics = {name: value.double().cpu() for name, value in first_episodes(task, act).items()}
    result: Dict[str, Any] = {"episodes": task.num_envs, "mean_return": float(metrics.pop("return").mean())}
    length = metrics.pop("length")
    if "success" in metrics:
        result.update(_success(metrics, length * task.dt, task.max_episode_length * task.dt))
    result.update({f"mean_{name}": float(value.mean()) for name, value in metrics.items() if not name.startswith("reward_")})
    return result


def _success(metrics: Dict[str, Tensor], seconds: Tensor, limit: float) -> Dict[str, Any]:
    """MAPush's figures; takes what it reads out of ``metrics``.

    ``finished_time`` counts a failure as a whole episode, as MAPush does; ``collaboration_degree`` is
    the share of time that all robots were near the object, over successful episodes. ``pushing_together``
    is the share of the time that the object moves in which all robots are at it, over all episodes.
    """
    success = metrics.pop("success")
    rate, successes = float(success.mean()), max(1.0, float(success.sum()))
    finished = torch.where(success > 0.5, seconds, torch.full_like(seconds, limit))
    result = {
        "success_rate": rate,
        "success_rate_ci95": list(wilson_interval(rate, len(success))),
        "finished_time": float(finished.mean()),
        "finished_time_of_successes": float((finished * success).sum() / successes),
    }
    if "collaboration" in metrics:
        result["collaboration_degree"] = float((metrics.pop("collaboration") * success).sum() / successes)
    if "pushing_together" in metrics:
        result["pushing_together"] = float(metrics.pop("pushing_together").sum() / metrics["pushing"].sum().clamp(min=1e-6))
    for name, tag in (("collision", "collision_rate"), ("final_distance", "final_distance")):
        if name in metrics:
            result[tag] = float(metrics.pop(name).mean())
    return result


def wilson_interval(rate: float, n: int) -> Tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson, 1927)."""
    z = 1.959964
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return max(0.0, min(rate, low)), min(1.0, max(rate, high))  # rounding alone would leave out a rate of 0 or 1


def report(result: Dict[str, Any]) -> str:
    """The result as lines for a person."""
    lines = []
    if "success_rate" in result:
        low, high = result["success_rate_ci95"]
        lines += [
            f"success rate          {100 * result['success_rate']:.1f} %  "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}, {result['episodes']} first episodes)",
            f"finished time         {result['finished_time']:.2f} s  (failures count as a whole episode; "
            f"successes alone {result['finished_time_of_successes']:.2f} s)",
        ]
    named = {"collaboration_degree": ("collaboration degree", "{:.3f}"), "pushing_together": ("pushing together", "{:.3f}"),
             "collision_rate": ("collision rate", "{:.2%}"), "mean_return": ("mean return", "{:.3f}"),
             "final_distance": ("final distance", "{:.3f} m")}
    named.update({key: (key[5:].replace("_", " "), "{:.3f}") for key in result if key.startswith("mean_") and key != "mean_return"})
    lines += [f"{label:<22}{form.format(result[key])}" for key, (label, form) in named.items() if key in result]
    return "\n".join(lines)


def write(path: Path, result: Dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"=> writing '{path}'", flush=True)
