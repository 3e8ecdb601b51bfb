"""Isaac Gym must be imported before torch: this module does it, where a run needs it. Imports no torch."""
from __future__ import annotations

import sys
from typing import Any, Mapping

from happo_gpu.config.schema import ConfigError


def import_first(raw: Mapping[str, Any]) -> None:
    """Imports isaacgym if the run's task needs it.

    Raises:
        ConfigError: it is not installed, or torch was faster.
    """
    if raw["task"]["name"] != "IsaacGymEnvs" or sys.modules.get("isaacgym"):
        return
    if "torch" in sys.modules:
        raise ConfigError("task=IsaacGymEnvs needs isaacgym imported before torch, and torch is there already; start it with python train.py")
    try:
        import isaacgym  # noqa: F401
        import isaacgymenvs  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"task=IsaacGymEnvs needs the package {error.name}; install NVIDIA's Isaac Gym Preview 4 (Python 3.8) and "
                          "IsaacGymEnvs, which no registry has") from error
