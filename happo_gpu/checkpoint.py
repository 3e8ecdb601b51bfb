"""Checkpoints: one dict, one file, written whole or not at all."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from happo_gpu.config import ConfigError


def save(path: Path, state: Dict[str, Any]) -> None:
    """Writes beside the target first, so that a crash never leaves half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, str(temporary))
    os.replace(str(temporary), str(path))
    print(f"=> saving checkpoint '{path}'", flush=True)


def load(path: Path, device: torch.device) -> Dict[str, Any]:
    """Reads a checkpoint; raises :class:`ConfigError` where it is missing or damaged."""
    if not path.is_file():
        raise ConfigError(f"checkpoint {path} does not exist; give a .pth file, e.g. runs/<run>/nn/<name>.pth")
    try:
        state = torch.load(str(path), map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise ConfigError(f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or no checkpoint") from error
    if not isinstance(state, dict) or "learner" not in state:
        raise ConfigError(f"checkpoint {path} was not written by happo_gpu: it has no learner inside")
    print(f"=> loading checkpoint '{path}'", flush=True)
    return state


def put_weights(state: Dict[str, Any], learner, path: Path) -> None:
    """Writes a checkpoint's weights into ``learner``, to act and not to go on learning; ``path`` is for the error."""
    try:
        learner.load_state_dict(state["learner"], weights_only=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"checkpoint {path} does not fit this task and algo ({reason}); use the run's own config") from error


def latest(run_dir: Path) -> Optional[Path]:
    """The periodic or last checkpoint of a run with the most iterations behind it."""
    found = periodic(run_dir)
    return found[-1] if found else None


def periodic(run_dir: Path) -> List[Path]:
    """The periodic and last checkpoints of a run, by iterations."""
    numbered = []
    for path in (run_dir / "nn").glob("last_*_ep_*_rew_*.pth"):
        match = re.search(r"_ep_(\d+)_rew_", path.name)
        if match:
            numbered.append((int(match.group(1)), path.stat().st_mtime, path))
    return [path for _, _, path in sorted(numbered)]


def rng_state(device: torch.device) -> Dict[str, Any]:
    """States of every torch generator that a run draws from."""
    state: Dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: Dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
