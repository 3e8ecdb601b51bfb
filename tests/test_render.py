"""Whole robots rendered without a display: pictures that show something, and one line where nothing can render."""
from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import yaml

pytest.importorskip("mujoco", reason="needs the extra [mujoco]")
render = pytest.importorskip("happo_gpu.render")

from conftest import CPU, compose_config, compose_raw, make_task  # noqa: E402
from happo_gpu import build, checkpoint  # noqa: E402
from happo_gpu.config import ConfigError  # noqa: E402


@pytest.fixture(scope="module")
def filmed():
    torch.manual_seed(3)
    task = make_task("sim=mujoco", num_envs=2)
    try:
        stage = render.Stage(task, 1.0, 2, 320)
    except ConfigError as error:
        pytest.skip(str(error))
    ahead = torch.tensor([1.0, 0.0, 0.0]).repeat(2, 2)
    shown = [picture.copy() for picture in render.pictures(task, lambda: ahead, stage, 0.4)]
    stage.close()
    return shown


def test_there_are_25_pictures_a_second_of_two_tiles(filmed):
    assert len(filmed) == 10 and filmed[0].shape == (96, 320, 4)


def test_robots_box_and_goal_have_their_colours_and_move(filmed):
    first, last = (picture[..., :3].astype(int) for picture in (filmed[0], filmed[-1]))
    red, green, blue = first[..., 0], first[..., 1], first[..., 2]
    for seen in ((blue > red + 40), (red > green + 40) & (green < 120), (red > blue + 50) & (green > 110)):
        assert seen.sum() > 10  # the first robot, the second, box or goal
    assert (abs(last - first).sum(-1) > 60).sum() > 50


def test_a_machine_that_cannot_render_says_what_to_install(tmp_path):
    raw = compose_raw("num_envs=1")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    _, learner = build.build_for_test(compose_config("num_envs=1", "test=True"), CPU, 3)
    checkpoint.save(tmp_path / "nn" / "mine.pth", {"learner": learner.state_dict()})
    code = ("import mujoco\n"
            "def refuse(*_): raise RuntimeError('no GL here')\n"
            "mujoco.Renderer = refuse\n"
            "from happo_gpu import command, render; command.run(render.main, render.__doc__)")
    result = subprocess.run([sys.executable, "-c", code, f"checkpoint={tmp_path}/nn/mine.pth"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.startswith("error: nothing can render here (RuntimeError: no GL here)") and "libegl1" in result.stderr
    assert not (tmp_path / "videos").exists()
