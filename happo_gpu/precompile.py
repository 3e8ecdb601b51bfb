"""A second process that compiles half of what a run needs while the first compiles the rest: the first start alone profits.

Compilation is mostly Python, so threads of one process would take turns. What the helper compiles reaches this
process through the disk; if it fails, this process compiles everything itself.
"""
from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Optional

import torch

from happo_gpu import distributed
from happo_gpu.config import Config


class Helper:
    """Starts compiling at construction; :meth:`wait` returns once that is over."""

    def __init__(self, cfg: Config) -> None:
        self._mark = learner_folder(cfg) / "complete"
        self._process: Optional[subprocess.Popen] = None
        if self._mark.exists() or (os.cpu_count() or 1) < 2 or distributed.SIZE > 1:
            return
        code = "from happo_gpu import process; process.prepare(); from happo_gpu import precompile; precompile.main()"
        here = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])  # this very package
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": here.rstrip(os.pathsep)},
        )
        try:
            with self._process.stdin as pipe:
                pickle.dump((cfg, torch.get_num_threads()), pipe)
        except BrokenPipeError:
            pass  # it is dead already, and wait() will find that out

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


def lanes_folder() -> Path:
    """Where compiled simulators and tasks are kept, in torch's cache; their files are named after what they hold."""
    from torch._inductor.codecache import cache_dir

    return Path(cache_dir()) / "happo_gpu_lanes"


def learner_folder(cfg: Config) -> Path:
    """Where the compiled gradients are kept, for all runs that differ in other settings than those of losses and networks."""
    other = {"name": "", "episode_length": 1, "gamma": 0.0, "gae_lambda": 0.0, "lr": 0.0, "critic_lr": 0.0, "ppo_epoch": 1,
             "critic_epoch": 1, "actor_num_mini_batch": 1, "critic_num_mini_batch": 1, "max_grad_norm": 0.0, "valuenorm_beta": 0.0}
    return _folder(dataclasses.replace(cfg.algo, **other), "algo/*.py", "nets/*.py", "types.py")


def _folder(settings: object, *sources: str) -> Path:
    """Named after settings, sources, machine and torch."""
    from torch._inductor.codecache import cache_dir

    machine = (sys.version, torch.__version__, torch.__config__.show(), torch.get_num_threads())  # with the CPU's capability
    digest = hashlib.sha256(repr((settings, machine)).encode())
    package = Path(__file__).parent
    for pattern in (*sources, "accelerate.py", "compiled.py"):
        for source in sorted(package.glob(pattern)):
            digest.update(source.read_bytes())
    return Path(cache_dir()) / f"happo_gpu_{digest.hexdigest()[:16]}"


def main() -> None:
    """The helper: compiles the actors' gradients of the config on stdin, and with them what takes longest."""
    cfg, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    from happo_gpu import build, warm_up  # which import this module

    device = torch.device("cpu")
    learner = build.build_learner(cfg, build.build_task(cfg, 2, device, "eager"), device, 0)
    warm_up.compile_learner(learner, cfg)
    with torch.no_grad():
        warm_up.run_actors(learner)
