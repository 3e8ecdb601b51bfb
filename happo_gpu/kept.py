"""Compiled code on disk that a later process must find as it was written: loading a torn library ends the process without a word.

Beside a file lies its manifest, ``<file>.sha256``: the digests of the file and of the libraries that torch built for it.
"""
from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, List

SUFFIX = ".sha256"
_BEING_WRITTEN = 60.0  # s that a linker may take for one library


def remember(path: Path, libraries: Iterable[Path]) -> None:
    """Writes the manifest of ``path`` and of the libraries that it needs."""
    text = json.dumps({str(file): _digest(file) for file in (path, *libraries)}, indent=1)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n")
    os.replace(str(temporary), str(path) + SUFFIX)


def damaged(path: Path) -> List[Path]:
    """The files of a manifest, ``path`` among them, that are not as they were written; ``path``, too, if nobody vouches for it."""
    known = _manifest(path)
    return [Path(name) for name, digest in {str(path): "", **known}.items() if _digest(Path(name)) != digest]


def remove(files: Iterable[Path]) -> None:
    """Says so in a line for each that is there: torch builds anew what it does not find."""
    for file in files:
        if file.exists():
            print(f"warning: compiled code {file} is damaged; it is compiled anew", flush=True)
            file.unlink()


def torn_libraries(folder: Path) -> List[Path]:
    """The libraries below that a killed compiler left unfinished, which torch would load for finished ones."""
    before = time.time() - _BEING_WRITTEN
    return [path for path in folder.glob("*/*.so") if path.stat().st_mtime < before and not _is_whole_library(path)]


def loaded_libraries(folder: Path) -> List[Path]:
    """Those from below ``folder`` that this process has in memory, where the system says so (Linux)."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    files = {line.split(maxsplit=5)[5] for line in lines if line.endswith(".so")}
    return sorted(Path(file) for file in files if file.startswith(str(folder.resolve()) + os.sep))


def _manifest(path: Path) -> Dict[str, str]:
    try:
        known = json.loads(Path(str(path) + SUFFIX).read_text())
        return {str(name): str(digest) for name, digest in known.items()}
    except (OSError, ValueError, AttributeError):  # absent or itself damaged: then nobody vouches for the file
        return {}


def _digest(path: Path) -> str:
    """'?' where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "?"


def _is_whole_library(path: Path) -> bool:
    """Whether an ELF file reaches to the end of its last table; true of other formats, which this does not know."""
    if not sys.platform.startswith("linux"):
        return True
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":  # of 64 bits
        return False
    offset, size, count = struct.unpack("<Q", header[40:48])[0], *struct.unpack("<HH", header[58:62])  # of the section headers
    return path.stat().st_size >= offset + size * count
