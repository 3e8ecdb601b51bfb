"""Shared builders: a composed config and a small task, as users get them."""
from __future__ import annotations

from typing import List

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from happo_gpu import build, config
from happo_gpu.cli import CFG_DIR

CPU = torch.device("cpu")


def compose_raw(*overrides: str) -> dict:
    with initialize_config_dir(str(CFG_DIR), version_base="1.2"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


def compose_config(*overrides: str) -> config.Config:
    return config.parse(compose_raw("accelerate=eager", *overrides))


def make_task(*overrides: str, num_envs: int = 7):
    cfg = compose_config(f"num_envs={num_envs}", *overrides)
    return build.build_task(cfg, num_envs, CPU, "eager")


@pytest.fixture(autouse=True)
def _seed_and_one_thread():
    torch.manual_seed(3)
    torch.set_num_threads(1)
