"""Settings of the process that must be in place before torch is imported. Imports nothing of torch."""
from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEEP = 1 << 30  # bytes


def prepare() -> None:
    """Makes training on a CPU faster; leaves alone what the user has set."""
    if sys.platform.startswith("linux") and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Activations of a megabyte otherwise go back to the system when freed and are faulted in again page by page."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP)
    except (OSError, AttributeError):  # not glibc
        pass
