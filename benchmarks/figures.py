"""The two figures of the README, from finished runs: the learning curve, and pushes seen from above.

    python benchmarks/figures.py runs/<run> [runs/<another seed> ...]

Writes docs/learning_curve.png from every run's metrics.jsonl and docs/push.png from the first run's
best checkpoint: the first episodes of a seed, in order, none picked.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script also runs from a checkout that is not installed

from happo_gpu import build, checkpoint, config  # noqa: E402
from happo_gpu.evaluate import first_episodes  # noqa: E402

MAPUSH = 59.7  # %, cuboid, as MAPush published it after 6.4 h of training
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00") * 5  # Okabe and Ito, for every kind of eye
GREY, GOLD, DARK_GOLD = "#555555", "#F0C000", "#B08A00"
ROWS, SNAPSHOTS = 2, 4  # rows of three pushes; times drawn of each, evenly spaced, start and end among them
STYLE = {"backend": "Agg", "font.size": 10, "axes.spines.right": False, "axes.spines.top": False,
         "savefig.dpi": 200, "legend.frameon": False, "legend.fontsize": 9, "figure.constrained_layout.use": True}


def columns(run_dir: Path, key: str) -> Dict[str, np.ndarray]:
    """The run's records that hold ``key``, column by column."""
    lines = (run_dir / "metrics.jsonl").read_text().split("\n")[:-1]  # what follows the last newline may be cut
    records = [record.get("evaluation", record) for record in map(json.loads, lines) if key in record]
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


def record_pushes(cfg: config.Config, run_dir: Path, episodes: int, seed: int) -> List[tuple]:
    """First episodes under the deterministic policy: poses (L + 1, 1 + A, 3), box first; goal distance; title."""
    device, seed = torch.device("cpu"), build.seed_everything(seed, deterministic=False)
    task = build.build_task(cfg, episodes, device, "eager")
    learner = build.build_learner(cfg, task, device, seed)
    best = next(path for path in (run_dir / "nn").glob("*.pth") if not path.name.startswith("last_"))
    learner.load_state_dict(checkpoint.load(best, device)["learner"], weights_only=True)
    policy = learner.policy(episodes, deterministic=True)
    poses, goals = [], []  # (N, 1 + A, 3) and (N, 2), at the start and after every control step

    def look() -> None:
        poses.append(torch.cat((task.sim.object_pose, task.sim.agent_pose), 1))
        goals.append(task.goal.clone())

    def after_physics() -> None:  # by the time that step() returns it has reset what ended
        task.post_physics_step()
        look()

    def act() -> torch.Tensor:
        if not poses:
            look()
        return policy.act(task.obs_buf, task.available_buf, task.reset_buf)[0]

    task.after_physics = after_physics
    metrics = first_episodes(task, act)
    return [as_push(torch.stack(poses)[:, n].double().numpy(), goals[0][n].numpy(),
                    {name: float(value[n]) for name, value in metrics.items()}, task.sim.dt) for n in range(episodes)]


def as_push(poses: np.ndarray, goal: np.ndarray, metrics: Dict[str, float], dt: float) -> tuple:
    """Turned about the box's start so that the goal lies on the x axis, and cut where the episode ended."""
    steps, turn = int(metrics["length"]), np.arctan2(goal[1], goal[0])
    outcome = "success in" if metrics["success"] else "collision after" if metrics["collision"] else "no success in"
    turned = np.concatenate((placed(poses[..., :2], np.array((0.0, 0.0, -turn))), poses[..., 2:] - turn), -1)
    return turned[: steps + 1], float(np.hypot(*goal)), f"{outcome} {steps * dt:.1f} s"


def placed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (..., 2) of a body at its pose (x, y, yaw), in the world."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return pose[:2] + points @ np.array([[cos, sin], [-sin, cos]])


def robot_outline(sim: config.PlanarConfig) -> np.ndarray:
    """(61, 2) m: the hull of the three circles that sim=planar collides, by its support function."""
    angle = np.linspace(0.0, 2.0 * np.pi, 61)
    normal = np.stack((np.cos(angle), np.sin(angle)), -1)
    circles = np.array([(sim.rear, sim.radius), (sim.front, sim.radius), (sim.nose_x, sim.nose_radius)])
    centre, radius = circles[(np.outer(normal[:, 0], circles[:, 0]) + circles[:, 1]).argmax(1)].T
    return radius[:, None] * normal + np.stack((centre, np.zeros_like(centre)), -1)


def push_figure(pushes: List[tuple], cfg: config.Config):
    """Small multiples of pushes, three a row, to one scale."""
    bare = {"aspect": "equal", "frame_on": False, "xticks": (), "yticks": ()}
    figure, axes = plt.subplots(ROWS, 3, sharex=True, sharey=True, subplot_kw=bare)
    for panel, push in zip(axes.flat, pushes):
        draw_push(panel, *push, cfg)
    x0, x1, y0, y1 = axes[0, 0].axis()
    axes[-1, 0].plot((x0, x0 + 1.0), (y0, y0), color="black", lw=2, clip_on=False, scalex=False, scaley=False)
    axes[-1, 0].annotate("1 m", (x0 + 0.5, y0), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    figure.set_size_inches(8, 0.6 + ROWS * (0.3 + 8 / 3 * (y1 - y0) / (x1 - x0)))
    draw_legend(figure, cfg.task.numAgents)
    return figure


def draw_push(axes, poses: np.ndarray, goal: float, title: str, cfg: config.Config) -> None:
    axes.set_title(title, fontsize=10, pad=3)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * cfg.task.object.halfExtents[:2]
    robot, nose = robot_outline(cfg.sim), np.array([(cfg.sim.nose_x, 0.0)])
    axes.add_patch(plt.Circle((goal, 0.0), cfg.task.env.successDistance, fc=GOLD + "22", ec=DARK_GOLD, ls="--", lw=1))
    for part in np.linspace(0.0, 1.0, SNAPSHOTS):
        shade, (box, *robots) = 0.25 + 0.75 * part, poses[round(part * (len(poses) - 1))]
        axes.add_patch(plt.Polygon(placed(corners, box), fc=(0, 0, 0, 0.1 * shade), ec=(0.2, 0.2, 0.2, shade), lw=1))
        for pose, colour in zip(robots, COLOURS):
            axes.add_patch(plt.Polygon(placed(robot, pose), fc=colour, ec=colour, alpha=0.8 * shade, lw=0.8, zorder=3))
            axes.plot(*placed(nose, pose).T, "o", color="white", mec="none", ms=2.6, zorder=3)
    for track, colour in zip(poses[:, 1:].swapaxes(0, 1), COLOURS):
        axes.plot(track[:, 0], track[:, 1], color=colour, lw=1, zorder=2)
    axes.plot(poses[:, 0, 0], poses[:, 0, 1], "o-", color="black", lw=1.6, ms=4, markevery=[-1], zorder=4)
    axes.plot(goal, 0.0, "*", color=GOLD, mec="black", mew=0.6, ms=13, zorder=5)


def draw_legend(figure, num_agents: int) -> None:
    handles = [
        *(plt.Rectangle((0, 0), 1, 1, fc=COLOURS[i], alpha=0.8, label=f"robot {i + 1}") for i in range(num_agents)),
        plt.Rectangle((0, 0), 1, 1, fc="#E5E5E5", ec="#333333", label="box"),
        plt.Line2D([], [], color="black", marker="o", ms=4, markevery=[1], label="path of its centre"),
        plt.Line2D([], [], color=DARK_GOLD, ls="--", marker="*", mfc=GOLD, mec="black", ms=11, label="goal, success circle"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title_fontsize=9,
                  title=f"faint to solid: {SNAPSHOTS} times from start to end, evenly spaced; white dot: a robot's nose")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, one a seed")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="directory of the figures")
    parser.add_argument("--seed", type=int, default=0, help="of the starts and goals of the pushes")
    arguments = parser.parse_args()
    plt.rcParams.update(STYLE)
    cfg = config.parse(yaml.safe_load((arguments.runs[0] / "config.yaml").read_text()))
    staggered = cfg.task.env.staggerEpisodes * cfg.task.env.numEnvs * cfg.task.env.episodeLength  # frames
    figures = {"learning_curve.png": learning_curve(arguments.runs, staggered),
               "push.png": push_figure(record_pushes(cfg, arguments.runs[0], 3 * ROWS, arguments.seed), cfg)}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.output / name)
        print(f"=> writing '{arguments.output / name}'", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (config.ConfigError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
