"""Memory: its steps, its resets, and that each agent and environment keeps its own."""
from __future__ import annotations

import torch

from conftest import N, T, compose_config, random_rollout
from happo_gpu.nets.recurrent import Gru, Memory
from happo_gpu.types import AgentSpec, box, discrete

AGENTS = [AgentSpec("a", 5, box(3)), AgentSpec("b", 7, discrete(4))]


def gru(layers=2, size=5):
    layer = Gru(size, layers, "orthogonal_")
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


def test_a_sequence_without_resets_is_torchs_gru():
    ours, theirs = gru(), torch.nn.GRU(5, 5, 2, batch_first=True)
    for name, parameter in theirs.named_parameters():
        kind, layer = name.rsplit("_l", 1)
        parameter.data.copy_(getattr(ours.cells[int(layer)], kind).data)
    inputs, hidden = torch.randn(3, 11, 5), torch.randn(3, 2, 5)
    outputs, states = ours(inputs, Memory(hidden, torch.zeros(3, 11, dtype=torch.bool)))
    expected, last = theirs(inputs, hidden.transpose(0, 1).contiguous())
    torch.testing.assert_close(outputs, ours.norm(expected))
    torch.testing.assert_close(states[:, -1], last.transpose(0, 1))


def test_a_reset_in_the_middle_starts_from_zero():
    layer, inputs = gru(), torch.randn(3, 7, 5)
    first = torch.zeros(3, 7, dtype=torch.bool)
    first[1, 4] = True
    outputs, _ = layer(inputs, Memory(torch.randn(3, 2, 5), first))
    afresh, _ = layer(inputs[1:2, 4:], Memory(torch.zeros(1, 2, 5), torch.zeros(1, 3, dtype=torch.bool)))
    torch.testing.assert_close(outputs[1:2, 4:], afresh)


def test_acting_step_by_step_gives_the_log_probs_of_the_training_sequences():
    cfg = compose_config("algo.model.hidden_sizes=[8,8]", "algo.model.recurrent=chunked", "algo.model.data_chunk_length=2",
                         f"algo.episode_length={T}").algo
    learner, rollout = random_rollout(AGENTS, cfg, masks=True)
    batches = learner.actor_batches(rollout, torch.randn(T, N, 1))
    for actor, batch in zip(learner.actors, batches):
        assert batch.obs.shape[:2] == (2 * N, 2)
        torch.testing.assert_close(batch.distribution(actor).log_prob(batch.actions), batch.log_probs)
        whole = batch.uncut()
        assert whole.obs.shape[:2] == (N, T)
        torch.testing.assert_close(
            whole.distribution(actor).log_prob(whole.actions).reshape(batch.log_probs.shape), batch.log_probs
        )


def test_a_recurrent_critic_reads_the_rollout_as_it_would_have_step_by_step():
    cfg = compose_config("algo.model.hidden_sizes=[8,8]", "algo.model.recurrent=chunked", "algo.model.data_chunk_length=2",
                         f"algo.episode_length={T}").algo
    learner, rollout = random_rollout(AGENTS, cfg, masks=True)
    rollout.final_states[:-1] = rollout.states[1:]
    rollout.first[1:] = False
    with torch.no_grad():
        hidden = torch.zeros(N, 1, 8)
        for t in range(T):
            if t == 2:
                at_second_chunk = hidden
            value, after = learner.critic(rollout.states[t].unsqueeze(1), Memory(hidden, rollout.first[t].unsqueeze(1)))
            hidden = after[:, -1]
    values, next_values, starts = learner._values(rollout)
    torch.testing.assert_close(values[-1], value.squeeze(1))
    torch.testing.assert_close(next_values[:-1], values[1:])
    torch.testing.assert_close(starts.view(N, 2, 1, 8)[:, 1], at_second_chunk)
    torch.testing.assert_close(learner.critic_hidden, hidden)


def test_each_environment_and_agent_has_a_memory_of_its_own_that_first_steps_clear():
    cfg = compose_config("algo=MAPPO", "train=Go1PushHAPPO", "algo.model.recurrent=naive", "algo.compound_factor=false",
                         "algo.model.hidden_sizes=[8,8]", f"algo.episode_length={T}").algo
    learner, _ = random_rollout([AgentSpec("a", 5, box(3)), AgentSpec("b", 5, box(3))], cfg)
    policy, obs, nobody = learner.policy(3, deterministic=True), torch.randn(3, 10), torch.zeros(3, dtype=torch.bool)
    fresh, _ = policy.act(obs, None, nobody)
    remembered, _ = policy.act(obs, None, nobody)
    assert not torch.equal(policy.hidden[0], policy.hidden[1])
    cleared, _ = policy.act(obs, None, torch.tensor([False, True, False]))
    torch.testing.assert_close(cleared[1], fresh[1])
    assert not torch.allclose(cleared[0], fresh[0]) and not torch.allclose(remembered, fresh)


def test_second_derivatives_exist():
    layer, inputs = gru(), torch.randn(3, 4, 5)
    outputs, _ = layer(inputs, Memory(torch.zeros(3, 2, 5), torch.zeros(3, 4, dtype=torch.bool)))
    parameters = list(layer.parameters())
    first = torch.autograd.grad((outputs**2).sum(), parameters, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), parameters)
    assert all(bool(torch.isfinite(g).all()) for g in second)
