"""The one task of a process whose simulator runs once in it: evaluations play in the environments of training."""
from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import torch

from happo_gpu.config import ConfigError
from happo_gpu.tasks.vec_task import VecTask

_MADE: Dict[Tuple[str, str], VecTask] = {}


def shared(settings: Any, device: torch.device, make: Callable[[], VecTask]) -> VecTask:
    """What ``make`` made when it was asked first, for these settings."""
    key = (repr(settings), str(device))
    if key not in _MADE:
        if _MADE:
            raise ConfigError("this simulator runs once in a process; start another one for other settings")
        _MADE[key] = make()
    return _MADE[key]
