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


def test_a_warm_cache_needs_no_helper(cache):
    cfg = compose_config()
    folder = precompile.folder_of(cfg)
    folder.mkdir()
    (folder / "complete").touch()
    assert precompile.Helper(cfg)._process is None


def test_a_cold_start_is_remembered_once_all_is_compiled(cache, monkeypatch):
    monkeypatch.setattr(precompile.sys, "executable", "/bin/true")
    cfg = compose_config()
    helper = precompile.Helper(cfg)
    helper.wait()
    assert not list(cache.glob("happo_gpu_*"))
    helper.done()
    assert precompile.Helper(cfg)._process is None


def test_a_helper_that_fails_is_only_waited_for(cache, monkeypatch):
    monkeypatch.setattr(precompile.sys, "executable", "/bin/false")
    helper = precompile.Helper(compose_config())
    helper.wait()
    helper.stop()
    assert helper._process.returncode == 1


def test_other_settings_or_threads_are_another_cache_entry_but_not_another_number_of_environments(cache):
    folder = precompile.folder_of(compose_config())
    assert precompile.folder_of(compose_config("sim.gain=0.9")) != folder
    assert precompile.folder_of(compose_config("num_envs=17")) == folder
    torch.set_num_threads(2)
    assert precompile.folder_of(compose_config()) != folder
