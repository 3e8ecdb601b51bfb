"""The work that every system is given, the turns that they take at it, and the counts that show what they did.

Imports nothing of this project: each peer runs it in the Python that the peer is installed in.
"""
from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

NUM_AGENTS, NUM_OBS, NUM_ACTIONS = 2, 8, 3  # observations and actions of each agent
NUM_STATES = NUM_AGENTS * NUM_OBS  # the state is what all agents see
EPISODE = 200  # steps; every episode ends by time-out, all environments at once
_OFFSETS = 997


@dataclass(frozen=True)
class Job:
    """What one worker is told, as JSON in its first argument."""

    num_envs: int
    num_steps: int  # per iteration
    threads: int  # at most; each turn says how many
    algo: Dict[str, Any]  # cfg/algo/HAPPO.yaml

    @staticmethod
    def read() -> "Job":
        job = Job(**json.loads(sys.argv[1]))
        torch.set_num_threads(job.threads)
        torch.manual_seed(1)
        return job


# -- the environment ------------------------------------------------------------------------------


class Noise:
    """A table drawn once; a window of it is a new row for every environment, without a random number."""

    def __init__(self, num_envs: int) -> None:
        self._table = torch.randn(num_envs + _OFFSETS, NUM_STATES, generator=torch.Generator().manual_seed(1))
        self._num_envs, self._step = num_envs, 0

    def next(self) -> Tensor:
        """(N, S), a view."""
        self._step += 1
        first = self._step % _OFFSETS
        return self._table[first : first + self._num_envs]


def advance(obs: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """The next observations of both agents (N, S), from these, actions (N, U) and noise (N, S)."""
    obs = torch.lerp(obs, noise, 0.1)
    obs[:, : actions.shape[1]].add_(actions, alpha=0.1)
    return obs


def reward_of(obs: Tensor) -> Tensor:
    """(N,) for the team: the closer to zero the better."""
    return -obs.square().mean(-1)


class World:
    """The environment for peers. What it returns is not written to again."""

    def __init__(self, job: Job, turns: "Turns") -> None:
        self.job, self.turns, self._steps = job, turns, 0
        self._noise = Noise(job.num_envs)
        self.obs = self._noise.next()  # (N, S)
        self._over = torch.ones(job.num_envs, dtype=torch.bool)
        self._going = torch.zeros(job.num_envs, dtype=torch.bool)

    def step(self, actions: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Observations (N, S) after any reset, rewards (N,) and time-outs (N,) bool, for actions (N, U)."""
        self.obs = advance(self.obs, actions, self._noise.next())
        reward = reward_of(self.obs)
        self._steps += 1
        over = self._steps % EPISODE == 0
        if over:
            self.obs = self._noise.next()
        if self._steps % self.job.num_steps == 0:
            self.turns.updating()
        return self.obs, reward, self._over if over else self._going


# -- counting -------------------------------------------------------------------------------------


class Counts:
    """Hooks on every linear layer and optimizer of the process, for one iteration: they cost time."""

    def __init__(self) -> None:
        self._flop, self._rows, self._steps = 0.0, {}, {}  # of first layers: samples trained on, optimizer steps
        self._hooks = [register_module_forward_hook(self._forward), register_optimizer_step_post_hook(self._stepped)]

    def take(self) -> Dict[str, Any]:
        """What was counted, and removes the hooks. One entry for each network that was trained."""
        for hook in self._hooks:
            hook.remove()
        networks = [
            {"inputs": layer.in_features, "optimizer_steps": self._steps[layer.weight],
             "samples_per_step": rows / self._steps[layer.weight]}
            for layer, rows in self._rows.items()
        ]
        return {"networks": sorted(networks, key=lambda n: n["inputs"]), "gflop": self._flop / 1e9}

    def _forward(self, layer: nn.Module, args: Tuple, output: Any) -> None:
        if not isinstance(layer, nn.Linear):
            return
        (given,) = args
        rows, learns_input = output.numel() // layer.out_features, given.requires_grad
        self._flop += 2.0 * rows * layer.weight.numel()
        if output.requires_grad:
            output.register_hook(lambda gradient: self._backward(layer, rows, learns_input))

    def _backward(self, layer: nn.Linear, rows: int, learns_input: bool) -> None:
        self._flop += 2.0 * rows * layer.weight.numel() * (1 + learns_input)
        if layer.in_features <= NUM_STATES:
            self._rows[layer] = self._rows.get(layer, 0) + rows

    def _stepped(self, optimizer: torch.optim.Optimizer, args: Tuple, kwargs: Dict) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._steps[parameter] = self._steps.get(parameter, 0) + 1


# -- taking turns ---------------------------------------------------------------------------------


class Turns:
    """One iteration for every line on standard input, one line of JSON about it on standard output.

    A line says how many threads to use. A worker sleeps in :meth:`begin` while the others have their
    turns. The first line that it writes says that it is ready, the second belongs to the warm-up
    iteration and holds the counts.
    """

    def __init__(self, version: str) -> None:
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not get between the replies
        self._version, self._counts, self.threads = version, None, torch.get_num_threads()
        self._start = self._middle = self._cpu = 0.0

    def begin(self) -> None:
        """An iteration is about to start: reports the one before and waits; leaves the process at the end of input."""
        if self._start:
            self._report(perf_counter(), process_time())
        else:
            self._counts = Counts()
            self._reply({"version": self._version, "torch": torch.__version__})
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self.threads = int(line)
        torch.set_num_threads(self.threads)
        self._start, self._cpu = perf_counter(), process_time()

    def updating(self) -> None:
        """The last environment step of the iteration is done."""
        self._middle = perf_counter()

    def _report(self, end: float, cpu: float) -> None:
        report = {
            "collect": self._middle - self._start, "update": end - self._middle, "cpu": cpu - self._cpu,  # s
            "threads": self.threads, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if self._counts is not None:
            report["counts"], self._counts = self._counts.take(), None
        self._reply(report)

    def _reply(self, report: Dict[str, Any]) -> None:
        self._replies.write(json.dumps(report) + "\n")
        self._replies.flush()


def agent_names() -> List[str]:
    return [f"agent_{i}" for i in range(NUM_AGENTS)]
