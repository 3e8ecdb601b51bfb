"""HARL's recorded updates, reproduced: the same data and weights in give the same weights out."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.oracle.replay import replay

FILES = sorted((Path(__file__).parent / "data").glob("*.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recorded_update_is_reproduced(path):
    report = replay(path)
    assert report.passed, report.line(path.stem)


def test_all_kinds_of_files_are_here():
    assert len(FILES) >= 17


@pytest.mark.parametrize("mutation", ["no_factor", "unbiased_std", "rollout_log_probs", "more_damping"])
def test_a_wrong_formula_is_noticed(mutation, monkeypatch):
    from happo_gpu.algo import sequential, trust_region

    name = "hatrpo_prod_2agents_EP" if mutation == "more_damping" else "happo_prod_2agents_FP"
    if mutation == "no_factor":
        monkeypatch.setattr(sequential, "compound", lambda factor, after, before, how: torch.ones_like(factor))
    elif mutation == "unbiased_std":
        from happo_gpu.algo import on_policy

        def unbiased(advantage, active=None):
            chosen = advantage[active > 0]
            return (advantage - chosen.mean()) / (chosen.std() + 1e-5)

        monkeypatch.setattr(on_policy, "normalize_advantage", unbiased)
    elif mutation == "rollout_log_probs":
        original = sequential.update_actors
        monkeypatch.setattr(sequential, "update_actors", lambda *args: original(*args[:-1]))
    else:
        monkeypatch.setattr(trust_region, "DAMPING", 0.11)
    assert not replay(next(path for path in FILES if path.stem == name)).passed
