"""Videos of a policy at work, seen from above, without a display.

    python -m happo_gpu.video checkpoint=runs/<run>/nn/<name>.pth [num_envs=9] [seconds=20] [seed=0] [output=FILE.mp4|FILE.gif]

Shows num_envs environments side by side under the deterministic policy, each with its clock. An episode's last picture
stays for a second: green after a success, red after a collision or a fall, grey where time ran out. Writes
runs/<run>/videos/<name>.mp4 unless output says otherwise.
"""
from __future__ import annotations

import functools
import itertools
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import numpy as np

from happo_gpu import cli, command
from happo_gpu.config import ConfigError
from happo_gpu.config.schema import between
from happo_gpu.evaluate import actor
from happo_gpu.outlines import COLOURS, DARK_GOLD, GOLD, GREY, Outlines, outlines_of, placed
from happo_gpu.recording import Recording, record

FPS = 25
HOLD = 1.0  # s that an episode's last picture stays
CAPTURED_ENVS = 4  # of an evaluation while training
ROOM = 0.3  # m that robots may walk beyond where they start before a tile cuts them off
PATH_STEP = 5  # control steps between the points of a drawn path
WIDTH = 960  # px of a video, about
Arrays = Dict[str, np.ndarray]  # a Recording on the host
BORDER = "#C8C8C8"
TINTS = {"success": "#C9ECDD", "exception": "#F9D9C4", "time": "#E4E4E4"}


# -- which step each picture shows -----------------------------------------------------------------


def timeline(episode: np.ndarray, hold: int) -> np.ndarray:
    """Steps (L, N) in the order of showing: the last of each episode in ``episode`` (L, N) is shown ``hold`` times."""
    columns = []
    for column in episode.T:
        last = np.append(column[1:] != column[:-1], False)
        columns.append(np.repeat(np.arange(len(column)), np.where(last, hold, 1))[: len(column)])
    return np.stack(columns, 1)


def outcome(shown: Arrays, t: int, n: int) -> str:
    """'success', 'exception', 'time' if the episode ends with step t in environment n, '' while it goes on."""
    for name in ("success", "exception"):
        if shown[name][t, n]:
            return name
    episode = shown["episode"]
    return "time" if t + 1 < len(episode) and episode[t + 1, n] != episode[t, n] else ""


# -- drawing ---------------------------------------------------------------------------------------


class Canvas:
    """Anti-aliased shapes on one image of tiles.

    The renderer under matplotlib, without its figures: measured, a quarter of the time that Pillow takes at
    twice the resolution and shrunk. Text costs more than all shapes together, so each label is drawn once.
    """

    def __init__(self, columns: int, rows: int, tile: int) -> None:
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.transforms import IdentityTransform

        self._tile, self._rows = tile, rows
        self._renderer = RendererAgg(columns * tile, rows * tile, 72)
        self._identity = IdentityTransform()
        self.pixels = np.asarray(self._renderer.buffer_rgba())  # (H, W, 4) uint8, live
        self._words = self.pixels.view(np.uint32)[..., 0]  # (H, W): a pixel at a time is several times faster

    def open_tile(self, column: int, row: int, colour: str) -> None:
        """What follows is drawn in this tile only, which becomes blank."""
        from matplotlib.transforms import Bbox

        tile = self._tile
        self._left, self._top = column * tile, row * tile
        self._bottom = (self._rows - 1 - row) * tile  # the renderer's y points up
        self._context = self._renderer.new_gc()
        self._context.set_clip_rectangle(Bbox.from_bounds(self._left, self._bottom, tile, tile))
        inside = self._words[self._top: self._top + tile, self._left: self._left + tile]
        inside[...] = word(BORDER)
        inside[1:-1, 1:-1] = word(colour)

    def polygon(self, points: np.ndarray, fill: str, edge: str, width: float) -> None:
        """Points (P, 2) in px from the tile's lower left corner, x right and y up."""
        self._draw(np.concatenate((points, points[:1])), fill, edge, width)

    def line(self, points: np.ndarray, colour: str, width: float) -> None:
        self._draw(points, "", colour, width)

    def _draw(self, points: np.ndarray, fill: str, edge: str, width: float) -> None:
        from matplotlib.colors import to_rgba
        from matplotlib.path import Path as Outline

        self._context.set_foreground(edge)
        self._context.set_linewidth(width)
        face = to_rgba(fill) if fill else None
        self._renderer.draw_path(self._context, Outline(points + (self._left, self._bottom)), self._identity, face)

    def label(self, text: str, size: int) -> None:
        """Text in the tile's lower left corner."""
        ink = rendered(text, size)  # (h, w), 0 to 1
        low, left = self._top + self._tile - 6, self._left + 8
        under = self.pixels[low - ink.shape[0]: low, left: left + ink.shape[1], :3]
        under[...] = under * (1.0 - ink[: under.shape[0], : under.shape[1], None]) + 0.5


@functools.lru_cache(maxsize=16)
def word(colour: str) -> np.uint32:
    """An opaque colour as it lies in memory."""
    from matplotlib.colors import to_rgba

    return np.round(255.0 * np.array(to_rgba(colour))).astype(np.uint8).view(np.uint32)[0]


@functools.lru_cache(maxsize=1024)
def rendered(text: str, size: int) -> np.ndarray:
    """Coverage (h, w) of a line of text, ``size`` px high."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg((len(text) + 1) * size, 2 * size, 72)
    renderer.draw_text(renderer.new_gc(), 0, 1.5 * size, text, FontProperties(size=size), 0)
    return np.asarray(renderer.buffer_rgba())[:, :, 3].astype(np.float32) / 255.0


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


def frames(recording: Recording, outlines: Outlines, dt: float) -> Iterator[np.ndarray]:
    """Pictures (H, W, 4) uint8, FPS a second; ``dt`` is the recording's control period. Each is valid until the next."""
    shown = {name: value.numpy() for name, value in recording.items()}
    num_steps, num_envs = shown["episode"].shape
    columns = math.ceil(math.sqrt(num_envs))
    tile = 16 * min(40, WIDTH // 16 // columns)  # codecs want multiples of 16
    farthest = float(np.hypot(*np.moveaxis(shown["goal"], -1, 0)).max())
    scale = tile / (farthest + 2.0 * (outlines.around + ROOM))
    canvas = Canvas(columns, math.ceil(num_envs / columns), tile)
    canvas.pixels[...] = 255  # where the last row has fewer tiles
    order = timeline(shown["episode"], round(HOLD / dt))
    for picture in range(max(1, round(num_steps * dt * FPS))):
        for n in range(num_envs):
            t = order[min(num_steps - 1, round(picture / FPS / dt)), n]
            start = int(np.searchsorted(shown["episode"][:, n], shown["episode"][t, n]))
            end = outcome(shown, t, n)
            canvas.open_tile(n % columns, n // columns, TINTS.get(end, "#FFFFFF"))
            draw_tile(canvas, View(shown["goal"][t, n] / 2.0, scale, tile), outlines, shown, start, t, n)
            canvas.label(caption(end, shown["progress"][t, n] * dt), max(10, tile // 20))
        yield canvas.pixels


def caption(end: str, seconds: float) -> str:
    words = {"success": "success in ", "exception": "collision after ", "time": "no success in "}
    return f"{words.get(end, '')}{seconds:.1f} s"


# -- files -----------------------------------------------------------------------------------------


def check_packages(suffix: str) -> None:
    """Raises ConfigError where a file of this kind cannot be written here."""
    if suffix not in (".mp4", ".gif"):
        raise ConfigError(f"a video named *{suffix} is not known; write a name that ends in .mp4 or .gif")
    try:
        import matplotlib.backends.backend_agg  # noqa: F401

        if suffix == ".mp4":
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError as error:
        raise ConfigError(f"videos need the package {error.name}; write pip install -e '.[video]'") from error
    except RuntimeError as error:  # the package without its program
        raise ConfigError("videos need ffmpeg; write pip install --force-reinstall imageio-ffmpeg") from error


def write(path: Path, pictures: Iterator[np.ndarray], colours: Optional[np.ndarray] = None) -> int:
    """Writes an mp4 or GIF, whole or not at all; returns the number of pictures.

    ``colours`` (C, 3) uint8, C <= 256, are a GIF's; without them it takes those of its first picture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        count = write_gif(partial, pictures, colours) if path.suffix == ".gif" else write_mp4(partial, pictures)
        os.replace(str(partial), str(path))
    finally:
        if partial.exists():
            partial.unlink()
    print(f"=> writing '{path}'", flush=True)
    return count


def write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> int:
    import imageio_ffmpeg

    first = next(pictures)
    size = (first.shape[1], first.shape[0])
    # veryfast: half the default's time for files of the same size, as the pictures are plain
    writer = imageio_ffmpeg.write_frames(str(path), size, pix_fmt_in="rgba", fps=FPS, quality=8,
                                         output_params=["-preset", "veryfast"])
    writer.send(None)
    count = 0
    try:
        for picture in itertools.chain([first], pictures):
            writer.send(picture.tobytes())
            count += 1
    finally:
        writer.close()
    return count


def write_gif(path: Path, pictures: Iterator[np.ndarray], colours: Optional[np.ndarray]) -> int:
    from PIL import Image

    first, count = next(pictures), itertools.count()
    if colours is None:
        palette = Image.fromarray(first[:, :, :3]).quantize(255)
    else:
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours.tobytes())
    images = (Image.fromarray(picture[:, :, :3]).quantize(palette=palette, dither=Image.Dither.NONE)
              for picture, _ in zip(itertools.chain([first], pictures), count))
    next(images).save(str(path), save_all=True, append_images=images, duration=1000 // FPS, loop=0)
    return next(count)


def gif_colours() -> np.ndarray:
    """(C, 3) uint8, C <= 256: every ink on every ground, from faint to full."""
    from matplotlib.colors import to_rgb

    inks = np.array([to_rgb(colour) for colour in (*sorted(set(COLOURS)), GOLD, DARK_GOLD, "#000000", BORDER)])
    grounds = np.array([to_rgb(colour) for colour in ("#FFFFFF", *TINTS.values())])
    share = np.linspace(0.0, 1.0, 6)[:, None, None, None]
    return np.round(255.0 * (grounds[:, None] * (1.0 - share) + inks * share)).astype(np.uint8).reshape(-1, 3)


def try_write(recording: Recording, path: Path, outlines: Outlines, dt: float) -> None:
    """Writes a video of a recording; where that fails says so and goes on, because a run must not end over a picture."""
    try:
        write(path, frames(recording, outlines, dt), gif_colours())
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
    check_packages(path.suffix)
    task, policy = command.task_and_policy(cfg, source, chosen.seed)
    start = time.perf_counter()
    recording = record(task, actor(task, policy), math.ceil(chosen.seconds / task.dt), chosen.num_envs)
    recorded = time.perf_counter()
    count = write(path, frames(recording, outlines, task.dt), gif_colours())
    print(f"{count} pictures of {chosen.num_envs} environments: recorded in {recorded - start:.1f} s, "
          f"drawn in {time.perf_counter() - recorded:.1f} s")


if __name__ == "__main__":
    command.run(main, __doc__)
