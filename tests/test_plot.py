"""Pictures of runs: what was written is opened and looked at."""
from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
import torch
import yaml

from conftest import compose_config, compose_raw, make_task
from happo_gpu import command, outlines, plot, pushes
from happo_gpu.config import ConfigError
from happo_gpu.recording import record


def write_run(path, algo, success, iterations=5):
    """A run of two agents that succeeded at ``success`` in its evaluation and in training."""
    path.mkdir()
    raw = compose_raw("task=Go1Push", f"algo={algo}")
    (path / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    lines = [{"epoch": i, "frames": 1000 * i, "train_seconds": 2.0 * i, "Episode/success": success, "Episode/return": -i,
              "Episode/reward_ocb": 0.1 * i, "losses/entropy": 3.0 - 0.1 * i, "info/factor_min/agent_0": 0.7,
              "info/factor_min/agent_1": 0.6} for i in range(1, iterations + 1)]
    lines.append({"evaluation": {"success_rate": success, "mean_return": -3.0, "frames": 1000 * iterations}})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def colours_of(path):
    pixels = matplotlib.image.imread(str(path))[..., :3]
    return {tuple(colour) for colour in np.round(255 * pixels.reshape(-1, 3)).astype(int)}


@pytest.fixture(autouse=True)
def _fewer_pixels(monkeypatch):
    monkeypatch.setitem(plot.STYLE, "savefig.dpi", 80)


def rgb(colour):
    return tuple(round(255 * part) for part in matplotlib.colors.to_rgb(colour))


def test_one_run_is_drawn_into_its_own_directory(tmp_path):
    run = write_run(tmp_path / "a", "HAPPO", 0.5)
    plot.main([str(run)])
    seen = colours_of(run / "curves.png")
    assert len(seen) > 50 and rgb(outlines.COLOURS[0]) in seen and rgb(outlines.COLOURS[1]) not in seen
    drawing = ElementTree.parse(str(run / "curves.svg")).getroot()
    panels = [part for part in drawing.iter() if part.get("id", "").startswith("axes_")]
    assert drawing.tag.endswith("svg") and len(panels) == len(plot.panels_of([plot.read_run(run)]))


def test_each_task_and_algo_has_a_colour_and_its_seeds_a_band(tmp_path):
    runs = [write_run(tmp_path / name, algo, success)
            for name, algo, success in (("a", "HAPPO", 0.2), ("b", "HAPPO", 0.6), ("c", "MAPPO", 0.9))]
    plot.main([*map(str, runs), f"output={tmp_path / 'out'}"])
    seen = colours_of(tmp_path / "out" / "curves.png")
    assert {rgb(outlines.COLOURS[0]), rgb(outlines.COLOURS[1])} <= seen and rgb(outlines.COLOURS[2]) not in seen
    read = [plot.read_run(run) for run in runs]
    matplotlib.rcParams.update(plot.STYLE)
    success = plot.curves_figure(read).axes[0]
    assert success.get_title() == "success rate, evaluation"
    assert [line.get_ydata().tolist() for line in success.lines] == [[pytest.approx(0.4)], [0.9]]
    (band,) = success.collections  # of HAPPO alone: MAPPO has one run
    assert band.get_paths()[0].vertices[:, 1].min() == 0.2 and band.get_paths()[0].vertices[:, 1].max() == 0.6


def test_runs_of_unequal_length_are_compared_where_all_have_been(tmp_path):
    short, long = write_run(tmp_path / "a", "HAPPO", 0.1, 3), write_run(tmp_path / "b", "HAPPO", 0.1, 7)
    curves = [plot.read_run(run).curve("Episode/return", None) for run in (short, long)]
    frames, values = plot.over_runs(curves)
    assert frames.tolist() == [1000, 2000, 3000] and values.tolist() == [[-1, -2, -3]] * 2


def test_factors_are_taken_together_over_agents(tmp_path):
    run = plot.read_run(write_run(tmp_path / "a", "HAPPO", 0.1))
    (panel,) = [panel for panel in plot.panels_of([run]) if panel[0] == "factor, lowest"]
    _, lowest = run.curve(*panel[1:])
    assert lowest.tolist() == [0.6] * 5


def test_quantities_that_no_run_has_leave_no_panel(tmp_path):
    titles = [title for title, *_ in plot.panels_of([plot.read_run(write_run(tmp_path / "a", "HAPPO", 0.1))])]
    assert "reward term: ocb" in titles and "factor, lowest" in titles and "learning rate" not in titles


def test_the_line_that_a_kill_cut_short_is_left_out(tmp_path):
    run = write_run(tmp_path / "a", "HAPPO", 0.1)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 6, "fra')
    assert len(plot.read_records(run)) == 6


def test_pushes_begin_at_the_origin_with_the_goal_ahead_and_are_cut_at_their_end():
    task = make_task("task.env.episodeLength=40", "task.env.controlFrequencyInv=5", num_envs=3)
    forward = torch.tensor([0.5, 0.0, 0.0]).repeat(2)
    policy = type("Forward", (), {"act": lambda self, obs, *_: (forward.expand(3, -1), None)})()
    drawn = pushes.first_pushes(task, policy)
    for push in drawn:
        assert push.box.shape == (40, 3) and push.robots.shape == (40, 2, 3)
        assert push.title == "no success in 0.8 s" and 1.5 <= push.goal <= 3.0
        assert abs(push.box[0, :2]).max() < 0.02 and abs(push.robots[-1] - push.robots[0])[:, :2].max() > 0.05
        ahead = push.robots[-1] - push.robots[0]
        heading = np.arctan2(ahead[:, 1], ahead[:, 0]) - push.robots[0, :, 2]
        assert np.cos(heading).min() > 0.8  # turned together: a robot still walks where its nose points
    matplotlib.rcParams.update(plot.STYLE)
    figure = pushes.push_figure(drawn, outlines.outlines_of(compose_config("task=Go1Push")), "title")
    assert len(figure.axes) == 3 and figure.axes[0].get_title() == "no success in 0.8 s"


def test_a_push_is_cut_where_its_episode_ended():
    task = make_task("task.env.episodeLength=40", num_envs=3)
    recording = record(task, lambda: torch.zeros(3, 6), 40, 3)
    push = pushes.push_of(recording, {"length": 15.0, "success": 0.0, "collision": 1.0}, 1, 0.02)
    assert push.box.shape == (15, 3) and push.robots.shape == (15, 2, 3) and push.title == "collision after 0.3 s"


def test_the_footprint_is_the_hull_of_the_circles_that_collide():
    points = outlines.hull([(-0.2, 0.1), (0.3, 0.05)])
    assert points[:, 0].min() == pytest.approx(-0.3) and points[:, 0].max() == pytest.approx(0.35)
    assert points[:, 1].max() == pytest.approx(0.1, abs=1e-3)
    assert outlines.placed(np.array([[1.0, 0.0]]), np.array([2.0, 3.0, np.pi / 2]))[0] == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize("arguments, line", [
    (["runs/none"], "runs/none does not exist"),
    (["{tmp}"], "it has no metrics.jsonl"),
    (["checkpoint=runs/none/nn/a.pth"], "checkpoint runs/none/nn/a.pth does not exist"),
    (["checkpoint=a.pth", "{tmp}"], "write either run directories or checkpoint="),
    (["outputs=here", "{tmp}"], "unknown key outputs; did you mean output?"),
])
def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.setattr("sys.argv", ["plot", *(argument.format(tmp=tmp_path) for argument in arguments)])
    with pytest.raises(SystemExit) as stopped:
        command.run(plot.main, plot.__doc__)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and line in error and error.count("\n") == 1


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ConfigError, match=r"pictures need the package matplotlib.*write pip install -e '\.\[figures\]'"):
        plot.use_style()


def test_a_run_without_a_logged_line_is_said_to_be_empty(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match="has logged nothing yet"):
        plot.read_run(tmp_path)
