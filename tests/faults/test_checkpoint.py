"""A checkpoint is whole or refused with the reason; the one before it is at hand."""
from __future__ import annotations

import os
import pickle

import pytest
import torch

from happo_gpu import checkpoint
from happo_gpu.config import ConfigError

CPU = torch.device("cpu")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "nn" / "last_it_ep_3_rew_0.50.pth"
    checkpoint.save(path, {"learner": {"weight": torch.arange(101.0)}, "epoch": 3})
    return path


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        checkpoint.load(path, CPU)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return caught.value


def test_what_was_saved_is_loaded_and_torch_alone_reads_it_too(path):
    for state in (checkpoint.load(path, CPU), torch.load(str(path), weights_only=True)):
        assert torch.equal(state["learner"]["weight"], torch.arange(101.0)) and state["epoch"] == 3


def test_every_bit_and_every_length_counts(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        assert isinstance(refusal(path), checkpoint.Damaged), size
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1:])
        assert isinstance(refusal(path), checkpoint.Damaged), place


def test_a_checkpoint_of_the_first_versions_without_a_digest_still_loads(path):
    torch.save({"learner": {"weight": torch.ones(7)}}, str(path))
    assert checkpoint.load(path, CPU)["learner"]["weight"].sum() == 7
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in str(refusal(path))


def test_a_newer_format_is_named_and_not_passed_over(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(path, {"learner": {}})
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    assert "has format 2, this version reads up to 1; update happo_gpu" in str(refusal(path))
    assert checkpoint.has_good(path.parent.parent)
    with pytest.raises(ConfigError, match="format 2"):
        checkpoint.newest_good(path.parent.parent, CPU)


class Code:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize("write", [
    lambda path: path.write_text("a note"),
    lambda path: path.write_bytes(pickle.dumps(Code())),
    lambda path: torch.save({"learner": Code()}, str(path)),
    lambda path: torch.save({"model": torch.ones(3)}, str(path)),
    lambda path: torch.save(torch.ones(3), str(path)),
], ids=["text", "pickle", "code", "other", "tensor"])
def test_foreign_files_are_refused_and_none_of_their_code_runs(path, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(path)
    refusal(path)
    assert not (tmp_path / "it_ran").exists()


def test_a_damaged_newest_is_named_and_the_one_before_it_taken(path, capsys):
    newer = path.with_name("last_it_ep_10_rew_-1.00.pth")
    newer.write_bytes(path.read_bytes()[:-5])
    taken, state = checkpoint.newest_good(path.parent.parent, CPU)
    assert taken == path and state["epoch"] == 3
    assert capsys.readouterr().out.count("warning: ") == 1
    path.unlink()
    assert checkpoint.newest_good(path.parent.parent, CPU) is None and not checkpoint.has_good(path.parent.parent)


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_half_written(path):
    before = path.read_bytes()
    path.with_name(path.name + ".tmp").symlink_to("/dev/full")  # every write to it: no space left on device
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"learner": {}})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_rotation_keeps_the_newest_and_the_best_and_clears_what_a_kill_left(path):
    for epoch in (2, 11, 5, 100):
        checkpoint.save(path.with_name(f"last_it_ep_{epoch}_rew_1.00.pth"), {"learner": {}})
    (path.parent / "it.pth").touch(), (path.parent / "it.pth.tmp").touch()
    checkpoint.rotate(path.parent.parent, 3)
    assert sorted(left.name for left in path.parent.iterdir()) == [
        "it.pth", "last_it_ep_100_rew_1.00.pth", "last_it_ep_11_rew_1.00.pth", "last_it_ep_5_rew_1.00.pth"]
