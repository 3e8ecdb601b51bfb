"""A policy at work, live in the browser: robots, box, goal and forces in three dimensions.

    python -m happo_gpu.view checkpoint=runs/<run>/nn/<name>.pth [sim=mujoco] [num_envs=16] [seed=0] [host=127.0.0.1] [port=8080]

Serves a page with one of num_envs environments at a time: choose which, pause, step, slow down or hurry, sample the
policy instead of taking its mode, start anew, and drag the goal. Red arrows are the robots' pushes on the box, 2 cm a
newton. sim=mujoco shows whole robots under a planar policy; where that falls behind real time, num_envs=1 is fastest.
Only this machine can open the page unless host says otherwise; a taken port gives way to the next free one. Ctrl-C ends it.
"""
from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List

import numpy as np

from happo_gpu import command
from happo_gpu.config import ConfigError
from happo_gpu.config.schema import between
from happo_gpu.outlines import GOLD, Outlines, outlines_of
from happo_gpu.playback import Controls, Player
from happo_gpu.scene import Moment, Stage, moment_of, stage_of, turned

LOOPBACK = ("127.0.0.1", "localhost")
CAMERA, LOOK_AT, FIELD_OF_VIEW = (0.0, -5.0, 5.0), (0.5, -0.1, 0.0), 0.8  # m, m, rad
NEAR = 1.7  # m around the box that the camera sees well from there; it stands off in proportion
ARROW_COLOUR = "#C00000"
DRAGGING = 0.5  # s after the goal was last dragged that it is left to the hand


def rgb(colour: str) -> tuple:
    return tuple(bytes.fromhex(colour[1:]))


class Page:
    """The scene and its controls on a viser server."""

    def __init__(self, server: Any, stage: Stage, outlines: Outlines, controls: Controls, num_envs: int) -> None:
        self.server, self.controls = server, controls
        self._add_world(stage, max(1.0, outlines.around / NEAR))
        self._add_goal(outlines)
        self._add_controls(num_envs)
        self._dragged = -DRAGGING  # s of the clock

    def show(self, moment: Moment) -> None:
        with self.server.atomic():
            for handle, position, quaternion in zip(self.bodies, moment.positions, moment.quaternions):
                handle.position, handle.wxyz = position, quaternion
            self.arrows.points = moment.arrows.astype(np.float32)
            self.arrows.visible = len(moment.arrows) > 0
            self.status.content = moment.status
            free = self.controls.goal is None and time.perf_counter() - self._dragged > DRAGGING
            if free and np.abs(self.goal.position[:2] - moment.goal).max() > 1e-4:
                self.goal.position = (*moment.goal, 0.0)

    def _add_world(self, stage: Stage, far: float) -> None:
        server, scene = self.server, self.server.scene
        camera = server.initial_camera
        camera.position, camera.look_at, camera.fov = tuple(far * x for x in CAMERA), tuple(far * x for x in LOOK_AT), FIELD_OF_VIEW
        scene.configure_default_lights(False)  # they bleach the colours
        scene.add_light_ambient("/light", intensity=0.5)
        scene.add_light_directional("/sun", intensity=1.5, position=(-4.0, -5.0, 9.0), cast_shadow=True)
        scene.add_grid("/ground", infinite_grid=True, cell_size=0.5, section_size=1.0, plane_opacity=1.0, plane_color=(246, 246, 246),
                       cell_color=(225, 225, 225), section_color=(200, 200, 200), fade_distance=30.0, shadow_opacity=0.25)
        self.bodies = [scene.add_frame(f"/{name}", show_axes=False) for name in stage.bodies]
        for i, (body, (vertices, faces), colour) in enumerate(stage.parts):
            scene.add_mesh_simple(f"/{stage.bodies[body]}/{i}", vertices, faces, color=rgb(colour), flat_shading=True)
        self.arrows = scene.add_arrows("/forces", np.zeros((1, 2, 3)), rgb(ARROW_COLOUR), visible=False)

    def _add_goal(self, outlines: Outlines) -> None:
        scene = self.server.scene
        self.goal = scene.add_transform_controls("/goal", 0.6, active_axes=(True, True, False), disable_rotations=True,
                                                 depth_test=False)
        disc = turned([(outlines.success, 0.004), (outlines.success, 0.008)], 96)
        scene.add_mesh_simple("/goal/disc", *disc, color=rgb(GOLD), opacity=0.4, cast_shadow=False)
        scene.add_mesh_simple("/goal/middle", *turned([(0.05, 0.0), (0.05, 0.02)]), color=rgb(GOLD), cast_shadow=False)

        @self.goal.on_update
        async def _(_: Any) -> None:  # async: in order
            x, y = self.goal.position[:2]
            self._dragged, self.controls.goal = time.perf_counter(), (float(x), float(y))

    def _add_controls(self, num_envs: int) -> None:
        gui, controls = self.server.gui, self.controls
        gui.configure_theme(show_logo=False, show_share_button=False)  # sharing would send the page through a public server
        self.status = gui.add_markdown("")
        self.env = gui.add_slider("environment", min=0, max=max(1, num_envs - 1), step=1, initial_value=0, visible=num_envs > 1)
        self.speed = gui.add_slider("speed", min=0.1, max=4.0, step=0.1, initial_value=controls.speed)
        self.paused = gui.add_checkbox("pause", controls.paused)
        self.step = gui.add_button("single step")
        self.sampled = gui.add_checkbox("sampled actions", controls.sampled)
        self.restart = gui.add_button("restart")

        for handle, name in ((self.env, "env"), (self.speed, "speed"), (self.paused, "paused"), (self.sampled, "sampled")):
            handle.on_update(lambda _, handle=handle, name=name: setattr(controls, name, handle.value))
        self.restart.on_click(lambda _: controls.restart.set())

        @self.step.on_click
        def _(_: Any) -> None:
            self.paused.value = True
            controls.step.set()


# -- the command -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewOptions:
    checkpoint: str = field()
    sim: str = field()
    num_envs: int = between(1, 1024)
    seed: int = between(0, 2**31 - 1)
    host: str = field()
    port: int = between(1, 65535)


DEFAULTS = {"checkpoint": "", "sim": "", "num_envs": 16, "seed": 0, "host": LOOPBACK[0], "port": 8080}


def open_server(host: str, port: int) -> Any:
    """A viser server at the address, or at a higher port where that is taken. Raises ConfigError."""
    try:
        import viser
    except ImportError as error:
        raise ConfigError(f"the viewer needs the package {error.name}; write pip install -e '.[viewer]'") from error
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise ConfigError(f"host={host} is no address of this machine; write host=127.0.0.1, or host=0.0.0.0 for all of its own") from error
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it prints a traceback where a browser hangs up early
    with contextlib.redirect_stdout(io.StringIO()):  # its banner; main says where the page is
        return viser.ViserServer(host=host, port=port, label="happo_gpu", verbose=False)


def where(host: str, port: int) -> str:
    """What to open, and for a page that only this machine sees, how from another one."""
    if host not in LOOPBACK:
        return f"open http://{socket.gethostname() if host == '0.0.0.0' else host}:{port} (anybody who reaches this address can)"
    return f"open http://localhost:{port}\nfrom another machine, first: ssh -L {port}:localhost:{port} {socket.gethostname()}"


def main(arguments: List[str]) -> None:
    chosen = command.options(ViewOptions, arguments, DEFAULTS)
    cfg = command.run_config_of(chosen.checkpoint, chosen.num_envs, chosen.sim)
    outlines = outlines_of(cfg)
    server = open_server(chosen.host, chosen.port)
    try:
        task, policy = command.task_and_policy(cfg, Path(chosen.checkpoint), chosen.seed)
        controls, stage = Controls(), stage_of(cfg, task, outlines)
        page = Page(server, stage, outlines, controls, chosen.num_envs)
        print(f"{where(chosen.host, server.get_port())}\nCtrl-C ends it", flush=True)
        Player(task, policy, controls, lambda: page.show(moment_of(task, stage, outlines, controls.env))).run()
    except KeyboardInterrupt:
        print()  # after the terminal's ^C
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


if __name__ == "__main__":
    command.run(main, __doc__)
