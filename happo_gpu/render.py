"""Whole robots on video: a policy at work in MuJoCo, rendered without a display.

    python -m happo_gpu.render checkpoint=runs/<run>/nn/<name>.pth [num_envs=1] [seconds=12] [seed=0] [locomotion=FILE]
                               [output=FILE.mp4|FILE.gif] [width=960]

Pictures num_envs environments side by side, each from a camera that follows its box. Needs MuJoCo and a renderer: EGL
(libegl1) or OSMesa (libosmesa6). Writes runs/<run>/videos/<name>_legs.mp4 unless output says otherwise.
"""
from __future__ import annotations

import dataclasses
import itertools
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List

import numpy as np
import torch

if sys.platform.startswith("linux"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported, which only happens further down

from happo_gpu import cli, command, encode, recording
from happo_gpu.config import ConfigError
from happo_gpu.config.schema import between
from happo_gpu.evaluate import actor
from happo_gpu.outlines import COLOURS

DISTANCE, ELEVATION = 5.4, -32.0  # m and degrees of the camera from what it looks at
GOAL = (0.90, 0.72, 0.14, 0.45)  # colour of the goal's disc


@dataclass(frozen=True)
class RenderOptions:
    checkpoint: str = field()
    num_envs: int = between(1, 16)
    seconds: float = between(0.2, 600.0)
    seed: int = between(0, 2**31 - 1)
    locomotion: str = field()
    output: str = field()
    width: int = between(64, 3840)


DEFAULTS = {"checkpoint": "", "num_envs": 1, "seconds": 12.0, "seed": 0, "locomotion": "", "output": "", "width": 960}


def renderer_of(model, height: int, width: int):
    """MuJoCo's offscreen renderer; raises ConfigError where the machine has none."""
    try:
        import mujoco

        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # an absent library shows in as many ways as there are drivers
        raise ConfigError(f"nothing can render here ({type(error).__name__}: {' '.join(str(error).split())[:120]}); install libegl1, or "
                          "libosmesa6 and write MUJOCO_GL=osmesa before the command") from error


def paint(model, num_robots: int) -> None:
    """Gives each robot's trunk and thighs a colour of their own, as in the other pictures."""
    for i in range(num_robots):
        colour = np.frombuffer(bytes.fromhex(COLOURS[i][1:]), np.uint8) / 255.0
        for geom in range(model.ngeom):
            name = model.body(model.geom_bodyid[geom]).name
            if name.startswith(f"robot_{i}") and not name.endswith(("calf", "foot")):
                model.geom_rgba[geom, :3] = colour


class Stage:
    """Draws worlds of a task on sim=mujoco, one tile each."""

    def __init__(self, task, success_radius: float, num_envs: int, width: int) -> None:
        self._task, self._radius = task, success_radius
        self._columns = math.ceil(math.sqrt(num_envs))
        self._rows = math.ceil(num_envs / self._columns)
        tile = 16 * max(1, width // 16 // self._columns)  # codecs want multiples of 16
        self._height, self._width = 16 * round(tile * 9 / 16 / 16), tile
        model = task.sim.worlds.models[0]
        paint(model, task.num_agents)
        self._renderer = renderer_of(model, self._height, self._width)
        self._num_envs = num_envs

    def picture(self) -> np.ndarray:
        """(H, W, 4) uint8."""
        sheet = np.full((self._rows * self._height, self._columns * self._width, 4), 255, np.uint8)
        for n in range(self._num_envs):
            top, left = n // self._columns * self._height, n % self._columns * self._width
            sheet[top : top + self._height, left : left + self._width, :3] = self._tile(n)
        return sheet

    def close(self) -> None:
        self._renderer.close()

    def _tile(self, n: int) -> np.ndarray:
        import mujoco

        task = self._task
        data, goal = task.sim.worlds.posed(n), task.goal[n].tolist()
        box = task.sim.object_pose[n, 0, :2].tolist()
        camera = mujoco.MjvCamera()
        camera.lookat[:] = [0.7 * box[0] + 0.3 * goal[0], 0.7 * box[1] + 0.3 * goal[1], 0.2]
        camera.distance, camera.elevation, camera.azimuth = DISTANCE, ELEVATION, 60.0
        self._renderer.update_scene(data, camera)
        scene = self._renderer.scene
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0  # acne on flat ground
        mujoco.mjv_initGeom(scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_CYLINDER, [self._radius, 0.003, 0.0],
                            [goal[0], goal[1], 0.004], np.eye(3).ravel(), np.array(GOAL, np.float32))
        scene.ngeom += 1
        return self._renderer.render()


@torch.no_grad()
def pictures(task, act, stage: Stage, seconds: float) -> Iterator[np.ndarray]:
    """encode.FPS pictures a second of ``seconds`` from fresh starts."""
    task.reset()
    taken, clock = [], itertools.count(1)

    def look() -> None:
        if next(clock) * task.dt * encode.FPS % 1.0 < task.dt * encode.FPS:
            taken.append(stage.picture())

    with recording.watching(task, look):
        for _ in range(math.ceil(seconds / (task.dt * task.decimation))):
            task.step(act())
            yield from taken
            taken.clear()


def main(arguments: List[str]) -> None:
    chosen = command.options(RenderOptions, arguments, DEFAULTS)
    cfg = command.run_config_of(chosen.checkpoint, chosen.num_envs, "mujoco")
    if not hasattr(cfg.task.env, "successDistance"):
        raise ConfigError(f"task={cfg.task.name} has no scene to render; pushing tasks have")
    if chosen.locomotion:
        cfg = dataclasses.replace(cfg, sim=dataclasses.replace(cfg.sim, locomotion=chosen.locomotion))
    source = Path(chosen.checkpoint)
    path = Path(chosen.output) if chosen.output else cli.run_of(source) / "videos" / f"{source.stem}_legs.mp4"
    encode.check_packages(path.suffix)
    task, policy = command.task_and_policy(cfg, source, chosen.seed)
    stage = Stage(task, cfg.task.env.successDistance, chosen.num_envs, chosen.width)
    try:
        encode.write(path, pictures(task, actor(task, policy), stage, chosen.seconds))
    finally:
        stage.close()


if __name__ == "__main__":
    command.run(main, __doc__)
