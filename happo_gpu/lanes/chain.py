"""Kernels that run one after the other, over and over, without Python in between: it would take as long as they do."""
from __future__ import annotations

import ctypes
import functools
from typing import NamedTuple, Sequence

from torch import Tensor

from happo_gpu.lanes.kernel import Kernels, library
from happo_gpu.lanes.program import Unsupported

_TEXT = """
struct Link {
  void (*run)(void **, void **, long, int, float *, long);
  void **p, **before; long n; int threads; float *own; long size;  // its arguments
  long moving; const long *steps;  // bytes that each of the first storages moves on by
};
extern "C" void chain(const Link *links, long count, long times) {
  for (long time = 0; time < times; ++time)
    for (long i = 0; i < count; ++i) {
      const Link &link = links[i];
      link.run(link.p, link.before, link.n, link.threads, link.own, link.size);
      for (long k = 0; k < link.moving; ++k) link.p[k] = link.before[k] = (char *)link.p[k] + link.steps[k];
    }
}
"""


class _Link(ctypes.Structure):
    _fields_ = [("run", ctypes.c_void_p), ("p", ctypes.c_void_p), ("before", ctypes.c_void_p), ("n", ctypes.c_long), ("threads", ctypes.c_int),
                ("own", ctypes.c_void_p), ("size", ctypes.c_long), ("moving", ctypes.c_long), ("steps", ctypes.c_void_p)]


class Link(NamedTuple):
    """One of them: on ``args`` the first time, on the rows that follow theirs the next, if it ``moves``."""

    kernels: Kernels
    args: Sequence[Tensor]
    moves: bool


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    return library("chain", _TEXT, ())


def chain(times: int, links: Sequence[Link]) -> None:
    """Runs all links so many times.

    Raises:
        Unsupported: one of them draws random numbers, or changes what it reads for all rows.
    """
    table, alive = (_Link * len(links))(), []  # what the addresses in the table are of
    for entry, link in zip(table, links):
        kernel = link.kernels.of(link.args)
        if not kernel.is_bare:
            raise Unsupported("a method that takes more than a run of its library, and cannot follow others")
        call = kernel.bound(link.args)
        steps = (ctypes.c_long * len(link.args))(*(_step(arg) if link.moves else 0 for arg in link.args))
        entry.run, entry.p, entry.before = (ctypes.cast(each, ctypes.c_void_p) for each in (call.run, call.addresses, call.before))
        entry.n, entry.threads, entry.own, entry.size = call.num_rows, call.threads, call.own, call.size
        entry.moving, entry.steps = len(link.args), ctypes.cast(steps, ctypes.c_void_p)
        alive.append((call, steps))
    _library().chain(table, ctypes.c_long(len(links)), ctypes.c_long(times))


def _step(arg: Tensor) -> int:
    """Bytes from the rows of an argument to those that follow; none where it has no rows."""
    return arg.shape[0] * arg.stride(0) * arg.element_size() if arg.dim() else 0
