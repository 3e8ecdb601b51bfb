"""Exported Go1Push policies at work, as on a robot: this process knows onnxruntime and numpy, and no torch.

    python examples/deploy.py runs/<run>/export --episodes 1          # in real time
    python examples/deploy.py runs/<run>/export --episodes 20 --fast  # as fast as both processes can

A simulator in a second process stands in for the world: it sends observations, this one answers with velocity
commands, once per control period. A policy decides every few periods (card.json says how many) and its command
holds in between. At the end: how long the decisions took and how many of them outlasted a control period.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, NoReturn

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent


# -- the robots' side ----------------------------------------------------------------------------


class Agent:
    """One exported policy, on one core."""

    def __init__(self, card: Dict[str, Any], folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / card["onnx"]), options, providers=["CPUExecutionProvider"])
        self._memory_shapes = {port["name"]: [1] + port["shape"][1:] for port in card["inputs"] if port["name"] == "hidden"}
        self.num_obs = len(card["observations"])
        self.begin_episode()

    def begin_episode(self) -> None:
        """A recurrent policy forgets."""
        self._memory = {name: np.zeros(shape, np.float32) for name, shape in self._memory_shapes.items()}

    def decide(self, obs: np.ndarray) -> np.ndarray:
        """Observation (O_i,) to command (U_i,) in m/s, m/s, rad/s."""
        command, *memory = self._session.run(None, {"obs": obs[np.newaxis], **self._memory})
        self._memory = dict(zip(self._memory, memory))
        return command[0]


class Team:
    """All agents; every robot would run its own."""

    def __init__(self, card: Dict[str, Any], folder: Path) -> None:
        self._agents = [Agent(each, folder) for each in card["agents"]]
        self._splits = np.cumsum([agent.num_obs for agent in self._agents])[:-1]
        self.decide(np.zeros(sum(agent.num_obs for agent in self._agents), np.float32))  # the first call allocates
        self.begin_episode()

    def begin_episode(self) -> None:
        for agent in self._agents:
            agent.begin_episode()

    def decide(self, obs: np.ndarray) -> np.ndarray:
        """Observations of all agents side by side, (O,), to commands (A, U_i)."""
        return np.stack([agent.decide(seen) for agent, seen in zip(self._agents, np.split(obs, self._splits))])


AWAKE = 0.003  # s of waiting that is spent awake: right after a sleep the same decision takes ten times as long


class Clock:
    """Waits for the next control period and counts those that begin too late."""

    def __init__(self, period: float, wait: bool) -> None:
        self._period, self.waits = period, wait
        self._next = time.perf_counter() + period
        self.periods = self.late = 0

    def tick(self) -> None:
        now = time.perf_counter()
        self.periods += 1
        self.late += now > self._next
        if self.waits and now < self._next:
            time.sleep(max(0.0, self._next - now - AWAKE))
            while time.perf_counter() < self._next:
                pass
            now = self._next
        self._next = now + self._period  # after a late one time counts from now: one slip is one


class World(NamedTuple):
    """What the simulator says after each control period."""

    obs: np.ndarray  # (O,)
    outcome: str  # '' while the episode runs


def deploy(card: Dict[str, Any], team: Team, world: Connection, episodes: int, clock: Clock) -> List[float]:
    """Runs whole episodes and prints how each ended; returns the seconds of every decision."""
    seconds = []
    for episode in range(1, episodes + 1):
        team.begin_episode()
        state, step = World(*world.recv()), 0
        while not state.outcome:
            if step % card["control_steps_per_decision"] == 0:
                start = time.perf_counter()
                command = team.decide(state.obs)
                seconds.append(time.perf_counter() - start)
            world.send(command)
            state, step = World(*world.recv()), step + 1
            clock.tick()
        print(f"episode {episode}: {state.outcome} after {step * card['control_period_s']:.2f} s", flush=True)
    return seconds


# -- the world's side ----------------------------------------------------------------------------


def simulate(config: Dict[str, Any], robots: Connection, episodes: int, real_time: bool) -> None:
    """Steps the run's own task in one environment under the commands that come in; needs happo_gpu and torch."""
    sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed
    import torch

    from happo_gpu import build
    from happo_gpu.config import parse

    torch.set_num_threads(1)
    # Uncompiled, one world takes most of a control period; compiling takes longer than a few episodes.
    task = build.build_task(parse(config), 1, torch.device("cpu"), "compile" if real_time else "eager")
    task.reset()
    task.physics_step()  # compiles
    task.after_physics()
    torch.manual_seed(0)
    for _ in range(episodes):
        task.reset()
        task.terminated_buf.zero_()
        outcome = ""
        while True:
            robots.send((task.compute_observations()[0].numpy(), outcome))
            if outcome:
                break
            task.commands[0] = torch.from_numpy(robots.recv())  # already in physical units
            task.physics_step()
            task.after_physics()
            outcome = outcome_of(task)


def outcome_of(task: Any) -> str:
    """How the episode ended; '' if it has not."""
    if task.success.item():
        return "success"
    if task.exception.item():
        return "collision or fall"
    return "out of time" if task.progress_buf.item() >= task.max_episode_length else ""


# -- both ----------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs exported Go1Push policies against a simulator in another process.")
    parser.add_argument("export", type=Path, help="what python -m happo_gpu.export wrote, e.g. runs/<run>/export")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="do not wait for real time")
    given = parser.parse_args()
    if given.episodes < 1:
        fail(f"--episodes {given.episodes}: write 1 or more")
    card = read_card(given.export)
    spawn = multiprocessing.get_context("spawn")  # a fork would share this process's modules
    here, there = spawn.Pipe()
    spawn.Process(target=simulate, args=(card["config"], there, given.episodes, not given.fast), daemon=True).start()
    there.close()  # the simulator's end is its own: if it dies, recv ends instead of waiting
    team = Team(card, given.export)
    print("starting the simulator" + ("" if given.fast else "; it compiles, the first time for about a minute"), flush=True)
    here.poll(None)  # start-up is no missed deadline
    clock = Clock(card["control_period_s"], wait=not given.fast)
    try:
        seconds = deploy(card, team, here, given.episodes, clock)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        fail("the simulator's process ended; its own message stands above")
    assert "torch" not in sys.modules, "the policies' process imported torch"
    report(1e3 * np.array(seconds), clock, card)


def read_card(folder: Path) -> Dict[str, Any]:
    """The card of a Go1Push export."""
    try:
        card = json.loads((folder / "card.json").read_text())
    except (OSError, ValueError) as error:
        fail(f"{folder} holds no readable card.json ({error}); write python -m happo_gpu.export checkpoint=runs/<run>/nn/<name>.pth")
    if card["task"] != "Go1Push":
        fail(f"{folder} is an export of task={card['task']}; this example drives Go1Push")
    if not all(agent["onnx"] for agent in card["agents"]):
        fail(f"{folder} holds no ONNX files; write pip install onnx and export again")
    return card


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def report(ms: np.ndarray, clock: Clock, card: Dict[str, Any]) -> None:
    """Prints the latencies, ms of all agents' decisions together, and what was late."""
    period = 1e3 * card["control_period_s"]
    print(f"decision of {len(card['agents'])} agents: median {np.median(ms):.3f} ms, p99 {np.percentile(ms, 99):.3f} ms, "
          f"longest {ms.max():.3f} ms; missed deadlines of {period:.0f} ms: {(ms > period).sum()} of {len(ms)}")
    if clock.waits:
        print(f"control periods that began late, simulator and pipe included: {clock.late} of {clock.periods}")


if __name__ == "__main__":
    main()
