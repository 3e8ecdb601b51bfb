"""The two figures of the README, from finished runs: the learning curve, and pushes seen from above.

    python benchmarks/figures.py runs/<run> [runs/<another seed> ...]

Writes docs/learning_curve.png from every run's metrics.jsonl and docs/push.png from the first run's
best checkpoint: the first episodes of a seed, in order, none picked.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed

from happo_gpu import command, config, pushes  # noqa: E402
from happo_gpu.outlines import COLOURS, GREY, outlines_of  # noqa: E402
from happo_gpu.plot import STYLE, read_records  # noqa: E402

MAPUSH = 59.7  # %, cuboid, as MAPush published it after 6.4 h of training
PUSHES = 6  # in docs/push.png


def columns(run_dir: Path, key: str) -> Dict[str, np.ndarray]:
    """The run's records that hold ``key``, column by column."""
    records = [record.get("evaluation", record) for record in read_records(run_dir) if key in record]
    if not records:
        raise config.ConfigError(f"{run_dir}/metrics.jsonl holds no {key} yet; train with eval_every above 0, or longer")
    return {name: np.array([record[name] for record in records]) for name in records[0]}


def learning_curve(run_dirs: List[Path], staggered: int):
    """Success rate with its 95 % band and training return over seconds; ``staggered`` frames are drawn faint."""
    evaluations = [columns(run_dir, "evaluation") for run_dir in run_dirs]
    iterations = [columns(run_dir, "Episode/return") for run_dir in run_dirs]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5.2), sharex=True, gridspec_kw={"height_ratios": (2, 1)})
    for success, training, colour in zip(evaluations, iterations, COLOURS):
        draw_success(top, success, colour)
        seconds, value, whole = training["train_seconds"], training["Episode/return"], training["frames"] >= staggered
        bottom.plot(seconds, value, color=colour, lw=1.2, alpha=0.3)
        bottom.plot(seconds[whole], value[whole], color=colour, lw=1.2)
    top.axhline(MAPUSH, color=GREY, ls=(0, (5, 3)), lw=1.1, zorder=1)
    note(top, MAPUSH - 1.5, "MAPush, published: 59.7 % after 6.4 h", GREY, "top")
    end = {name: value[-1] for name, value in evaluations[0].items()}
    one = f"happo_gpu: {100 * end['success_rate']:.1f} % after {end['train_seconds']:.0f} s"
    note(top, MAPUSH - 10.5, one if len(run_dirs) == 1 else f"happo_gpu, {len(run_dirs)} seeds", COLOURS[0], "top")
    note(bottom, bottom.get_ylim()[0], "faint: first episodes, of staggered length", GREY, "bottom")
    top.set(ylabel="success rate (%)", ylim=(0, 103), yticks=range(0, 101, 20))
    bottom.set(ylabel="training return", xlabel="training time (s)", xlim=(0, None))
    draw_frames_axis(top, iterations)
    figure.align_ylabels()
    return figure


def draw_success(axes, success: Dict[str, np.ndarray], colour: str) -> None:
    axes.fill_between(success["train_seconds"], *100.0 * success["success_rate_ci95"].T, color=colour, alpha=0.2, lw=0)
    axes.plot(success["train_seconds"], 100.0 * success["success_rate"], "o-", color=colour, lw=1.2, ms=3, clip_on=False)


def note(axes, y: float, text: str, colour: str, va: str) -> None:
    axes.annotate(text, (0.995, y), xycoords=axes.get_yaxis_transform(), ha="right", va=va, color=colour)


def draw_frames_axis(axes, iterations: List[Dict[str, np.ndarray]]) -> None:
    """Frames on top, each where the median run reached it: iterations do not all take the same time."""
    most = min(training["frames"][-1] for training in iterations) / 1e6
    ticks = [tick for tick in plt.MaxNLocator(6, steps=(1, 2, 5, 10)).tick_values(0, most) if tick <= most]
    reached = [np.interp(ticks, [0, *training["frames"] / 1e6], [0, *training["train_seconds"]]) for training in iterations]
    label = "frames (millions)" if len(iterations) == 1 else "frames (millions, median run)"
    axes.secondary_xaxis("top").set(xticks=np.median(reached, 0), xticklabels=[f"{tick:g}" for tick in ticks], xlabel=label)


def record_pushes(run_dir: Path, episodes: int, seed: int) -> List[pushes.Push]:
    """First episodes of the run's best checkpoint under the deterministic policy."""
    best = next(path for path in (run_dir / "nn").glob("*.pth") if not path.name.startswith("last_"))
    few = command.run_config_of(str(best), episodes)
    return pushes.first_pushes(*command.task_and_policy(few, best, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, one a seed")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="directory of the figures")
    parser.add_argument("--seed", type=int, default=0, help="of the starts and goals of the pushes")
    arguments = parser.parse_args()
    plt.rcParams.update(STYLE)
    cfg = command.saved_config(arguments.runs[0])
    staggered = cfg.task.env.staggerEpisodes * cfg.task.env.numEnvs * cfg.task.env.episodeLength  # frames
    figures = {"learning_curve.png": learning_curve(arguments.runs, staggered),
               "push.png": pushes.push_figure(record_pushes(arguments.runs[0], PUSHES, arguments.seed), outlines_of(cfg))}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.output / name)
        print(f"=> writing '{arguments.output / name}'", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (config.ConfigError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
