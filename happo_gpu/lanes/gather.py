"""Rows of a table in another order, fetched by all threads: most of the time goes by waiting for memory."""
from __future__ import annotations

import ctypes
import functools
import subprocess

import torch
from torch import Tensor

from happo_gpu import threads
from happo_gpu.lanes.kernel import library

_TEXT = """
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
extern "C" int most_threads() { return omp_get_max_threads(); }
#else
extern "C" int most_threads() { return 0; }
#endif
extern "C" void gather(const float *table, long columns, const int64_t *order, long count, float *out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < count; ++i) memcpy(out + i * columns, table + order[i] * columns, columns * sizeof(float));
}
"""


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    return library("gather", _TEXT, ())


def has_torchs_threads() -> bool:
    """Whether torch and compiled code share one pool of threads: some builds of torch bring an OpenMP of their own."""
    try:
        most_threads = _library().most_threads
    except (OSError, subprocess.SubprocessError):  # no compiler
        return False
    number = torch.get_num_threads()
    torch.set_num_threads(number + 1)
    shared = most_threads() == number + 1
    torch.set_num_threads(number)
    return shared


def gather(table: Tensor, order: Tensor) -> Tensor:
    """As ``table.index_select(0, order)``, of contiguous floats (B, C)."""
    rows = torch.empty(len(order), table.shape[1])
    addresses = [ctypes.c_void_p(each.data_ptr()) for each in (table, order, rows)]
    _library().gather(addresses[0], ctypes.c_long(table.shape[1]), addresses[1], ctypes.c_long(len(order)), addresses[2], ctypes.c_int(threads.count()))
    return rows
