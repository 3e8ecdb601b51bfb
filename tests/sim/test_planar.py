"""The planar simulator: servo, pushing against full-body measurements, symmetries, bookkeeping, calm."""
from __future__ import annotations

import dataclasses
import math
from typing import Sequence, Tuple

import pytest
import torch
import yaml

from happo_gpu.config.files import CFG_DIR
from happo_gpu.config.schema import typed
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.geometry import box_distance, rotate, rotate_back
from happo_gpu.sim.base import ObjectSpec, RobotSpec, Scene
from happo_gpu.sim.planar import PlanarSim

GRAVITY = 9.81
HALF, MASS, INERTIA = 0.6, 4.0, 0.96  # box: m, kg, kg m^2
ROBOT_MASS, ROBOT_INERTIA = 12.74, 0.417
NOSE = 0.276  # m from a robot's centre to its tip
BEHIND = (-HALF - NOSE - 0.002, 0.0, 0.0)  # at the -x face, 2 mm away
STILL = {"ripple": (0.0, 0.0, 0.0)}  # the gait starts at a random phase
RAW = {**STILL, "trim_rate": 0.0}  # the bare walking policy
Pose = Tuple[float, float, float]


def make_sim(num_envs: int = 7, agents: int = 2, friction: float = 0.5, **changes) -> PlanarSim:
    raw = yaml.safe_load((CFG_DIR / "sim" / "planar.yaml").read_text())
    cfg = dataclasses.replace(typed(PlanarConfig, raw, "sim"), **changes)
    robot, box = RobotSpec("go1", ROBOT_MASS, ROBOT_INERTIA), ObjectSpec((HALF, HALF, 0.25), MASS, INERTIA, friction)
    return PlanarSim(Scene((robot,) * agents, (box,), 0.775), cfg, num_envs, torch.device("cpu"))


def place(sim: PlanarSim, robots: Sequence, boxes: Sequence = ((0.0, 0.0, 0.0),)) -> None:
    """Robots (N, A, 3), or (A, 3) for every world alike; boxes (N, 3) or one."""
    n, agents = sim.agent_pose.shape[:2]
    sim.reset(
        torch.ones(n, dtype=torch.bool),
        torch.as_tensor(robots, dtype=torch.float32).expand(n, agents, 3),
        torch.as_tensor(boxes, dtype=torch.float32).expand(n, 3).unsqueeze(1),
    )


def run(sim: PlanarSim, commands, seconds: float) -> None:
    """Holds commands that broadcast to (N, A, 3)."""
    commands = torch.as_tensor(commands, dtype=torch.float32).expand(sim.agent_pose.shape)
    for _ in range(round(seconds / sim.dt)):
        sim.step(commands)


def body_velocity(sim: PlanarSim) -> torch.Tensor:
    """(N, A, 3) in each robot's heading frame."""
    vx, vy, omega = sim.agent_vel.unbind(-1)
    yaw = sim.agent_pose[..., 2]
    return torch.stack((*rotate_back(vx, vy, yaw.cos(), yaw.sin()), omega), -1)


def far_apart(n: int) -> torch.Tensor:
    """Robots (n, 1, 3) with the box far away, each world with a heading of its own."""
    pose = torch.full((n, 1, 3), 20.0)
    pose[:, 0, 2] = torch.linspace(-3.0, 3.0, n)
    return pose


# -- one robot under its servo ------------------------------------------------------------------


def test_untrimmed_robot_reaches_gain_times_command_outside_the_dead_zone():
    sim = make_sim(7, agents=1, **RAW)  # gain 0.94, dead zone 0.20 to 0.47
    place(sim, far_apart(7))
    run(sim, [[[0.5, 0.0, 0.0]], [[-0.5, 0.0, 0.0]], [[0.0, 0.5, 0.0]], [[0.0, 0.0, -0.5]],
              [[0.3, -0.4, 0.0]], [[0.335, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], 2.0)
    half_way = 0.94 * 0.5 * 0.335  # the middle of the dead zone's flank
    expected = [[0.47, 0.0, 0.0], [-0.47, 0.0, 0.0], [0.0, 0.47, 0.0], [0.0, 0.0, -0.47],
                [0.282, -0.376, 0.0], [half_way, 0.0, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(body_velocity(sim)[:, 0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_untrimmed_robot_does_not_move_at_all_below_the_dead_zone():
    sim = make_sim(7, agents=1, trim_rate=0.0)  # with the ripple of the gait: a robot that stands does not sway
    start = far_apart(7)
    place(sim, start)
    run(sim, [[0.15, 0.0, 0.0]], 0.4)
    run(sim, [[0.1, -0.1, 0.1]], 0.4)
    assert torch.equal(sim.agent_pose, start) and not sim.agent_vel.any()


def test_trimmed_robot_reaches_its_command_in_its_own_heading_frame():
    sim = make_sim(7, agents=1, **STILL)
    place(sim, far_apart(7))
    commands = torch.tensor([[0.5, 0.0, 0.0], [0.15, 0.0, 0.0], [0.0, -0.3, 0.0], [0.0, 0.0, 0.4],
                             [0.3, 0.2, 0.0], [0.4, 0.0, 0.5], [-0.3, 0.3, -0.3]]).unsqueeze(1)
    run(sim, commands, 4.0)
    torch.testing.assert_close(body_velocity(sim), commands, atol=0.01, rtol=0)


def test_trim_follows_a_reference_model_and_so_does_not_overshoot_a_step():
    sim = make_sim(3, agents=1, **STILL)
    place(sim, far_apart(3))
    step, peak = 0.5 * torch.eye(3).unsqueeze(1), torch.zeros(3)  # one axis a world
    for _ in range(60):
        sim.step(step)
        peak = torch.maximum(peak, body_velocity(sim)[:, 0].diagonal())
    assert 0.48 < peak.min() and peak.max() < 0.515  # an integral of (command - velocity) peaks at 0.55


def test_gait_sways_a_walking_robot_at_its_frequency_and_by_a_random_phase():
    sim = make_sim(7, agents=1, trim_rate=0.0)
    place(sim, far_apart(7))
    run(sim, [0.5, 0.0, 0.0], 1.0)
    yaw_rate = []
    for _ in range(50):  # one second: three gait cycles
        run(sim, [0.5, 0.0, 0.0], sim.dt)
        yaw_rate.append(sim.agent_vel[:, 0, 2].clone())
    spectrum = torch.fft.rfft(torch.stack(yaw_rate), dim=0)  # (26, 7), 1 Hz each
    assert spectrum.abs().argmax(0).tolist() == [3] * 7
    # the reference sways and the servo lags behind it by I / K: a share of 1 / sqrt(1 + (2 pi 3 Hz 0.0314 s)^2) = 0.86
    assert torch.stack(yaw_rate).std(0).mean().item() == pytest.approx(0.86 * 0.066, rel=0.1)
    assert spectrum[3].angle().std() > 0.3


def test_nothing_moves_during_the_latency_and_then_the_servo_accelerates_by_hand():
    sim = make_sim(2, agents=1, **RAW)
    sim.params["latency"][0, 1] = 0.01  # two of the four physics steps in a period
    place(sim, [[20.0, 20.0, 0.0]])
    run(sim, [0.5, 0.0, 0.0], sim.dt)
    first = 0.005 * 95.0 * 0.47 / ROBOT_MASS
    second = first + 0.005 * 95.0 * (0.47 - first) / ROBOT_MASS  # 0.03439 m/s
    assert sim.agent_vel[:, 0, 0].tolist() == pytest.approx([0.0, second], rel=1e-5)
    assert sim.agent_pose[0, 0, 0].item() == 20.0
    run(sim, [0.5, 0.0, 0.0], sim.dt)
    assert sim.agent_vel[0, 0, 0].item() == pytest.approx(0.47 * (1.0 - (1.0 - first / 0.47) ** 4), rel=1e-5)


def test_old_command_rules_during_the_latency():
    sim = make_sim(1, agents=1, **RAW)
    place(sim, [[20.0, 20.0, 0.0]])
    run(sim, [0.5, 0.0, 0.0], 2.0)
    run(sim, [0.0, 0.0, 0.0], sim.dt)
    assert sim.agent_vel[0, 0, 0].item() == pytest.approx(0.47, rel=1e-5)


def test_feet_push_at_most_their_traction_ellipse_and_torque_limit():
    sim = make_sim(3, agents=1, substeps=1, latency=0.0, **RAW)
    place(sim, [[20.0, 20.0, 0.0]])
    run(sim, [[[1.5, 0.0, 0.0]], [[1.5, 1.5, 0.0]], [[0.0, 0.0, 1.5]]], sim.dt)
    force = ROBOT_MASS * sim.agent_vel[:, 0, :2] / sim.dt
    assert force[0].tolist() == pytest.approx([66.0, 0.0], rel=1e-4)
    # asked for 133.95 and 122.67 N: scaled by 1 / hypot(133.95 / 66, 122.67 / 55) = 0.33165
    assert force[1].tolist() == pytest.approx([44.43, 40.69], rel=1e-3)
    assert ROBOT_INERTIA * sim.agent_vel[2, 0, 2].item() / sim.dt == pytest.approx(12.0, rel=1e-4)


# -- pushing, against speeds measured on a full-body Go1 in MuJoCo ------------------------------

AWAY = (9.0, 9.0, 0.0)
MEASURED = [  # robots, box mass kg, friction, full-body speed m/s at 0.5 m/s commanded, no trim
    (1, 4.0, 0.5, 0.251), (2, 4.0, 0.5, 0.387), (1, 1.0, 0.5, 0.446), (1, 2.0, 0.5, 0.375), (1, 8.0, 0.5, 0.053),
    (2, 8.0, 0.5, 0.263), (2, 2.0, 0.5, 0.451), (1, 4.0, 0.2, 0.420), (1, 4.0, 0.7, 0.132), (2, 4.0, 0.7, 0.319),
    (2, 4.0, 0.3, 0.443),
]


def test_untrimmed_pushing_speed_is_that_of_the_servo_under_the_friction_load_and_near_the_full_body():
    sim = make_sim(len(MEASURED), **RAW)
    robots, mass, friction, measured = (torch.tensor(column) for column in zip(*MEASURED))
    sim.params["object_mass"].copy_(mass)
    sim.params["object_friction"].copy_(friction)
    x = BEHIND[0]
    place(sim, [[(x, 0.0, 0.0), AWAY] if count == 1 else [(x, 0.3, 0.0), (x, -0.3, 0.0)] for count in robots])
    run(sim, [0.5, 0.0, 0.0], 2.0)
    speed = sim.object_vel[:, 0, 0]
    by_hand = 0.47 - friction * mass * GRAVITY / (95.0 * robots)  # F = K (v_ref - v)
    torch.testing.assert_close(speed, by_hand, atol=2e-3, rtol=0)
    assert (speed[:2] - measured[:2]).abs().max() < 0.03  # the task's own box
    assert (speed - measured).abs().max() < 0.055
    assert sim.object_pose[:, 0, 1:].abs().max() < 1e-3  # straight


def test_trimmed_robots_push_the_box_at_the_commanded_speed():
    sim = make_sim(2, **STILL)
    x = BEHIND[0]
    place(sim, [[BEHIND, AWAY], [(x, 0.3, 0.0), (x, -0.3, 0.0)]])
    run(sim, [0.5, 0.0, 0.0], 2.5)
    assert sim.object_vel[:, 0, 0].tolist() == pytest.approx([0.497, 0.497], abs=0.01)  # full body: 0.497


def test_robot_stalls_at_a_box_that_grips_the_ground_harder_than_its_feet():
    grips = torch.tensor([48.0, 41.0, 70.0, 62.0, 58.0, 52.0])  # N; each pair straddles a limit
    sim = make_sim(6, agents=1, **RAW)
    sim.params["object_friction"].copy_(grips / (MASS * GRAVITY))
    flank = (0.5 * (0.233 - 0.08), -HALF - 0.149, 0.0)  # the middle of the flank at the box's middle
    place(sim, [[BEHIND]] * 4 + [[flank]] * 2)
    slow, fast, aside = (0.5, 0.0, 0.0), (1.5, 0.0, 0.0), (0.0, 1.5, 0.0)
    # 95 N s/m * 0.47 m/s = 44.65 N; then the ceilings of 66 N forward and 55 N sideways
    run(sim, [[slow], [slow], [fast], [fast], [aside], [aside]], 1.2)
    speed = sim.object_vel[:, 0, :2].norm(dim=-1)
    assert speed[::2].tolist() == [0.0] * 3  # at rest exactly
    assert bool((speed[1::2] > 0.02).all())


def test_robot_leaning_on_a_box_is_held_by_its_share_of_the_friction_cone():
    sim = make_sim(3, agents=1, dead_zone=0.0, gain=1.0, friction=100.0, friction_share=0.5, **RAW)
    place(sim, [(0.5 * (0.233 - 0.08), -HALF - 0.149, 0.0)])
    run(sim, [0.0, 40.0 / 87.0, 0.0], 0.5)  # its flank presses with 40 N: at most 0.775 * 0.5 * 40 = 15.5 N along it
    run(sim, [[[load / 95.0, 40.0 / 87.0, 0.0]] for load in (8.0, 12.0, 22.0)], 0.4)
    slip = sim.agent_vel[:, 0, 0]
    assert slip[:2].abs().max() < 1e-3 and slip[2] > 0.02


def test_trim_adds_no_more_than_its_limit_to_a_stalled_command():
    sim = make_sim(2, agents=1, **STILL)
    sim.params["object_friction"].copy_(torch.tensor([57.0, 50.0]) / (MASS * GRAVITY))
    place(sim, [BEHIND])
    run(sim, [0.3, 0.0, 0.0], 2.0)  # 95 N s/m * 0.94 * (0.3 + 0.3) m/s = 53.6 N
    assert sim.object_pose[0, 0, 0] < 0.001 and sim.object_vel[1, 0, 0] > 0.02


def test_robot_off_the_middle_turns_the_box_to_its_other_side():
    sim = make_sim(3, agents=1, **RAW)
    place(sim, [[(BEHIND[0], y, 0.0)] for y in (0.2, -0.2, 0.0)])
    run(sim, [0.5, 0.0, 0.0], 2.0)
    yaw = sim.object_pose[:, 0, 2]
    assert yaw[0] < -0.1 and yaw[1].item() == pytest.approx(-yaw[0].item(), rel=1e-3) and yaw[2].abs() < 1e-3


def test_resting_box_stays_at_rest_exactly():
    sim = make_sim(7)
    boxes = torch.randn(7, 3)
    place(sim, [(9.0, 9.0, 0.0), (-9.0, 9.0, 1.0)], boxes)
    run(sim, torch.rand(7, 2, 3) - 0.5, 0.5)
    assert torch.equal(sim.object_pose[:, 0], boxes) and not sim.object_vel.any()


def test_shoved_box_slides_as_far_as_coulomb_friction_lets_it_and_rests():
    sim = make_sim(1, agents=1)
    place(sim, [AWAY])
    sim.object_vel[0, 0] = torch.tensor([0.6, 0.8, 0.0])
    run(sim, [0.0, 0.0, 0.0], 0.3)
    # 1 m/s loses 0.024525 m/s a step for 40 steps: 0.005 (40 - 0.024525 * 820) = 0.09945 m, v^2 / (2 mu g) = 0.102
    assert sim.object_pose[0, 0].tolist() == pytest.approx([0.6 * 0.09945, 0.8 * 0.09945, 0.0], abs=1e-5)
    assert not sim.object_vel.any()


# -- symmetries ---------------------------------------------------------------------------------

TURN, SHIFT = 0.7, (1.5, -2.5)
SCENE = [(-1.0, 0.25, 0.1), (-1.05, -0.3, -0.2), (0.15, -0.95, 1.4)]  # two at the -x face, one at the -y face
WORLD, MIRRORED, TURNED, PERMUTED = range(4)


@pytest.fixture(scope="module")
def four_views() -> PlanarSim:
    """One scene of three unequal robots, mirrored, turned with the world, and with its robots renumbered."""
    torch.set_num_threads(1)
    sim = make_sim(4, agents=3, **STILL)
    robots, box = torch.tensor(SCENE), torch.tensor((0.0, 0.0, 0.15))
    mirror, order = torch.tensor([1.0, -1.0, -1.0]), [2, 0, 1]

    def turned(pose: torch.Tensor) -> torch.Tensor:
        x, y = rotate(pose[..., 0], pose[..., 1], torch.tensor(math.cos(TURN)), torch.tensor(math.sin(TURN)))
        return torch.stack((x + SHIFT[0], y + SHIFT[1], pose[..., 2] + TURN), -1)

    mass = torch.tensor([12.0, 13.0, 15.0])
    sim.params["robot_mass"].copy_(torch.stack([mass, mass, mass, mass[order]], 1))
    place(sim, torch.stack([robots, robots * mirror, turned(robots), robots[order]]),
          torch.stack([box, box * mirror, turned(box), box]))
    for command in ([(0.5, 0.1, 0.2), (0.45, 0.0, -0.3), (0.4, 0.3, 0.5)],
                    [(0.3, -0.5, 0.0), (0.4, 0.5, 0.0), (0.5, 0.0, -0.5)]):
        command = torch.tensor(command)
        run(sim, torch.stack([command, command * mirror, command, command[order]]), 1.0)
    return sim


def test_the_symmetry_scene_has_pushes_turns_and_robots_in_contact(four_views):
    moved = four_views.object_pose[WORLD, 0]
    assert moved[:2].norm() > 0.1 and (moved[2] - 0.15).abs() > 0.05
    touching = [robots_gap(four_views, i, j)[WORLD] < 0.02 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert any(touching)


def test_mirrored_world_gives_the_mirrored_result(four_views):
    mirror = torch.tensor([1.0, -1.0, -1.0])
    for view in (four_views.agent_pose, four_views.agent_vel, four_views.object_pose, four_views.object_vel):
        torch.testing.assert_close(view[MIRRORED], view[WORLD] * mirror, atol=2e-3, rtol=0)


def test_turned_and_shifted_world_gives_the_same_result_in_its_frame(four_views):
    for view in (four_views.agent_pose, four_views.object_pose):
        x, y = view[TURNED, :, 0] - SHIFT[0], view[TURNED, :, 1] - SHIFT[1]
        x, y = rotate_back(x, y, torch.tensor(math.cos(TURN)), torch.tensor(math.sin(TURN)))
        back = torch.stack((x, y, view[TURNED, :, 2] - TURN), -1)
        torch.testing.assert_close(back, view[WORLD], atol=2e-3, rtol=0)


def test_renumbered_robots_give_the_renumbered_result(four_views):
    sim = four_views
    torch.testing.assert_close(sim.agent_pose[PERMUTED], sim.agent_pose[WORLD][[2, 0, 1]], atol=2e-3, rtol=0)
    torch.testing.assert_close(sim.object_pose[PERMUTED], sim.object_pose[WORLD], atol=2e-3, rtol=0)


def test_free_bodies_keep_momentum_and_lose_energy_when_they_collide():
    sim = make_sim(7, agents=3, **STILL)
    sim.params["servo_stiffness"].zero_()
    sim.params["object_friction"].fill_(1e-6)  # an icy floor
    place(sim, torch.tensor(SCENE) + 0.02 * torch.randn(7, 3, 3), (0.0, 0.0, 0.15))
    sim.agent_vel.copy_(torch.tensor([(1.0, -0.5, 0.3), (0.8, 0.4, 1.0), (0.0, 0.9, -2.0)]))

    def totals():
        mass = torch.cat((sim.params["robot_mass"].T, sim.params["object_mass"].unsqueeze(-1)), 1)  # (N, A + 1)
        inertia = torch.cat((sim.params["robot_inertia"].T, sim.params["object_inertia"].unsqueeze(-1)), 1)
        (x, y, _), (vx, vy, omega) = (torch.cat(both, 1).unbind(-1) for both in (
            (sim.agent_pose, sim.object_pose), (sim.agent_vel, sim.object_vel)))
        angular = mass * (x * vy - y * vx) + inertia * omega
        energy = 0.5 * (mass * (vx * vx + vy * vy) + inertia * omega * omega)
        return torch.stack((mass * vx, mass * vy, angular), -1).sum(1), energy.sum(1)

    momentum, energy = totals()
    run(sim, [0.0, 0.0, 0.0], 0.6)
    after, energy_after = totals()
    torch.testing.assert_close(after, momentum, atol=5e-4, rtol=0)
    assert bool((energy_after < 0.95 * energy).all()) and bool((sim.object_vel[:, 0, :2].norm(dim=-1) > 0.05).all())


# -- bookkeeping --------------------------------------------------------------------------------


def jammed(num_envs: int = 7, agents: int = 3, periods: int = 25, **changes) -> PlanarSim:
    """Robots that press on the box and on each other, so that no part of the state is zero."""
    sim = make_sim(num_envs, agents, **changes)
    robots = [(-0.9, 0.15, 0.0), (-0.9, -0.15, 0.0), (-1.48, 0.0, 0.0)]
    place(sim, torch.tensor(robots[:agents]) + 0.005 * torch.randn(num_envs, agents, 3), 0.01 * torch.randn(num_envs, 3))
    inward = torch.tensor([(0.3, -0.4, 0.1), (0.3, 0.4, -0.1), (0.9, 0.0, 0.1)])[:agents]
    run(sim, inward + 0.01 * torch.randn(num_envs, agents, 3), periods * sim.dt)
    return sim


def snapshot(sim: PlanarSim) -> dict:
    return {name: value.clone() for name, value in sim.state_dict().items()}


def test_masked_reset_touches_only_the_masked_rows_of_every_state_tensor():
    sim = jammed()
    mask = torch.tensor([n in (2, 5) for n in range(7)])
    before, addresses = snapshot(sim), {name: value.data_ptr() for name, value in sim.state_dict().items()}
    assert all(value[..., mask].any() for value in before.values()), "the scene leaves a tensor untried"
    assert bool(before["stretch_pair"].abs().amax((1, 2)).gt(0.0).all()), "a pair of robots is not in contact"
    robots, boxes = torch.randn(7, 3, 3), torch.randn(7, 1, 3)
    sim.reset(mask, robots, boxes)
    for name, value in sim.state_dict().items():
        assert torch.equal(value[..., ~mask], before[name][..., ~mask]), name
        assert value.data_ptr() == addresses[name], name
        if name in ("robot_vel", "box_vel", "v_ref", "v_ref_last", "model_vel", "trim", "stretch_box", "stretch_pair"):
            assert not value[..., mask].any(), name
    assert torch.equal(sim.agent_pose[mask], robots[mask]) and torch.equal(sim.object_pose[mask], boxes[mask])
    assert not torch.equal(sim.state_dict()["gait_phase"][:, mask], before["gait_phase"][:, mask])


def test_reset_world_forgets_its_past():
    sim, fresh = jammed(2, periods=10, **STILL), make_sim(2, agents=3, **STILL)
    for each in (sim, fresh):
        place(each, [BEHIND, (-0.5, 0.8, 1.0), AWAY])
        run(each, [0.5, 0.1, 0.2], 0.4)
    assert torch.equal(sim.agent_pose, fresh.agent_pose) and torch.equal(sim.object_pose, fresh.object_pose)


def test_views_show_the_state_and_write_it():
    sim = make_sim(5, agents=3)
    robots, boxes = torch.randn(5, 3, 3), torch.randn(5, 3)
    views = [sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel]
    place(sim, robots, boxes)
    assert [tuple(view.shape) for view in views] == [(5, 3, 3), (5, 3, 3), (5, 1, 3), (5, 1, 3)]
    assert torch.equal(views[0], robots) and torch.equal(views[2][:, 0], boxes)
    assert sim.fallen.shape == (5, 3) and not sim.fallen.any() and sim.dt == pytest.approx(0.02)
    run(sim, [0.5, 0.0, 0.0], 0.1)
    assert views[1] is sim.agent_vel and bool(views[1].any())


def test_worlds_are_independent():
    def last_state(change: float):
        torch.manual_seed(5)
        sim = jammed(periods=5)
        commands = torch.full((7, 3, 3), 0.4)
        commands[3] += change
        run(sim, commands, 0.2)
        return snapshot(sim)

    one, other = last_state(0.0), last_state(-0.7)
    apart = torch.tensor([n != 3 for n in range(7)])
    for name, value in one.items():
        assert torch.equal(value[..., apart], other[name][..., apart]), name
    assert not torch.equal(one["robot_pose"][..., 3], other["robot_pose"][..., 3])
    assert not torch.equal(one["box_pose"][..., 3], other["box_pose"][..., 3])


def test_loaded_state_continues_bit_equal():
    sim = jammed(periods=10)
    sim.randomize(torch.ones(7, dtype=torch.bool), {"object_mass": (0.5, 1.5), "robot_mass": (0.8, 1.2)})
    run(sim, [0.4, 0.1, 0.0], 0.1)
    saved = snapshot(sim)
    other = make_sim(7, agents=3)
    other.load_state_dict(saved)
    for each in (sim, other):
        run(each, [0.3, -0.3, 0.4], 0.2)
    for name, value in sim.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(saved["robot_pose"], sim.state_dict()["robot_pose"])


def test_randomize_draws_within_the_factors_in_masked_worlds_only():
    sim = make_sim(997, agents=3)
    mask = torch.arange(997) % 2 == 0
    before = {name: value.clone() for name, value in sim.params.items()}
    ranges = {"object_mass": (0.5, 1.5), "servo_stiffness": (0.9, 1.2)}
    for _ in range(3):  # times the nominal value, so that draws do not compound
        sim.randomize(mask, ranges)
    for name, value in sim.params.items():
        assert torch.equal(value[..., ~mask], before[name][..., ~mask]), name
        factor = value[..., mask] / sim.nominal[name][..., mask]
        if name in ranges:
            low, high = ranges[name]
            assert low - 1e-5 <= factor.min() < low + 0.02 and high - 0.02 < factor.max() <= high + 1e-5, name
            # one draw a world: robots and axes share it
            torch.testing.assert_close(factor, factor.reshape(-1, factor.shape[-1])[0].expand_as(factor))
        elif name == "object_inertia":  # follows its mass
            torch.testing.assert_close(factor, sim.params["object_mass"][mask] / sim.nominal["object_mass"][mask])
        else:
            assert torch.equal(value, before[name]), name
    sim.randomize(mask, {"object_mass": (1.5, 1.5), "object_inertia": (0.7, 0.7)})  # unless it is drawn itself
    torch.testing.assert_close(sim.params["object_inertia"][mask], 0.7 * sim.nominal["object_inertia"][mask])


def test_randomized_parameters_reach_the_physics():
    sim = make_sim(3, agents=1, **RAW)
    sim.params["servo_gain"][0, 1] = 0.5
    sim.params["object_friction"][2] = 50.0
    place(sim, [BEHIND])
    run(sim, [0.6, 0.0, 0.0], 1.0)
    speed = sim.agent_vel[:, 0, 0]
    assert speed[0] > 0.3 and speed[1] < 0.15 and speed[2].abs() < 0.01


@pytest.mark.parametrize("agents", [1, 3])
def test_one_and_three_robots_push_the_box(agents):
    sim = make_sim(5, agents, **RAW)
    place(sim, [(BEHIND[0], y, 0.0) for y in (0.0, 0.4, -0.4)][:agents])
    run(sim, [0.5, 0.0, 0.0], 1.0)
    expected = 0.47 - 0.5 * MASS * GRAVITY / (95.0 * agents)
    assert sim.object_vel[:, 0, 0].tolist() == pytest.approx([expected] * 5, abs=0.01)


def test_scene_with_two_boxes_is_refused():
    scene = make_sim(1).scene
    with pytest.raises(ValueError, match="one object, the task has 2"):
        PlanarSim(dataclasses.replace(scene, objects=scene.objects * 2), make_sim(1).cfg, 1, torch.device("cpu"))


# -- calm ---------------------------------------------------------------------------------------

REAR, TIP, RADIUS = -0.233, 0.129, 0.147  # m, a robot's capsule


def axis_points(sim: PlanarSim, robot: int, count: int = 41) -> torch.Tensor:
    """(N, count, 2) along a robot's axis."""
    x, y, yaw = sim.agent_pose[:, robot].unbind(-1)
    along = torch.linspace(REAR, TIP, count)
    return torch.stack((x[:, None] + along * yaw.cos()[:, None], y[:, None] + along * yaw.sin()[:, None]), -1)


def robots_gap(sim: PlanarSim, first: int, second: int) -> torch.Tensor:
    """(N,) m between two robots' outlines, negative where they overlap."""
    return torch.cdist(axis_points(sim, first), axis_points(sim, second)).amin((1, 2)) - 2.0 * RADIUS


def box_gap(sim: PlanarSim) -> torch.Tensor:
    """(N, A) m between each robot's body and the box."""
    x, y, yaw = sim.object_pose[:, 0, None].unbind(-1)
    gaps = []
    for robot in range(sim.agent_pose.shape[1]):
        points = axis_points(sim, robot)
        ahead = points[..., 0] - x, points[..., 1] - y
        distance = box_distance(*rotate_back(*ahead, yaw.cos(), yaw.sin()), HALF, HALF)[0]
        on_body = torch.linspace(REAR, TIP, points.shape[1]) <= 0.08  # ahead of it the nose is narrower
        gaps.append(torch.where(on_body, distance, 1.0).amin(1) - RADIUS)
    return torch.stack(gaps, 1)


def test_robots_driven_at_each_other_never_pass_through():
    sim, pairs = make_sim(7, agents=3), [(0, 1), (1, 2), (0, 2)]
    idle, first = (-9.0, 9.0, 0.0), (-0.5, 0.0, 0.0)
    second = [(0.5, 0.0, math.pi), (0.5, 0.1, math.pi), (0.5, -0.25, math.pi), (0.5, 0.0, math.pi / 2),
              (0.0, -0.6, math.pi / 2), (0.4, 0.4, -2.4), (0.0, 0.5, 0.0)]
    command = torch.tensor([0.5, 0.0, 0.0]).repeat(7, 2, 1)
    command[3, 1], command[6, 0], command[6, 1] = torch.tensor([(0.0, 0.5, 0.0), (0.3, 0.5, 0.0), (0.0, -0.5, 0.0)])
    robots, commands = torch.tensor(idle).repeat(7, 3, 1), torch.zeros(7, 3, 3)
    for n in range(7):  # each world drives another pair of the three together
        chosen = list(pairs[n % 3])
        robots[n, chosen], commands[n, chosen] = torch.tensor([first, second[n]]), command[n]
    place(sim, robots, (9.0, 9.0, 0.0))
    closest = torch.full((7,), 1.0)
    for _ in range(75):
        sim.step(commands)
        gaps = torch.stack([robots_gap(sim, i, j) for i, j in pairs])
        closest = torch.minimum(closest, gaps.amin(0))
    assert closest.min() > -0.025 and closest.max() < 0.0  # every pair met, none sank in
    # head on they block each other at twice the distance from centre to tip
    assert sim.agent_pose[0, :2, 0].diff().item() == pytest.approx(2 * NOSE, abs=0.03)


def test_random_saturated_commands_at_the_box_leave_it_calm():
    sim = make_sim(64, friction=0.55)
    angle = 2.0 * math.pi * torch.rand(64, 1) + torch.tensor([0.0, 1.0]) * (1.0 + 4.0 * torch.rand(64, 1))
    radius = 1.1 + 0.2 * torch.rand(64, 2)
    place(sim, torch.stack((radius * angle.cos(), radius * angle.sin(), angle + math.pi), -1))
    box_speed, robot_speed, deepest, moved = 0.0, 0.0, 1.0, torch.zeros(64)
    for step in range(250):
        if step % 10 == 0:
            offset = sim.object_pose[..., :2] - sim.agent_pose[..., :2]  # (64, 2, 2)
            yaw = sim.agent_pose[..., 2]
            ahead, aside = rotate_back(offset[..., 0], offset[..., 1], yaw.cos(), yaw.sin())
            turn = torch.where(torch.rand(64, 2) < 0.7, torch.atan2(aside, ahead).sign(), torch.randn(64, 2).sign())
            commands = 0.5 * torch.stack((ahead.sign(), aside.sign(), turn), -1)
        sim.step(commands)
        if step % 5 == 0:
            moved += sim.object_vel[:, 0, :2].norm(dim=-1) * 5 * sim.dt
            box_speed = max(box_speed, sim.object_vel[..., :2].norm(dim=-1).max().item())
            robot_speed = max(robot_speed, sim.agent_vel[..., :2].norm(dim=-1).max().item())
            deepest = min(deepest, box_gap(sim).min().item(), robots_gap(sim, 0, 1).min().item())
    assert all(bool(torch.isfinite(value).all()) for value in sim.state_dict().values())
    assert box_speed < 1.5 and robot_speed < 1.5 and deepest > -0.02
    assert moved.median() > 0.3  # they did push


def test_pushes_say_what_the_box_feels_and_change_nothing():
    sim = make_sim(num_envs=3, agents=1, **STILL)
    place(sim, [BEHIND])
    run(sim, [[[0.5, 0.0, 0.0]]], 3.0)
    before = {name: value.clone() for name, value in sim.state_dict().items()}
    for world in range(3):
        points, forces = sim.pushes(world)
        assert points.shape == forces.shape == (4, 2)
        assert float(forces[:, 0].sum()) == pytest.approx(0.5 * MASS * GRAVITY, rel=0.1)  # a steady push bears the ground's friction
        nose = int(forces[:, 0].argmax())
        assert float(points[nose, 0]) == pytest.approx(float(sim.object_pose[world, 0, 0]) - HALF, abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in sim.state_dict().items())
    place(sim, far_apart(3))
    assert not sim.pushes(1)[1].any()
