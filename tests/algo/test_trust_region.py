"""The natural step: its algebra on small systems, and what acceptance and rejection leave behind."""
from __future__ import annotations

import pytest
import torch

from conftest import N, T, compose_config, random_rollout
from happo_gpu.algo import trust_region
from happo_gpu.algo.trust_region import conjugate_gradient, fisher_product, trust_region_step
from happo_gpu.types import AgentSpec, box, discrete

AGENTS = [AgentSpec("a", 5, box(3)), AgentSpec("b", 7, discrete(4))]


def make(*overrides):
    cfg = compose_config("algo=HATRPO", "train=Go1PushHAPPO", "algo.model.hidden_sizes=[8,8]", *overrides).algo
    learner, rollout = random_rollout(AGENTS, cfg, masks=True)
    return learner, learner.actor_batches(rollout, torch.randn(T, N, 1))


def flat(actor):
    return torch.cat([p.detach().flatten() for p in actor.parameters()])


def test_conjugate_gradients_solve_a_positive_definite_system():
    root = torch.randn(7, 7, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    torch.testing.assert_close(conjugate_gradient(lambda v: matrix @ v, target), torch.linalg.solve(matrix, target))


def test_conjugate_gradients_stand_still_once_converged():
    # The identity is solved in one step; nine more must not divide zero by zero.
    target = torch.randn(5)
    torch.testing.assert_close(conjugate_gradient(lambda v: v.clone(), target), target)


def test_fisher_product_of_the_mean_is_the_gauss_newton_product():
    learner, batches = make()
    actor, batch = learner.actors[0], batches[0]
    parameters = list(actor.parameters())
    mean, std = actor(batch.obs)[0].mean, actor.head.std().detach()
    rows = []
    for sample in range(T * N):
        for u in range(3):
            gradient = torch.autograd.grad(mean[sample, u] / std[u], parameters, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(gradient, parameters)]))
    jacobian = torch.stack(rows)
    vector = torch.randn(jacobian.shape[1])
    vector[: actor.head.log_std.numel()] = 0.0  # the deviation has a curvature of its own
    names = [name for name, _ in actor.named_parameters()]
    sizes = [p.numel() for p in parameters]
    start = sum(sizes[: names.index("head.log_std")])
    vector[start : start + 3] = 0.0
    product = fisher_product(actor, batch)(vector)
    expected = jacobian.T @ (jacobian @ vector) / (T * N) + trust_region.DAMPING * vector
    keep = torch.ones_like(product, dtype=torch.bool)
    keep[start : start + 3] = False
    torch.testing.assert_close(product[keep], expected[keep], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("agent", [0, 1])
def test_an_accepted_step_improves_within_the_threshold(agent):
    learner, batches = make()
    actor, batch = learner.actors[agent], batches[agent]
    with torch.no_grad():
        old, before = batch.distribution(actor), flat(actor)
    stats = trust_region_step(actor, batch, learner.cfg)
    with torch.no_grad():
        new = batch.distribution(actor)
    assert stats["accepted"] == 1.0 and not torch.equal(before, flat(actor))
    assert 0.0 < float(old.kl_to(new).mean()) < learner.cfg.trust_region.kl_threshold
    assert trust_region.objective(new, batch, learner.cfg) > trust_region.objective(old, batch, learner.cfg)


def test_a_rejected_step_leaves_every_weight_as_it_was():
    learner, batches = make("algo.trust_region.accept_ratio=1000")
    before = flat(learner.actors[0])
    stats = trust_region_step(learner.actors[0], batches[0], learner.cfg)
    assert torch.equal(before, flat(learner.actors[0]))
    assert stats["accepted"] == 0.0 and stats["trials"] == 11.0


def test_the_line_search_takes_the_first_good_trial_not_the_last(monkeypatch):
    learner, batches = make()
    actor, batch = learner.actors[0], batches[0]
    natural, start = trust_region.natural_step(actor, batch, learner.cfg), flat(actor)
    with torch.no_grad():
        stats = trust_region.line_search(actor, batch, learner.cfg, natural, batch.distribution(actor))
    fraction = learner.cfg.trust_region.backtrack_coeff ** (float(stats["trials"]) - 1.0)
    assert 1.0 <= float(stats["trials"]) < 10.0
    torch.testing.assert_close(flat(actor), start + fraction * natural.full_step, rtol=1e-5, atol=1e-6)
