"""A compiled method: built once, kept on disk, run on all threads."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from happo_gpu import kept, threads
from happo_gpu.lanes.program import Program, Unsupported
from happo_gpu.lanes.source import source
from happo_gpu.lanes.trace import trace

FEWEST = 64  # environments: of fewer, their number could be another axis's
_SHARE = 256  # rows that are worth another thread
_TYPICAL = (4099, 4111)  # samples: what a method is traced with that will be called with any number of them
# As torch computes, but faster: no error codes, no traps. Products and sums are rounded one by one where there are no matrices.
# Rows of a tile hold floats or whole numbers and are read as vectors of either, so that no type says what overlaps.
_FLAGS = ("-O2", "-std=c++17", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-shared", "-fPIC")
_EXACT, _FUSED = "-ffp-contract=off", "-ffp-contract=fast"


def cache() -> Path:
    """Where compiled code is kept: HAPPO_GPU_CACHE, or ~/.cache/happo_gpu; files are named after what they hold."""
    return Path(os.environ.get("HAPPO_GPU_CACHE") or Path.home() / ".cache" / "happo_gpu")


def compiler() -> Optional[str]:
    """A C++ compiler that has GCC's vector types, if there is one."""
    return shutil.which("g++")


class Call(NamedTuple):
    """What a library's ``run`` is called with."""

    run: Any
    addresses: ctypes.Array
    before: ctypes.Array
    num_rows: int
    threads: int
    own: int
    size: int


class Kernels:
    """Stands for a method as :class:`Kernel` does, but takes arguments of any layout in memory: each has a kernel of its own."""

    def __init__(self, method: Callable[..., None], num_envs: int) -> None:
        self._method, self._num_envs = method, num_envs
        self._kernels: Dict[Tuple[Any, ...], Kernel] = {}

    def __call__(self, *args: Tensor) -> None:
        self.of(args)(*args)

    def of(self, args: Sequence[Tensor]) -> "Kernel":
        """The kernel for arguments laid out as these."""
        layout = tuple((arg.stride(), arg.shape if self._num_envs else arg.shape[1:], arg.dtype) for arg in args)
        if layout not in self._kernels:
            self._kernels[layout] = Kernel(self._method, self._num_envs, args)
        return self._kernels[layout]


class Kernel:
    """Stands for a method that treats its rows alike, writes tensors in place and never rebinds one.

    Args:
        method: what it does to environments, ``num_envs`` of them; or, if that is 0, to samples: those along its arguments'
            first axis, in any number.
        args: what it will be called with: tensors of these shapes and strides.

    Raises:
        Unsupported: see :func:`happo_gpu.lanes.trace.trace`; or there are fewer than 64 environments.
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """

    def __init__(self, method: Callable[..., None], num_envs: int, args: Sequence[Tensor] = ()) -> None:
        if 0 < num_envs < FEWEST:
            raise Unsupported(f"fewer than {FEWEST} environments")
        self._num_envs = num_envs
        program = _program(method, num_envs, args, _TYPICAL[0])
        text = source(program)

        def check() -> None:
            if not num_envs and source(_program(method, 0, args, _TYPICAL[1])) != text:
                raise Unsupported("something other than a mean that depends on how many samples there are")

        built = library(method.__name__.strip("_"), text, (_FUSED if program.matrices else _EXACT,), check)
        self._run, self._draws, self._baked = built.run, program.draws, program.baked
        self._storages = program.storages  # which the method's object holds, too
        # What is one for all rows is read in a copy: others may have written it already.
        self._copies = [(self._storages[i], self._storages[i].clone(), i) for i in sorted(
            {place.storage for place, block in program.places.items() if block in program.stored and not place.stride})]
        self._addresses, self._before = (
            (ctypes.c_void_p * len(self._storages))(*(tensor.untyped_storage().data_ptr() for tensor in self._storages)) for _ in range(2))
        for _, copy, i in self._copies:
            self._before[i] = copy.untyped_storage().data_ptr()
        built.room.restype = ctypes.c_long
        self._threads, self._size = threads.count(), built.room()
        self._own = torch.empty(self._threads * self._size)  # floats; torch aligns it

    @property
    def is_bare(self) -> bool:
        """Whether a run of the library is all that a call does."""
        return not self._draws and not self._copies

    def __call__(self, *args: Tensor) -> None:
        for draw in self._draws:
            draw()
        for original, copy, _ in self._copies:
            copy.copy_(original)
        call = self.bound(args)
        self._run(call.addresses, call.before, ctypes.c_long(call.num_rows), ctypes.c_int(call.threads), ctypes.c_void_p(call.own),
                  ctypes.c_long(call.size))

    def bound(self, args: Sequence[Tensor]) -> Call:
        """A call on these arguments, good until the next one is asked for."""
        for indices, version in self._baked:
            if indices._version != version:
                raise Unsupported("indices that have changed since they became part of the code")
        for i, arg in enumerate(args):
            self._addresses[i] = self._before[i] = arg.data_ptr()
        num_rows = self._num_envs or len(args[0])
        team = max(1, min(self._threads, threads.count(), num_rows // _SHARE))
        return Call(self._run, self._addresses, self._before, num_rows, team, self._own.data_ptr(), self._size)


def _like(arg: Tensor, num_rows: int) -> Tensor:
    """A tensor of the same layout in memory of its own; with so many rows, unless that is 0."""
    shape = (num_rows, *arg.shape[1:]) if num_rows and arg.dim() else arg.shape
    return torch.empty_strided(shape, arg.stride(), dtype=arg.dtype)


def _program(method: Callable[..., None], num_envs: int, args: Sequence[Tensor], num_samples: int) -> Program:
    return trace(method, num_envs or num_samples, [_like(arg, 0 if num_envs else num_samples) for arg in args], samples=not num_envs)


def library(name: str, text: str, flags: Tuple[str, ...], check: Optional[Callable[[], None]] = None) -> ctypes.CDLL:
    """Loads what is kept, or compiles it, after a ``check`` that need not be made of the same text again."""
    flags = (*_FLAGS, *flags)
    digest = hashlib.sha256("\n".join([text, *flags, _processor(), _version()]).encode()).hexdigest()
    path = cache() / f"{name}_{digest[:16]}.so"
    if kept.is_whole(path):
        with contextlib.suppress(OSError):  # it may need what this machine no longer has
            return ctypes.CDLL(str(path))
    if check:
        check()
    path.parent.mkdir(parents=True, exist_ok=True)
    _build(text, path, flags)
    return ctypes.CDLL(str(path))


def _build(text: str, path: Path, flags: Tuple[str, ...]) -> None:
    """With OpenMP where the compiler has it; else the code works on one thread."""
    compile_ = compiler()
    if compile_ is None:
        raise FileNotFoundError("no C++ compiler")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # others may build the same
        code, built = Path(folder) / "code.cpp", Path(folder) / "built.so"
        code.write_text(text)
        for openmp in (["-fopenmp"], []):
            done = subprocess.run([compile_, *flags, *openmp, str(code), "-o", str(built)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if not done.returncode:
                kept.keep(built, path)
                return
        raise subprocess.SubprocessError(f"{compile_}: {(done.stdout.strip().splitlines() or ['failed'])[0]}")


@functools.lru_cache(maxsize=None)
def _version() -> str:
    """Of the compiler, if there is one."""
    found = compiler()
    return subprocess.run([found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout if found else ""


@functools.lru_cache(maxsize=None)
def _processor() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), f"{sys.platform} {os.uname().machine}")
