"""Videos of a policy at work, seen from above, without a display.

    python -m happo_gpu.video checkpoint=runs/<run>/nn/<name>.pth [num_envs=9] [seconds=20] [seed=0] [output=FILE.mp4|FILE.gif]

Shows num_envs environments side by side under the deterministic policy, each with its clock. An episode's last picture
stays for a second: green after a success, red after a collision or a fall, grey where time ran out. Writes
runs/<run>/videos/<name>.mp4 unless output says otherwise.
"""
from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List

import numpy as np

from happo_gpu import cli, command, encode
from happo_gpu.canvas import BORDER, Canvas
from happo_gpu.config.schema import between
from happo_gpu.evaluate import actor
from happo_gpu.outlines import COLOURS, DARK_GOLD, GOLD, GREY, Outlines, outlines_of, placed
from happo_gpu.recording import Recording, record

HOLD = 1.0  # s that an episode's last picture stays
CAPTURED_ENVS, CAPTURED_WIDTH, CAPTURED_FPS = 4, 640, 12.5  # of an evaluation while training, which waits for its film
ROOM = 0.3  # m that robots may walk beyond where they start before a tile cuts them off
PATH_STEP = 5  # control steps between the points of a drawn path
WIDTH = 960  # px of a video, about
Arrays = Dict[str, np.ndarray]  # a Recording on the host
TINTS = {"success": "#C9ECDD", "exception": "#F9D9C4", "time": "#E4E4E4"}


# -- which step each picture shows -----------------------------------------------------------------


def timeline(episode: np.ndarray, hold: int) -> np.ndarray:
    """Steps (L, N) in the order of showing: the last of each episode in ``episode`` (L, N) is shown ``hold`` times."""
    columns = []
    for column in episode.T:
        last = np.append(column[1:] != column[:-1], False)
        columns.append(np.repeat(np.arange(len(column)), np.where(last, hold, 1))[: len(column)])
    return np.stack(columns, 1)


def first_alone(episode: np.ndarray, hold: int) -> np.ndarray:
    """Steps (L', N): every first episode up to its last step, which stays; ``hold`` steps more than the longest has."""
    lengths = (episode == 1).sum(0)
    return np.minimum(np.arange(lengths.max() + hold)[:, None], lengths - 1)


def outcome(shown: Arrays, t: int, n: int, ended: bool = False) -> str:
    """'success', 'exception', 'time' if the episode ends with step t in environment n, '' while it goes on.

    ``ended`` says that one which lasts to the end of the recording ended there.
    """
    for name in ("success", "exception"):
        if shown[name][t, n]:
            return name
    episode = shown["episode"]
    over = episode[t + 1, n] != episode[t, n] if t + 1 < len(episode) else ended
    return "time" if over else ""


# -- drawing ---------------------------------------------------------------------------------------


@dataclass
class View:
    """From metres to a tile's pixels, centred on ``middle`` (2,)."""

    middle: np.ndarray
    scale: float  # px per m
    tile: int

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return (points - self.middle) * self.scale + self.tile / 2.0


def draw_tile(canvas: Canvas, view: View, outlines: Outlines, shown: Arrays, start: int, t: int, n: int) -> None:
    """Environment n at step t, with the paths since ``start``."""
    boxes, robots, goal = shown["object_pose"][start: t + 1, n, 0], shown["agent_pose"][start: t + 1, n], shown["goal"][t, n]
    fine = view.tile / 320.0
    robot_paths, box_path = robots[::PATH_STEP, :, :2], np.concatenate((boxes[::PATH_STEP, :2], boxes[-1:, :2]))
    canvas.polygon(view(goal + circle(outlines.success)), GOLD + "22", DARK_GOLD, 1.2 * fine)
    for i, outline in enumerate(outlines.obstacles):
        canvas.polygon(view(placed(outline, shown["obstacle_pose"][t, n, i])), GREY, GREY, 0.5)
    for point in shown["way"][t, n] if "way" in shown else ():
        canvas.polygon(view(point + circle(0.08)), DARK_GOLD, DARK_GOLD, 0.5)
    if "goal_yaw" in shown:  # the box as it should lie there
        canvas.polygon(view(placed(outlines.box, np.append(goal, shown["goal_yaw"][t, n]))), "", DARK_GOLD, 1.2 * fine)
    for i in range(outlines.num_agents):
        canvas.line(view(robot_paths[:, i]), COLOURS[i] + "90", 1.2 * fine)
    canvas.polygon(view(placed(outlines.box, boxes[-1])), "#00000020", "#333333", 1.4 * fine)
    canvas.line(view(box_path), "#000000", 1.6 * fine)
    canvas.polygon(view(boxes[-1, :2] + circle(0.05)), "#000000", "#000000", 0.5)
    for i in range(outlines.num_agents):
        canvas.polygon(view(placed(outlines.robot[i], robots[-1, i])), COLOURS[i], COLOURS[i], 0.5)
        canvas.polygon(view(placed(outlines.nose[i], robots[-1, i]) + circle(0.055)), "#FFFFFF", "#FFFFFF", 0.5)
    canvas.polygon(view(goal + star(0.17)), GOLD, "#000000", 0.8 * fine)


@functools.lru_cache(maxsize=8)
def circle(radius: float) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, 49)[:-1]
    return radius * np.stack((np.cos(angle), np.sin(angle)), -1)


@functools.lru_cache(maxsize=8)
def star(radius: float) -> np.ndarray:
    angle = np.pi / 2.0 + np.pi / 5.0 * np.arange(10)
    return radius * np.where(np.arange(10) % 2, 0.4, 1.0)[:, None] * np.stack((np.cos(angle), np.sin(angle)), -1)


def frames(recording: Recording, outlines: Outlines, dt: float, width: int = WIDTH, fps: float = encode.FPS,
           once: bool = False) -> Iterator[np.ndarray]:
    """Pictures (H, W, 4) uint8, ``fps`` a second; ``dt`` is the recording's control period. Each is valid until the next.

    With ``once`` every environment shows its first episode and stays at its last picture, and the film ends with the last of them.
    """
    shown = {name: value.numpy() for name, value in recording.items()}
    num_envs = shown["episode"].shape[1]
    columns = math.ceil(math.sqrt(num_envs))
    tile = 16 * min(40, width // 16 // columns)  # codecs want multiples of 16
    farthest = float(np.hypot(*np.moveaxis(shown["goal"], -1, 0)).max())
    scale = tile / (farthest + 2.0 * (outlines.around + ROOM))
    canvas = Canvas(columns, math.ceil(num_envs / columns), tile)
    canvas.pixels[...] = 255  # where the last row has fewer tiles
    hold, drawn = round(HOLD / dt), [-1] * num_envs
    order = first_alone(shown["episode"], hold) if once else timeline(shown["episode"], hold)
    for picture in range(max(1, round(len(order) * dt * fps))):
        for n in range(num_envs):
            t = order[min(len(order) - 1, round(picture / fps / dt)), n]
            if t == drawn[n]:
                continue
            drawn[n] = t
            start = int(np.searchsorted(shown["episode"][:, n], shown["episode"][t, n]))
            end = outcome(shown, t, n, once)
            canvas.open_tile(n % columns, n // columns, TINTS.get(end, "#FFFFFF"))
            draw_tile(canvas, View(shown["goal"][t, n] / 2.0, scale, tile), outlines, shown, start, t, n)
            canvas.label(caption(end, shown["progress"][t, n] * dt), max(10, tile // 20))
        yield canvas.pixels


def caption(end: str, seconds: float) -> str:
    words = {"success": "success in ", "exception": "collision after ", "time": "no success in "}
    return f"{words.get(end, '')}{seconds:.1f} s"


# -- files -----------------------------------------------------------------------------------------


def gif_colours() -> np.ndarray:
    """(C, 3) uint8, C <= 256: every ink on every ground, from faint to full."""
    from matplotlib.colors import to_rgb

    inks = np.array([to_rgb(colour) for colour in (*sorted(set(COLOURS)), GOLD, DARK_GOLD, "#000000", BORDER)])
    grounds = np.array([to_rgb(colour) for colour in ("#FFFFFF", *TINTS.values())])
    share = np.linspace(0.0, 1.0, 6)[:, None, None, None]
    return np.round(255.0 * (grounds[:, None] * (1.0 - share) + inks * share)).astype(np.uint8).reshape(-1, 3)


def try_write(recording: Recording, path: Path, outlines: Outlines, dt: float) -> None:
    """Writes an mp4 of a recording's first episodes; where that fails says so and goes on, because a run must not end over a picture."""
    try:
        encode.write(path, frames(recording, outlines, dt, CAPTURED_WIDTH, CAPTURED_FPS, once=True), fps=CAPTURED_FPS)
    except Exception as error:  # a full disk, a killed ffmpeg, whatever a picture can die of
        print(f"warning: no video {path} ({type(error).__name__}: {' '.join(str(error).split())[:160]})", flush=True)


# -- the command -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoOptions:
    checkpoint: str = field()
    num_envs: int = between(1, 36)
    seconds: float = between(0.2, 600.0)
    seed: int = between(0, 2**31 - 1)
    output: str = field()


DEFAULTS = {"checkpoint": "", "num_envs": 9, "seconds": 20.0, "seed": 0, "output": ""}


def main(arguments: List[str]) -> None:
    chosen = command.options(VideoOptions, arguments, DEFAULTS)
    cfg = command.run_config_of(chosen.checkpoint, chosen.num_envs)
    outlines, source = outlines_of(cfg), Path(chosen.checkpoint)
    path = Path(chosen.output) if chosen.output else cli.run_of(source) / "videos" / f"{source.stem}.mp4"
    encode.check_packages(path.suffix)
    task, policy = command.task_and_policy(cfg, source, chosen.seed)
    start = time.perf_counter()
    recording = record(task, actor(task, policy), math.ceil(chosen.seconds / task.dt), chosen.num_envs)
    recorded = time.perf_counter()
    count = encode.write(path, frames(recording, outlines, task.dt), gif_colours())
    print(f"{count} pictures of {chosen.num_envs} environments: recorded in {recorded - start:.1f} s, "
          f"drawn in {time.perf_counter() - recorded:.1f} s")


if __name__ == "__main__":
    command.run(main, __doc__)
