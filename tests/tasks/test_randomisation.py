"""What may differ between environments of the pushing tasks: errors of what robots see, and the physics."""
from __future__ import annotations

import math

import pytest
import torch

from conftest import compose_raw, make_task
from happo_gpu.config import ConfigError, parse
from test_push import place

NOISE = ["task.noise.position=0.05", "task.noise.angle=0.1"]
# 2 m behind a goal and 1 m behind the box, both straight ahead, the partner 1 m to the left; all turned alike.
SCENE = dict(robots=[[-1.0, 0.0, 0.0], [-1.0, 1.0, 0.0]], box=(0.0, 0.0, 0.0), goal=(1.0, 0.0))


def seen_by_the_first(*overrides, num_envs=1009):
    task = make_task(*overrides, num_envs=num_envs)
    task.reset()
    for n in range(num_envs):
        place(task, n, **SCENE)
    return task, task.compute_observations()[:, : task.agents[0].num_obs]


def test_what_is_seen_errs_by_at_most_the_noise_and_on_average_not_at_all():
    _, seen = seen_by_the_first(*NOISE, "task.env.observation=reference")
    errors = seen - torch.tensor([2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    errors[:, [4, 7]] = torch.remainder(errors[:, [4, 7]] + math.pi, 2.0 * math.pi) - math.pi
    width = torch.tensor([0.05] * 4 + [0.1] + [0.05] * 2 + [0.1])
    share = errors / width
    assert (share.abs() <= 1.0 + 1e-4).all() and (share.abs().amax(0) > 0.98).all()
    assert share.mean(0).abs().max() < 0.06 and share.std(0).tolist() == pytest.approx([math.sqrt(1 / 3)] * 8, rel=0.08)
    assert (torch.corrcoef(share.T) - torch.eye(8)).abs().max() < 0.15  # each column errs by itself


def test_a_turned_angle_errs_before_its_sine_and_cosine_are_taken():
    _, seen = seen_by_the_first("task.noise.angle=0.1")
    cos, sin = seen[:, 4], seen[:, 5]  # of 4 * box_yaw_b
    torch.testing.assert_close(cos * cos + sin * sin, torch.ones(1009))
    assert (4 * 0.1 - 0.02) < torch.atan2(sin, cos).abs().max() <= 4 * 0.1 + 1e-4
    assert (seen[:, :4] == torch.tensor([2.0, 0.0, 1.0, 0.0])).all()  # no noise of positions was asked for


def test_errors_are_drawn_for_each_decision_and_the_critic_sees_none():
    task, first = seen_by_the_first(*NOISE, num_envs=7)
    assert not torch.equal(first, task.compute_observations()[:, :10])
    assert torch.equal(task.compute_states(), task.compute_states())


def test_without_noise_nothing_is_drawn():
    task, _ = seen_by_the_first(num_envs=7)
    before = torch.get_rng_state()
    task.compute_observations()
    assert torch.equal(before, torch.get_rng_state())


def test_friction_masses_servo_and_latency_are_drawn_for_each_environment():
    names = ["object_friction", "contact_friction", "object_mass", "robot_mass", "servo_gain", "servo_stiffness", "force_limit", "latency"]
    task = make_task("~task.randomize.object_friction", *(f"+task.randomize.{name}=[0.5,1.0]" for name in names))
    task.reset()
    for name in names:
        factors = (task.sim.params[name] / task.sim.nominal[name]).view(-1, 7)  # each robot's and axis's the same
        assert 0.5 <= factors.min() and factors.max() <= 1.0 + 1e-6 and len(factors[0].unique()) == 7, name
        torch.testing.assert_close(factors, factors[:1].expand_as(factors))


def test_a_latency_of_more_than_one_control_period_is_refused():
    raw = compose_raw("+task.randomize.latency=[0.5,1.5]")
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert str(caught.value) == ("task.randomize.latency=[0.5, 1.5]: 0.03 s is more than a control period, 0.02 s, by which sim=planar "
                                 "can delay a command at most; write factors up to 1")
    raw["task"]["randomize"]["latency"] = [0.5, 1.0]
    parse(raw)
