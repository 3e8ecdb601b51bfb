"""HAPPO beside other algorithms, task by task: success over steps and over seconds, one figure.

    python benchmarks/algorithms.py --seeds 1 2 3
    python benchmarks/algorithms.py --tasks Go1PushPartialObs Go1WheeledPush    # unequal agents, which cannot share an actor

Every run is the main command with another ``task=`` and ``algo=`` and their preset in cfg/train, with 1,024 environments, and adds a row to
benchmarks/results/algorithms.json. What is there already is not run again; delete a row, or the file, to run it anew. At the end, and
with ``--draw`` alone, a table and docs/algorithms.png are made of all that is there.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from machine import commit, machine
from time_to_success import train
from training import ROOT

OUTPUT = ROOT / "benchmarks" / "results" / "algorithms.json"
FIGURE = ROOT / "docs" / "algorithms.png"
VARIANTS = {  # name: overrides
    "HAPPO": ["algo=HAPPO"],
    "MAPPO, shared actor": ["algo=MAPPO"],
    "MAPPO, own actors": ["algo=MAPPO", "algo.model.share_param=false"],
    "HAA2C": ["algo=HAA2C"],
    "HATRPO": ["algo=HATRPO"],
}
TASKS = {"Go1Push": list(VARIANTS), **dict.fromkeys(("Go1PushPartialObs", "Go1WheeledPush"), ["HAPPO", "MAPPO, own actors"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["Go1Push"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--draw", action="store_true", help="make table and figure of the results file and stop")
    arguments, extra = parser.parse_known_args()
    rows = json.loads(arguments.output.read_text())["runs"] if arguments.output.is_file() else []
    todo = [(task, name, seed) for seed in arguments.seeds for task in arguments.tasks for name in TASKS[task]]
    for task, name, seed in todo if not arguments.draw else []:
        if any((row["task"], row["variant"], row["seed"], row["overrides"]) == (task, name, seed, extra) for row in rows):
            continue
        figures = train([f"task={task}", *VARIANTS[name], "num_envs=1024", "eval_every=5", *extra], seed)
        rows.append({"task": task, "variant": name, "commit": commit(), "overrides": extra, **figures})
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
        reached = figures["seconds_to_95"]
        print(f"{task:<20}{name:<22} seed {seed}: 95 % after {'-' if reached is None else round(reached)} s, end "
              f"{100 * figures['final_success_rate']:.1f} % after {figures['train_seconds']:.0f} s", flush=True)
    table(rows)
    draw(rows, arguments.figure)


def lines(rows: list) -> list:
    """(task, variant, their runs), where there are any."""
    every = [(task, name, [row for row in rows if (row["task"], row["variant"]) == (task, name)]) for task in TASKS for name in TASKS[task]]
    return [line for line in every if line[2]]


def table(rows: list) -> None:
    """Medians over seeds, and the range of the end."""
    print(f"\n{'':<42}{'95 % after':>12}{'frames to 95 %':>16}{'end of run':>12}{'lowest seed':>13}{'training':>10}")
    for task, name, own in lines(rows):
        ends = [row["final_success_rate"] for row in own]
        reached = [row["seconds_to_95"] for row in own]
        frames = [next((f for _, f, s in row["curve"] if s >= 0.95), None) for row in own]
        seconds = f"{median(reached):.0f} s" if None not in reached else f"{sum(r is not None for r in reached)} of {len(own)}"
        steps = f"{median(frames) / 1e6:.1f} M" if None not in frames else "-"
        print(f"{task:<20}{name:<22}{seconds:>12}{steps:>16}{100 * median(ends):>10.1f} %{100 * min(ends):>11.1f} %"
              f"{median(row['train_seconds'] for row in own):>8.0f} s")


def draw(rows: list, path: Path) -> None:
    """Median and range over seeds, against frames and against training seconds; a row for each task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip(VARIANTS, plt.get_cmap("tab10").colors))
    tasks = list(dict.fromkeys(task for task, _, _ in lines(rows)))
    figure, axes = plt.subplots(len(tasks), 2, figsize=(11, 0.5 + 3.5 * len(tasks)), sharey=True, squeeze=False)
    for task, name, own in lines(rows):
        points = list(zip(*(row["curve"] for row in own)))  # an evaluation of every seed
        success = [sorted(100 * point[2] for point in seeds) for seeds in points]
        for axis, column, scale in zip(axes[tasks.index(task)], (1, 0), (1e-6, 1.0)):
            x = [median(point[column] for point in seeds) * scale for seeds in points]
            axis.plot(x, [median(values) for values in success], color=colours[name], label=f"{name} ({len(own)})")
            lowest, highest = [values[0] for values in success], [values[-1] for values in success]
            axis.fill_between(x, lowest, highest, color=colours[name], alpha=0.15, lw=0)
    for task, (over_steps, over_seconds) in zip(tasks, axes):
        over_steps.set(ylabel=f"{task}: success, %", ylim=(0, 101))
        over_seconds.legend(loc="lower right", fontsize=9)
        for axis in (over_steps, over_seconds):
            axis.grid(alpha=0.3)
            axis.axhline(95, color="black", lw=0.6, ls=":")
    axes[-1][0].set(xlabel="environment steps, millions")
    axes[-1][1].set(xlabel="training, seconds")
    figure.suptitle("median and range over seeds, whose number is in brackets", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
