"""Pushes seen from above: first episodes of an evaluation as small multiples."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from happo_gpu.evaluate import actor, first_episodes
from happo_gpu.outlines import COLOURS, DARK_GOLD, GOLD, Outlines, placed
from happo_gpu.recording import Recorder, Recording

SNAPSHOTS = 4  # times drawn of each push, evenly spaced, start and end among them
COLUMNS = 3


@dataclass(frozen=True)
class Push:
    """One episode, turned about the box's start so that the goal lies on the x axis.

    Attributes:
        box: (L, 3) x, y, yaw, after every control step. robots: (L, A, 3) likewise.
        goal: m from the box's start. outcome: success, collision or no success.
    """

    box: np.ndarray
    robots: np.ndarray
    goal: float
    outcome: str
    seconds: float

    @property
    def title(self) -> str:
        return f"{self.outcome} {'after' if self.outcome == 'collision' else 'in'} {self.seconds:.1f} s"


def first_pushes(task, policy) -> List[Push]:
    """The first episode of every environment of ``task``."""
    with Recorder(task, task.num_envs) as recorder:
        metrics = first_episodes(task, actor(task, policy))
    recording = recorder.recording()
    return [push_of(recording, {name: float(value[n]) for name, value in metrics.items()}, n, task.dt)
            for n in range(task.num_envs)]


def push_of(recording: Recording, metrics: Dict[str, float], n: int, dt: float) -> Push:
    steps, goal = int(metrics["length"]), recording["goal"][0, n].numpy()
    turn = float(np.arctan2(goal[1], goal[0]))

    def turned(poses: Tensor) -> np.ndarray:
        values = poses[:steps].double().numpy()
        return np.concatenate((placed(values[..., :2], np.array((0.0, 0.0, -turn))), values[..., 2:] - turn), -1)

    outcome = "success" if metrics["success"] else "collision" if metrics["collision"] else "no success"
    return Push(turned(recording["object_pose"][:, n, 0]), turned(recording["agent_pose"][:, n]),
                float(np.hypot(*goal)), outcome, steps * dt)


def push_figure(pushes: List[Push], outlines: Outlines, title: str = ""):
    """Small multiples, three a row, to one scale."""
    rows = -(-len(pushes) // COLUMNS)
    bare = {"aspect": "equal", "frame_on": False, "xticks": (), "yticks": ()}
    figure, axes = plt.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False, subplot_kw=bare)
    for panel, push in zip(axes.flat, pushes):
        draw_push(panel, push, outlines)
    x0, x1, y0, y1 = axes[0, 0].axis()
    axes[-1, 0].plot((x0, x0 + 1.0), (y0, y0), color="black", lw=2, clip_on=False, scalex=False, scaley=False)
    axes[-1, 0].annotate("1 m", (x0 + 0.5, y0), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    figure.set_size_inches(8, 0.6 + 0.3 * bool(title) + rows * (0.3 + 8 / COLUMNS * (y1 - y0) / (x1 - x0)))
    if title:
        figure.suptitle(title, fontsize=11)
    draw_legend(figure, outlines.num_agents)
    return figure


def draw_push(axes, push: Push, outlines: Outlines) -> None:
    axes.set_title(push.title, fontsize=10, pad=3)
    axes.add_patch(plt.Circle((push.goal, 0.0), outlines.success, fc=GOLD + "22", ec=DARK_GOLD, ls="--", lw=1))
    for part in np.linspace(0.0, 1.0, SNAPSHOTS):
        shade, t = 0.25 + 0.75 * part, round(part * (len(push.box) - 1))
        box = placed(outlines.box, push.box[t])
        axes.add_patch(plt.Polygon(box, fc=(0, 0, 0, 0.1 * shade), ec=(0.2, 0.2, 0.2, shade), lw=1))
        for pose, colour, shape, nose in zip(push.robots[t], COLOURS, outlines.robot, outlines.nose):
            robot = placed(shape, pose)
            axes.add_patch(plt.Polygon(robot, fc=colour, ec=colour, alpha=0.8 * shade, lw=0.8, zorder=3))
            axes.plot(*placed(nose, pose).T, "o", color="white", mec="none", ms=2.6, zorder=3)
    for track, colour in zip(push.robots.swapaxes(0, 1), COLOURS):
        axes.plot(track[:, 0], track[:, 1], color=colour, lw=1, zorder=2)
    axes.plot(push.box[:, 0], push.box[:, 1], "o-", color="black", lw=1.6, ms=4, markevery=[-1], zorder=4)
    axes.plot(push.goal, 0.0, "*", color=GOLD, mec="black", mew=0.6, ms=13, zorder=5)


def draw_legend(figure, num_agents: int) -> None:
    handles = [
        *(plt.Rectangle((0, 0), 1, 1, fc=COLOURS[i], alpha=0.8, label=f"robot {i + 1}") for i in range(num_agents)),
        plt.Rectangle((0, 0), 1, 1, fc="#E5E5E5", ec="#333333", label="box"),
        plt.Line2D([], [], color="black", marker="o", ms=4, markevery=[1], label="path of its centre"),
        plt.Line2D([], [], color=DARK_GOLD, ls="--", marker="*", mfc=GOLD, mec="black", ms=11, label="goal, success circle"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title_fontsize=9,
                  title=f"faint to solid: {SNAPSHOTS} times from start to end, evenly spaced; white dot: a robot's nose")


def split(pushes: List[Push]) -> Tuple[List[Push], List[Push]]:
    """Successes and failures, in order."""
    won = [push for push in pushes if push.outcome == "success"]
    return won, [push for push in pushes if push.outcome != "success"]
