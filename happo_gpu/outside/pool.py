"""Worker processes that step environments of others, and the tensors that they share with this process."""
from __future__ import annotations

import json
import math
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.outside import worker
from happo_gpu.outside.worker import RESET, RESTORE, STEP, Description, Environments, EnvironmentFailed

_TYPES = {"f4": torch.float32, "i8": torch.int64, "?": torch.bool}
_LONGEST = 4096  # bytes of a message


class Pool:
    """``num_envs`` environments in ``num_workers`` processes; 0: in this one.

    Attributes:
        shared: tensors on the CPU, see :func:`happo_gpu.outside.worker.layout`; the workers' own memory.

    Starts with the first order. A worker ends when this process does, however that ends: its orders come through a
    pipe that is closed then. The memory is a file without a name, of which nothing can be left over.
    """

    def __init__(self, spec: Mapping[str, Any], description: Description, num_envs: int, length: int, num_workers: int) -> None:
        self._fields = worker.layout(description, num_envs, length)
        at, size = worker.places(self._fields)
        self._file = tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self._file.truncate(size)
        self._memory = mmap.mmap(self._file.fileno(), size)
        self.shared: Dict[str, Tensor] = {name: _tensor(self._memory, at[name], _TYPES[kind], shape) for name, kind, shape in self._fields}
        self._spec = {**spec, "bytes": size, "memory": self._file.fileno(), "fields": self._fields}
        self._num_envs, self._num_workers = num_envs, min(num_workers, num_envs)
        self._own: Optional[Environments] = None
        self._workers: List[subprocess.Popen] = []

    def reset(self) -> None:
        """New episodes, from ``seeds``, where ``wanted``."""
        self._order(RESET)

    def step(self) -> None:
        """One step under ``actions``."""
        self._order(STEP)

    def restore(self) -> None:
        """Brings every environment to where ``seeds``, ``age`` and ``played`` say; writes over what it saw."""
        self._order(RESTORE)

    def _order(self, order: bytes) -> None:
        if not self._num_workers:
            self._here(order)
            return
        if not self._workers:
            self._start()
        for process in self._workers:
            try:
                os.write(process.stdin.fileno(), order)
            except BrokenPipeError:
                pass  # its answer says more
        self._wait()

    def _here(self, order: bytes) -> None:
        try:
            if self._own is None:
                self._own = Environments(self._spec, worker.arrays(self._fields, self._memory), 0, self._num_envs)
            {RESET: self._own.reset, STEP: self._own.step, RESTORE: self._own.restore}[order]()
        except EnvironmentFailed as error:
            raise ConfigError(str(error)) from error

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        bounds = [self._num_envs * i // self._num_workers for i in range(self._num_workers + 1)]
        for first, last in zip(bounds, bounds[1:]):
            spec = json.dumps({**self._spec, "first": first, "last": last})
            self._workers.append(subprocess.Popen(
                [sys.executable, "-m", worker.__name__, spec], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                pass_fds=[self._file.fileno()], env=environment,
            ))
        weakref.finalize(self, _stop, self._workers)
        self._wait()

    def _wait(self) -> None:
        """Until all have answered; raises for the first that could not do it."""
        for process in self._workers:
            answer = os.read(process.stdout.fileno(), _LONGEST)
            if answer != worker.DONE:
                what = answer[1:].decode(errors="replace") or f"a worker of {self._spec['module']} ended with code {process.wait()}"
                raise ConfigError(what)


def _tensor(memory: mmap.mmap, at: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    count = math.prod(shape)
    if not count:  # which frombuffer refuses
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=at).view(shape)


def _stop(workers: List[subprocess.Popen]) -> None:
    for process in workers:
        process.stdin.close()
    for process in workers:
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:  # inside somebody's endless step
            process.kill()
            process.wait()
        process.stdout.close()
