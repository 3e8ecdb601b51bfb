"""A compiled method: built once, kept on disk, run on all threads."""
from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from torch import Tensor

from happo_gpu import kept, threads
from happo_gpu.lanes.program import Unsupported
from happo_gpu.lanes.source import TILE, source
from happo_gpu.lanes.trace import trace

FEWEST = 64  # environments: of fewer, their number could be another axis's
_SHARE = 4  # tiles that are worth another thread
# As torch computes, but faster: no error codes, no traps; products and sums are rounded one by one.
_FLAGS = ("-O2", "-std=c++17", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-shared", "-fPIC")


def compiler() -> Optional[str]:
    """A C++ compiler that knows vector types, if there is one."""
    return next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)


class Kernel:
    """Stands for a method that treats its environments alike, writes tensors in place and never rebinds one.

    Args:
        method: takes tensors that it does not write.
        num_envs: length of the axis along which it treats all alike.
        folder: where compiled code is kept, for any number of environments.
        args: what the method will be called with: tensors of these shapes.

    Raises:
        Unsupported: see :func:`happo_gpu.lanes.trace.trace`; or there are fewer than 64 environments.
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """

    def __init__(self, method: Callable[..., None], num_envs: int, folder: Path, args: Sequence[Tensor] = ()) -> None:
        if num_envs < FEWEST:
            raise Unsupported(f"fewer than {FEWEST} environments")
        program = trace(method, num_envs, args)
        self._run = _library(method.__name__.strip("_"), source(program), folder).run
        self._draws, self._args, self._num_envs = program.draws, list(args), num_envs
        self._storages = program.storages  # which the method's object holds, too
        self._pointers = [_address(tensor) for tensor in self._storages]
        # What belongs to no environment is read here, while others may have written it already.
        common = {place.storage for place, row in program.rows.items() if row in program.stored and not place.stride}
        self._before = {i: self._storages[i].clone() for i in common}
        self._tiles = threads.shares(-(-num_envs // TILE), _SHARE)

    def __call__(self, *args: Tensor) -> None:
        for i, (arg, like) in enumerate(zip(args, self._args)):
            if arg.shape != like.shape or arg.stride() != like.stride():
                raise ValueError(f"compiled for a tensor {tuple(like.shape)} with strides {like.stride()}, not {tuple(arg.shape)} with {arg.stride()}")
            self._pointers[i] = _address(arg)
        for draw in self._draws:
            draw()
        for i, copy in self._before.items():
            copy.copy_(self._storages[i])
        pointers, before = (_array(self._pointers), _array([_address(self._before[i]) if i in self._before else pointer
                                                            for i, pointer in enumerate(self._pointers)]))
        threads.at_once([functools.partial(self._run, pointers, before, ctypes.c_long(self._num_envs), ctypes.c_long(tiles.start),
                                           ctypes.c_long(tiles.stop)) for tiles in self._tiles])


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _array(pointers: List[int]) -> ctypes.Array:
    return (ctypes.c_void_p * len(pointers))(*pointers)


def _library(name: str, text: str, folder: Path) -> ctypes.CDLL:
    """Loads what is kept, or compiles it."""
    digest = hashlib.sha256("\n".join([text, *_FLAGS, _processor()]).encode()).hexdigest()
    path = folder / f"{name}_{digest[:16]}.so"
    damaged = kept.damaged(path)
    kept.remove(damaged)
    if damaged:
        folder.mkdir(parents=True, exist_ok=True)
        _build(text, path)
        kept.remember(path, [])
    return ctypes.CDLL(str(path))


def _build(text: str, path: Path) -> None:
    compile_ = compiler()
    if compile_ is None:
        raise FileNotFoundError("no C++ compiler")
    code, library = (path.with_name(f"{path.stem}.{os.getpid()}{suffix}") for suffix in (".cpp", ".tmp"))
    try:
        code.write_text(text)
        done = subprocess.run([compile_, *_FLAGS, str(code), "-o", str(library)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise subprocess.SubprocessError(f"{compile_}: {(done.stdout.strip().splitlines() or ['failed'])[0]}")
        os.replace(str(library), str(path))
    finally:
        for file in (code, library):
            if file.exists():
                file.unlink()


@functools.lru_cache(maxsize=None)
def _processor() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), f"{sys.platform} {os.uname().machine}")
