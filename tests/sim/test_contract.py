"""What every simulator promises the pushing tasks, on each of them: see happo_gpu.sim.base.Sim.

sim=mujoco_warp compiles its kernels for minutes on a CPU, where they are not in Warp's cache: python -m pytest -m slow tests/sim.
"""
from __future__ import annotations

import functools
import sys

import pytest
import torch

from conftest import CPU, compose_config

from happo_gpu import build
from happo_gpu.config import ConfigError

N, A = 3, 2
NEEDS = {"planar": (), "mujoco": ("mujoco",), "mujoco_warp": ("mujoco", "mujoco_warp")}
SIMS = ["planar", "mujoco", pytest.param("mujoco_warp", marks=pytest.mark.slow)]
ROBOTS = torch.tensor([[-0.95, 0.0, 0.0], [0.0, 3.0, 1.0]]).repeat(N, 1, 1)  # the first at the box's -x face, the second away
EVERYWHERE = torch.ones(N, dtype=torch.bool)


@functools.lru_cache(maxsize=None)
def shared(name: str):
    """One simulator of each kind for all tests: Warp's are expensive to make."""
    for package in NEEDS[name]:
        pytest.importorskip(package, reason=f"sim={name} needs the package {package}")
    return make(name)


def make(name: str):
    return build.build_task(compose_config(f"sim={name}", f"num_envs={N}"), N, CPU, "eager").sim


@pytest.fixture(params=SIMS)
def sim(request):
    sim = shared(request.param)
    for name, value in sim.nominal.items():
        sim.params[name].copy_(value)
    sim.reset(EVERYWHERE, ROBOTS, torch.zeros(N, 1, 3))
    return sim


def walk(sim, forward: float, steps: int) -> None:
    for _ in range(steps):
        sim.step(torch.tensor([forward, 0.0, 0.0]).expand(N, A, 3))


def saved(sim):
    return {name: value.clone() for name, value in sim.state_dict().items()}


def test_a_reset_places_bodies_at_rest(sim):
    torch.testing.assert_close(sim.agent_pose, ROBOTS, atol=1e-5, rtol=0)
    assert sim.object_pose.abs().max() < 1e-6 and sim.agent_vel.abs().max() == 0.0 and sim.object_vel.abs().max() == 0.0
    assert sim.fallen.shape == (N, A) and not sim.fallen.any()


def test_a_robot_walks_where_it_is_told_and_pushes_what_stands_there(sim):
    walk(sim, 0.5, 30)
    moved = sim.agent_pose[:, 1, :2] - ROBOTS[:, 1, :2]
    ahead = moved[:, 0] * torch.cos(torch.tensor(1.0)) + moved[:, 1] * torch.sin(torch.tensor(1.0))
    assert (ahead > 0.1).all() and (ahead < 0.4).all()
    assert (sim.object_pose[:, 0, 0] > 0.01).all() and (sim.object_pose[:, 0, 1].abs() < 0.1).all()
    points, forces = sim.pushes(1)
    assert points.shape == forces.shape and points.shape[1] == 2 and torch.isfinite(forces).all()


def test_views_stay_live(sim):
    views = [sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel, sim.fallen]
    addresses = [view.data_ptr() for view in views]
    walk(sim, 0.5, 1)
    sim.reset(torch.tensor([False, True, False]), ROBOTS, torch.zeros(N, 1, 3))
    assert all(a is b for a, b in zip(views, (sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel, sim.fallen)))
    assert addresses == [view.data_ptr() for view in views]


def test_a_masked_reset_leaves_the_other_worlds_alone(sim):
    walk(sim, 0.5, 2)
    before = [value.clone() for value in (sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel)]
    sim.reset(torch.tensor([False, True, False]), ROBOTS + 0.5, torch.full((N, 1, 3), 0.25))
    for old, new in zip(before, (sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel)):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert sim.object_pose[1, 0].tolist() == pytest.approx([0.25] * 3, abs=1e-6) and sim.agent_vel[1].abs().max() == 0.0


def test_a_saved_state_goes_on_bit_for_bit(sim):
    walk(sim, 0.4, 2)
    before = saved(sim)
    walk(sim, -0.3, 3)
    after = saved(sim)
    sim.load_state_dict(before)
    walk(sim, -0.3, 3)
    for name, value in saved(sim).items():
        assert torch.equal(value, after[name]), name


def test_a_value_that_is_not_finite_does_not_outlive_a_reset(sim):
    for name, value in sim.state_dict().items():
        if value.is_floating_point() and not name.startswith("params/"):
            value.fill_(float("nan"))
    sim.reset(EVERYWHERE, ROBOTS, torch.zeros(N, 1, 3))
    walk(sim, 0.0, 1)
    assert all(torch.isfinite(value).all() for value in sim.state_dict().values())


def test_a_heavier_object_moves_less(sim):
    sim.randomize(torch.tensor([True, True, False]), {"object_mass": (4.0, 4.0)})
    sim.reset(EVERYWHERE, ROBOTS, torch.zeros(N, 1, 3))
    walk(sim, 0.5, 40)
    way = sim.object_pose[:, 0, 0]
    assert (way[:2] < 0.6 * way[2]).all(), way


@pytest.mark.parametrize("name, package, extra", [("mujoco", "mujoco", "mujoco"), ("mujoco_warp", "mujoco_warp", "gpu-physics")])
def test_a_missing_package_is_one_line_that_says_what_to_install(name, package, extra, monkeypatch):
    for module in [module for module in sys.modules if module.startswith("happo_gpu.sim.") and module != "happo_gpu.sim.base"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        make(name)
    assert str(error.value) == f"sim={name} needs the package {package.replace('_', '-')}; write pip install -e '.[{extra}]'"


def test_the_cpus_engine_refuses_a_gpu_and_names_the_other():
    with pytest.raises(ConfigError, match="sim=mujoco steps on the CPU, not on cuda:0; write sim=mujoco_warp, or sim_device=cpu rl_device=cpu"):
        build.build_task(compose_config("sim=mujoco"), N, torch.device("cuda:0"), "eager")


@pytest.mark.slow
def test_both_engines_of_whole_robots_agree():
    """Same state and commands in double and in single precision; later, footfalls of a few steps apart part them."""
    one, other = shared("mujoco"), shared("mujoco_warp")
    for sim in (one, other):
        for name, value in sim.nominal.items():
            sim.params[name].copy_(value)
        sim.params["motor_strength"].copy_(torch.tensor([0.9, 1.0, 1.1]))
        sim.params["foot_friction"].mul_(torch.tensor([1.2, 0.8, 1.0]))
        sim.params["trunk_mass"].mul_(torch.tensor([1.0, 1.2, 0.8]))
        torch.manual_seed(5)  # of the gaits' phases
        sim.reset(EVERYWHERE, ROBOTS, torch.zeros(N, 1, 3))
        if sim is other:
            sim.worlds.refresh()  # masses that were not redrawn but written
        walk(sim, 0.5, 12)
    torch.testing.assert_close(other.agent_pose, one.agent_pose, atol=5e-3, rtol=0)
    torch.testing.assert_close(other.worlds.joint_pos, one.worlds.joint_pos, atol=5e-2, rtol=0)
    torch.testing.assert_close(other.object_pose, one.object_pose, atol=5e-3, rtol=0)
    assert (one.agent_pose[0, 1] - one.agent_pose[1, 1]).abs().max() > 1e-3  # or the parameters did nothing
