"""The README's six commands, typed as they stand there with smaller numbers behind them; what each makes is opened and looked at."""
from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from test_docs import commands
from test_export import onnx_runner
from test_video import pictures_of

from conftest import CPU
from happo_gpu import build, checkpoint, command, export
from happo_gpu.outlines import COLOURS
from happo_gpu.types import split_obs

ROOT = Path(__file__).resolve().parent.parent
SMALLER = {
    "train": ["num_envs=11", "accelerate=eager", "num_threads=1", "max_iterations=6", "eval_every=3", "save_every=3", "train.eval_envs=13",
              "algo.episode_length=5", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", "algo.lr=0.05", "task.env.episodeLength=60"],
    "evaluate": ["num_envs=17"],
    "plot": [],
    "video": ["num_envs=1", "seconds=1.2"],
    "export": [],
    "deploy": ["--episodes", "2", "--fast"],
}


def six_commands() -> list:
    """Of the README, as words."""
    section = re.search(r"^## From training to the robot in six commands\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S).group(1)
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (python .+)", section, re.M)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run directory, and what the commands said, by name."""
    home = tmp_path_factory.mktemp("home")
    said = {}
    for (name, smaller), words in zip(SMALLER.items(), six_commands()):
        here = [str(ROOT / word) if word.endswith(".py") else word.replace("<run>", run_name(home)) for word in words[1:]]
        result = subprocess.run([sys.executable, *here, *smaller], cwd=str(home), env={**os.environ, "PYTHONPATH": str(ROOT)},
                                capture_output=True, text=True, timeout=1500)
        assert result.returncode == 0, f"{words}\n{result.stdout}{result.stderr}"
        said[name] = result.stdout
    return home / "runs" / run_name(home), said


def run_name(home: Path) -> str:
    """Of the only run there; '' before it."""
    return "".join(path.name for path in home.glob("runs/*"))


def test_the_readme_has_six_commands():
    assert len(six_commands()) == len(SMALLER)
    assert all(line in commands(ROOT / "README.md") for line in six_commands())  # and so checked word by word


def test_training_names_its_run_and_keeps_the_best_checkpoint(done):
    run_dir, said = done
    assert f"run: runs/{run_dir.name}\n" in said["train"].splitlines(keepends=True)[0] and "epoch: 6/6" in said["train"]
    assert (run_dir / "nn" / "Go1Push.pth").is_file()


def test_every_checkpoint_is_evaluated(done):
    run_dir, said = done
    lines = [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text().splitlines()]
    assert {3, 6} <= {line["epoch"] for line in lines} and {line["episodes"] for line in lines} == {17}
    assert all(low <= line["success_rate"] <= high for line in lines for low, high in [line["success_rate_ci95"]])
    assert "success [95 %]" in said["evaluate"]


def test_the_curves_are_no_blank_sheet(done):
    run_dir, _ = done
    for name in ("curves.png", "evaluations.png"):
        picture = np.asarray(Image.open(run_dir / name).convert("RGB"))
        assert min(picture.shape[:2]) > 200 and len(np.unique(picture[::3, ::3].reshape(-1, 3), axis=0)) > 20
        assert 0.005 < (picture.min(-1) < 200).mean() < 0.5  # ink
    assert ElementTree.parse(run_dir / "curves.svg").getroot().tag.endswith("svg")


def test_the_video_has_its_frames_and_robots_move_in_it(done):
    run_dir, _ = done
    pictures = pictures_of(run_dir / "videos" / "Go1Push.mp4")
    assert len(pictures) == 30  # 25 a second
    for colour in COLOURS[:2]:
        rgb = np.array(tuple(bytes.fromhex(colour[1:])))
        first, last = (np.argwhere(np.abs(picture - rgb).max(-1) < 40) for picture in (pictures[0].astype(int), pictures[-1].astype(int)))
        assert len(first) > 300 and len(last) > 300
        assert np.abs(first.mean(0) - last.mean(0)).max() > 3.0  # px, its middle


def test_the_exported_files_agree_with_the_checkpoint(done):
    run_dir, _ = done
    card = json.loads((run_dir / "export" / "card.json").read_text())
    cfg = command.saved_config(run_dir, num_envs=7)
    task = build.build_task(cfg, 7, CPU, "eager")
    learner = build.build_learner(cfg, task, CPU, 0)
    checkpoint.put_weights(checkpoint.load(run_dir / "nn" / card["checkpoint"], CPU), learner, run_dir)
    obs = torch.randn(7, task.num_obs)
    task.pre_physics_step(learner.policy(7, deterministic=True).act(obs, None, torch.ones(7, dtype=torch.bool))[0])
    for i, (entry, seen) in enumerate(zip(card["agents"], split_obs(obs, task.agents))):
        (got,) = onnx_runner(run_dir / "export", entry)({"obs": seen})
        torch.testing.assert_close(got, task.commands[:, i], rtol=0.0, atol=1e-5)
        assert float(got.abs().max()) > 0.01 and (run_dir / "export" / entry["torchscript"]).is_file()
    assert (run_dir / "export" / export.CARD).is_file()


def test_deployment_plays_its_episodes_and_says_how_long_decisions_took(done):
    _, said = done
    assert "episode 2: " in said["deploy"]
    latency = re.search(r"decision of 2 agents: median ([\d.]+) ms, p99 ([\d.]+) ms, longest ([\d.]+) ms; missed deadlines of 20 ms", said["deploy"])
    median, p99, longest = map(float, latency.groups())
    assert 0.0 < median <= p99 <= longest
