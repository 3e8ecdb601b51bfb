"""Environments of PettingZoo's parallel API, stepped one by one into shared arrays. Imports no torch: workers start fast and stay small.

As a program it serves some rows: it reads one-letter orders from its standard input, and ends where that does.
"""
from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

RESET, STEP, RESTORE, DONE, FAILED = b"r", b"s", b"l", b".", b"!"
_ALIGNED = 64  # bytes
Layout = List[Tuple[str, str, Tuple[int, ...]]]  # name, numpy's letter of the type, shape


class EnvironmentFailed(RuntimeError):
    """An environment raised something; the message is one line that names it."""


class Unsupported(ValueError):
    """An environment has a space that this trainer has no place for."""


@dataclass(frozen=True)
class Agent:
    """What an environment says about one of its agents."""

    name: str
    num_obs: int
    low: Tuple[float, ...]  # of each number; empty where the agent chooses
    high: Tuple[float, ...]
    choices: Tuple[int, ...]  # of each menu; empty where the agent gives numbers
    starts: Tuple[int, ...]  # the first index of each menu
    shape: Tuple[int, ...]  # of an action
    masked: str  # where its mask of actions is: obs, info or nowhere ('')

    @property
    def num_actions(self) -> int:
        return len(self.low) + len(self.choices)


@dataclass(frozen=True)
class Description:
    agents: Tuple[Agent, ...]
    num_states: int
    has_state: bool  # without one, the critic sees all observations


def make(spec: Mapping[str, Any]) -> Any:
    """The environment of ``module`` with ``options``."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # MPE draws with pygame, which greets
    return importlib.import_module(spec["module"]).parallel_env(**spec["options"])


def describe(env: Any) -> Description:
    """Sizes and spaces; resets the environment."""
    _, infos = env.reset(seed=0)
    agents = tuple(_agent(name, env.observation_space(name), env.action_space(name), infos.get(name, {})) for name in env.possible_agents)
    try:
        return Description(agents, np.size(env.state()), True)
    except (NotImplementedError, AttributeError):
        return Description(agents, sum(agent.num_obs for agent in agents), False)


def _agent(name: str, seen: Any, done: Any, info: Mapping[str, Any]) -> Agent:
    inside = getattr(seen, "spaces", {})  # of a Dict
    masked = "obs" if "action_mask" in inside else "info" if "action_mask" in info else ""
    seen = inside.get("observation", seen)
    if type(seen).__name__ != "Box":
        raise Unsupported(f"{name} observes {seen}; a Box is needed, or a Dict with observation and action_mask")
    kind, low, high, choices = type(done).__name__, (), (), ()
    if kind == "Box":
        low, high = (tuple(float(bound) for bound in np.ravel(side)) for side in (done.low, done.high))
    elif kind == "Discrete":
        choices = (int(done.n),)
    elif kind == "MultiDiscrete":
        choices = tuple(int(n) for n in np.ravel(done.nvec))
    else:
        raise Unsupported(f"{name} acts in {done}; a Box, Discrete or MultiDiscrete is needed")
    starts = tuple(int(n) for n in np.broadcast_to(np.ravel(getattr(done, "start", 0)), len(choices)))
    return Agent(name, int(np.prod(seen.shape)), low, high, choices, starts, tuple(done.shape), masked if choices else "")


def layout(description: Description, num_envs: int, length: int) -> Layout:
    """The arrays that environments and trainer share; letters as in types.py, and L, the longest episode."""
    n, agents = num_envs, description.agents
    num_actions = sum(agent.num_actions for agent in agents)
    return [
        ("actions", "f4", (n, num_actions)), ("obs", "f4", (n, sum(agent.num_obs for agent in agents))),
        ("states", "f4", (n, description.num_states)), ("rewards", "f4", (n, len(agents))),
        ("available", "?", (n, sum(sum(agent.choices) for agent in agents))), ("active", "f4", (n, len(agents))),
        ("terminated", "?", (n,)), ("truncated", "?", (n,)), ("wanted", "?", (n,)),  # wanted: whom to reset
        # What an episode is made of, so that it can be played again: its seed, its age and what was done.
        ("seeds", "i8", (n,)), ("age", "i8", (n,)), ("played", "f4", (length, n, num_actions)),
    ]


def places(fields: Layout) -> Tuple[Dict[str, int], int]:
    """Where each array begins, in bytes, and the bytes of all."""
    at, end = {}, 0
    for name, kind, shape in fields:
        at[name] = end
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        end += -(-size // _ALIGNED) * _ALIGNED
    return at, max(end, 1)


def arrays(fields: Layout, memory: mmap.mmap) -> Dict[str, np.ndarray]:
    at, _ = places(fields)
    return {name: np.ndarray(tuple(shape), kind, memory, at[name]) for name, kind, shape in fields}


class Environments:
    """One environment for each row ``first`` to ``last`` of the shared arrays. Never resets but where it is told to."""

    def __init__(self, spec: Mapping[str, Any], shared: Dict[str, np.ndarray], first: int, last: int) -> None:
        self._shared, self._rows, self._what = shared, range(first, last), spec["module"]
        self._envs: Dict[int, Any] = {}
        self._guarded(lambda row: self._envs.update({row: make(spec)}))
        self._description = describe(self._envs[first])
        self._deaths = spec["deaths"]
        self._actions = self._columns([agent.num_actions for agent in self._description.agents])
        self._obs = self._columns([agent.num_obs for agent in self._description.agents])
        self._menus = self._columns([sum(agent.choices) for agent in self._description.agents])

    @staticmethod
    def _columns(sizes: Sequence[int]) -> List[slice]:
        ends = np.cumsum([0, *sizes])
        return [slice(begin, end) for begin, end in zip(ends, ends[1:])]

    def reset(self) -> None:
        """New episodes from their seeds where ``wanted``."""
        self._guarded(lambda row: self._reset(row) if self._shared["wanted"][row] else None)

    def step(self) -> None:
        self._guarded(self._step)

    def restore(self) -> None:
        """Plays every episode again to its age: an environment that is decided by its seed is where it was."""
        self._guarded(self._replay)

    def _guarded(self, work: Any) -> None:
        for row in self._rows:
            try:
                work(row)
            except Exception as error:  # whatever somebody else's code raises
                frame = traceback.extract_tb(error.__traceback__)[-1]
                text = " ".join(str(error).split())
                raise EnvironmentFailed(f"environment {row} of {self._what}: {type(error).__name__}: {text} "
                                        f"({os.path.basename(frame.filename)}:{frame.lineno})") from error

    def _reset(self, row: int) -> None:
        shared = self._shared
        obs, infos = self._envs[row].reset(seed=int(shared["seeds"][row]))
        shared["age"][row] = 0
        self._observed(row, obs, infos)

    def _step(self, row: int) -> None:
        shared, env = self._shared, self._envs[row]
        shared["played"][shared["age"][row], row] = shared["actions"][row]
        shared["age"][row] += 1
        living = list(env.agents)
        obs, rewards, terminations, truncations, infos = env.step(self._acts(shared["actions"][row], living))
        shared["rewards"][row] = [rewards.get(agent.name, 0.0) for agent in self._description.agents]
        ended = {name: terminations[name] or truncations[name] for name in living}
        over = all(ended.values())
        timed_out = any(truncations[name] and not terminations[name] for name in living)
        shared["terminated"][row], shared["truncated"][row] = over and not timed_out, over and timed_out
        if not over and any(ended.values()) and not self._deaths:
            gone = next(name for name in living if ended[name])
            raise RuntimeError(f"{gone} left before the others; write task.env.deaths=true")
        self._observed(row, obs, infos)

    def _replay(self, row: int) -> None:
        shared = self._shared
        age = int(shared["age"][row])
        self._reset(row)
        for step in range(age):
            shared["actions"][row] = shared["played"][step, row]
            self._step(row)

    def _acts(self, actions: np.ndarray, living: Sequence[str]) -> Dict[str, Any]:
        given: Dict[str, Any] = {}
        for agent, columns in zip(self._description.agents, self._actions):
            if agent.name in living:
                own = actions[columns]
                numbers = own.astype(np.int64) + agent.starts if agent.choices else own.copy()
                given[agent.name] = numbers.reshape(agent.shape) if agent.shape else numbers[0]
        return given

    def _observed(self, row: int, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        shared = self._shared
        for index, agent in enumerate(self._description.agents):
            seen, lives = obs.get(agent.name), agent.name in self._envs[row].agents  # who has left is shown once more
            shared["active"][row, index] = lives
            mask: Any = True
            if lives and agent.masked:
                mask = (seen if agent.masked == "obs" else infos[agent.name])["action_mask"]
            shared["available"][row, self._menus[index]] = np.ravel(mask)
            if isinstance(seen, Mapping):
                seen = seen["observation"]
            shared["obs"][row, self._obs[index]] = 0.0 if seen is None else np.ravel(seen)
        shared["states"][row] = np.ravel(self._envs[row].state()) if self._description.has_state else shared["obs"][row]


def serve(spec: Mapping[str, Any], orders: int, answers: int) -> None:
    """Obeys orders from one file descriptor, one byte each, and answers on the other, until the first is closed."""
    try:
        memory = mmap.mmap(spec["memory"], spec["bytes"])
        environments = Environments(spec, arrays(spec["fields"], memory), spec["first"], spec["last"])
        work = {RESET: environments.reset, STEP: environments.step, RESTORE: environments.restore}
        os.write(answers, DONE)
        while True:
            order = os.read(orders, 1)
            if not order:
                return
            work[order]()
            os.write(answers, DONE)
    except EnvironmentFailed as error:
        os.write(answers, FAILED + str(error).encode())
    except BrokenPipeError:  # the trainer is gone
        pass


def main() -> None:
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # the trainer finishes its iteration first, and then closes
        signal.signal(asked, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # what environments print is no answer
    serve(json.loads(sys.argv[1]), 0, answers)


if __name__ == "__main__":
    main()
