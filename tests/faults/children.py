"""Training runs in processes of their own that can be killed: forked from one that has imported everything, so they start at once."""
from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import torch

SMALL = ["task=Spread", "num_envs=11", "algo.episode_length=3", "algo.ppo_epoch=1", "algo.critic_epoch=1",
         "algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", "train.eval_envs=3", "eval_every=0", "save_every=1", "num_threads=1"]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["happo_gpu.build", "happo_gpu.cli", "hydra", "torch.utils.tensorboard", "pytest", "children"])


class Child:
    """``train.py`` with ``arguments``, run in ``home``; its console goes to a file there."""

    def __init__(self, home: Path, *arguments: str, file_limit: int = 0, memory_limit: int = 0, slow_writes: bool = False) -> None:
        self.log = home / f"console_{time.monotonic_ns()}.txt"
        self.log.touch()
        limits = (file_limit, memory_limit, slow_writes)
        self.process = _SERVER.Process(target=_train, args=(str(home), list(arguments), str(self.log), limits), daemon=True)
        self.process.start()

    def wait_for(self, text: str, times: int = 1) -> bool:
        """Waits until the console shows ``text`` that often; false if the run ended before."""
        while self.process.is_alive():
            if self.log.read_text().count(text) >= times:
                return True
            time.sleep(0.002)
        return False

    def send(self, signum: int) -> None:
        try:
            os.kill(self.process.pid, signum)
        except ProcessLookupError:  # it was faster
            pass

    def end(self) -> int:
        """Waits for the exit code."""
        self.process.join(120)
        return self.process.exitcode

    @property
    def console(self) -> str:
        return self.log.read_text()

    @property
    def errors(self) -> list:
        return [line for line in self.console.splitlines() if line.startswith("error: ")]


def _train(home, arguments, log, limits) -> None:
    file_limit, memory_limit, slow_writes = limits
    os.chdir(home)
    console = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(console, 1), os.dup2(console, 2)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    if memory_limit:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory_limit, resource.RLIM_INFINITY))
    if slow_writes:  # so that what hits the run at random hits it while it writes
        sync = os.fsync
        os.fsync = lambda number: (time.sleep(0.01), sync(number), time.sleep(0.01))
    from happo_gpu import cli

    sys.argv = ["train.py", *arguments]
    cli.main()


def last_state(home: Path) -> dict:
    """The newest checkpoint of the only run in ``home``."""
    from happo_gpu import checkpoint

    (run_dir,) = (home / "runs").iterdir()
    return checkpoint.load(checkpoint.numbered(run_dir)[0], torch.device("cpu"))


def differences(first, second, path="") -> list:
    """Names of what differs between two states; the clock's reading may."""
    if isinstance(first, dict):
        return [name for key in first for name in differences(first[key], second[key], f"{path}/{key}") if key != "train_seconds"]
    if isinstance(first, (list, tuple)):
        return [name for i, (a, b) in enumerate(zip(first, second)) for name in differences(a, b, f"{path}/{i}")]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [path]
