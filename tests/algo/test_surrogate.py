from __future__ import annotations

import math

import pytest
import torch

from happo_gpu.algo.surrogate import (
    approximate_kl, clipped_surrogate, normalize_advantage, probability_ratio, regression_loss, value_loss,
)


def test_product_and_mean_aggregate_the_ratios_of_dimensions():
    new = torch.tensor([[math.log(2.0), math.log(3.0)]])
    old = torch.zeros(1, 2)
    assert probability_ratio(new, old, "prod").item() == pytest.approx(6.0)
    assert probability_ratio(new, old, "mean").item() == pytest.approx(2.5)


@pytest.mark.parametrize("ratio, advantage, expected", [
    (1.5, 2.0, 2.4),    # gain is cut at 1 + clip
    (0.5, 2.0, 1.0),    # a loss of a good action is not cut
    (1.5, -2.0, -3.0),  # a gain of a bad action is not cut
    (0.5, -2.0, -1.6),  # cut at 1 - clip
])
def test_clip_limits_only_what_improves(ratio, advantage, expected):
    assert clipped_surrogate(torch.tensor(ratio), torch.tensor(advantage), 0.2).item() == pytest.approx(expected)


def test_positive_factor_commutes_with_the_clipped_minimum():
    ratio, advantage, factor = 1.0 + 0.5 * torch.randn(101), torch.randn(101), 2.0 * torch.rand(101)
    inside = clipped_surrogate(ratio, factor * advantage, 0.2)
    outside = factor * clipped_surrogate(ratio, advantage, 0.2)
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=1e-7)


def test_advantages_are_normalised_by_the_population():
    # mean 2, population variance (1 + 0 + 1) / 3
    result = normalize_advantage(torch.tensor([1.0, 2.0, 3.0]))
    assert result[2].item() == pytest.approx(1.0 / (math.sqrt(2.0 / 3.0) + 1e-5))


def test_huber_is_quadratic_then_linear():
    errors = torch.tensor([1.0, -3.0])
    assert regression_loss(errors, 2.0).tolist() == [0.5, 2.0 * (3.0 - 1.0)]  # delta (|e| - delta / 2)
    assert regression_loss(errors, math.inf).tolist() == [0.5, 4.5]


def test_value_loss_takes_the_worse_of_moved_and_clipped_value():
    # value 1.0 from old 0.0, target 1.0: unclipped error 0, clipped to 0.2: error 0.8 -> 0.32
    loss = value_loss(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0), 0.2, 10.0)
    assert loss.item() == pytest.approx(0.32)


def test_kl_estimate_is_zero_for_equal_policies_and_positive_otherwise():
    old = torch.randn(11, 3)
    assert approximate_kl(old, old).item() == 0.0
    assert approximate_kl(old + 0.1 * torch.randn(11, 3), old).item() > 0.0
