"""Checkpoints: one dict, one file, written whole or not at all, and known to be whole when read.

A file is torch's zip archive and one line after it, which torch.load overlooks:

    happo_gpu checkpoint <format> <SHA-256 of everything before these 64 digits>
"""
from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from happo_gpu.config import ConfigError

FORMAT = 1  # goes up when an older version could no longer read what this one writes
_TRAILER = re.compile(rb"\nhappo_gpu checkpoint (\d{4}) ([0-9a-f]{64})\n\Z")
_TRAILER_SIZE = len(b"\nhappo_gpu checkpoint 0001 \n") + 64
_ARCHIVE_END, _ARCHIVE_END_SIZE = b"PK\x05\x06", 22  # how a zip archive without a comment ends


class Damaged(ConfigError):
    """A checkpoint that is not what was written."""


def save(path: Path, state: Dict[str, Any]) -> None:
    """Writes beside the target, waits for the disk, then renames: a crash or a full disk leaves the old file or the new one.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(b"\nhappo_gpu checkpoint %04d " % FORMAT)
    buffer.write(hashlib.sha256(buffer.getvalue()).hexdigest().encode() + b"\n")
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(path))
        _sync_directory(path.parent)
    except OSError:
        if temporary.exists():
            temporary.unlink()
        raise
    print(f"=> saving checkpoint '{path}'", flush=True)


def _sync_directory(path: Path) -> None:
    """A rename is on the disk once its directory is."""
    directory = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(path: Path, device: torch.device) -> Dict[str, Any]:
    """Reads a checkpoint; runs no code from it.

    Raises:
        ConfigError: it is missing, of a newer format, or no checkpoint of this package.
        Damaged: it is shorter or other than it was written.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {path} does not exist; give a .pth file, e.g. runs/<run>/nn/<name>.pth")
    archive = _archive(path)
    try:
        state = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise Damaged(f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or no checkpoint") from error
    if not isinstance(state, dict) or "learner" not in state:
        raise ConfigError(f"checkpoint {path} was not written by happo_gpu: it has no learner inside")
    print(f"=> loading checkpoint '{path}'", flush=True)
    return state


def _archive(path: Path) -> bytes:
    """The torch archive in a file, once it is known to be whole.

    The first versions wrote no trailer. Theirs is accepted: it ends as archives do, and torch notices if it is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Damaged(f"checkpoint {path} cannot be read: {error.strerror}") from error
    trailer = _TRAILER.search(data[-_TRAILER_SIZE:])
    if trailer is None:
        if data[-_ARCHIVE_END_SIZE:].startswith(_ARCHIVE_END):
            return data
        raise Damaged(f"checkpoint {path} is damaged or no checkpoint: it does not end as one")
    if hashlib.sha256(data[:-65]).hexdigest().encode() != trailer.group(2):
        raise Damaged(f"checkpoint {path} is damaged: its digest does not fit its {len(data)} bytes")
    if int(trailer.group(1)) > FORMAT:
        raise ConfigError(f"checkpoint {path} has format {int(trailer.group(1))}, this version reads up to {FORMAT}; "
                          "update happo_gpu, or give a checkpoint of this version")
    return data[:-_TRAILER_SIZE]


def put_weights(state: Dict[str, Any], learner, path: Path) -> None:
    """Writes a checkpoint's weights into ``learner``, to act and not to go on learning; ``path`` is for the error."""
    try:
        learner.load_state_dict(state["learner"], weights_only=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"checkpoint {path} does not fit this task and algo ({reason}); use the run's own config") from error


# -- the checkpoints of a run --------------------------------------------------------------------


def numbered(run_dir: Path) -> List[Path]:
    """The periodic and last checkpoints of a run, the one with the most iterations behind it first."""
    found = []
    for path in (run_dir / "nn").glob("last_*_ep_*_rew_*.pth"):
        match = re.search(r"_ep_(\d+)_rew_", path.name)
        if match:
            found.append((int(match.group(1)), path.stat().st_mtime, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def has_good(run_dir: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return any(_is_whole(path) for path in numbered(run_dir))


def _is_whole(path: Path) -> bool:
    try:
        _archive(path)
    except Damaged:
        return False
    except ConfigError:  # of a newer version: whole, and to be complained about
        return True
    return True


def newest_good(run_dir: Path, device: torch.device) -> Optional[Tuple[Path, Dict[str, Any]]]:
    """The newest checkpoint that is not damaged, with a line of warning for each newer one; None if there is none."""
    for path in numbered(run_dir):
        try:
            return path, load(path, device)
        except Damaged as error:
            print(f"warning: {error}; taking the one before it", flush=True)
    return None


def rotate(run_dir: Path, keep: int) -> None:
    """Deletes all but the newest ``keep`` periodic checkpoints, and what a killed process left half written."""
    for path in [*numbered(run_dir)[keep:], *(run_dir / "nn").glob("*.pth.tmp")]:
        path.unlink()


# -- random state --------------------------------------------------------------------------------


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
