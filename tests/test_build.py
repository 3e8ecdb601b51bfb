"""accelerate=auto compiles where a run, its evaluations included, is long enough to earn it back."""
from __future__ import annotations

import pytest
from conftest import CPU, compose_config

from happo_gpu import accelerate, build
from happo_gpu.lanes import kernel

LONG = [
    ["task=Go1Push", "num_envs=4096"],  # the main command
    ["task=Go1Push", "num_envs=4096", "max_iterations=2", "eval_every=0"],  # many environments: 650,000 steps
    ["task=Go1Push", "num_envs=64", "max_iterations=10", "eval_every=0"],  # few: 3,200 physics steps
    ["task=Go1Push", "num_envs=64", "max_iterations=1", "eval_every=1"],  # one evaluation of a thousand steps
    ["task=Spread", "num_envs=64", "algo.episode_length=25", "max_iterations=100", "eval_every=0"],
]
BRIEF = [
    ["task=Go1Push", "num_envs=64", "max_iterations=5", "eval_every=0"],
    ["task=Go1Push", "num_envs=3", "task.env.episodeLength=50", "max_iterations=1", "eval_every=1", "train.eval_envs=3"],
    ["task=Spread", "num_envs=64", "algo.episode_length=25", "max_iterations=30", "eval_every=0"],
    ["task=Go1Push", "sim=mujoco", "num_envs=64", "max_iterations=10", "eval_every=0"],  # only its networks would be compiled
]


@pytest.mark.parametrize("overrides", LONG, ids=" ".join)
def test_a_long_run_compiles(monkeypatch, overrides):
    monkeypatch.setattr(accelerate, "compiler", lambda: "/usr/bin/g++")
    assert build._training_mode(compose_config(*overrides, "accelerate=auto"), CPU) == "compile"


@pytest.mark.parametrize("overrides", BRIEF, ids=" ".join)
def test_a_short_run_does_not(monkeypatch, overrides):
    monkeypatch.setattr(accelerate, "compiler", lambda: "/usr/bin/g++")
    assert build._training_mode(compose_config(*overrides, "accelerate=auto"), CPU) == "eager"


def test_nothing_compiles_without_a_compiler(monkeypatch):
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None)
    assert build._training_mode(compose_config(*LONG[0], "accelerate=auto"), CPU) == "eager"
