"""Tables of runs whose numbers are known by hand."""
from __future__ import annotations

import functools
import json
import sys

import pytest
from pytest import approx

from conftest import compose_raw
from happo_gpu import compare
from happo_gpu.config import ConfigError


@functools.lru_cache(maxsize=None)
def composed(*overrides):
    return compose_raw("task=Go1Push", *overrides)


def write_run(path, seed, success, *overrides, epochs=(50, 100)):
    """A run on Go1Push that succeeds half as often in its first evaluation as in its last."""
    path.mkdir()
    (path / "config.yaml").write_text(json.dumps({**composed(*overrides), "seed": seed}))
    scores = (success / 2, success)
    lines = [{"evaluation": {"epoch": epoch, "frames": 1000 * epoch, "train_seconds": 2.0 * epoch, "success_rate": score,
                             "mean_return": 10 * score}} for epoch, score in zip(epochs, scores)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def two_groups(tmp_path):
    """Five seeds that reached 96 to 100 %, and as many that reached 91 to 95 %."""
    good = [write_run(tmp_path / f"good_{i}", i, 0.95 + 0.01 * i, "algo.lr=0.001") for i in (1, 2, 3, 4, 5)]
    bad = [write_run(tmp_path / f"bad_{i}", i, 0.90 + 0.01 * i, "algo.lr=0.005") for i in (1, 2, 3, 4, 5)]
    return good, bad


def results(tmp_path, *arguments):
    compare.main([*arguments, f"output={tmp_path / 'table.json'}"])
    return json.loads((tmp_path / "table.json").read_text())


def test_means_intervals_and_quartiles_are_those_of_a_calculator(tmp_path, two_groups):
    told = results(tmp_path, *two_groups[0])["groups"]["Go1Push HAPPO"]["success_rate"]
    # deviation sqrt(0.00025), t of 4 degrees 2.776: half an interval is 2.776 * 0.015811 / sqrt(5)
    assert told["mean"] == approx(0.98) and told["ci95"] == approx([0.98 - 0.01963, 0.98 + 0.01963], abs=1e-5)
    assert told["interquartile_mean"] == approx((0.97 + 0.98 + 0.99) / 3)


def test_runs_are_grouped_by_what_differs_but_the_seed(tmp_path, two_groups, capsys):
    written = results(tmp_path, *two_groups[0], *two_groups[1])
    assert {name: told["seeds"] for name, told in written["groups"].items()} == {
        "algo.lr=0.001": [1, 2, 3, 4, 5], "algo.lr=0.005": [1, 2, 3, 4, 5]}
    (pair,) = written["pairs"]
    # all of one group above all of the other: 2 of the 252 ways to deal ten values
    assert pair["better"] == "algo.lr=0.001" and pair["probability_of_improvement"] == 1.0 and pair["p"] == approx(2 / 252)
    out = capsys.readouterr().out
    assert "algo.lr=0.001 is better than algo.lr=0.005" in out and "| 98.0 [96.0, 100.0] |" in out and not written["notes"]
    assert "| 200 s | 0.1 M |" in out and "| 1 of 5 seeds | 1 of 5 seeds |" in out  # 95 % after


def test_a_group_typed_by_hand_says_what_its_runs_differ_in(tmp_path, two_groups):
    good, bad = two_groups
    written = results(tmp_path, *good, "--", *bad[:4], write_run(tmp_path / "bad_7", 7, 0.5, "algo.gamma=0.9"))
    assert list(written["groups"]) == ["good", "bad"]
    assert written["notes"] == ["bad: its runs differ in algo.gamma, algo.lr"]


def test_few_unequal_twice_used_and_unfinished_seeds_are_said(tmp_path, capsys):
    a = [write_run(tmp_path / f"a_{i}", 1, success) for i, success in enumerate((0.9, 0.8, 0.7))]
    b = [write_run(tmp_path / f"b_{i}", i, success, "algo.gamma=0.9") for i, success in enumerate((0.6, 0.5))]
    cut = write_run(tmp_path / "cut", 9, 0.99, epochs=(10, 20))
    told = "\n".join(results(tmp_path, *a, cut, "--", *b)["notes"])
    for part in ("unequal numbers of seeds: a: 3, b: 2", "2 seeds are few", "too few seeds for p < 0.05", "a seed comes twice (1, 1, 1)",
                 "cut was last evaluated at iteration 20 of 100"):
        assert part in told, told
    assert "a is not told apart from b" in capsys.readouterr().out


def test_ties_count_half_and_several_pairs_are_corrected():
    probability, _ = compare.improvement([0.5, 0.7], [0.5, 0.6, 0.9])
    assert probability == approx((0.5 + 0 + 0 + 1 + 1 + 0) / 6)
    assert compare.mann_whitney([1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0
    assert compare.holm([0.03, 0.01, 0.02]) == approx([0.04, 0.03, 0.04])  # 3 * 0.01, 2 * 0.02, then never less


def test_a_missing_package_is_one_line(tmp_path, monkeypatch, two_groups):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[compare\]'"):
        compare.main(two_groups[0])


def test_runs_without_an_end_are_no_group(tmp_path):
    with pytest.raises(ConfigError, match="iteration 20 of 100"):
        compare.main([write_run(tmp_path / "cut", 9, 0.99, epochs=(10, 20))])


def test_a_single_run_of_each_is_compared_and_told_apart_from_nothing(tmp_path):
    first, second = write_run(tmp_path / "a", 1, 0.99, "algo.lr=0.001"), write_run(tmp_path / "b", 1, 0.5, "algo.lr=0.005")
    (pair,) = results(tmp_path, first, second)["pairs"]
    assert pair["p"] == 1.0 and pair["probability_of_improvement"] == 1.0


def test_what_lies_among_runs_and_is_none_is_left_out(tmp_path, capsys):
    run = write_run(tmp_path / "a", 1, 0.99)
    (tmp_path / "Go1Push_scripted").mkdir()
    (tmp_path / "study.db").touch()
    compare.main([run, str(tmp_path / "Go1Push_scripted"), str(tmp_path / "study.db")])
    assert capsys.readouterr().out.count("is no run of training") == 2


def test_a_table_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare", write_run(tmp_path / "a", 1, 0.99), f"output={tmp_path}/none/table.json"])
    with pytest.raises(SystemExit) as left:
        compare.command.run(compare.main, "")
    assert left.value.code == 2 and capsys.readouterr().err == f"error: {tmp_path}/none/table.json: No such file or directory\n"
