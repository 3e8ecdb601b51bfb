"""The same work on this project and on its peers, in turns: environment steps per second, and how many times the peer's.

    python benchmarks/peers.py --harl ../HARL --harl-python ../harl-venv/bin/python --peer-python ../peer-venv/bin/python

The work: a trivial environment (2 agents with 8 observations and 3 continuous actions each, state 16, episodes of
200 steps that end by time-out) and HARL's default HAPPO settings, which are cfg/algo/HAPPO.yaml: networks of 128-128,
5 epochs of actors and critic, one minibatch. An environment step is a step of all agents of one environment. CPU only.

Every system runs in a process of its own, all of which stay alive while they take turns: in each round each runs one
iteration (collect and update) while the others sleep. Ratios are taken within a round; all figures are medians over
rounds. The round before the first warms up, and counts optimizer steps, the samples of each, and floating-point operations
of the linear layers. Writes benchmarks/results/peers.json. ``peers/*.py`` hold one system each; skrl, which makes it a third
longer, joins only by name (--peers harl rl_games skrl rsl_rl).

What is the same: the environment's arithmetic, the number of samples and epochs, minibatches, hidden layers, learning
rate, discounts, clipping, Adam; peers run eagerly (rl_games would compile its networks). What is not:

    all       This project starts with the process settings of its main command (happo_gpu/process.py), peers as they
              come, handing the memory of every large tensor back to the system. --same-settings gives them to peers,
              too, which makes them faster and larger.
    harl      Nothing of the algorithm. Its environments are one object, as fast as can be, not a process each. It
              asks the critic at every step (here: once for the whole rollout, and once more for the states reached) and
              the actors for log-probabilities before as well as after their update.
    others    Values at time-outs are bootstrapped; HARL (time_limit: mask) learns nothing from those steps. No factor.
    rl_games  MAPPO: both agents share one actor, trained on both agents' samples. No feature norm; running value
              statistics instead of ValueNorm; squared instead of Huber loss; samples are not shuffled; float32 products
              at torch's "high" instead of "highest" precision, where the processor has one.
    skrl      MAPPO: own actors, but a critic for each agent as well, hence a quarter more work. HARL's networks,
              feature norm and LayerNorm included; running value statistics; squared loss.
    rsl_rl    PPO: one agent of 16 observations and 6 actions, hence two networks instead of three. No feature
              norm, no LayerNorm, no ValueNorm; squared loss.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, Tuple

import yaml
from machine import machine

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "benchmarks" / "peers"
SCRIPTS = {"happo_gpu": "ours.py", "harl": "harl_happo.py", "rl_games": "rl_games_ppo.py", "skrl": "skrl_mappo.py",
           "rsl_rl": "rsl_rl_ppo.py"}
PEERS = [name for name in SCRIPTS if name != "happo_gpu"]
DEFAULT = ["harl", "rl_games", "rsl_rl"]
TORCH = {"torch": f"torch=={version('torch').split('+')[0]}"}  # the same for all
NEEDS = {  # module: what to pip install
    "harl": {**TORCH, "absl": "absl-py", "setproctitle": "setproctitle", "tensorboardX": "tensorboardX", "yaml": "pyyaml"},
    "rl_games": {**TORCH, "rl_games": "rl-games"}, "skrl": {**TORCH, "skrl": "skrl"},
    "rsl_rl": {**TORCH, "rsl_rl": "rsl-rl-lib"},
}
SECONDS = 10.0  # a size is given more than the fewest rounds until it has had this long
MOST_ROUNDS = 15
SETTINGS = {  # of happo_gpu/process.py, as the environment of a process
    "GOMP_SPINCOUNT": "1000", "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


class Worker:
    """One system in its own process; :meth:`turn` runs an iteration of it."""

    def __init__(self, command: List[str], job: Dict[str, Any], settings: Dict[str, str]) -> None:
        self.name = Path(command[1]).name
        self._errors = tempfile.TemporaryFile("w+")
        env = dict(os.environ, OMP_NUM_THREADS=str(job["threads"]), CUDA_VISIBLE_DEVICES="", **settings)
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

    def turn(self, threads: int) -> Dict[str, Any]:
        self._process.stdin.write(f"{threads}\n")
        self._process.stdin.flush()
        return self.reply()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


# -- one size ---------------------------------------------------------------------------------------


def measure(
    commands: Dict[str, List[str]], num_envs: int, num_steps: int, threads: List[int], rounds: int, settings: Dict[str, str],
) -> Iterator[Dict]:
    """One row for each number of threads and system."""
    algo = yaml.safe_load((ROOT / "cfg" / "algo" / "HAPPO.yaml").read_text())
    algo["episode_length"] = num_steps
    job = {"num_envs": num_envs, "num_steps": num_steps, "threads": max(threads), "algo": algo}
    workers = {name: Worker(command, job, settings) for name, command in commands.items()}
    try:
        ready = {name: worker.reply() for name, worker in workers.items()}
        warm_up = {name: worker.turn(max(threads)) for name, worker in workers.items()}
        check_equal_work({name: one["counts"]["networks"] for name, one in warm_up.items()}, job)
        for count in threads:
            taken, others = take_turns(workers, count, rounds)
            for name in workers:
                yield {
                    "num_envs": num_envs, "num_steps": num_steps, "system": name,
                    **figures([each[name] for each in taken], [each["happo_gpu"] for each in taken], num_envs * num_steps),
                    **warm_up[name]["counts"], **ready[name], "processors_used_by_others": others,
                }
    finally:
        for worker in workers.values():
            worker.close()


def check_equal_work(networks: Dict[str, List[Dict]], job: Dict[str, Any]) -> None:
    """HARL and this project must have trained two actors and a critic, on every sample in every epoch."""
    steps = job["algo"]["ppo_epoch"] * job["algo"]["actor_num_mini_batch"]
    samples = job["num_envs"] * job["num_steps"] / job["algo"]["actor_num_mini_batch"]
    expected = [{"inputs": inputs, "optimizer_steps": steps, "samples_per_step": samples} for inputs in (8, 8, 16)]
    for name in ("happo_gpu", "harl"):
        if networks.get(name, expected) != expected:
            raise SystemExit(f"{name} trained {networks[name]}, not {expected}")


def take_turns(workers: Dict[str, Worker], threads: int, rounds: int) -> Tuple[List[Dict], float]:
    """Rounds of one iteration of every system, and how many processors other programs used meanwhile."""
    taken, started, busy = [], time.perf_counter(), busy_seconds()
    while len(taken) < rounds or (len(taken) < MOST_ROUNDS and time.perf_counter() - started < SECONDS):
        taken.append({name: worker.turn(threads) for name, worker in workers.items()})
    own = sum(one["cpu"] for each in taken for one in each.values())
    return taken, max(0.0, (busy_seconds() - busy - own) / (time.perf_counter() - started))


def figures(taken: List[Dict], ours: List[Dict], env_steps: int) -> Dict[str, Any]:
    """Medians over the rounds of one system, beside the same rounds of this project."""
    seconds = [one["collect"] + one["update"] for one in taken]
    ratios = [own / (one["collect"] + one["update"]) for own, one in zip(seconds, ours)]
    return {
        "threads": taken[-1]["threads"], "env_steps_per_s": env_steps / median(seconds), "ours_to_this": median(ratios),
        "ours_to_this_range": [min(ratios), max(ratios)],
        "collect_seconds": median(one["collect"] for one in taken),
        "update_seconds": median(one["update"] for one in taken),
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

HEADER = (f"{'envs x steps':>14}{'threads':>8}  {'system':<10}{'steps/s':>10}{'ours is':>9}{'from':>7}{'to':>7}"
          f"{'collect':>9}{'update':>9}{'MB':>8}{'MFLOP/step':>12}{'GFLOP/s':>9}  networks x optimizer steps x samples")


def show(row: Dict[str, Any]) -> None:
    low, high = row["ours_to_this_range"]
    trained: Dict[str, int] = {}
    for network in row["networks"]:
        what = f"{network['optimizer_steps']} x {network['samples_per_step']:,.0f}"
        trained[what] = trained.get(what, 0) + 1
    flop = 1e3 * row["gflop"] / row["num_envs"] / row["num_steps"]
    rate, memory = row["env_steps_per_s"], row["peak_memory_mb"]
    cells = [
        f"{row['num_envs']:>8,} x {row['num_steps']:<3}{row['threads']:>8}  {row['system']:<10}{rate:>10,.0f}",
        f"{row['ours_to_this']:>8.2f}x{low:>7.2f}{high:>7.2f}",
        f"{row['collect_seconds']:>7.2f} s{row['update_seconds']:>7.2f} s{memory:>8,.0f}",
        f"{flop:>12.2f}{flop * rate / 1e3:>9.1f}  ", ", ".join(f"{count} x {what}" for what, count in trained.items()),
    ]
    print("".join(cells), flush=True)


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
            if not (arguments.harl / "harl" / "runners").is_dir():
                raise SystemExit(f"--harl {arguments.harl} is no checkout of HARL: it has no harl/runners")
            extra = [str(arguments.harl.resolve()), commit_of(arguments.harl)]
        if shutil.which(python) is None:
            raise SystemExit(f"{name}: {python} is no program; give the path of a Python")
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
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=DEFAULT)
    parser.add_argument("--harl", type=Path, help="a checkout of HARL")
    parser.add_argument("--harl-python", default=sys.executable, help="the Python with HARL's dependencies (3.12 or older)")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python with rl_games, skrl and rsl_rl")
    parser.add_argument("--sizes", type=size, nargs="+", default=[[64, 200], [512, 200], [4096, 32]], metavar="ENVSxSTEPS")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="the fewest, besides the one that warms up")
    parser.add_argument("--same-settings", action="store_true", help="peers get this project's process settings, too")
    parser.add_argument("--output", type=Path, help="benchmarks/results/peers.json, or peers_same_settings.json")
    arguments = parser.parse_args()
    name = "peers_same_settings.json" if arguments.same_settings else "peers.json"
    output = arguments.output or ROOT / "benchmarks" / "results" / name
    settings, started = SETTINGS if arguments.same_settings else {}, time.perf_counter()
    commands, rows = find_systems(arguments), []
    print(HEADER, flush=True)
    for num_envs, num_steps in arguments.sizes:
        for row in measure(commands, num_envs, num_steps, arguments.threads, arguments.rounds, settings):
            show(row)
            rows.append(row)
        output.parent.mkdir(parents=True, exist_ok=True)
        results = {"machine": machine(), "settings_of_peers": settings, "rows": rows}
        output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{time.perf_counter() - started:.0f} s\n\n{__doc__[__doc__.index('What is the same'):].rstrip()}")
    warn_if_busy(rows)


if __name__ == "__main__":
    main()
