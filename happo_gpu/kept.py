"""Compiled code on disk that a later process must find as it was written: loading a torn library ends the process without a word.

Beside a file lies its digest, ``<file>.sha256``.
"""
from __future__ import annotations

import hashlib
import os
from pathlib import Path

SUFFIX = ".sha256"


def keep(built: Path, path: Path) -> None:
    """Moves a file to ``path``, its digest beside it; others may be doing the same."""
    digest = built.with_name("digest")
    digest.write_text(_digest(built) + "\n")
    os.replace(str(digest), str(path) + SUFFIX)
    os.replace(str(built), str(path))


def is_whole(path: Path) -> bool:
    """Whether a file is there as it was written; a line says if it is there, but not so."""
    if not path.exists():
        return False
    beside = Path(str(path) + SUFFIX)
    whole = beside.exists() and _digest(path) == beside.read_text().strip()
    if not whole:
        print(f"warning: compiled code {path} is damaged; it is compiled anew", flush=True)
    return whole


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
