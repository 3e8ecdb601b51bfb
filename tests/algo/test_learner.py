"""The learner's options: dead agents, values per agent, mixed actions, adaptive rates, input statistics."""
from __future__ import annotations

import pytest
import torch

from conftest import CPU, N, S, T, compose_config, random_rollout
from happo_gpu.algo import batch as batch_module
from happo_gpu.algo.batch import whole_log_probs
from happo_gpu.algo.surrogate import normalize_advantage
from happo_gpu.data.rollout import to_samples
from happo_gpu.types import AgentSpec, box, discrete

MIXED = [AgentSpec("continuous", 5, box(3)), AgentSpec("discrete", 11, discrete(4)), AgentSpec("several", 7, discrete(3, 2))]


def config(*overrides):
    return compose_config("algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=2", "algo.critic_num_mini_batch=2",
                          f"algo.episode_length={T}", *overrides).algo


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def moved(before, network):
    return [not torch.equal(old, new) for old, new in zip(before, network.parameters())]


@pytest.mark.parametrize("algo", ["HAPPO", "HAA2C", "HATRPO", "MAPPO"])
@pytest.mark.parametrize("recurrent", ["none", "naive", "chunked"])
def test_continuous_discrete_and_several_choices_learn_side_by_side(algo, recurrent):
    cfg = config(f"algo={algo}", "train=Go1PushHAPPO", "algo.model.share_param=false", f"algo.model.recurrent={recurrent}",
                 "algo.model.data_chunk_length=2")
    learner, rollout = random_rollout(MIXED, cfg, masks=True, deaths=True)
    before = [weights(actor) for actor in learner.actors]
    stats = learner.update(rollout)
    assert all(bool(torch.isfinite(value).all()) for value in stats.values())
    for old, actor in zip(before, learner.actors):
        assert any(moved(old, actor))


def test_a_dead_agent_keeps_its_weights_and_moments_and_passes_the_factor_on():
    learner, rollout = random_rollout(MIXED, config("algo.fixed_order=true", "algo.weight_decay=0.1"), deaths=True)
    learner.update(rollout)  # moments exist and would move the weights even without a gradient
    rollout.log_probs.copy_(torch.cat([
        whole_log_probs(actor, batch).view(T, N, -1)
        for actor, batch in zip(learner.actors, learner.actor_batches(rollout, torch.zeros(T, N, 1)))
    ], -1))  # as if the rollout had been collected just now
    rollout.active[..., 1] = 0.0
    before, state = weights(learner.actors[1]), learner.actor_optimizers[1].state_dict()["state"]
    moments = {k: {name: value.clone() for name, value in v.items()} for k, v in state.items()}
    others = weights(learner.actors[2])
    stats = learner.update(rollout)
    assert not any(moved(before, learner.actors[1])) and any(moved(others, learner.actors[2]))
    for key, value in learner.actor_optimizers[1].state_dict()["state"].items():
        assert all(torch.equal(value[name], moments[key][name]) for name in value)
    assert stats["losses/a_loss/discrete"] == 0.0
    for kind in ("mean", "min", "max"):
        torch.testing.assert_close(stats[f"info/factor_{kind}/several"], stats[f"info/factor_{kind}/discrete"])


def test_an_agent_dead_in_the_first_update_starts_with_zero_moments():
    learner, rollout = random_rollout(MIXED, config(), deaths=True)
    rollout.active[..., 0] = 0.0
    learner.update(rollout)
    for value in learner.actor_optimizers[0].state_dict()["state"].values():
        assert all(float(torch.as_tensor(entry).abs().sum()) == 0.0 for entry in value.values())


def test_samples_of_dead_agents_teach_nothing():
    results = []
    for noise in (0.0, 100.0):
        torch.manual_seed(2)
        learner, rollout = random_rollout(MIXED, config("algo.actor_num_mini_batch=1"), deaths=True)
        dead = rollout.active[..., 0] == 0.0
        rollout.obs[..., :5][dead] += noise  # what the dead agent saw
        torch.manual_seed(7)
        learner.step_actor(0, learner.actor_batches(rollout, torch.ones(T, N, 1).cumsum(0))[0])
        results.append(torch.cat([w.flatten() for w in weights(learner.actors[0])]))
    torch.testing.assert_close(results[0], results[1])


def test_advantage_statistics_are_those_of_active_samples():
    advantage, active = torch.tensor([1.0, 3.0, 500.0]), torch.tensor([1.0, 1.0, 0.0])
    ours = normalize_advantage(advantage, active)  # mean 2, deviation 1
    torch.testing.assert_close(ours[:2], torch.tensor([-1.0, 1.0]), rtol=0.0, atol=1e-4)


def test_values_per_agent_pool_their_advantage_statistics():
    learner, rollout = random_rollout(MIXED, config(), num_values=3, deaths=True)
    raw = torch.randn(T, N, 3) + torch.tensor([0.0, 10.0, 20.0])
    batches = learner.actor_batches(rollout, raw)
    expected = normalize_advantage(raw, rollout.active)
    for agent, batch in enumerate(batches):
        torch.testing.assert_close(batch.advantage, expected[..., agent].flatten())
    assert batches[2].advantage.mean() > batches[0].advantage.mean() + 1.0  # own statistics would hide this


@pytest.mark.parametrize("recurrent", ["none", "chunked"])
def test_states_per_agent_are_rows_of_their_own_for_one_critic(recurrent):
    cfg = config(f"algo.model.recurrent={recurrent}", "algo.model.data_chunk_length=2")
    learner, rollout = random_rollout(MIXED, cfg, num_values=3, per_agent_states=True)
    targets = learner.evaluate_rollout(rollout)
    assert targets.values.shape == (T, N, 3) and rollout.states.shape == (T, N, 3, S)
    if recurrent == "none":
        torch.testing.assert_close(targets.values[2, 5, 1], learner.critic(rollout.states[2, 5, 1])[0].squeeze(-1))
    before = weights(learner.critic)
    learner.learn(rollout, targets)
    assert any(moved(before, learner.critic))


def test_samples_are_ordered_as_harl_orders_them():
    values = torch.arange(T * N).view(T, N)  # t * N + n
    assert torch.equal(to_samples(values, 0), torch.arange(T * N))
    chunks = to_samples(values, 2)  # environment after environment, each cut into two
    assert chunks[2 * 5 + 1].tolist() == [2 * N + 5, 3 * N + 5]


@pytest.mark.parametrize("kl, expected", [(1.0, 0.001 / 1.5), (1e-9, 0.0015), (0.01, 0.001)])
def test_rates_follow_the_kl_to_its_target(kl, expected):
    learner, _ = random_rollout(MIXED, config("algo.adaptive_kl=0.01", "algo.use_linear_lr_decay=false", "algo.lr=0.001",
                                              "algo.critic_lr=0.002"))
    learner._adapt_rates({i: {"kl": torch.tensor(kl)} for i in range(3)})
    assert float(learner.actor_optimizers[1].param_groups[0]["lr"]) == pytest.approx(expected)
    assert float(learner.critic_optimizer.param_groups[0]["lr"]) == pytest.approx(2.0 * expected)


def test_an_adaptive_rate_really_scales_the_steps():
    steps = []
    for factor in (1.0, 10.0):
        learner, rollout = random_rollout(MIXED, config("algo.adaptive_kl=0.01", "algo.use_linear_lr_decay=false"))
        learner.actor_optimizers[0].param_groups[0]["lr"].mul_(factor)
        before = weights(learner.actors[0])
        torch.manual_seed(3)
        learner.step_actor(0, learner.actor_batches(rollout, torch.randn(T, N, 1, generator=torch.Generator().manual_seed(1)))[0])
        steps.append(sum(float((old - new).detach().abs().sum()) for old, new in zip(before, learner.actors[0].parameters())))
    assert steps[1] > 3.0 * steps[0]


def test_input_statistics_move_after_the_update_and_are_saved():
    learner, rollout = random_rollout(MIXED, config("algo.model.normalize_input=true"))
    rollout.obs.add_(50.0)
    seen = []
    original = learner.step_actor
    learner.step_actor = lambda i, batch: seen.append(float(learner.actors[i].norm.count)) or original(i, batch)
    learner.update(rollout)
    assert seen == [1.0, 1.0, 1.0]
    assert float(learner.actors[2].norm.count) == T * N + 1.0
    torch.testing.assert_close(learner.actors[1].norm.mean, torch.full((11,), 50.0), rtol=0.05, atol=0.5)
    other, _ = random_rollout(MIXED, config("algo.model.normalize_input=true"))
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.actors[1].norm.mean, learner.actors[1].norm.mean)


def test_shared_actors_of_unequal_agents_are_refused():
    from happo_gpu.config import ConfigError

    with pytest.raises(ConfigError, match="differ in size"):
        random_rollout(MIXED, config("algo=MAPPO", "train=Go1PushHAPPO", "algo.model.share_param=true"))


@pytest.mark.parametrize("recurrent", ["none", "chunked"])
def test_a_minibatch_in_pieces_gives_the_gradients_of_the_whole(monkeypatch, recurrent):
    results = []
    for rows in (1 << 20, 7):  # 52 samples, or 26 sequences of 2 steps
        monkeypatch.setitem(batch_module.PIECE_ROWS, "cpu", rows)
        torch.manual_seed(2)
        cfg = config("algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", f"algo.model.recurrent={recurrent}",
                     "algo.model.data_chunk_length=2", "algo.entropy_coef=0.1")
        learner, rollout = random_rollout(MIXED, cfg, deaths=True, masks=True)
        torch.manual_seed(3)
        stats = learner.update(rollout)
        networks = [*learner.actors, learner.critic]
        results.append(torch.cat([w.flatten() for n in networks for w in weights(n)] + [torch.stack([
            stats[name].reshape(()) for name in ("losses/a_loss", "losses/entropy", "losses/c_loss")
        ])]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=2e-5)


def test_pieces_cover_a_minibatch_once(monkeypatch):
    monkeypatch.setitem(batch_module.PIECE_ROWS, "cpu", 8192)
    assert batch_module.piece_sizes(20_011, 1, CPU) == [6671, 6670, 6670]
    assert sum(batch_module.piece_sizes(26, 5000, CPU)) == 26
