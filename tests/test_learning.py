"""Does it learn? Minutes long, so not part of `make test`: run with -m slow."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def final_success(tmp_path, *arguments):
    command = [sys.executable, str(ROOT / "train.py"), "num_envs=2048", "max_iterations=90", "eval_every=90",
               "seed=5", *arguments]
    subprocess.run(command, cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL)
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    return json.loads(metrics.read_text().splitlines()[-1])["evaluation"]["success_rate"]


@pytest.mark.slow
def test_the_default_preset_learns_to_push(tmp_path):
    assert final_success(tmp_path) >= 0.9


@pytest.mark.slow
def test_time_outs_taken_for_terminations_teach_nothing(tmp_path):
    assert final_success(tmp_path, "algo.time_limit=terminal") <= 0.1


@pytest.mark.slow
def test_only_a_policy_with_memory_recalls(tmp_path):
    scores = {}
    for recurrent in ("chunked", "none"):
        home = tmp_path / recurrent
        home.mkdir()
        command = [sys.executable, str(ROOT / "train.py"), "task=Recall", f"algo.model.recurrent={recurrent}", "num_threads=1"]
        subprocess.run(command, cwd=str(home), check=True, stdout=subprocess.DEVNULL)
        (metrics,) = home.glob("runs/*/metrics.jsonl")
        scores[recurrent] = json.loads(metrics.read_text().splitlines()[-1])["evaluation"]["mean_score"]
    assert scores["chunked"] >= 0.95 and scores["none"] <= 0.3  # guessing: 1 in 6
