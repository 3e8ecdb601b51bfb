"""Distributions against torch's own, and what masks do to them."""
from __future__ import annotations

import pytest
import torch

from happo_gpu.nets.distributions import UNAVAILABLE, Categorical, Gaussian

CHOICES = (3, 2, 5)


def menus(batch=7, harl=False):
    logits = torch.randn(batch, sum(CHOICES))
    return logits, Categorical.from_logits(logits, CHOICES, harl)


def test_gaussian_agrees_with_torch():
    mean, std = torch.randn(7, 3), torch.rand(3) + 0.1
    ours, theirs = Gaussian(mean, std), torch.distributions.Normal(mean, std)
    actions = torch.randn(7, 3)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy().expand(7), theirs.entropy().sum(-1))
    other = torch.distributions.Normal(mean + 0.3, std * 1.7)
    expected = torch.distributions.kl_divergence(theirs, other).sum(-1)
    torch.testing.assert_close(ours.kl_to(Gaussian(mean + 0.3, std * 1.7)).float(), expected)


def test_every_menu_agrees_with_torchs_categorical():
    logits, ours = menus()
    actions = torch.stack([torch.randint(n, (7,)) for n in CHOICES], -1).float()
    for m, part in enumerate(logits.split(list(CHOICES), -1)):
        theirs = torch.distributions.Categorical(logits=part)
        torch.testing.assert_close(ours.log_prob(actions)[:, m], theirs.log_prob(actions[:, m]))
    entropy = sum(torch.distributions.Categorical(logits=part).entropy() for part in logits.split(list(CHOICES), -1))
    torch.testing.assert_close(ours.entropy(), entropy)


def test_sampling_follows_the_probabilities():
    logits = torch.log(torch.tensor([0.1, 0.6, 0.3, 0.8, 0.2]))
    distribution = Categorical.from_logits(logits.expand(20_011, 5), (3, 2))
    picks = distribution.sample().long()
    shares = torch.cat([torch.bincount(picks[:, m], minlength=n) / 20_011 for m, n in enumerate((3, 2))])
    torch.testing.assert_close(shares, logits.exp(), rtol=0.0, atol=0.012)


def test_unavailable_actions_are_never_taken_and_add_no_entropy():
    logits = torch.tensor([[0.3, UNAVAILABLE, -0.2]]).expand(997, 3)
    distribution = Categorical.from_logits(logits, (3,))
    assert set(distribution.sample().flatten().tolist()) == {0.0, 2.0}
    expected = torch.distributions.Categorical(logits=torch.tensor([0.3, -0.2])).entropy()
    torch.testing.assert_close(distribution.entropy()[0], expected)


def test_mode_is_the_likeliest_choice_of_each_menu():
    logits, ours = menus()
    expected = torch.stack([part.argmax(-1) for part in logits.split(list(CHOICES), -1)], -1)
    assert torch.equal(ours.mode(), expected.float())


def test_harls_joint_log_prob_is_the_sum_over_menus_in_one_column():
    torch.manual_seed(5)
    logits, plain = menus()
    joint = Categorical.from_logits(logits, CHOICES, True)
    actions = plain.sample()
    torch.testing.assert_close(joint.log_prob(actions), plain.log_prob(actions).sum(-1, keepdim=True))


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_divergence_is_zero_only_where_nothing_changed(shift):
    logits, old = menus()
    new = Categorical.from_logits(logits + shift * torch.randn_like(logits), CHOICES)
    assert bool((old.kl_to(new) > 1e-3).all()) == (shift > 0.0)
