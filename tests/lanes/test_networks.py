"""Compiled networks: gradients, log-probabilities, values and samples are those of torch, for any number of samples on any number of threads."""
from __future__ import annotations

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import accelerate, warm_up
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.lanes import kernel
from happo_gpu.lanes.program import Unsupported
from happo_gpu.types import AgentSpec, box, discrete

STATES = 29  # more than 24, as layers have: columns of a loop; observations of 5 and 31 are one of each


@pytest.fixture(autouse=True)
def _warnings(monkeypatch):
    monkeypatch.setattr(accelerate, "_warned", set())


def learner_of(agents, *overrides: str, num_values: int = 1) -> OnPolicyLearner:
    cfg = compose_config("algo.model.hidden_sizes=[37,26]", *overrides)
    learner = OnPolicyLearner(agents, STATES, num_values, False, cfg.algo, CPU, 1)
    for network in (*learner.actors, learner.critic):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # biases and norms, too
        if cfg.algo.model.normalize_input:
            network.norm.mean.normal_()
            network.norm.var.uniform_(0.5, 2.0)
    return learner


def passed_through(learner: OnPolicyLearner, samples: int) -> torch.Tensor:
    """Everything that a pass over random samples computes and leaves behind."""
    torch.manual_seed(3)
    critic, found = learner.critic_gradients, []
    for each in (*learner.actor_gradients, critic):
        each.buffer.zero()
    for actor, gradients, agent in zip(learner.actors, learner.actor_gradients, learner.agents):
        gradients.sums.zero_()
        for share in (0.25, 0.75):
            obs, log_probs = torch.randn(samples, agent.num_obs), -2.0 - 0.1 * torch.rand(samples, agent.num_actions)
            actions = torch.randn(samples, agent.num_actions)
            for column, choices in enumerate(agent.action_space.choices):
                actions[:, column] = torch.randint(choices, (samples,))
            gradients.add_plain(obs, actions, log_probs, torch.randn(samples), torch.tensor(share))
        written = torch.empty_like(log_probs)
        actor.write_log_probs(obs, actions, written)
        found += [gradients.buffer.flat, gradients.sums, written.flatten()]
    critic.loss.zero_()
    heads = learner.critic.head.out_features
    states, values = torch.randn(samples, STATES), torch.empty(samples, heads)
    critic.add_plain(states, torch.randn(samples, heads), torch.randn(samples, heads), torch.tensor(0.5))
    learner.critic.write_values(states, values)
    return torch.cat([*found, critic.buffer.flat, critic.loss.view(1), values.flatten()]).clone()


def compiled(learner: OnPolicyLearner) -> None:
    """Compiles its networks, also for who adds up gradients himself."""
    warm_up.compile_learner(learner, learner.policy(1))
    accelerate.compile_networks([(each, "add_plain", "_add_plain") for each in (*learner.actor_gradients, learner.critic_gradients)])


TWO = [AgentSpec("a", 5, box(2)), AgentSpec("b", 31, box(3))]
NETWORKS = {
    "the preset's": (TWO, []),
    "HARL's": (TWO, ["algo.model.use_feature_normalization=true", "algo.model.use_layer_norm=true"]),
    "HARL's, wide: another tile": (TWO, ["algo.model.use_feature_normalization=true", "algo.model.use_layer_norm=true", "algo.model.hidden_sizes=[131,113]"]),
    "tanh": (TWO, ["algo.model.activation_func=tanh", "algo.action_aggregation=mean"]),
    "elu on normalised inputs": (TWO, ["algo.model.activation_func=elu", "algo.model.normalize_input=true"]),
    "silu": (TWO, ["algo.model.activation_func=silu"]),
    "selu": (TWO, ["algo.model.activation_func=selu"]),
    "sigmoid": (TWO, ["algo.model.activation_func=sigmoid"]),
    "leaky relu, a plain step": (TWO, ["algo.model.activation_func=leaky_relu", "algo=HAA2C"]),
    "one layer": (TWO, ["algo.model.hidden_sizes=[43]"]),
    "menus": ([AgentSpec("a", 5, discrete(4)), AgentSpec("b", 31, discrete(3, 2))], []),
    "no clipping of values": (TWO, ["algo.use_clipped_value_loss=false", "algo.use_huber_loss=false"]),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_networks_compute_what_torch_does(capsys, name, threads):
    agents, overrides = NETWORKS[name]
    torch.set_num_threads(threads)
    learner = learner_of(agents, *overrides, num_values=2 if name == "one layer" else 1)
    sizes = (7, 64, 1009)  # less than a tile of rows, one, and some with a part of one
    expected = {samples: passed_through(learner, samples) for samples in sizes}
    compiled(learner)
    for samples in sizes:
        torch.testing.assert_close(passed_through(learner, samples), expected[samples], rtol=2e-5, atol=2e-5)  # sums of a thousand
    assert capsys.readouterr().out == ""


def test_a_compiled_policy_draws_the_same_and_goes_on_learning(capsys):
    learner = learner_of(TWO)
    policy, plain = learner.policy(29), learner.policy(29)
    warm_up.compile_learner(learner, policy)
    for actor in learner.actors:
        torch.nn.init.constant_(actor.head.mean.bias, 3.0)  # in the same tensors
    for num_envs in (29, 1009):
        draws = []
        for each in (policy, plain):
            torch.manual_seed(3)
            draws.append(torch.cat(each.act(torch.randn(num_envs, 36), None, torch.zeros(num_envs, dtype=torch.bool))))
        torch.testing.assert_close(*draws, rtol=1e-5, atol=1e-5)
    assert capsys.readouterr().out == ""


def test_agents_alike_share_one_library_and_threads_add_up_in_one_order(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPPO_GPU_CACHE", str(tmp_path))
    torch.set_num_threads(3)
    learner = learner_of([AgentSpec("a", 5, box(2)), AgentSpec("b", 5, box(2))])
    warm_up.compile_learner(learner, learner.policy(1))
    names = sorted(path.name.rsplit("_", 1)[0] for path in tmp_path.glob("*.so"))
    assert names == ["add_plain", "add_plain", "measure", "sample_plain", "step", "write_log_probs", "write_values"]
    compiled(learner)
    first = passed_through(learner, 4001)
    assert all(torch.equal(passed_through(learner, 4001), first) for _ in range(10))


def test_networks_in_half_precision_are_left_to_torch(monkeypatch, capsys):
    monkeypatch.setattr(kernel, "Kernel", None)
    learner = learner_of(TWO, "algo.model.precision=bf16")
    warm_up.compile_learner(learner, learner.policy(1))
    assert learner.critic.write_values == learner.critic._write_values and capsys.readouterr().out == ""


class Sums:
    """What is summed over rows, and what then becomes of it."""

    def __init__(self) -> None:
        self.weight, self.total, self.count = torch.randn(3), torch.zeros(3), torch.zeros(())
        self.wide, self.matrix = torch.zeros(31), torch.zeros(31, 3)

    def take(self, x: torch.Tensor, y: torch.Tensor) -> None:
        mean = (x * self.weight).mean(0)
        self.total.add_(mean * mean + self.weight)
        self.count.add_(torch.ones_like(x).sum() + 2.0 * self.weight.sum())
        self.wide.add_((y - y.mean(-1, keepdim=True)).sum(0))
        self.matrix.add_(y.t() @ x)

    def again(self, x: torch.Tensor) -> None:
        self.total.add_((x - x.mean(0)).sum(0))


def test_sums_over_rows_are_known_in_the_end():
    plain, fast = Sums(), Sums()
    fast.weight.copy_(plain.weight)
    run = kernel.Kernel(fast.take, 0, [torch.zeros(1, 3), torch.zeros(1, 31)])
    for samples in (1, 65, 211):
        x, y = torch.randn(samples, 3), torch.randn(samples, 31)
        plain.take(x, y), run(x, y)
        for name in ("total", "count", "wide", "matrix"):
            torch.testing.assert_close(getattr(fast, name), getattr(plain, name), rtol=1e-5, atol=1e-4)


def test_what_would_need_the_rows_twice_is_refused():
    sums = Sums()
    with pytest.raises(Unsupported, match="meets the rows once more"):
        kernel.Kernel(sums.again, 0, [torch.zeros(1, 3)])
