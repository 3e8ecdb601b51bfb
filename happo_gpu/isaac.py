"""Isaac Gym must be imported before torch, and Isaac Sim started: this module does it, where a run needs it. Imports no torch."""
from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Mapping

from happo_gpu.config import ConfigError, parse

_running: Any = None  # Isaac Sim's application, which lives as long as the process


def before_torch(raw: Mapping[str, Any]) -> None:
    """Imports or starts what the run's task needs; the second call of a process finds it done.

    Raises:
        ConfigError: it is not installed, or torch was faster.
    """
    if raw["task"]["name"] == "IsaacGymEnvs":
        _import_isaac_gym("task=IsaacGymEnvs", "isaacgymenvs")
    elif raw["sim"]["name"] == "isaacgym":
        _import_isaac_gym("sim=isaacgym")
    elif raw["task"]["name"] == "IsaacLab" and not _running:
        parse(raw)  # a typo should not wait the minute that Isaac Sim takes to start
        _start_isaac_sim(raw["headless"], raw["sim_device"] or f"cuda:{os.environ.get('LOCAL_RANK', 0)}")


def _import_isaac_gym(who: str, *further: str) -> None:
    if sys.modules.get("isaacgym"):
        return
    if "torch" in sys.modules:
        raise ConfigError(f"{who} needs isaacgym imported before torch, and torch is there already; start it with python train.py")
    try:
        for package in ("isaacgym", *further):
            importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"{who} needs the package {error.name}; install NVIDIA's Isaac Gym Preview 4 (Python 3.8)"
                          f"{' and IsaacGymEnvs' * bool(further)}, which no registry has") from error


def _start_isaac_sim(headless: bool, device: str) -> None:
    """As Isaac Lab's own scripts begin: nothing else of it can be imported before."""
    global _running
    try:
        from isaaclab.app import AppLauncher
    except ImportError as error:
        raise ConfigError(f"task=IsaacLab needs the package {error.name}; install NVIDIA's Isaac Sim and Isaac Lab (Python 3.11 or 3.12) as "
                          "https://isaac-sim.github.io/IsaacLab says, and this project beside them") from error
    _running = AppLauncher({"headless": headless, "device": device}).app
