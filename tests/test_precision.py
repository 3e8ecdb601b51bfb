"""precision=: bfloat16 in the hidden layers only, and said plainly where a device has not the format."""
from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import CPU, compose_config, make_task

from happo_gpu import build, precision
from happo_gpu.config import ConfigError


def learner_of(name, *overrides):
    task = make_task("task=Spread", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1")
    cfg = compose_config("task=Spread", f"precision={name}", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", *overrides)
    torch.manual_seed(5)  # the same weights
    return build.build_learner(cfg, task, CPU, 5)


def gradients_of(learner):
    torch.manual_seed(7)
    agent, gradients = learner.agents[0], learner.actor_gradients[0]
    obs = torch.randn(101, agent.num_obs)
    policy = gradients.actor.distribution(obs)
    actions = (policy.mode() + policy.std * torch.randn(101, agent.num_actions)).detach()
    gradients.add_plain(obs, actions, policy.log_prob(actions).detach(), torch.randn(101), torch.ones(()))
    return gradients.buffer.flat


def test_bf16_gives_nearly_the_same_gradients_as_float32_and_not_the_same():
    exact, rough = gradients_of(learner_of("float32")), gradients_of(learner_of("bf16"))
    assert rough.dtype == torch.float32 and not torch.equal(exact, rough)
    assert (rough - exact).norm() < 0.03 * exact.norm()


def test_bf16_rounds_hidden_layers_and_not_the_head():
    learner = learner_of("bf16")
    actor = learner.actors[0]
    features = actor.base(actor.norm(torch.randn(13, learner.agents[0].num_obs)))
    mean = actor.head(features, None).mean
    assert mean.dtype == torch.float32
    assert torch.equal(mean, torch.nn.functional.linear(features, actor.head.mean.weight, actor.head.mean.bias))


def test_checkpoints_do_not_know_of_precision():
    assert learner_of("float32").actors[0].state_dict().keys() == learner_of("bf16").actors[0].state_dict().keys()


def test_tf32_without_a_gpu_is_one_line():
    with pytest.raises(ConfigError, match="precision=tf32 is a format of GPUs and the device is cpu; write precision=float32"):
        precision.settle(dataclasses.replace(compose_config().algo.model, precision="tf32"), CPU)


@pytest.mark.parametrize("slower, chosen", [("bf16", "float32"), ("float32", "bf16")])
def test_auto_takes_what_is_faster(monkeypatch, slower, chosen):
    monkeypatch.setattr(precision, "_seconds", lambda cfg, name, device: 2.0 if name == slower else 1.0)
    assert precision.settle(compose_config("precision=auto").algo.model, CPU) == chosen


def test_auto_measures_both():
    assert precision.settle(compose_config("precision=auto", "algo.model.hidden_sizes=[17,13]").algo.model, CPU) in ("float32", "bf16")
