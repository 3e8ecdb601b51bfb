"""Settings of the process that must be in place before torch is imported. Imports nothing of torch."""
from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEEP = (1 << 30, 32 << 20)  # bytes; older versions of glibc refuse a threshold above 32 MB


def prepare() -> None:
    """Makes training on a CPU faster; leaves alone what the user has set."""
    if sys.platform.startswith("linux") and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Activations of a megabyte otherwise go back to the system when freed and are faulted in again page by page."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return
    # In this order: a trim threshold alone would switch off the growing mmap threshold and make it worse.
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in _KEEP):
        mallopt(_M_TRIM_THRESHOLD, _KEEP[0])
