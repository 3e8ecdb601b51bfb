"""The viewer: what it draws, how it plays, and that its page answers."""
from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import browser
import numpy as np
import pytest
import torch
import yaml

from conftest import CPU, compose_config, compose_raw, make_task
from happo_gpu import build, checkpoint, command, outlines, playback, scene, view
from happo_gpu.playback import Controls, Player
from test_video import without

SMALL = ["num_envs=5", "algo.model.hidden_sizes=[8,8]", "task.env.controlFrequencyInv=5"]
SHAPES = outlines.outlines_of(compose_config("task=Go1Push"))


def volume(surface):
    """By the divergence theorem: of a closed surface whose triangles face outward."""
    vertices, faces = surface
    return np.einsum("fi,fi->", vertices[faces[:, 0]], np.cross(vertices[faces[:, 1]], vertices[faces[:, 2]])) / 6.0


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run as training leaves it, with an untrained policy."""
    path = tmp_path_factory.mktemp("run")
    (path / "config.yaml").write_text(yaml.safe_dump(compose_raw("task=Go1Push", *SMALL), sort_keys=False))
    _, learner = build.build_for_test(compose_config(*SMALL), CPU, 3)
    checkpoint.save(path / "nn" / "mine.pth", {"learner": learner.state_dict()})
    return path


# -- what is drawn ---------------------------------------------------------------------------------


def test_surfaces_are_closed_and_face_outward():
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.5, 0.7)
    assert volume(scene.prism(square, 0.2, 1.3)) == pytest.approx(1.0 * 1.4 * 1.1)
    assert volume(scene.prism(SHAPES.robot[0], 0.06, 0.32)) == pytest.approx(0.26 * area(SHAPES.robot[0]))
    assert 0.8 < volume(scene.prism(SHAPES.robot[0], 0.06, 0.32, 0.03)) / (0.26 * area(SHAPES.robot[0])) < 1.0
    ball, rod = scene.capsule(0.3, 0.0, 96), scene.capsule(0.3, 0.5, 96)
    assert volume(ball) == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.02)
    assert volume(rod) - volume(ball) == pytest.approx(np.pi * 0.3**2 * 1.0, rel=0.02)


def area(points):
    x, y = points.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def test_a_planar_scene_has_every_body_where_the_simulator_has_it():
    task = make_task("sim=planar", num_envs=3)
    task.reset()
    stage = scene.planar_stage(task, SHAPES, 0.25)
    assert stage.bodies == ["robot_0", "robot_1", "box"] and len(stage.parts) == 5
    positions, quaternions = stage.poses(1)
    assert np.allclose(positions[:2, :2], task.sim.agent_pose[1, :, :2]) and (positions[:, 2] == 0).all()
    forward, _ = scene.moved((np.array([[1.0, 0.0, 0.0]]), None), np.zeros(3), quaternions[2])
    yaw = float(task.sim.object_pose[1, 0, 2])
    assert np.allclose(forward, [(np.cos(yaw), np.sin(yaw), 0.0)], atol=1e-6)


def test_a_robot_on_wheels_stands_on_four_of_them_within_its_footprint():
    task, shapes = make_task("task=Go1WheeledPush", num_envs=3), outlines.outlines_of(compose_config("task=Go1WheeledPush"))
    parts = scene.planar_stage(task, shapes, 0.25).parts
    assert [(part.body, part.colour) for part in parts].count((1, scene.DARK)) == 1 and (0, scene.DARK) not in [(part.body, part.colour) for part in parts]
    chassis, wheels = [part.surface for part in parts if part.body == 1 and part.colour in (outlines.COLOURS[1], scene.DARK)]
    assert volume(wheels) == pytest.approx(4 * np.pi * 0.098**2 * 0.04, rel=0.02)
    assert wheels[0][:, 2].min() == pytest.approx(0.0, abs=1e-3) and chassis[0][:, 2].min() > 0.05
    for vertices in (chassis[0], wheels[0]):
        assert (np.abs(vertices[:, :2]).max(0) <= np.array((0.229, 0.208)) + 1e-6).all()
    low, high = vertices[vertices[:, 1] < 0.0], vertices[vertices[:, 1] > 0.0]
    assert low[:, 1].max() < -np.abs(chassis[0][:, 1]).max() and high[:, 1].min() > np.abs(chassis[0][:, 1]).max()  # beside it


def test_obstacles_are_shown_where_they_stand():
    cfg = compose_config("task=Go1PushLong")
    task = make_task("task=Go1PushLong", "task.arena.maps=3", num_envs=2)
    task.reset()
    stage = scene.planar_stage(task, outlines.outlines_of(cfg), 0.25)
    assert stage.bodies[3:] == ["obstacle_0", "obstacle_1"] and [part.body for part in stage.parts][-2:] == [3, 4]
    positions, _ = stage.poses(1)
    np.testing.assert_allclose(positions[3:, :2], task.sim.obstacle_pose[1, :, :2], rtol=1e-6)
    assert scene.colour_of("obstacle_0", "obstacle_0") == scene.GREY


def test_three_robots_have_three_bodies_and_a_t_is_its_two_bars():
    for name, bodies, convex in (("Go1PushCylinder", ["robot_0", "robot_1", "robot_2", "box"], 1), ("Go1PushTee", ["robot_0", "robot_1", "box"], 2)):
        cfg = compose_config(f"task={name}")
        stage = scene.planar_stage(make_task(f"task={name}", num_envs=3), outlines.outlines_of(cfg), cfg.task.object.halfExtents[2])
        pushed = [part.surface for part in stage.parts if part.body == len(bodies) - 1]
        assert stage.bodies == bodies and len(pushed) == convex
        footprint = area(outlines.outlines_of(cfg).box)
        assert sum(map(volume, pushed)) == pytest.approx(footprint * 2.0 * cfg.task.object.halfExtents[2], rel=1e-3)


def test_a_whole_robot_is_drawn_with_its_legs_where_the_engine_has_them():
    mujoco = pytest.importorskip("mujoco", reason="sim=mujoco needs the extra [mujoco]")
    task = make_task("sim=mujoco", num_envs=2)
    task.reset()
    stage = scene.legged_stage(task.sim.worlds)
    assert len(stage.bodies) == 2 * 13 + 1 and stage.bodies[-1] == "object_0"
    assert {part.colour for part in stage.parts} == {*outlines.COLOURS[:2], scene.DARK, "#111111", scene.BOX_COLOUR}
    assert {scene.BOX_COLOUR} == {part.colour for part in stage.parts if part.body == 26}
    before = [stage.poses(n)[0].copy() for n in range(2)]
    for n in range(2):
        assert np.allclose(before[n][[0, 13], :2], task.sim.agent_pose[n, :, :2], atol=1e-6)
    for _ in range(5):
        task.step(torch.ones(2, 6))
    shank = stage.bodies.index("robot_0_FR_calf")
    assert np.abs(stage.poses(0)[0] - before[0])[shank].max() > 1e-3
    kinds = mujoco.mjtGeom
    for kind, size, truth in ((kinds.mjGEOM_BOX, (0.1, 0.2, 0.3), 8 * 0.006), (kinds.mjGEOM_CYLINDER, (0.1, 0.2, 0), np.pi * 0.01 * 0.4),
                              (kinds.mjGEOM_SPHERE, (0.1, 0, 0), 4 / 3 * np.pi * 1e-3),
                              (kinds.mjGEOM_CAPSULE, (0.1, 0.2, 0), np.pi * (4 / 3 * 1e-3 + 0.004))):
        assert volume(scene.geom_surface(int(kind), np.array(size))) == pytest.approx(truth, rel=0.06)


def test_forces_are_drawn_from_where_they_act_and_small_ones_are_not():
    drawn = scene.arrows(np.array([(1.0, 2.0), (3.0, 4.0)]), np.array([(10.0, -20.0), (0.5, 0.5)]), 0.6)
    assert np.allclose(drawn, [[(1.0, 2.0, 0.6), (1.2, 1.6, 0.6)]])
    assert scene.arrows(np.zeros((0, 2)), np.zeros((0, 2)), 0.6).shape == (0, 2, 3)


@pytest.mark.parametrize("success, exception, seconds, words", [
    (False, False, 7.0, "7.00 s of 20 s: pushing"), (True, False, 7.0, "**success**"), (False, True, 7.0, "**collision or fall**"),
    (False, False, 20.0, "**time is up**"),
])
def test_the_status_says_time_distance_and_how_it_stands(success, exception, seconds, words):
    shown = {"goal": np.array((3.0, 0.0)), "object_pose": np.array([(0.0, 4.0, 1.0)]), "success": success, "exception": exception}
    text = scene.status(shown, seconds, 20.0, 1.0)
    assert words in text and "box to goal 5.00 m (success below 1.00 m)" in text


# -- playing ---------------------------------------------------------------------------------------


class Clock:
    """Time that passes only in sleep; ``then`` is done at each sleep, one after the other."""

    def __init__(self, *then):
        self.now, self._then = 100.0, list(then)

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self._then:
            self._then.pop(0)()


@contextmanager
def player(monkeypatch, *then, **controls):
    """A player of 3 environments that decides every 5 control steps, with the pictures that it drew."""
    clock, chosen, pictures = Clock(*then), Controls(**controls), []
    monkeypatch.setattr(playback, "time", clock)
    task = make_task(*SMALL, "task.env.episodeLength=20", num_envs=3)
    policy = SimpleNamespace(deterministic=None, act=lambda *_: (torch.zeros(3, 6), None))
    each = Player(task, policy, chosen, lambda: pictures.append((clock.now, chosen.env, int(task.progress_buf[chosen.env]))))
    task.reset()
    with playback.watching(task, lambda: each._show(task.dt)):
        each._due = clock.now
        yield each, pictures, clock


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_every_control_step_is_drawn_and_takes_its_time(monkeypatch, speed):
    with player(monkeypatch, speed=speed) as (each, pictures, clock):
        each.decide()
    assert [steps for _, _, steps in pictures] == [1, 2, 3, 4, 5]
    assert clock.now - 100.0 == pytest.approx(5 * 0.02 / speed, abs=0.004)


def test_a_pause_lasts_and_a_single_step_is_one_step(monkeypatch):
    def resume():
        each.controls.paused = False

    def step():
        each.controls.step.set()

    wait = [lambda: None] * 50
    with player(monkeypatch, *wait, step, *wait, resume, paused=True) as (each, pictures, clock):
        each.decide()
    times = [when - 100.0 for when, _, _ in pictures]
    assert times[0] == 0.0 and times[1] > 0.04 and times[2] - times[1] > 0.04 and times[4] - times[2] < 0.05
    assert [steps for _, _, steps in pictures] == [1, 2, 3, 4, 5]


def test_another_environment_is_drawn_at_once_though_paused(monkeypatch):
    def change():
        each.controls.env = 2

    def resume():
        each.controls.paused = False

    with player(monkeypatch, change, resume, paused=True) as (each, pictures, _):
        each.decide()
    assert [(env, steps) for _, env, steps in pictures] == [(0, 1), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]


def test_a_dragged_goal_is_that_of_the_shown_environment_and_earns_nothing(monkeypatch):
    def drag():
        each.controls.goal = (2.5, -1.5)

    with player(monkeypatch, drag, env=1) as (each, _, _):
        task = each.task
        before = task.goal.clone()
        each.decide()
    assert task.goal[1].tolist() == [2.5, -1.5] and torch.equal(task.goal[[0, 2]], before[[0, 2]])
    assert each.controls.goal is None
    seen = task.observation_names()[0].index(next(q for q in task.observation_names()[0] if q.name == "goal_x_b"))
    offset = task.goal[1] - task.sim.agent_pose[1, 0, :2]
    yaw = task.sim.agent_pose[1, 0, 2]
    assert float(task.obs_buf[1, seen]) == pytest.approx(float(offset[0] * yaw.cos() + offset[1] * yaw.sin()), abs=1e-5)
    assert abs(float(task.rew_buf[1, 0] - task.rew_buf[0, 0])) < 1.0  # a metre would pay 0.65 times shapingScale 10


def test_an_episodes_last_picture_stays_in_view(monkeypatch):
    with player(monkeypatch) as (each, pictures, clock):
        for _ in range(5):
            each.decide()
    assert [steps for _, _, steps in pictures[18:22]] == [19, 20, 1, 2]
    assert pictures[20][0] - pictures[19][0] == pytest.approx(playback.HOLD + 0.02, abs=0.004)


def test_restart_begins_anew_without_showing_the_rest_of_the_decision(monkeypatch):
    def restart():
        each.controls.restart.set()

    with player(monkeypatch, restart) as (each, pictures, _):
        before = each.task.goal.clone()
        each.decide()
        assert len(pictures) == 1 and int(each.task.progress_buf.max()) == 0 and bool(each.task.reset_buf.all())
        assert not torch.equal(before, each.task.goal)
        each.decide()
    assert len(pictures) == 6


def test_actions_are_sampled_where_asked(run_dir):
    cfg = command.run_config_of(str(run_dir / "nn" / "mine.pth"), 3)
    task, policy = command.task_and_policy(cfg, run_dir / "nn" / "mine.pth", 0)
    task.reset()
    act = playback.actor(task, policy)
    assert torch.equal(act(), act())
    policy.deterministic = False
    assert not torch.equal(act(), act())


# -- the page --------------------------------------------------------------------------------------


@pytest.fixture
def page():
    """A page with its server, on a free port."""
    pytest.importorskip("viser", reason="the viewer needs the extra [viewer]")
    task, controls = make_task(num_envs=3), Controls()
    task.reset()
    stage = scene.planar_stage(task, SHAPES, 0.25)
    server = view.open_server("127.0.0.1", 8311)
    shown = view.Page(server, stage, SHAPES, controls, 3)
    shown.show(scene.moment_of(task, stage, SHAPES, 0))
    yield shown, task, stage
    server.stop()


def test_the_page_answers_and_only_on_this_machine(page):
    server = page[0].server
    assert server.get_host() == "127.0.0.1"
    with urllib.request.urlopen(f"http://127.0.0.1:{server.get_port()}/") as answer:
        assert answer.status == 200 and b"<html" in answer.read()


def test_a_taken_port_gives_way_to_the_next(page):
    port = page[0].server.get_port()
    second = view.open_server("127.0.0.1", port)
    assert second.get_port() > port
    second.stop()


def test_controls_change_what_the_player_reads(page):
    shown, controls = page[0], page[0].controls
    shown.env.value, shown.speed.value, shown.sampled.value = 2, 0.5, True
    assert (controls.env, controls.speed, controls.sampled, controls.paused) == (2, 0.5, True, False)
    shown.step.value = True
    assert controls.step.is_set() and controls.paused and shown.paused.value
    shown.restart.value = True
    assert controls.restart.is_set()


def test_the_page_shows_a_moment(page):
    shown, task, stage = page
    task.sim.agent_pose[1, 0] = torch.tensor([3.0, 4.0, 0.0])
    shown.show(scene.moment_of(task, stage, SHAPES, 1))
    assert shown.bodies[0].position.tolist() == [3.0, 4.0, 0.0]
    assert np.allclose(shown.goal.position[:2], task.goal[1]) and "0.00 s of 20 s" in shown.status.content
    assert not shown.arrows.visible


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, line", [
    (["sim=mujoco"], "a checkpoint is needed"),
    (["checkpoint={run}/nn/mine.pth", "sim=planer"], "sim=planer is not known; did you mean planar?"),
    (["checkpoint={run}/nn/mine.pth", "host=203.0.113.5"], "host=203.0.113.5 is no address of this machine"),
    (["checkpoint={run}/nn/mine.pth", "port=0"], "port=0 is out of range; allowed: 1 to 65535"),
    (["checkpoint={run}/nn/mine.pth", "ports=9"], "unknown key ports; did you mean port?"),
])
def test_what_cannot_be_viewed_is_said_in_one_line(run_dir, monkeypatch, capsys, arguments, line):
    pytest.importorskip("viser", reason="the viewer needs the extra [viewer]")
    monkeypatch.setattr("sys.argv", ["view", *(argument.format(run=run_dir) for argument in arguments)])
    with pytest.raises(SystemExit) as stopped:
        command.run(view.main, view.__doc__)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and line in error and error.count("\n") == 1


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    without(monkeypatch, "viser")
    with pytest.raises(command.ConfigError, match=r"the viewer needs the package viser; write pip install -e '\.\[viewer\]'"):
        view.open_server("127.0.0.1", 8311)


def test_another_simulator_brings_its_own_settings_and_the_runs_own_keeps_the_saved_ones(run_dir):
    raw = yaml.safe_load((run_dir / "config.yaml").read_text())
    raw["sim"]["gain"] = 0.5
    other = run_dir.parent / "other"
    (other / "nn").mkdir(parents=True)
    (other / "config.yaml").write_text(yaml.safe_dump(raw))
    (other / "nn" / "mine.pth").touch()
    path = str(other / "nn" / "mine.pth")
    assert [command.run_config_of(path, 3, sim).sim.gain for sim in ("", "planar")] == [0.5, 0.5]
    assert command.run_config_of(path, 3, "mujoco").sim.legs.dt == 0.005


def test_a_run_keeps_the_keys_that_were_added_to_it(run_dir):
    raw = yaml.safe_load((run_dir / "config.yaml").read_text())
    raw["task"]["randomize"]["object_mass"] = [0.9, 1.1]
    other = run_dir.parent / "randomised"
    (other / "nn").mkdir(parents=True)
    (other / "config.yaml").write_text(yaml.safe_dump(raw))
    assert command.saved_config(other).task.randomize["object_mass"] == (0.9, 1.1)


def test_a_page_that_others_may_open_says_so():
    assert view.where("127.0.0.1", 8080).startswith("open http://localhost:8080\nfrom another machine, first: ssh -L 8080:localhost:8080 ")
    assert "anybody" in view.where("0.0.0.0", 8080) and "ssh" not in view.where("0.0.0.0", 8080)


@contextmanager
def command_line(run_dir, *arguments):
    """The command in a process of its own, once it serves its page, and the page's address."""
    pytest.importorskip("viser", reason="the viewer needs the extra [viewer]")
    line = [sys.executable, "-m", "happo_gpu.view", f"checkpoint={run_dir}/nn/mine.pth", "port=8321", *arguments]
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731  a test in the background ignores it
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, preexec_fn=restore)
    try:
        lines = []
        for text in process.stdout:
            lines.append(text)
            if "Ctrl-C ends it" in text:
                break
        address = [text.split()[1] for text in lines if text.startswith("open ")]
        assert address, "".join(lines)
        yield process, address[0]
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_ctrl_c_ends_it_cleanly(run_dir):
    with command_line(run_dir, "num_envs=2") as (process, address):
        assert urllib.request.urlopen(address).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout.read().strip() == ""


def first_goal(run_dir):
    """The goal (2,) that environment 0 of the command begins with."""
    path = run_dir / "nn" / "mine.pth"
    task, _ = command.task_and_policy(command.run_config_of(str(path), 3), path, 0)
    task.reset()
    return task.goal[0].numpy()


def pixel(point, size):
    """Where a point of the ground is on a page of this width and height, as the camera begins."""
    camera, ahead = np.array(view.CAMERA), np.subtract(view.LOOK_AT, view.CAMERA)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    offset = np.append(point, 0.0) - camera
    scale = 0.5 * size[1] / np.tan(0.5 * view.FIELD_OF_VIEW) / (offset @ ahead)
    return 0.5 * size[0] + scale * (offset @ right), 0.5 * size[1] - scale * (offset @ np.cross(right, ahead))


def distance_in(text):
    return float(re.search(r"box to goal ([0-9.]+) m", text).group(1))


def changed(tab, before):
    end = time.monotonic() + 30.0
    while tab.text() == before:
        assert time.monotonic() < end, before
        time.sleep(0.2)


@pytest.mark.skipif(browser.CHROMIUM is None, reason="the browser test needs Chromium")
def test_a_browser_shows_the_scene_and_its_controls_work(run_dir, tmp_path):
    """Pauses, takes a step, and drags the goal by the square between the arrows of its gizmo."""
    Image = pytest.importorskip("PIL.Image", reason="the browser test needs Pillow")
    goal = first_goal(run_dir)
    with command_line(run_dir, "num_envs=3") as (_, address), browser.opened(address, tmp_path / "profile") as tab:
        tab.wait_for("box to goal")
        tab.tick("pause")
        time.sleep(3.0)
        paused = tab.text()
        tab.click("single step")
        changed(tab, paused)
        (tmp_path / "page.png").write_bytes(tab.screenshot())
        size = tab.value("[innerWidth, innerHeight]")
        paused, distance = tab.text(), distance_in(tab.text())
        assert distance == pytest.approx(np.hypot(*goal), abs=0.05), "the episode has gone on too far for this test"
        tab.drag(pixel((goal[0] + 0.13, goal[1] + 0.13), size), pixel((goal[0] + 0.13, goal[1] + 0.63), size))
        changed(tab, paused)
        time.sleep(2.0)
        assert distance_in(tab.text()) == pytest.approx(np.hypot(goal[0], goal[1] + 0.5), abs=0.1)
    pixels = np.asarray(Image.open(str(tmp_path / "page.png")).convert("HSV")).reshape(-1, 3).astype(int)
    vivid = pixels[(pixels[:, 1] > 100) & (pixels[:, 2] > 80)]
    hues = {"robot_0, and buttons": (140, 155), "robot_1": (8, 20)}  # of 255
    for name, (low, high) in hues.items():
        assert ((vivid[:, 0] >= low) & (vivid[:, 0] <= high)).sum() > 200, name
