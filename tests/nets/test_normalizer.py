from __future__ import annotations

import pytest
import torch

from happo_gpu.nets.normalizer import RunningNorm, ValueNorm


def test_one_update_gives_the_mean_and_spread_of_its_batch():
    norm = ValueNorm(beta=0.9)
    norm.update(torch.tensor([[1.0], [5.0]]))  # debiased: mean 3, mean square 13, variance 4
    mean, std = norm.statistics()
    assert mean.item() == pytest.approx(3.0, rel=1e-5) and std.item() == pytest.approx(2.0, rel=1e-5)


def test_normalise_and_denormalise_are_inverse():
    norm = ValueNorm(beta=0.99)
    norm.update(torch.randn(31, 1) * 7.0 + 2.0)
    values = torch.randn(13, 1)
    torch.testing.assert_close(norm.denormalize(norm.normalize(values)), values)


def test_fresh_statistics_denormalise_with_a_tenth():
    assert ValueNorm(0.9).denormalize(torch.tensor([2.0])).item() == pytest.approx(0.2)


def test_statistics_are_saved_with_the_weights():
    norm, other = ValueNorm(0.9), ValueNorm(0.9)
    norm.update(torch.randn(17, 1))
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other.running_mean_sq, norm.running_mean_sq)


def test_input_statistics_of_unequal_batches_are_those_of_all_samples_together():
    norm, everything = RunningNorm(3), [torch.randn(n, 3) * 5.0 + 7.0 for n in (11, 2003, 5)]
    norm.count.zero_()  # without the one imagined sample that a fresh norm starts from
    for batch in everything:
        norm.update(batch)
    whole = torch.cat(everything)
    torch.testing.assert_close(norm.mean, whole.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.var, whole.var(0, unbiased=False), rtol=1e-4, atol=1e-5)


def test_normalised_inputs_are_clipped_at_five():
    assert RunningNorm(2)(torch.tensor([[100.0, -100.0]])).tolist() == [[5.0, -5.0]]
