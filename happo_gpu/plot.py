"""Pictures of runs: curves of training, and pushes seen from above.

    python -m happo_gpu.plot runs/<run> [runs/<another> ...] [output=DIR]
    python -m happo_gpu.plot checkpoint=runs/<run>/nn/<name>.pth [num_envs=200] [seed=0] [output=DIR]

The first draws everything that a run logs. Runs of one task and algo share a colour and are taken together: the line is
their mean, the band reaches from the lowest to the highest. Writes curves.png and curves.svg to the run's directory,
for several runs to the current one. The second evaluates the checkpoint on num_envs starts and writes successes.png,
failures.png and their .svg to the run's directory: the first of each, none picked.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import yaml

from happo_gpu import cli, command
from happo_gpu.config import ConfigError
from happo_gpu.config.schema import between
from happo_gpu.evaluations import Point
from happo_gpu.outlines import COLOURS, outlines_of

STYLE = {"backend": "Agg", "font.size": 10, "axes.spines.right": False, "axes.spines.top": False,
         "savefig.dpi": 200, "legend.frameon": False, "legend.fontsize": 9, "figure.constrained_layout.use": True}
COLUMNS = 4
PUSHES = 6  # of successes and of failures
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))  # beyond six groups colours come again

Merge = Optional[Callable[..., np.ndarray]]  # of an array's axis 0
# A title, a tag ("evaluation/..." is of evaluations) and how a last /* takes the agents together.
PANELS: List[Tuple[str, str, Merge]] = [
    ("success rate, evaluation", "evaluation/success_rate", None), ("success rate, training", "Episode/success", None),
    ("return, evaluation", "evaluation/mean_return", None), ("return, training", "Episode/return", None),
    ("episode length (control steps)", "Episode/length", None), ("collision rate", "Episode/collision", None),
    ("final distance (m)", "Episode/final_distance", None), ("collaboration degree", "Episode/collaboration", None),
    ("actor loss", "losses/a_loss", None), ("critic loss", "losses/c_loss", None), ("entropy", "losses/entropy", None),
    ("KL, old to new policy", "info/kl", None),
    ("factor, mean of agents", "info/factor_mean/*", np.mean), ("factor, lowest", "info/factor_min/*", np.min),
    ("factor, highest", "info/factor_max/*", np.max), ("clip fraction, mean of agents", "info/clip_fraction/*", np.mean),
    ("learning rate", "info/last_lr", None),
    ("frames per second, all", "performance/step_inference_rl_update_fps", None),
    ("frames per second, simulator", "performance/step_fps", None), ("training time (s)", "train_seconds", None),
]
SHARES = {"evaluation/success_rate", "Episode/success", "Episode/collision"}  # drawn from 0 to 1
REWARD = "Episode/reward_"  # one more panel for each term

Curve = Tuple[np.ndarray, np.ndarray]  # frames (P,) and values (P,)


@dataclass(frozen=True)
class Run:
    """A run's records: iterations, and evaluations under evaluation/<name>."""

    group: str
    records: List[Dict[str, Any]]

    def tags(self) -> List[str]:
        return list(dict.fromkeys(tag for record in self.records for tag in record))

    def curve(self, tag: str, merge: Merge) -> Optional[Curve]:
        """None if the run never logged it."""
        tags = [known for known in self.tags() if known.startswith(tag[:-1])] if merge else [tag]
        rows = [(record["frames"], *(record[each] for each in tags)) for record in self.records if tags and tags[0] in record]
        if not rows:
            return None
        frames, *values = np.array(rows, float).T
        return frames, merge(values, axis=0) if merge else values[0]


# -- reading ---------------------------------------------------------------------------------------


def read_records(run_dir: Path) -> List[Dict[str, Any]]:
    """The run's records, iterations as they are, evaluations as {"evaluation": ...}."""
    path = run_dir / "metrics.jsonl"
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir} does not exist; give a directory under runs/")
    if not path.is_file():
        raise ConfigError(f"{run_dir} is no run: it has no metrics.jsonl; give a directory under runs/")
    lines = path.read_text().split("\n")[:-1]  # what follows the last newline may be cut
    if not lines:
        raise ConfigError(f"{path} is empty: the run has logged nothing yet")
    return [json.loads(line) for line in lines]


def read_run(run_dir: Path) -> Run:
    records = []
    for record in read_records(run_dir):
        if "evaluation" in record:
            evaluation = record["evaluation"]
            record = {f"evaluation/{name}": value for name, value in evaluation.items()}
            record["frames"] = evaluation["frames"]
        records.append(record)
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run_dir} is no run: it has no config.yaml; give a directory under runs/")
    saved = yaml.safe_load(path.read_text())
    return Run(f"{saved['task']['name']}, {saved['algo']['name']}", records)


# -- curves ----------------------------------------------------------------------------------------


def over_runs(curves: List[Curve]) -> Tuple[np.ndarray, np.ndarray]:
    """Frames (P,) of the curve that ends first, and every curve's values there, (R, P)."""
    frames = min((frames for frames, _ in curves), key=lambda frames: frames[-1])
    return frames, np.stack([np.interp(frames, *curve) for curve in curves])


def panels_of(runs: List[Run]) -> List[Tuple[str, str, Merge]]:
    """PANELS and a panel for every reward term, without those that no run has."""
    terms = dict.fromkeys(tag for run in runs for tag in run.tags() if tag.startswith(REWARD))
    panels = PANELS + [(f"reward term: {tag[len(REWARD):]}", tag, None) for tag in terms]
    return [panel for panel in panels if any(run.curve(*panel[1:]) for run in runs)]


def curves_figure(runs: List[Run]):
    """Every panel over frames, one colour a group of runs."""
    import matplotlib.pyplot as plt

    groups: Dict[str, List[Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    panels, longest = panels_of(runs), 1.02 * max(record["frames"] for run in runs for record in run.records) / 1e6
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3.1 * COLUMNS, 2.05 * rows + 0.5), squeeze=False)
    for axis, (title, tag, merge) in zip(axes.flat, panels):
        axis.set_title(title, fontsize=10)
        for i, members in enumerate(groups.values()):
            curves = [curve for curve in (run.curve(tag, merge) for run in members) if curve]
            if curves:
                draw_curve(axis, *over_runs(curves), color=COLOURS[i], ls=DASHES[i // 6 % len(DASHES)],
                           marker="o" if tag.startswith("evaluation/") else "")
        axis.set_xlim(0.0, longest)
        if tag in SHARES:
            axis.set_ylim(-0.03, 1.03)
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis in axes.flat[max(0, len(panels) - COLUMNS): len(panels)]:
        axis.set_xlabel("frames (millions)")
    draw_key(figure, groups)
    return figure


def draw_curve(axis, frames: np.ndarray, values: np.ndarray, color: str, **style: Any) -> None:
    """The mean over runs of values (R, P), and a band from the lowest to the highest."""
    millions = frames / 1e6
    if len(values) > 1:
        axis.fill_between(millions, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
    axis.plot(millions, values.mean(0), color=color, lw=1.2, ms=3, **style)


def draw_key(figure, groups: Dict[str, List[Run]]) -> None:
    import matplotlib.pyplot as plt

    handles = [plt.Line2D([], [], color=COLOURS[i], ls=DASHES[i // 6 % len(DASHES)], lw=2,
                          label=name + (f" ({len(runs)} runs)" if len(runs) > 1 else ""))
               for i, (name, runs) in enumerate(groups.items())]
    band = any(len(runs) > 1 for runs in groups.values())
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), fontsize=10,
                  title="line: mean of runs, band: lowest to highest" if band else None)


# -- evaluations -----------------------------------------------------------------------------------


def evaluations_figure(curves: Dict[str, List[Point]], title: str):
    """A checkpoint's figure over frames, one colour a setting, with 95 % intervals of success; a star is the best one."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4))
    for (name, points), colour in zip(curves.items(), COLOURS):
        periodic = [point for point in points if not point.best]
        axis.plot(*_columns(periodic)[:2], "o-", color=colour, lw=1.2, ms=4, label=name)
        frames, values, low, high = _columns(points)
        axis.errorbar(frames, values, (values - low, high - values), fmt="none", ecolor=colour, elinewidth=1, capsize=2)
        axis.plot(*_columns([point for point in points if point.best])[:2], "*", color=colour, mec="black", mew=0.6, ms=11)
    axis.plot([], [], "*", color="white", mec="black", mew=0.6, ms=11, label="best checkpoint of the run")
    axis.set(xlabel="frames (millions)", title=title)
    axis.set_xlim(left=0.0)
    axis.legend()
    return figure


def _columns(points: List[Point]) -> np.ndarray:
    """(4, P): frames in millions, value, lower and upper end of its interval."""
    return np.array([(point.frames / 1e6, point.value, point.low, point.high) for point in points], float).reshape(-1, 4).T


def plot_evaluations(run_dir: Path, curves: Dict[str, List[Point]], quantity: str) -> None:
    use_style()
    figure = evaluations_figure(curves, f"{quantity} of {run_dir.name}")
    if quantity == "success rate":
        figure.axes[0].set_ylim(-0.03, 1.03)
    save(figure, run_dir, "evaluations")


# -- the command -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlotOptions:
    checkpoint: str = field()
    num_envs: int = between(1, 2000)
    seed: int = between(0, 2**31 - 1)
    output: str = field()


DEFAULTS = {"checkpoint": "", "num_envs": 200, "seed": 0, "output": ""}


def use_style() -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ConfigError(f"pictures need the package {error.name}; write pip install -e '.[figures]'") from error
    plt.rcParams.update(STYLE)


def save(figure, directory: Path, name: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "svg"):
        path = directory / f"{name}.{suffix}"
        figure.savefig(path)
        print(f"=> writing '{path}'", flush=True)


def plot_runs(run_dirs: List[Path], output: str) -> None:
    runs = [read_run(run_dir) for run_dir in run_dirs]
    save(curves_figure(runs), Path(output or (run_dirs[0] if len(run_dirs) == 1 else ".")), "curves")


def plot_pushes(chosen: PlotOptions) -> None:
    from happo_gpu import pushes

    cfg, source = command.run_config_of(chosen.checkpoint, chosen.num_envs), Path(chosen.checkpoint)
    outlines = outlines_of(cfg)
    drawn = pushes.first_pushes(*command.task_and_policy(cfg, source, chosen.seed))
    for name, some in zip(("successes", "failures"), pushes.split(drawn)):
        if not some:
            print(f"no {name} in {len(drawn)} episodes: no picture of them")
            continue
        title = f"{name}: the first {min(PUSHES, len(some))} of {len(some)} in {len(drawn)} episodes"
        save(pushes.push_figure(some[:PUSHES], outlines, title), Path(chosen.output or cli.run_of(source)), name)


def main(arguments: List[str]) -> None:
    run_dirs = [Path(argument) for argument in arguments if "=" not in argument or Path(argument).is_dir()]
    chosen = command.options(PlotOptions, [a for a in arguments if Path(a) not in run_dirs], DEFAULTS)
    if bool(run_dirs) == bool(chosen.checkpoint):
        raise ConfigError("write either run directories or checkpoint=runs/<run>/nn/<name>.pth")
    use_style()
    if run_dirs:
        plot_runs(run_dirs, chosen.output)
    else:
        plot_pushes(chosen)


if __name__ == "__main__":
    command.run(main, __doc__)
