"""How much memory a run will need, predicted from its sizes, and how much it took."""
from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import torch
from torch import Tensor

from happo_gpu.algo.batch import PIECE_ROWS
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.data.rollout import Rollout

MB = 1e6  # bytes
FLOAT = 4  # bytes
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Storage size calculation overflowed")


@dataclass(frozen=True)
class Need:
    """Bytes that a run adds to what the libraries take."""

    simulator: float  # and the task on it; likewise of evaluations
    rollout: float
    update: float  # at its peak
    networks: float  # with gradients and moments
    copy: float  # of the state, from which a fault is replayed

    @property
    def built(self) -> float:
        """What is there before the first iteration."""
        return self.simulator + self.rollout

    @property
    def total(self) -> float:
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / MB:.0f}" for name, value in vars(self).items())
        return f"{self.total / MB:.0f} MB ({parts})"


def predict(cfg: AlgoConfig, task, larger, rollout: Rollout, num_envs: int, eval_envs: int) -> Need:
    """What ``num_envs`` environments need, from tasks of a few and of one more, and a rollout of the first."""
    per_env = tensor_bytes(larger) - tensor_bytes(task)
    constants = tensor_bytes(task) - task.num_envs * per_env
    recorded = tensor_bytes(rollout) / task.num_envs
    samples, weights = num_envs * rollout.num_steps, FLOAT * _num_weights(cfg, task)
    return Need(
        simulator=(num_envs + eval_envs) * per_env + 2 * constants, rollout=num_envs * recorded,
        update=samples * _update_bytes(cfg, task, rollout, samples), networks=4 * weights, copy=num_envs * per_env + 3 * weights,
    )


def _update_bytes(cfg: AlgoConfig, task, rollout: Rollout, samples: int) -> float:
    """Of an update at its peak, per sample (one decision of one environment)."""
    hidden, heads, agents = cfg.model.hidden_sizes, task.num_values, task.agents
    own = [agent.num_obs + 2 * agent.num_actions + agent.num_choices + 1 for agent in agents]  # of an agent's batch
    targets = 4 * heads + 2 * len(agents)  # values, next values, advantages, returns; factor and its product
    minibatch = (len(agents) if cfg.model.share_param else 1) * samples / min(cfg.actor_num_mini_batch, cfg.critic_num_mini_batch)
    rows = min(minibatch, PIECE_ROWS[task.device.type])
    # Each layer twice forward and twice backward, in memory that glibc gives anew four times over (measured, layers of 64 and 128).
    backward = rows / samples * 16 * sum(hidden)
    # A critic with a memory looks at whole rollouts: its states and two layers of every sample.
    whole = 3 * max(hidden) if cfg.model.recurrent != "none" else 0
    shuffled = max(max(own), task.num_states + 2 * heads)
    return FLOAT * (sum(own) + targets + max(whole, shuffled + backward))


def _num_weights(cfg: AlgoConfig, task) -> int:
    def of(num_in: int, num_out: int) -> int:
        sizes = [num_in, *cfg.model.hidden_sizes, num_out]
        width, model = sizes[-2], cfg.model
        memory = 6 * width * (width + 1) * model.recurrent_n + 2 * width if model.recurrent != "none" else 0
        norms = 2 * num_in * model.use_feature_normalization + 2 * sum(model.hidden_sizes) * model.use_layer_norm
        return memory + norms + sum((a + 1) * b for a, b in zip(sizes, sizes[1:]))

    actors = task.agents[:1] if cfg.model.share_param else task.agents
    return sum(of(agent.num_obs, agent.num_choices or agent.num_actions) for agent in actors) + of(task.num_states, task.num_values)


def tensor_bytes(owner: Any) -> int:
    """Bytes of the tensors that an object holds, each storage once."""
    storages: Dict[int, int] = {}
    for tensor in _tensors(owner, 3):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(owner: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(owner, Tensor):
        yield owner
    elif depth:
        inside = owner if isinstance(owner, (list, tuple)) else (owner if isinstance(owner, dict) else getattr(owner, "__dict__", {})).values()
        for value in inside:
            yield from _tensors(value, depth - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused; torch says so in several ways, and not before 2.5 by a class of its own."""
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def resident(device: torch.device) -> int:
    """Bytes that this process holds on the device now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS") or peak(device)


def peak(device: torch.device) -> int:
    """The most that it has held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return _status("VmHWM") or usage  # of this program alone; the other counts what it was started from


def free(device: torch.device) -> Optional[int]:
    """Bytes that the device still has, if it says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def _status(field: str) -> Optional[int]:
    return _kilobytes(Path("/proc/self/status"), field)


def _kilobytes(path: Path, field: str) -> Optional[int]:
    """A field of one of Linux's tables, in bytes; None elsewhere."""
    if not path.exists():
        return None
    found = [line for line in path.read_text().splitlines() if line.startswith(field + ":")]
    return 1024 * int(found[0].split()[1]) if found else None
