"""HAPPO beside MAPPO, HAA2C and HATRPO on Go1Push: success over steps and over seconds, one figure.

    python benchmarks/algorithms.py --seeds 1 2 3

Every run is the main command with another ``algo=`` and that algorithm's preset in cfg/train. Writes
benchmarks/results/algorithms.json and docs/algorithms.png; ``--draw`` only draws what is there.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from machine import machine
from time_to_success import run
from training import ROOT

OUTPUT = ROOT / "benchmarks" / "results" / "algorithms.json"
FIGURE = ROOT / "docs" / "algorithms.png"
VARIANTS = {  # name: algo, further settings
    "HAPPO": ("HAPPO", []),
    "MAPPO, shared actor": ("MAPPO", []),
    "MAPPO, own actors": ("MAPPO", ["algo.model.share_param=false"]),
    "HAA2C": ("HAA2C", []),
    "HATRPO": ("HATRPO", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--draw", action="store_true", help="draw the figure from the results file and stop")
    arguments, extra = parser.parse_known_args()
    if arguments.draw:
        return draw(json.loads(OUTPUT.read_text())["runs"], FIGURE)
    rows = []
    for seed in arguments.seeds:
        for name, (algo, settings) in VARIANTS.items():
            rows.append({"variant": name, **run(arguments.num_envs, seed, [*settings, *extra], algo)})
            OUTPUT.write_text(json.dumps({"machine": machine(), "overrides": extra, "runs": rows}, indent=1) + "\n")
            last = rows[-1]
            print(f"{name:<22} seed {seed}: 95 % after {_or_dash(last["seconds_to_95"])} s, end "
                  f"{100 * last['final_success_rate']:.1f} % after {last['train_seconds']:.0f} s", flush=True)
    table(rows)
    draw(rows, FIGURE)


def table(rows: list) -> None:
    """Medians over seeds, and the range of the end."""
    print(f"\n{'':<22}{'95 % after':>12}{'frames to 95 %':>16}{'end of run':>12}{'lowest seed':>13}{'training':>10}")
    for name in VARIANTS:
        own = [row for row in rows if row["variant"] == name]
        ends = [row["final_success_rate"] for row in own]
        reached = [row["seconds_to_95"] for row in own]
        frames = [next((f for _, f, s in row["curve"] if s >= 0.95), None) for row in own]
        seconds = f"{median(reached):.0f} s" if None not in reached else f"{sum(r is not None for r in reached)} of {len(own)}"
        steps = f"{median(frames) / 1e6:.1f} M" if None not in frames else "-"
        print(f"{name:<22}{seconds:>12}{steps:>16}{100 * median(ends):>10.1f} %{100 * min(ends):>11.1f} %"
              f"{median(row['train_seconds'] for row in own):>8.0f} s")


def draw(rows: list, path: Path) -> None:
    """Median and range over seeds, against frames and against training seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for colour, name in zip(plt.get_cmap("tab10").colors, VARIANTS):
        curves = [row["curve"] for row in rows if row["variant"] == name]
        if not curves:
            continue
        points = list(zip(*curves))  # an evaluation of every seed
        success = [sorted(100 * point[2] for point in seeds) for seeds in points]
        for axis, column, scale in ((axes[0], 1, 1e-6), (axes[1], 0, 1.0)):
            x = [median(point[column] for point in seeds) * scale for seeds in points]
            axis.plot(x, [median(values) for values in success], color=colour, label=name)
            axis.fill_between(x, [values[0] for values in success], [values[-1] for values in success], color=colour, alpha=0.15, lw=0)
    axes[0].set(xlabel="environment steps, millions", ylabel="success, %", ylim=(0, 101))
    axes[1].set(xlabel="training, seconds")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.axhline(95, color="black", lw=0.6, ls=":")
    axes[1].legend(loc="lower right", fontsize=9)
    seeds = len({row["seed"] for row in rows})
    figure.suptitle(f"Go1Push, {rows[0]['num_envs']:,} environments: median and range of {seeds} seeds", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _or_dash(value) -> str:
    return "-" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
