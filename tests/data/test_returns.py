"""GAE by hand: gamma 0.5, lambda 0.5, one environment and one head unless said."""
from __future__ import annotations

import pytest
import torch

from happo_gpu.data.returns import gae

REWARDS, VALUES, NEXT = [1.0, 2.0, 4.0], [0.5, 1.5, 2.0], [1.5, 2.0, 8.0]


def run(terminated=(), truncated=(), **options):
    def column(numbers):
        return torch.tensor(numbers).view(3, 1, 1)

    def flags(steps):
        return torch.tensor([[t in steps] for t in range(3)])

    advantages, returns = gae(
        column(REWARDS), column(VALUES), column(NEXT), flags(terminated), flags(truncated), 0.5, 0.5, **options
    )
    return advantages.flatten().tolist(), returns.flatten().tolist()


def test_open_rollout_sums_discounted_errors():
    # deltas: 1 + .75 - .5 = 1.25; 2 + 1 - 1.5 = 1.5; 4 + 4 - 2 = 6; A2 = 6, A1 = 1.5 + .25 * 6, A0 = 1.25 + .25 * 3
    advantages, returns = run()
    assert advantages == [2.0, 3.0, 6.0]
    assert returns == [2.5, 4.5, 8.0]


def test_terminated_step_has_no_future():
    # step 1: delta 2 - 1.5 = .5, nothing from step 2; A0 = 1.25 + .25 * .5
    assert run(terminated=[1])[0] == [1.375, 0.5, 6.0]


def test_truncated_step_bootstraps_from_final_state():
    # step 1: delta 2 + .5 * 2 - 1.5 = 1.5 (its own next value), nothing from step 2; A0 = 1.25 + .25 * 1.5
    assert run(truncated=[1])[0] == [1.625, 1.5, 6.0]


def test_masked_time_limit_drops_the_truncated_step():
    advantages, returns = run(truncated=[1], time_limit="mask")
    assert advantages == [1.25, 0.0, 6.0]
    assert returns[1] == VALUES[1]


def test_terminal_time_limit_equals_termination():
    assert run(truncated=[1], time_limit="terminal") == run(terminated=[1])


def test_heads_and_environments_do_not_mix():
    num_steps, num_envs, heads = 5, 7, 3
    rewards, values, following = (torch.randn(num_steps, num_envs, heads) for _ in range(3))
    terminated = torch.rand(num_steps, num_envs) < 0.2
    truncated = (torch.rand(num_steps, num_envs) < 0.2) & ~terminated
    whole, _ = gae(rewards, values, following, terminated, truncated, 0.9, 0.8)
    n, k = 4, 2
    pick = (slice(None), slice(n, n + 1), slice(k, k + 1))
    alone, _ = gae(rewards[pick], values[pick], following[pick], terminated[:, n:n + 1], truncated[:, n:n + 1], 0.9, 0.8)
    assert torch.equal(whole[pick], alone)


@pytest.mark.parametrize("lam, expected", [(0.0, [1.25, 1.5, 6.0]), (1.0, [1.25 + 0.5 * (1.5 + 0.5 * 6), 4.5, 6.0])])
def test_lambda_spans_one_step_to_monte_carlo(lam, expected):
    column = [torch.tensor(x).view(3, 1, 1) for x in (REWARDS, VALUES, NEXT)]
    never = torch.zeros(3, 1, dtype=torch.bool)
    assert gae(*column, never, never, 0.5, lam)[0].flatten().tolist() == expected
