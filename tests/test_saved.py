"""A run's config continues with what it says, whatever the defaults of a new run are."""
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import compose_raw
from happo_gpu.config import TASK_CONFIGS, ConfigError, parse
from happo_gpu.config.files import CFG_DIR, composed, composed_raw
from happo_gpu.config.schema import free_groups
from happo_gpu.saved import saved_raw, with_typed

RUNS = [f"{group}={path.stem}" for group in ("task", "sim") for path in sorted((CFG_DIR / group).glob("*.yaml"))]


def run_with(home: Path, raw: dict) -> Path:
    (home / "config.yaml").write_text(yaml.safe_dump(raw))
    return home


def continued(run_dir: Path, *typed: str) -> dict:
    """The config of ``resume=<run> <typed>``."""
    return with_typed(saved_raw(run_dir), compose_raw(*(each for each in typed if not each.startswith("~"))), typed)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_of_any_task_and_simulator_is_continued_without_naming_them_again(tmp_path, run):
    saved = compose_raw(run, "eval_every=0", "seed=7")
    found = continued(run_with(tmp_path, saved), "max_iterations=1000")
    assert found == {**saved, "max_iterations": 1000}
    parse(found)


def test_what_is_typed_wins_over_what_was_saved(tmp_path):
    run_dir = run_with(tmp_path, compose_raw("task=Recall", "num_envs=17", "max_iterations=3", "algo.gamma=0.9"))
    found = continued(run_dir, "max_iterations=5", "algo.gamma=0.8", "+task.randomize.object_mass=[0.9,1.1]")
    assert (found["max_iterations"], found["algo"]["gamma"], found["num_envs"]) == (5, 0.8, 17)
    assert found["task"]["randomize"] == {"object_mass": [0.9, 1.1]}


@pytest.mark.parametrize("typed, numbers", [
    (["task.env.numEnvs=29"], (29, 3)), (["train.max_iterations=5"], (17, 5)), (["task.env.numEnvs=29", "num_envs=31"], (31, 3)),
])
def test_a_long_name_typed_wins_over_a_short_one_saved(tmp_path, typed, numbers):
    found = parse(continued(run_with(tmp_path, compose_raw("num_envs=17", "max_iterations=3")), *typed))
    assert (found.task.env.numEnvs, found.train.max_iterations) == numbers


def test_a_group_typed_by_another_name_replaces_the_run_s(tmp_path):
    run_dir = run_with(tmp_path, compose_raw("sim=mujoco"))
    assert continued(run_dir, "sim=planar")["sim"] == compose_raw()["sim"]
    assert continued(run_dir, "sim=mujoco", "sim.legs.latency=0.002")["sim"]["legs"]["latency"] == 0.002


def test_what_a_run_took_out_stays_out_and_what_is_taken_out_now_goes(tmp_path):
    saved = compose_raw("task=PettingZoo", "~task.env.options.max_cycles")
    assert "max_cycles" not in saved["task"]["env"]["options"] and saved["task"]["env"]["options"]
    run_dir = run_with(tmp_path, saved)
    assert saved_raw(run_dir) == saved
    option = next(iter(saved["task"]["env"]["options"]))
    assert option not in continued(run_dir, f"~task.env.options.{option}")["task"]["env"]["options"]


def test_a_key_that_is_newer_than_the_run_takes_its_default(tmp_path):
    saved = compose_raw("task=Go1Walk")
    newest = saved["task"]["env"].pop("episodeLength")
    assert saved_raw(run_with(tmp_path, saved))["task"]["env"]["episodeLength"] == newest


def test_groups_of_any_keys_are_known_by_their_type():
    assert free_groups(TASK_CONFIGS["PettingZoo"]) == ["env.options"]
    assert "randomize" in free_groups(TASK_CONFIGS["Go1Push"]) and "curriculum.easiest" in free_groups(TASK_CONFIGS["Go1Push"])


@pytest.mark.parametrize("text", ["[1", "7", "task: 3", "task: {name: Go1Pull}", "{}"])
def test_a_config_that_is_none_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="it is damaged or no run's config"):
        saved_raw(tmp_path)


def test_configs_are_composed_while_a_job_of_hydra_s_runs():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CFG_DIR), version_base="1.2"):
        assert composed_raw(["task=Recall"])["task"]["name"] == "Recall"
        assert composed([], CFG_DIR).task.name == compose("config").task.name == "Go1Push"  # the outer one goes on
