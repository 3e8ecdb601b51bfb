"""The helper of a cold start: when it runs, what it takes along, and that its failure harms nobody."""
from __future__ import annotations

import pytest
import torch

from conftest import compose_config
from happo_gpu import precompile


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(precompile.os, "cpu_count", lambda: 2)
    return tmp_path


def test_a_warm_cache_needs_no_helper(cache, monkeypatch):
    monkeypatch.setattr(precompile.sys, "executable", "/bin/true")
    cfg = compose_config()
    precompile.Helper(cfg).done()
    assert precompile.Helper(cfg)._process is None
    assert precompile.Helper(compose_config("algo.clip_param=0.1"))._process is not None


def test_a_cold_start_is_remembered_once_all_is_compiled(cache, monkeypatch):
    monkeypatch.setattr(precompile.sys, "executable", "/bin/true")
    cfg = compose_config()
    helper = precompile.Helper(cfg)
    helper.wait()
    assert not list(cache.glob("happo_gpu_*/complete"))
    helper.done()
    assert precompile.Helper(cfg)._process is None


def test_a_helper_that_fails_is_only_waited_for(cache, monkeypatch):
    monkeypatch.setattr(precompile.sys, "executable", "/bin/false")
    helper = precompile.Helper(compose_config())
    helper.wait()
    helper.stop()
    assert helper._process.returncode == 1


def test_gradients_are_kept_for_all_runs_with_the_same_losses_and_networks():
    folder = precompile.learner_folder(compose_config())
    for same in ("algo.lr=0.1", "sim.gain=0.9", "algo.gamma=0.5", "seed=7"):
        assert precompile.learner_folder(compose_config(same)) == folder
    for other in ("algo.clip_param=0.1", "algo.model.hidden_sizes=[64,32]", "algo.entropy_coef=0.5"):
        assert precompile.learner_folder(compose_config(other)) != folder
    torch.set_num_threads(2)
    assert precompile.learner_folder(compose_config()) != folder
