"""Several processes that learn one policy, each with environments of its own; alone knows torch.distributed.

Started by torchrun or srun, which say in environment variables who is who; a process started by hand is alone, and
then everything here is the identity and costs nothing. All processes call the same functions in the same order.
Tensors are summed where they are (NCCL on GPUs, gloo on CPUs); what the host must agree on goes through gloo.
"""
from __future__ import annotations

import os
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor, nn

from happo_gpu.config import ConfigError

_host_group: Any = None  # of gloo, once started


def _identity() -> Tuple[int, int, int]:
    """(rank, number of processes, rank on this machine) as the launcher says."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        # Of the step, not of the job: a batch script that starts one process is no step.
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if not all(name in os.environ for name in names):
        return 0, 1, 0
    return tuple(int(os.environ[name]) for name in names)


RANK, SIZE, LOCAL_RANK = _identity()


def start(device: torch.device) -> None:
    """Meets the other processes; raises ConfigError where the launcher does not say where."""
    global _host_group
    if SIZE == 1 or _host_group is not None:
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ConfigError(f"{SIZE} processes, but {name} is not set; torchrun sets it, for srun write "
                              "export MASTER_ADDR=$(scontrol show hostnames | head -n 1) MASTER_PORT=29500")
    from torch import distributed

    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=RANK, world_size=SIZE)
    _host_group = distributed.new_group(backend="gloo") if device.type == "cuda" else distributed.group.WORLD


def stop() -> None:
    global _host_group
    if _host_group is not None:
        from torch import distributed

        distributed.destroy_process_group()
        _host_group = None


# -- tensors -------------------------------------------------------------------------------------


def total(value: Tensor) -> Tensor:
    """Sum over the processes, same shape; without gradient."""
    if SIZE == 1:
        return value
    from torch import distributed

    value = value.detach().clone()
    distributed.all_reduce(value)
    return value


def mean(value: Tensor) -> Tensor:
    """Mean over the processes: of a mean over samples the mean over all, for all have as many samples."""
    return value if SIZE == 1 else total(value) / SIZE


@torch.no_grad()
def share(module: nn.Module) -> None:
    """The first process's parameters and buffers for all."""
    if SIZE == 1:
        return
    from torch import distributed

    for value in list(module.parameters()) + list(module.buffers()):
        whole = value.contiguous()  # weights may lie transposed
        distributed.broadcast(whole, 0)
        value.copy_(whole)


# -- agreement of the hosts ----------------------------------------------------------------------


def agree(value: Any) -> Any:
    """The first process's value, for all."""
    if SIZE == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, 0, group=_host_group)
    return box[0]


def largest(value: int) -> int:
    """The largest of the processes' values."""
    if SIZE == 1:
        return value
    from torch import distributed

    box = torch.tensor(value)
    distributed.all_reduce(box, distributed.ReduceOp.MAX, group=_host_group)
    return int(box)


def gather(value: Any) -> Optional[List[Any]]:
    """Every process's value in the order of ranks, on the first; None on the others."""
    if SIZE == 1:
        return [value]
    from torch import distributed

    box: Optional[List[Any]] = [None] * SIZE if RANK == 0 else None
    distributed.gather_object(value, box, 0, group=_host_group)
    return box
