"""A second process that compiles half of a task while the first compiles the rest: the first start alone profits.

Compilation is mostly Python, so threads of one process would take turns. What the helper compiles reaches this
process through the disk; if it fails, this process compiles everything itself.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Optional

import torch

from happo_gpu.config import Config


class Helper:
    """Starts compiling at construction; :meth:`wait` returns once that is over."""

    def __init__(self, cfg: Config) -> None:
        self._mark = folder_of(cfg) / "complete"
        self._process: Optional[subprocess.Popen] = None
        if self._mark.exists() or (os.cpu_count() or 1) < 2:
            return
        code = "from happo_gpu import process; process.prepare(); from happo_gpu import precompile; precompile.main()"
        here = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])  # this very package
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": here.rstrip(os.pathsep)},
        )
        with contextlib.suppress(BrokenPipeError):  # it failed at once
            pickle.dump((cfg, torch.get_num_threads()), self._process.stdin)
            self._process.stdin.close()

    def wait(self) -> None:
        if self._process is not None:
            self._process.wait()

    def done(self) -> None:
        """Remembers that the cache is warm: the next start needs no helper."""
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def folder_of(cfg: Config) -> Path:
    """Where compiled code is kept, in torch's cache: named after what decides it, its sources, settings, machine and torch."""
    from torch._inductor.codecache import cache_dir

    env = dataclasses.replace(cfg.task.env, numEnvs=0)  # any number of environments runs the same code
    settings = (dataclasses.replace(cfg.task, env=env), cfg.sim)
    machine = (sys.version, torch.__version__, torch.__config__.show(), torch.get_num_threads())  # with the CPU's capability
    digest = hashlib.sha256(repr((settings, machine)).encode())
    package = Path(__file__).parent
    top = [package / name for name in ("types.py", "geometry.py", "accelerate.py", "compiled.py")]
    for source in sorted([*package.glob("sim/*.py"), *package.glob("tasks/*.py"), *top]):
        digest.update(source.read_bytes())
    return Path(cache_dir()) / f"happo_gpu_{digest.hexdigest()[:16]}"


def main() -> None:
    """The helper: builds the task of the config on stdin and compiles all of it but the physics step."""
    cfg, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    from happo_gpu import build  # which imports this module

    task = build.build_task(cfg, cfg.task.env.numEnvs, torch.device("cpu"), "compile")
    with torch.no_grad():
        task.reset()
        task.sim.servo(task.commands)
        task.after_physics()
