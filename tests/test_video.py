"""Videos: the files are opened again, and filming changes nothing of what it films."""
from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from conftest import CPU, compose_config, compose_raw, make_task
from happo_gpu import build, checkpoint, command, encode, outlines, video
from happo_gpu.config import ConfigError
from happo_gpu.recording import Recorder, record

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

SMALL = ["num_envs=5", "algo.episode_length=3", "algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=1",
         "algo.critic_num_mini_batch=1", "task.env.controlFrequencyInv=5", "task.env.episodeLength=20",
         "train.eval_envs=7", "eval_every=2", "save_every=0", "max_iterations=5", "task.env.spawn=separated"]


def ahead(task):
    """Every robot walks where its nose points."""
    return lambda: torch.tensor([1.0, 0.0, 0.0]).repeat(task.num_envs, task.num_agents)


def pictures_of(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


@pytest.fixture(scope="module")
def filmed():
    """3 environments for 40 control steps of 20 ms: two episodes of 20."""
    torch.manual_seed(3)
    task = make_task("task.env.episodeLength=20", "task.env.controlFrequencyInv=5", num_envs=3)
    return record(task, ahead(task), 40, 3), outlines.outlines_of(compose_config("task=Go1Push")), task.dt


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run as training leaves it, with an untrained policy."""
    path = tmp_path_factory.mktemp("run")
    raw = compose_raw("task=Go1Push", *SMALL)
    (path / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    _, learner = build.build_for_test(compose_config(*SMALL), CPU, 3)
    checkpoint.save(path / "nn" / "mine.pth", {"learner": learner.state_dict()})
    return path


# -- recordings ------------------------------------------------------------------------------------


def test_a_recording_sees_every_control_step_before_the_reset(filmed):
    recording, _, _ = filmed
    assert recording["agent_pose"].shape == (40, 3, 2, 3) and recording["object_pose"].shape == (40, 3, 1, 3)
    assert recording["progress"][:, 1].tolist() == [*range(1, 21)] * 2
    assert recording["episode"][:, 1].tolist() == [1] * 20 + [2] * 20
    steps = torch.linalg.vector_norm(recording["agent_pose"][1:, ..., :2] - recording["agent_pose"][:-1, ..., :2], dim=-1)
    jumps = steps.amax((1, 2)) > 0.1
    assert jumps.nonzero().flatten().tolist() == [19]  # from the end of the first episode to the next start, nowhere else


def test_recording_leaves_the_task_as_it_was():
    seen = []
    for watched in (False, True):
        torch.manual_seed(5)
        task = make_task("task.env.episodeLength=20", "task.env.controlFrequencyInv=5")
        before = task.after_physics
        if watched:
            record(task, ahead(task), 25, 2)
        else:
            task.reset()
            for _ in range(5):
                task.step(ahead(task)())
        assert task.after_physics == before
        seen.append(task.obs_buf.clone())
    assert torch.equal(*seen)


def test_the_recorder_lets_go_of_the_task_after_an_error():
    task = make_task()
    before = task.after_physics
    with pytest.raises(KeyError), Recorder(task, 2):
        raise KeyError
    assert task.after_physics == before


# -- pictures --------------------------------------------------------------------------------------


def test_the_last_picture_of_an_episode_is_held():
    episode = np.array([[1, 1], [1, 2], [2, 2], [2, 2], [2, 3]])
    assert video.timeline(episode, 3).T.tolist() == [[0, 1, 1, 1, 2], [0, 0, 0, 1, 2]]


def test_first_episodes_alone_stay_at_their_end():
    episode = np.array([[1, 1], [1, 2], [1, 2], [2, 2]])
    assert video.first_alone(episode, 2).T.tolist() == [[0, 1, 2, 2, 2], [0, 0, 0, 0, 0]]


def test_an_episode_ends_in_success_in_an_exception_or_with_its_time():
    shown = {"success": np.array([[0, 1, 0]] * 2), "exception": np.array([[0, 0, 1]] * 2), "episode": np.array([[1, 1, 1], [2, 1, 1]])}
    assert [video.outcome(shown, 0, n) for n in range(3)] == ["time", "success", "exception"]
    assert video.outcome(shown, 1, 0) == "" and video.outcome(shown, 1, 0, ended=True) == "time"
    assert video.caption("success", 7.25) == "success in 7.2 s" and video.caption("", 0.1) == "0.1 s"


def test_bodies_are_drawn_where_they_are_and_the_end_is_tinted(filmed):
    recording, shapes, dt = filmed
    pictures = [picture[..., :3].copy() for picture in video.frames(recording, shapes, dt)]
    assert len(pictures) == round(40 * dt * encode.FPS) and pictures[0].shape == (960, 960, 3)
    farthest = float(torch.linalg.vector_norm(recording["goal"], dim=-1).max())
    scale = 480 / (farthest + 2 * (shapes.around + video.ROOM))
    for n, (left, top) in enumerate(((0, 0), (480, 0), (0, 480))):
        for i in range(2):
            x, y = ((recording["agent_pose"][0, n, i, :2] - recording["goal"][0, n] / 2) * scale).tolist()
            pixel = pictures[0][top + 240 - round(y), left + 240 + round(x)]
            assert tuple(pixel) == tuple(bytes.fromhex(outlines.COLOURS[i][1:]))
    assert tuple(pictures[0][5, 5]) == (255, 255, 255)
    assert tuple(pictures[-1][5, 5]) == tuple(bytes.fromhex(video.TINTS["time"][1:]))  # held from 0.4 s to the end
    assert (pictures[0][480:, 480:] == 255).all()  # three environments on four tiles


# -- files -----------------------------------------------------------------------------------------


def test_an_mp4_has_every_picture_and_things_move(filmed, tmp_path):
    path = tmp_path / "new" / "a.mp4"
    assert encode.write(path, video.frames(*filmed), video.gif_colours()) == 20
    pictures = pictures_of(path)
    assert len(pictures) == 20 and pictures[0].shape == (960, 960, 3)
    changes = [np.abs(a.astype(int) - b).max() for a, b in zip(pictures[:9], pictures[1:10])]
    assert min(changes) > 40
    assert [found.name for found in path.parent.iterdir()] == ["a.mp4"]


def test_a_gif_lasts_as_long_and_things_move(filmed, tmp_path):
    path = tmp_path / "a.gif"
    assert encode.write(path, video.frames(*filmed), video.gif_colours()) == 20
    with Image.open(str(path)) as image:
        pictures, milliseconds = [], 0
        for index in range(image.n_frames):
            image.seek(index)
            milliseconds += image.info["duration"]
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    assert milliseconds == 800  # pictures that equal the one before are merged with it
    assert 10 <= len(pictures) <= 20 and min(np.abs(a - b).max() for a, b in zip(pictures, pictures[1:])) > 40
    wanted = {tuple(bytes.fromhex(colour[1:])) for colour in outlines.COLOURS[:2]}
    assert wanted <= {tuple(colour) for colour in pictures[0].reshape(-1, 3)}


def test_a_failed_video_leaves_nothing_behind(tmp_path):
    def pictures():
        yield np.zeros((32, 32, 4), np.uint8)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        encode.write(tmp_path / "a.mp4", pictures())
    assert list(tmp_path.iterdir()) == []


def test_the_command_films_a_checkpoint_into_its_run(run_dir, capsys):
    video.main([f"checkpoint={run_dir}/nn/mine.pth", "num_envs=2", "seconds=0.4"])
    assert len(pictures_of(run_dir / "videos" / "mine.mp4")) == 10
    assert "pictures of 2 environments: recorded in" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, line", [
    (["num_envs=4"], "a checkpoint is needed"),
    (["checkpoint=none.pth"], "checkpoint none.pth does not exist"),
    (["checkpoint={run}/nn/mine.pth", "output=a.avi"], "write a name that ends in .mp4 or .gif"),
    (["checkpoint={run}/nn/mine.pth", "num_envs=0"], "num_envs=0 is out of range; allowed: 1 to 36"),
    (["checkpoint={run}/nn/mine.pth", "second=3"], "unknown key second; did you mean seconds?"),
    (["{run}"], "is no option; write key=value"),
])
def test_what_cannot_be_filmed_is_said_in_one_line(run_dir, monkeypatch, capsys, arguments, line):
    monkeypatch.setattr("sys.argv", ["video", *(argument.format(run=run_dir) for argument in arguments)])
    with pytest.raises(SystemExit) as stopped:
        command.run(video.main, video.__doc__)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and line in error and error.count("\n") == 1


def test_tasks_without_a_scene_are_refused():
    with pytest.raises(ConfigError, match="task=Recall has no scene to draw"):
        outlines.outlines_of(compose_config("task=Recall"))


def without(monkeypatch, package):
    original = builtins.__import__

    def importer(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importer)


@pytest.mark.parametrize("package", ["imageio_ffmpeg", "matplotlib"])
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, package):
    without(monkeypatch, package)
    with pytest.raises(ConfigError, match=rf"videos need the package {package}; write pip install -e '\.\[video\]'"):
        encode.check_packages(".mp4")


# -- while training --------------------------------------------------------------------------------


def trained(tmp_path, name, *overrides):
    cfg = compose_config(*SMALL, *overrides)
    (tmp_path / name).mkdir()
    trainer = build.build_trainer(cfg, tmp_path / name, "Go1Push", CPU, build.seed_everything(cfg.seed, False))
    trainer.run()
    return [p.detach().clone() for net in (*trainer.learner.actors, trainer.learner.critic) for p in net.parameters()]


def test_filming_evaluations_leaves_training_bit_identical(tmp_path):
    quiet = trained(tmp_path, "quiet")
    filming = trained(tmp_path, "filming", "capture_video=true", "capture_video_every=4")
    assert all(torch.equal(a, b) for a, b in zip(quiet, filming))
    videos = tmp_path / "filming" / "videos"
    assert sorted(path.name for path in videos.iterdir()) == ["ep_4.mp4", "ep_5.mp4"]  # evaluations: 2, 4 and the last
    pictures = pictures_of(videos / "ep_4.mp4")
    assert len(pictures) == 18 and pictures[0].shape == (640, 640, 3)  # an episode of 20 steps of 20 ms and a second, four tiles
    assert np.abs(pictures[-1][5, 5].astype(int) - tuple(bytes.fromhex(video.TINTS["time"][1:]))).max() < 4
    assert not (tmp_path / "quiet" / "videos").exists()


def test_training_goes_on_without_the_package_after_one_warning(tmp_path, monkeypatch, capsys):
    without(monkeypatch, "imageio_ffmpeg")
    trained(tmp_path, "run", "capture_video=true")
    out = capsys.readouterr().out
    assert out.count("warning: capture_video=True has no effect: videos need the package imageio_ffmpeg") == 1
    assert "MAX EPOCHS NUM!" in out and out.count("warning") == 1


def test_training_goes_on_when_a_video_fails(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(encode, "write_mp4", broken)
    trained(tmp_path, "run", "capture_video=true", "capture_video_every=4")
    out = capsys.readouterr().out
    assert out.count("(OSError: no space left)") == 2 and "MAX EPOCHS NUM!" in out


def test_filming_without_evaluations_is_refused():
    with pytest.raises(ConfigError, match="capture_video=True films evaluations, and eval_every=0 asks for none"):
        compose_config(*SMALL, "capture_video=true", "eval_every=0")
