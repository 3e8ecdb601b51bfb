"""Whatever ends a process, the run goes on from its last checkpoint to the same numbers."""
from __future__ import annotations

import random
import signal
import time

import pytest
from children import SMALL, Child, differences, last_state

SAVED = "=> saving checkpoint"


@pytest.mark.parametrize("interruptions, iterations", [(6, 19), pytest.param(50, 151, marks=pytest.mark.slow)])
def test_killed_and_told_to_stop_at_random_a_run_ends_with_the_same_numbers(tmp_path, interruptions, iterations):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    arguments = [*SMALL, f"max_iterations={iterations}", "resume=auto"]
    uninterrupted = Child(whole, *arguments)
    rng, codes = random.Random(7), []
    for number in range(interruptions):
        child = Child(broken, *arguments, slow_writes=True)
        assert child.wait_for(SAVED, rng.randint(1, 2)), child.console
        time.sleep(rng.uniform(0.0, 0.06))
        sent = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)[number % 3]
        child.send(sent)
        codes.append((sent, child.end()))
        assert codes[-1][1] == (75 if sent != signal.SIGKILL else -signal.SIGKILL), child.console
    last = Child(broken, *arguments)
    assert last.end() == 0 and uninterrupted.end() == 0, last.console
    assert differences(last_state(whole), last_state(broken)) == []


def test_a_cluster_may_insist_and_a_finished_run_is_not_queued_again(tmp_path):
    arguments = [*SMALL, "max_iterations=100000", "experiment=it", "resume=auto"]
    child = Child(tmp_path, *arguments, slow_writes=True)
    assert child.wait_for(SAVED)
    for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        child.send(signum)
    assert child.end() == 75 and "stopped by a signal; resume with resume=" in child.console and "Traceback" not in child.console
    reached = last_state(tmp_path)["epoch"]
    child = Child(tmp_path, *arguments[:-3], f"max_iterations={reached}", "experiment=it", "resume=auto")
    assert child.end() == 0 and "MAX EPOCHS NUM!" in child.console


def test_auto_takes_the_newest_run_of_that_name_with_a_good_checkpoint(tmp_path):
    assert Child(tmp_path, *SMALL, "max_iterations=2", "experiment=it").end() == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    for name in ("it_2999-01-01_00-00-00", "it_other_2999-01-01_00-00-00"):  # one died before its first checkpoint
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "config.yaml").write_text((run_dir / "config.yaml").read_text())
    newest = run_dir / "nn" / next(path.name for path in (run_dir / "nn").iterdir() if "ep_2" in path.name)
    newest.write_bytes(newest.read_bytes()[:1000])
    child = Child(tmp_path, "experiment=it", "task=Spread", "resume=auto", "max_iterations=3")
    assert child.end() == 0, child.console
    warnings = [line for line in child.console.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1 and newest.name in warnings[0] and "damaged" in warnings[0]
    assert "epoch: 2/3" in child.console and "epoch: 3/3" in child.console


def test_a_disk_that_is_full_leaves_the_earlier_checkpoints_and_training_goes_on_to_one_line(tmp_path):
    arguments = [*SMALL, "experiment=it", "resume=auto"]
    assert Child(tmp_path, *arguments, "max_iterations=2").end() == 0
    before = last_state(tmp_path)
    full = Child(tmp_path, *arguments, "max_iterations=5", file_limit=6000)
    assert full.end() == 2 and len(full.errors) == 1 and "intact" in full.errors[0], full.console
    assert "warning: no checkpoint written" in full.console and "epoch: 5/5" in full.console and "Traceback" not in full.console
    assert differences(last_state(tmp_path), before) == [] and not list(tmp_path.glob("runs/*/nn/*.tmp"))
    assert Child(tmp_path, *arguments, "max_iterations=5").end() == 0
    assert last_state(tmp_path)["epoch"] == 5


def test_an_allocator_that_refuses_ends_in_one_line_with_the_prediction_and_the_knob(tmp_path):
    child = Child(tmp_path, *SMALL, "num_envs=3000000", "max_iterations=1", memory_limit=200_000_000)
    assert child.end() == 2 and len(child.errors) == 1, child.console
    assert "out of memory" in child.errors[0] and "simulator" in child.errors[0] and "num_envs" in child.errors[0]
    assert "Traceback" not in child.console


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("not a directory")
    child = Child(tmp_path, *SMALL, "max_iterations=1")
    assert child.end() == 2 and len(child.errors) == 1 and "runs" in child.errors[0], child.console
    assert "Traceback" not in child.console
