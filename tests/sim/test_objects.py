"""Pushed objects that are no single cuboid: a T of two, and a cylinder; the same bodies in every simulator."""
from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import yaml

from happo_gpu.config.files import CFG_DIR
from happo_gpu.config.schema import typed
from happo_gpu.config.sims import MujocoConfig, PlanarConfig
from happo_gpu.outlines import outline_of
from happo_gpu.sim.base import ObjectSpec, Rectangle, RobotSpec, Scene
from happo_gpu.sim.planar import PlanarSim, torsion_scale

CUBOID = ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.96, 0.5)
HALVES = dataclasses.replace(CUBOID, parts=(Rectangle(-0.2, 0.0, 0.4, 0.6), Rectangle(0.4, 0.0, 0.2, 0.6)))  # the same cuboid, sawn
TEE = ObjectSpec((0.5, 0.58333, 0.25), 3.0, 0.41667, 0.65, (Rectangle(0.0, -0.16667, 0.5, 0.25), Rectangle(0.0, 0.33333, 0.25, 0.25)))
CYLINDER = ObjectSpec((1.5, 1.5, 0.25), 10.0, 11.25, 0.35, round=True)
ROBOT = RobotSpec("go1", 12.74, 0.417)
NOSE, FLANK = 0.276, 0.147  # m from a robot's axis to its tip and to its side


def make_sim(pushed: ObjectSpec, num_envs: int, **changes) -> PlanarSim:
    raw = yaml.safe_load((CFG_DIR / "sim" / "planar.yaml").read_text())
    cfg = dataclasses.replace(typed(PlanarConfig, raw, "sim"), **{"ripple": (0.0, 0.0, 0.0), **changes})
    return PlanarSim(Scene((ROBOT,), (pushed,), 0.7), cfg, num_envs, torch.device("cpu"))


def placed(pushed: ObjectSpec, robots, boxes=(0.0, 0.0, 0.0), **changes) -> PlanarSim:
    """A world for each pose of the only robot."""
    sim, n = make_sim(pushed, len(robots), **changes), len(robots)
    sim.reset(torch.ones(n, dtype=torch.bool), torch.tensor(robots).unsqueeze(1), torch.tensor(boxes).expand(n, 3).unsqueeze(1))
    return sim


def run(sim: PlanarSim, command, seconds: float) -> None:
    for _ in range(round(seconds / sim.dt)):
        sim.step(torch.tensor(command).expand(sim.num_envs, 1, 3))


def depths(sim: PlanarSim) -> torch.Tensor:
    """(C, N) m of every candidate contact of the robot, 0 where there is none."""
    return sim._shapes.on_object(sim._frame(slice(None)), sim._box_frame()).depth[0].clamp(min=0.0)


# -- the spec --------------------------------------------------------------------------------------


def test_an_object_rests_on_its_free_corners_or_its_rim():
    bar_foot, bar_shoulder, stem_top = math.hypot(0.5, 0.41667), math.hypot(0.5, 0.08333), math.hypot(0.25, 0.58333)
    assert sorted(TEE.supports()) == pytest.approx(sorted([bar_foot, bar_shoulder, stem_top] * 2))  # not the corners in the notches
    assert CYLINDER.supports() == [1.5] and CYLINDER.reach == 1.5
    assert TEE.reach == pytest.approx(math.hypot(0.5, 0.41667)) and CUBOID.reach == math.hypot(0.6, 0.6)


def test_torsion_radius_scales_with_the_support_and_is_the_files_own_for_the_cuboid():
    assert torsion_scale(CUBOID) == 1.0
    assert torsion_scale(CYLINDER) == pytest.approx(1.5 / math.hypot(0.6, 0.6))
    assert torsion_scale(dataclasses.replace(CUBOID, half_extents=(1.5, 1.5, 0.25))) == pytest.approx(2.5)
    assert make_sim(CYLINDER, 2).params["torsion_radius"].tolist() == pytest.approx([0.7 * 1.5 / 0.84853] * 2, rel=1e-4)


def test_the_outline_of_a_tee_has_its_eight_corners_and_area():
    x, y = outline_of(TEE).T
    assert 0.5 * float((x * (list(y[1:]) + [y[0]]) - y * (list(x[1:]) + [x[0]])).sum()) == pytest.approx(0.75, abs=1e-3)
    assert {(round(float(a), 2), round(float(b), 2)) for a, b in zip(x, y)} >= {(0.5, 0.08), (0.25, 0.08), (0.25, 0.58)}
    assert outline_of(CYLINDER).max() == pytest.approx(1.5)


# -- contact ---------------------------------------------------------------------------------------


def test_a_nose_in_the_tees_corner_touches_bar_and_stem_and_elsewhere_only_what_is_there():
    up, left = math.pi / 2, math.pi
    sim = placed(TEE, [
        (0.25 + NOSE - 0.004, 0.4, left),              # 4 mm into the stem's side
        (0.4, 0.08333 + NOSE - 0.003, -up),            # 3 mm into the bar's top, beside the stem
        (0.5 + NOSE - 0.004, -0.2, left),              # 4 mm into the bar's end: the stem is far
        (0.45, 0.5, left),                             # in the notch that a square would fill: the nose 76 mm into the stem
        (0.25 + 0.3, 0.08333 + 0.3, -0.75 * math.pi),  # from the diagonal: 10 cm from both
    ])
    touching = depths(sim)
    expected = [[0.0, 0.004], [0.003, 0.0], [0.004, 0.0]]
    for n, (bar, stem) in enumerate(expected):
        assert touching[:4, n].max().item() == pytest.approx(bar, abs=1e-4)
        assert touching[4:, n].max().item() == pytest.approx(stem, abs=1e-4)
    assert touching[4:, 3].max().item() == pytest.approx(0.076, abs=1e-3) and not touching[:, 4].any()


def test_a_cuboid_sawn_in_two_is_touched_as_often_as_the_whole():
    poses = [(x, -0.6 - FLANK + 0.005, 0.0) for x in (-0.5, -0.1, 0.1, 0.17, 0.31, 0.5)]  # flank along the face, over the seam at 0.2
    poses += [(x, -0.6 - NOSE + 0.005, math.pi / 2) for x in (-0.3, 0.199, 0.21, 0.4)]  # nose on
    whole, sawn = depths(placed(CUBOID, poses)), depths(placed(HALVES, poses))
    torch.testing.assert_close(sawn.sort(0).values[-4:], whole.sort(0).values, atol=1e-6, rtol=0)
    assert not sawn.sort(0).values[:4].any() and (whole > 0).sum().item() > 10


def test_a_cuboid_sawn_in_two_is_pushed_like_the_whole():
    start = [(-0.6 - NOSE, 0.1, 0.0)]
    paths = []
    for pushed in (CUBOID, HALVES):
        sim = placed(pushed, start)
        run(sim, (0.5, 0.0, 0.0), 1.5)
        paths.append(sim.object_pose[0, 0].clone())
    assert paths[0][0] > 0.3
    torch.testing.assert_close(*paths, atol=1e-4, rtol=0)


def test_a_cylinder_touches_nose_and_capsule_once_each_and_as_deep_as_by_hand():
    sim = placed(CYLINDER, [
        (-1.5 - NOSE + 0.004, 0.0, 0.0),                # nose on
        (0.0, 1.5 + FLANK - 0.002, 0.0),                # flank on: the axis passes above the centre
        (0.3, 1.5 + FLANK - 0.002, 0.0),                # beyond: the rear end, 67 mm past the centre, is nearest
        (3.0, 0.0, 0.0),
    ])
    nose, body = depths(sim)
    beyond = 1.5 + FLANK - math.hypot(0.067, 1.5 + FLANK - 0.002)
    assert nose.tolist() == pytest.approx([0.004, 0.0, 0.0, 0.0], abs=1e-4)
    assert body.tolist() == pytest.approx([0.0, 0.002, beyond, 0.0], abs=1e-4) and beyond > 0.0


def test_a_pushed_cylinder_moves_at_the_servos_speed_under_its_friction():
    light = dataclasses.replace(CYLINDER, mass=4.0, friction=0.5)
    sim = placed(light, [(-1.5 - NOSE - 0.002, 0.0, 0.0)], trim_rate=0.0)
    run(sim, (0.5, 0.0, 0.0), 2.0)
    assert sim.object_vel[0, 0].tolist() == pytest.approx([0.47 - 0.5 * 4.0 * 9.81 / 95.0, 0.0, 0.0], abs=2e-3)


def test_a_pushed_tee_turns_about_its_centre_of_mass_and_a_push_through_it_goes_straight():
    turned = []
    for offset in (-0.1, 0.0, 0.1):  # on the bar's end, along x: past the centre of mass at y = 0
        sim = placed(TEE, [(-0.5 - NOSE - 0.002, offset, 0.0)])
        run(sim, (0.5, 0.0, 0.0), 1.0)
        turned.append(sim.object_pose[0, 0, 2].item())
    assert turned[0] > 0.05 and turned[2] < -0.05 and abs(turned[1]) < 0.02


# -- whole robots ----------------------------------------------------------------------------------


def test_whole_robots_meet_the_same_bodies():
    mujoco = pytest.importorskip("mujoco")
    from happo_gpu.sim.legged import Go1Worlds

    legs = typed(MujocoConfig, yaml.safe_load((CFG_DIR / "sim" / "mujoco.yaml").read_text()), "sim").legs
    worlds = Go1Worlds(1, (TEE, CYLINDER), 0.7, legs, 2)
    model = worlds.models[0]
    stem, rim = model.geom("object_0_1"), model.geom("object_1")
    assert stem.pos.tolist() == pytest.approx([0.0, 0.33333, 0.0]) and stem.size.tolist() == pytest.approx([0.25, 0.25, 0.25])
    assert int(rim.type[0]) == mujoco.mjtGeom.mjGEOM_CYLINDER and rim.size[:2].tolist() == pytest.approx([1.5, 0.25])
    assert model.geom("object_0_ground_1").friction[0] == pytest.approx(0.65)
    assert model.body("object_0").mass[0] == pytest.approx(3.0) and max(model.body("object_0").inertia) == pytest.approx(0.41667, abs=1e-4)
    worlds.place_objects(torch.ones(2, dtype=torch.bool), torch.tensor([[[2.0, 0.0, 0.3], [-4.0, 0.0, 0.0]]] * 2))
    for _ in range(25):
        worlds.step_joints(worlds._targets.clone())
    torch.testing.assert_close(worlds.object_pose[0], torch.tensor([[2.0, 0.0, 0.3], [-4.0, 0.0, 0.0]]), atol=2e-3, rtol=0)
