"""Compiled code on disk that a later process must find as it was written: loading a torn library ends the process without a word.

Beside a file lies its digest, ``<file>.sha256``.
"""
from __future__ import annotations

import hashlib
import os
from pathlib import Path

SUFFIX = ".sha256"


def remember(path: Path) -> None:
    """Writes the digest of ``path`` beside it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.sum")
    temporary.write_text(_digest(path) + "\n")
    os.replace(str(temporary), str(path) + SUFFIX)


def is_whole(path: Path) -> bool:
    """Whether a file is there as it was written; one that is not is removed, which a line says: it is built anew."""
    beside = Path(str(path) + SUFFIX)
    digest = beside.read_text().strip() if beside.exists() else ""
    if path.exists() and _digest(path) == digest:
        return True
    if path.exists():
        print(f"warning: compiled code {path} is damaged; it is compiled anew", flush=True)
        path.unlink()
    return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
