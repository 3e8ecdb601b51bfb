"""Does every robot of a trained team work? What remains of its success when one of them stands still.

    python benchmarks/free_riding.py num_threads=1
    python benchmarks/free_riding.py num_threads=1 --tasks Go1PushHeavy --seeds 1

Trains teams under each reward by the main command (1,024 environments, the task's preset) and evaluates the last checkpoint
of each: as it is, and with each robot in turn commanded to stand still where it starts. All evaluations have the same starts and
goals. If a team succeeds as often without one of its robots, that robot rode along. One Go1 can push the cuboid of Go1Push, and
cannot push that of Go1PushHeavy, which is the control. Adds a row to benchmarks/results/free_riding.json after every run; what is
there already is not run again.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed

from happo_gpu import process  # noqa: E402

process.prepare()

import torch  # noqa: E402
from machine import commit, machine  # noqa: E402
from training import train_in  # noqa: E402

from happo_gpu import checkpoint, command  # noqa: E402
from happo_gpu.evaluate import evaluate, wilson_interval  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "free_riding.json"
TASKS = {"Go1Push": ["max_iterations=200"], "Go1PushHeavy": []}  # name: overrides; of Go1Push the preset is of 4,096 environments
OWN, WEIGHTED = "task.env.teamReward=false", "task.reward.contactWeighted=true"
REWARDS = {"team": [], "team, push by contact": [WEIGHTED], "own": [OWN], "own, push by contact": [OWN, WEIGHTED]}
SEED = 7  # of the starts and goals
COLUMNS = ("episodes", "success_rate", "success_rate_ci95", "finished_time_of_successes", "collaboration_degree", "pushing_together",
           "collision_rate")
Row = Dict[str, Any]


class OneStands:
    """A policy, but the robot of these columns of the actions is told to stand."""

    def __init__(self, policy, columns: slice) -> None:
        self._policy, self._columns = policy, columns

    def act(self, *seen):
        actions, log_probs = self._policy.act(*seen)
        actions[:, self._columns] = 0.0
        return actions, log_probs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=1000, help="of every evaluation")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", action="store_true", help="print the table of the results file and stop")
    arguments, extra = parser.parse_known_args()
    rows: List[Row] = json.loads(arguments.output.read_text())["runs"] if arguments.output.is_file() else []
    todo = [(task, reward, seed) for seed in arguments.seeds for task in arguments.tasks for reward in REWARDS]
    for task, reward, seed in todo if not arguments.table else []:
        if any((row["task"], row["reward"], row["seed"], row["overrides"]) == (task, reward, seed, extra) for row in rows):
            continue
        overrides = [f"task={task}", "num_envs=1024", *TASKS[task], *REWARDS[reward], *extra]
        rows.append({"task": task, "reward": reward, "seed": seed, "commit": commit(), "overrides": extra, **measure(overrides, seed, arguments.episodes)})
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
        print(line(f"{task}, {reward}, seed {seed}", rows[-1:]), flush=True)
    table(rows)


def measure(overrides: List[str], seed: int, episodes: int) -> Row:
    """Trains a team and evaluates it whole and with each robot standing."""
    with tempfile.TemporaryDirectory() as home:
        train_in(Path(home), *overrides, f"seed={seed}")
        (run_dir,) = Path(home).glob("runs/*")
        cfg = command.saved_config(run_dir, num_envs=episodes)
        if cfg.accelerate == "auto":
            cfg = dataclasses.replace(cfg, accelerate="compile")
        torch.set_num_threads(cfg.num_threads or torch.get_num_threads())  # as the run, whose compiled code is at hand
        task, policy = command.task_and_policy(cfg, checkpoint.numbered(run_dir)[0], SEED)
    result = {"whole": evaluate(task, policy, SEED)}
    end = 0
    for agent in task.agents:
        start, end = end, end + agent.num_actions
        result[f"{agent.name} stands"] = evaluate(task, OneStands(policy, slice(start, end)), SEED)
    return {name: {column: figures[column] for column in COLUMNS} for name, figures in result.items()}


def table(rows: List[Row]) -> None:
    """A line for each task and reward."""
    print(f"\n{'':<38}{'seeds':>6}{'success [95 %]':>22}{'time to goal':>14}{'near the box':>14}{'together':>10}"
          f"{'without agent_0':>17}{'without agent_1':>17}{'without the idler':>19}")
    for task in TASKS:
        for reward in REWARDS:
            own = [row for row in rows if (row["task"], row["reward"]) == (task, reward)]
            if own:
                print(line(f"{task}, {reward}", own))


def line(label: str, rows: List[Row]) -> str:
    """Means over seeds. The idler is each team's robot that is missed less."""

    def mean(who: str, column: str = "success_rate") -> float:
        return sum(row[who][column] for row in rows) / len(rows)

    def of_successes(column: str) -> float:
        return sum(row["whole"][column] * row["whole"]["success_rate"] for row in rows) / max(1e-9, len(rows) * success)

    success, alone = mean("whole"), ("agent_0 stands", "agent_1 stands")
    low, high = wilson_interval(success, sum(row["whole"]["episodes"] for row in rows))
    idler = sum(max(row[who]["success_rate"] for who in alone) for row in rows) / len(rows)
    interval = f"{100 * success:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    when = f"{of_successes('finished_time_of_successes'):.1f} s" if success else "-"
    without = "".join(f"{100 * mean(who):>15.1f} %" for who in alone) + f"{100 * idler:>17.1f} %"
    return (f"{label:<38}{len(rows):>6}{interval:>22}{when:>14}{100 * of_successes('collaboration_degree'):>12.0f} %"
            f"{100 * mean('whole', 'pushing_together'):>8.0f} %{without}")


if __name__ == "__main__":
    main()
