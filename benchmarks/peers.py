"""The same work on this project and on its peers, in turns: environment steps per second, and how many times the peer's.

    python benchmarks/peers.py --harl ../HARL --harl-python ../harl-venv/bin/python --peer-python ../peer-venv/bin/python

The work: a trivial environment (2 agents with 8 observations and 3 continuous actions each, state 16, episodes of
200 steps that end by time-out) and HARL's default HAPPO settings, which are cfg/algo/HAPPO.yaml: networks of 128-128,
5 epochs of actors and critic, one minibatch. An environment step is a step of all agents of one environment. CPU only.

Every system runs in a process of its own, all of which stay alive while they take turns: in each round each runs one
iteration (collect and update) while the others sleep. Ratios are taken within a round; all figures are medians over
rounds. The first round warms up, and counts optimizer steps, the samples of each, and floating-point operations of the
linear layers. Writes benchmarks/results/peers.json. ``peers/*.py`` hold one system each.

What is the same: the environment's arithmetic, the number of samples and epochs, minibatches, hidden layers, learning
rate, discounts, clipping, Adam; everything runs eagerly (rl_games would compile its networks). What is not:

    all       This project starts with the process settings of its main command (happo_gpu/process.py), peers as they
              come. Two threads beside another busy program are several times slower with the peers' settings.
    harl      Nothing of the algorithm. Its environments are one object, as fast as can be, not a process each. It
              asks the critic at every step (here: once for the whole rollout, and once more for the states reached) and
              the actors for log-probabilities before as well as after their update.
    rl_games  MAPPO: both agents share one actor, trained on both agents' samples; no factor. No feature norm; running
              value statistics instead of ValueNorm; squared instead of Huber loss; samples are not shuffled.
    skrl      MAPPO: own actors, but a critic for each agent as well, hence a third more work; no factor. HARL's
              networks, feature norm and LayerNorm included; running value statistics; squared loss.
    rsl_rl    PPO: one agent of 16 observations and 6 actions, hence two networks instead of three; no factor. No
              feature norm, no LayerNorm, no ValueNorm; squared loss.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

import yaml
from machine import machine

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "benchmarks" / "peers"
SCRIPTS = {"happo_gpu": "ours.py", "harl": "harl_happo.py", "rl_games": "rl_games_ppo.py", "skrl": "skrl_mappo.py",
           "rsl_rl": "rsl_rl_ppo.py"}
PEERS = [name for name in SCRIPTS if name != "happo_gpu"]
NEEDS = {  # module: what to pip install
    "harl": {"torch": "torch", "absl": "absl-py", "setproctitle": "setproctitle", "tensorboardX": "tensorboardX",
             "yaml": "pyyaml"},
    "rl_games": {"rl_games": "rl-games"}, "skrl": {"skrl": "skrl"}, "rsl_rl": {"rsl_rl": "rsl-rl-lib"},
}
SECONDS = 15.0  # a size is given more than the fewest rounds until it has had this long
MOST_ROUNDS = 15


class Worker:
    """One system in its own process; :meth:`turn` runs an iteration of it."""

    def __init__(self, command: List[str], job: Dict[str, Any]) -> None:
        self.name = Path(command[1]).name
        self._errors = tempfile.TemporaryFile("w+")
        env = dict(os.environ, OMP_NUM_THREADS=str(job["threads"]), CUDA_VISIBLE_DEVICES="")
        self._process = subprocess.Popen(
            [*command[:2], json.dumps(job), *command[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, env=env, cwd=tempfile.gettempdir(),
        )

    def reply(self) -> Dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self.name} failed:\n{self._errors.read()[-2000:]}")
        return json.loads(line)

    def turn(self) -> Dict[str, Any]:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.reply()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


# -- one size ---------------------------------------------------------------------------------------


def measure(commands: Dict[str, List[str]], num_envs: int, num_steps: int, threads: int, rounds: int) -> List[Dict]:
    """One row for each system."""
    algo = yaml.safe_load((ROOT / "cfg" / "algo" / "HAPPO.yaml").read_text())
    algo["episode_length"] = num_steps
    job = {"num_envs": num_envs, "num_steps": num_steps, "threads": threads, "algo": algo}
    workers = {name: Worker(command, job) for name, command in commands.items()}
    try:
        ready = {name: worker.reply() for name, worker in workers.items()}
        warm_up = {name: worker.turn() for name, worker in workers.items()}
        taken, started, busy = [], time.perf_counter(), busy_seconds()
        while len(taken) < rounds or (len(taken) < MOST_ROUNDS and time.perf_counter() - started < SECONDS):
            taken.append({name: worker.turn() for name, worker in workers.items()})
        own = sum(one["cpu"] for each in taken for one in each.values())
        others = max(0.0, (busy_seconds() - busy - own) / (time.perf_counter() - started))
    finally:
        for worker in workers.values():
            worker.close()
    return [
        {"num_envs": num_envs, "num_steps": num_steps, "threads": threads, "system": name,
         **figures([each[name] for each in taken], [each["happo_gpu"] for each in taken], num_envs * num_steps),
         **warm_up[name]["counts"], "processors_used_by_others": others, "version": ready[name]["version"], "torch": ready[name]["torch"]}
        for name in commands
    ]


def figures(taken: List[Dict], ours: List[Dict], env_steps: int) -> Dict[str, Any]:
    """Medians over the rounds of one system, beside the same rounds of this project."""
    seconds = [one["collect"] + one["update"] for one in taken]
    ratios = [own / (one["collect"] + one["update"]) for own, one in zip(seconds, ours)]
    return {
        "env_steps_per_s": env_steps / median(seconds), "ours_to_this": median(ratios),
        "ours_to_this_range": [min(ratios), max(ratios)],
        "collect_seconds": median(one["collect"] for one in taken), "update_seconds": median(one["update"] for one in taken),
        "peak_memory_mb": taken[-1]["peak_memory_mb"], "rounds": len(taken), "seconds": seconds,
    }


def busy_seconds() -> float:
    """Processor seconds that this machine has worked for anyone, or was kept from working by its host."""
    times = Path("/proc/stat")
    if not times.is_file():  # not Linux: nobody is caught
        return 0.0
    user, nice, system, _, _, irq, soft_irq, steal = (int(ticks) for ticks in times.read_text().split()[1:9])
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


# -- the table --------------------------------------------------------------------------------------

HEADER = (f"{'envs x steps':>13}{'threads':>9}  {'system':<10}{'steps/s':>10}{'ours is':>9}{'from':>7}{'to':>7}{'collect':>9}"
          f"{'update':>9}{'MB':>8}{'MFLOP/step':>12}  networks x optimizer steps x samples")


def show(row: Dict[str, Any]) -> None:
    low, high = row["ours_to_this_range"]
    trained: Dict[str, int] = {}
    for network in row["networks"]:
        what = f"{network['optimizer_steps']} x {network['samples_per_step']:,.0f}"
        trained[what] = trained.get(what, 0) + 1
    size = f"{row['num_envs']:,} x {row['num_steps']}"
    flop = 1e3 * row["gflop"] / row["num_envs"] / row["num_steps"]
    print(f"{size:>13}{row['threads']:>9}  {row['system']:<10}{row['env_steps_per_s']:>10,.0f}{row['ours_to_this']:>8.2f}x"
          f"{low:>7.2f}{high:>7.2f}{row['collect_seconds']:>7.2f} s{row['update_seconds']:>7.2f} s{row['peak_memory_mb']:>8,.0f}"
          f"{flop:>12.2f}  {', '.join(f'{count} x {what}' for what, count in trained.items())}", flush=True)


def warn_if_busy(rows: List[Dict]) -> None:
    most = max(row["processors_used_by_others"] for row in rows)
    if most > 0.05:
        print(f"other programs used up to {most:.2f} processors meanwhile: measure again on a quiet machine")


# -- which systems ------------------------------------------------------------------------------------


def find_systems(arguments: argparse.Namespace) -> Dict[str, List[str]]:
    """Commands of this project and of the peers that are there; says what to install for the others."""
    commands = {"happo_gpu": [sys.executable, str(WORKERS / SCRIPTS["happo_gpu"])]}
    for name in arguments.peers:
        python, extra = arguments.peer_python, []
        if name == "harl":
            python = arguments.harl_python
            if arguments.harl is None:
                print("harl: skipped; git clone https://github.com/PKU-MARL/HARL and give --harl PATH")
                continue
            extra = [str(arguments.harl.resolve()), commit_of(arguments.harl)]
        missing = [package for module, package in NEEDS[name].items() if not has(python, module)]
        if missing:
            print(f"{name}: skipped; {python} -m pip install {' '.join(missing)}")
            continue
        commands[name] = [python, str(WORKERS / SCRIPTS[name]), *extra]
    return commands


def has(python: str, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], cwd=tempfile.gettempdir()).returncode == 0


def commit_of(checkout: Path) -> str:
    asked = subprocess.run(["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True)
    return asked.stdout.strip() or "unknown"


def size(text: str) -> List[int]:
    return [int(number) for number in text.split("x")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--harl", type=Path, help="a checkout of HARL")
    parser.add_argument("--harl-python", default=sys.executable, help="the Python with HARL's dependencies (3.12 or older)")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python with rl_games, skrl and rsl_rl")
    parser.add_argument("--sizes", type=size, nargs="+", default=[[64, 200], [512, 200], [4096, 32]], metavar="ENVSxSTEPS")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="the fewest, besides the one that warms up")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "peers.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    commands, rows = find_systems(arguments), []
    print(HEADER)
    for threads in arguments.threads:
        for num_envs, num_steps in arguments.sizes:
            rows += measure(commands, num_envs, num_steps, threads, arguments.rounds)
            for row in rows[-len(commands):]:
                show(row)
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print(f"{time.perf_counter() - started:.0f} s. What differs between the systems is in the first lines of {Path(__file__).name}.")
    warn_if_busy(rows)


if __name__ == "__main__":
    main()
