"""The sequential update: its factor, its order, and what it becomes with one agent."""
from __future__ import annotations

import copy

import pytest
import torch

from conftest import CPU, N, T, compose_config, random_rollout
from happo_gpu.algo.sequential import update_actors
from happo_gpu.algo.batch import epoch_order, whole_log_probs
from happo_gpu.algo.surrogate import probability_ratio
from happo_gpu.types import AgentSpec, box, split_actions, split_obs

AGENTS = [AgentSpec("a", 5, box(3)), AgentSpec("b", 11, box(2)), AgentSpec("c", 7, box(1))]


def config(*overrides):
    return compose_config("algo.model.hidden_sizes=[8,8]", *overrides).algo


def make(agents=AGENTS, num_values=1, cfg=None):
    return random_rollout(agents, cfg or config(), num_values)


def batches_of(learner, rollout):
    return learner.actor_batches(rollout, learner.evaluate_rollout(rollout).advantages)


def test_factor_is_the_product_of_the_ratios_of_the_agents_before():
    learner, rollout = make()
    batches, seen = batches_of(learner, rollout), {}

    def step(i, batch):
        seen[i] = batch.advantage.clone()
        return learner.step_actor(i, batch)

    update_actors(learner.actors, batches, [2, 0, 1], step, learner.cfg)
    expected = torch.ones(T * N)
    for i in (2, 0, 1):
        torch.testing.assert_close(seen[i], expected * batches[i].advantage)
        new = whole_log_probs(learner.actors[i], batches[i])
        expected = expected * probability_ratio(new, batches[i].log_probs, "prod")
    assert (expected - 1.0).abs().max() > 1e-3  # the policies did move


def test_without_compounding_every_agent_sees_the_plain_advantage():
    learner, rollout = make(cfg=config("algo.compound_factor=false"))
    batches = batches_of(learner, rollout)

    def step(i, batch):
        assert torch.equal(batch.advantage, batches[i].advantage)
        return learner.step_actor(i, batch)

    update_actors(learner.actors, batches, [1, 2, 0], step, learner.cfg)


def test_no_gradient_flows_through_the_factor():
    learner, rollout = make()
    update_actors(learner.actors, batches_of(learner, rollout), [0, 1, 2], lambda i, b: check(i, b, learner), learner.cfg)


def check(i, batch, learner):
    assert not batch.advantage.requires_grad
    return learner.step_actor(i, batch)


def test_ratio_of_the_first_minibatch_is_one_to_rounding():
    learner, rollout = make()
    for actor, batch in zip(learner.actors, batches_of(learner, rollout)):
        ratio = probability_ratio(whole_log_probs(actor, batch), batch.log_probs, "prod")
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.0, atol=2e-6)  # batches differ in size


def test_one_agent_happo_is_ppo():
    agents = AGENTS[:1]
    learner, rollout = make(agents)
    actor = copy.deepcopy(learner.actors[0])
    cfg = learner.cfg
    optimizer = torch.optim.Adam(actor.parameters(), lr=cfg.lr, eps=cfg.opti_eps)
    batch = batches_of(learner, rollout)[0]
    torch.manual_seed(5)
    learner.update(rollout)
    torch.manual_seed(5)
    # PPO written out: epochs of shuffled minibatches of the clipped objective.
    for _ in range(cfg.ppo_epoch):
        order, size = torch.randperm(T * N), T * N // cfg.actor_num_mini_batch
        for m in range(cfg.actor_num_mini_batch):
            index = order[m * size:(m + 1) * size]
            normal = torch.distributions.Normal(actor(batch.obs[index])[0].mean, actor.head.std())
            ratio = (normal.log_prob(batch.actions[index]) - batch.log_probs[index]).sum(-1).exp()
            advantage = batch.advantage[index]
            objective = torch.min(ratio * advantage, ratio.clamp(1 - cfg.clip_param, 1 + cfg.clip_param) * advantage)
            entropy = torch.distributions.Normal(torch.zeros(3), actor.head.std()).entropy().sum()
            optimizer.zero_grad()
            (-objective.mean() - cfg.entropy_coef * entropy).backward()
            torch.nn.utils.clip_grad_norm_(actor.parameters(), cfg.max_grad_norm)
            optimizer.step()
    for ours, written_out in zip(learner.actors[0].parameters(), actor.parameters()):
        torch.testing.assert_close(ours, written_out, rtol=1e-5, atol=1e-6)


def test_order_is_random_unless_fixed_and_always_visits_everyone():
    learner, _ = make()
    orders = {tuple(learner._draw_order()) for _ in range(60)}
    assert len(orders) == 6 and all(sorted(order) == [0, 1, 2] for order in orders)
    fixed, _ = make(cfg=config("algo.fixed_order=true"))
    assert {tuple(fixed._draw_order()) for _ in range(9)} == {(0, 1, 2)}


def test_shared_actor_learns_from_all_agents():
    agents = [AgentSpec("a", 5, box(3)), AgentSpec("b", 5, box(3))]
    learner, rollout = make(agents, cfg=config("algo.model.share_param=true", "algo.compound_factor=false"))
    (batch,) = batches_of(learner, rollout)
    assert len(learner.actors) == 1 and batch.obs.shape == (2 * T * N, 5) and batch.num_agents == 2
    assert torch.equal(batch.obs[T * N:], split_obs(rollout.obs.flatten(0, 1), agents)[1])
    before = [p.clone() for p in learner.actors[0].parameters()]
    stats = learner.update(rollout)
    assert any(not torch.equal(b, p) for b, p in zip(before, learner.actors[0].parameters()))
    assert "losses/a_loss/shared" in stats


def test_per_agent_heads_give_each_agent_its_own_advantage():
    learner, rollout = make(num_values=3)
    batches = batches_of(learner, rollout)
    assert not torch.equal(batches[0].advantage, batches[1].advantage)


def test_actions_and_log_probs_are_split_by_unequal_sizes():
    learner, rollout = make()
    parts = split_actions(rollout.actions.flatten(0, 1), AGENTS)
    assert [p.shape for p in parts] == [(T * N, 3), (T * N, 2), (T * N, 1)]
    expected = learner.actors[1](split_obs(rollout.obs.flatten(0, 1), AGENTS)[1])[0].log_prob(parts[1])
    torch.testing.assert_close(split_actions(rollout.log_probs.flatten(0, 1), AGENTS)[1], expected)


def test_std_stays_bounded_however_large_the_entropy_bonus():
    learner, rollout = make(cfg=config("algo.entropy_coef=100", "algo.lr=1"))
    for _ in range(5):
        learner.update(rollout)
    for actor in learner.actors:
        assert bool((actor.head.std() <= learner.cfg.model.std_y_coef).all())


def test_minibatches_visit_every_sample_once_and_drop_the_remainder():
    order = epoch_order(11, 3, 2, CPU)
    assert len(order) == 18 == len(order.unique()) and int(order.max()) < 22
    for part in order.chunk(3):  # three samples of each agent in every minibatch, the first agent's before
        assert bool((part[:3] < 11).all()) and bool((part[3:] >= 11).all())


def test_learning_rate_decays_linearly_when_asked():
    learner, _ = make(cfg=config("algo.use_linear_lr_decay=true", "algo.lr=0.004", "algo.critic_lr=0.002"))
    learner.set_progress(0.75)
    assert learner.actor_optimizers[1].param_groups[0]["lr"] == pytest.approx(0.001)
    assert learner.critic_optimizer.param_groups[0]["lr"] == pytest.approx(0.0005)
