"""Whole Go1s in MuJoCo: the model against its published figures, frames, resets, parameters, the walking policy."""
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("mujoco", reason="sim=mujoco needs the extra [mujoco]")

from happo_gpu.config.files import CFG_DIR  # noqa: E402
from happo_gpu.config import ConfigError  # noqa: E402
from happo_gpu.config.schema import typed  # noqa: E402
from happo_gpu.config.sims import LeggedConfig, MujocoConfig  # noqa: E402
from happo_gpu.sim import go1, go1_mujoco, locomotion  # noqa: E402
from happo_gpu.sim.base import ObjectSpec, RobotSpec, Scene  # noqa: E402
from happo_gpu.sim.legged import Go1Worlds  # noqa: E402
from happo_gpu.sim.walking import WalkingSim  # noqa: E402

BOX = ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.96, 0.5)
CPU = torch.device("cpu")


def config(**changes) -> MujocoConfig:
    cfg = typed(MujocoConfig, yaml.safe_load((CFG_DIR / "sim" / "mujoco.yaml").read_text()), "sim")
    legs = {key: changes.pop(key) for key in list(changes) if key in LeggedConfig.__dataclass_fields__}
    return dataclasses.replace(cfg, legs=dataclasses.replace(cfg.legs, **legs), **changes)


def make_worlds(num_envs: int = 3, robots: int = 2, objects=(BOX,), **changes) -> Go1Worlds:
    return Go1Worlds(robots, objects, 0.6, config(**changes).legs, num_envs)


def place(worlds: Go1Worlds, pose, mask=None, velocity=None, height: float = go1.HOME_HEIGHT) -> None:
    n, a = worlds.num_envs, worlds.num_robots
    mask = torch.ones(n, dtype=torch.bool) if mask is None else mask
    pose = torch.as_tensor(pose, dtype=torch.float32).expand(n, a, 3)
    velocity = torch.zeros(n, a, 6) if velocity is None else torch.as_tensor(velocity).expand(n, a, 6)
    worlds.place(mask, pose, torch.full((n, a), height), torch.tensor(go1.HOME).expand(n, a, 12), velocity)


# -- the model ---------------------------------------------------------------------------------------


def model():
    return go1_mujoco.build(2, go1_mujoco.Motors(35.0, 0.5), 0.005, (BOX,))


def test_masses_are_the_published_ones():
    m = model()
    assert m.body("robot_0").subtreemass[0] == pytest.approx(12.7434, abs=1e-3)
    for link, mass in (("hip", 0.68), ("thigh", 1.009), ("calf", 0.195862)):
        assert m.body(f"robot_1_RL_{link}").mass[0] == pytest.approx(mass)


@pytest.mark.parametrize("link, principal", [
    ("", (0.0716565, 0.0630105, 0.0168101)), ("_FL_hip", (0.000734064, 0.000468438, 0.000398719)),
    ("_RR_hip", (0.000734064, 0.000468438, 0.000398719)), ("_RL_thigh", (0.00478717, 0.00460903, 0.000709268)),
    ("_FR_calf", (0.00149767, 0.00148468, 3.58427e-05)),
])
def test_principal_inertias_are_the_published_ones(link, principal):
    assert sorted(model().body("robot_0" + link).inertia) == pytest.approx(sorted(principal), rel=1e-3)


def test_joints_have_the_published_ranges_and_torque_limits():
    m = model()
    for leg in go1.LEGS:
        assert m.joint(f"robot_0_{leg}_thigh").range == pytest.approx([-0.686, 4.501])
        assert m.joint(f"robot_0_{leg}_calf").range == pytest.approx([-2.818, -0.888])
        assert m.actuator(f"robot_1_{leg}_calf").forcerange == pytest.approx([-35.55, 35.55])
    assert [m.actuator(i).name for i in range(3)] == ["robot_0_FR_hip", "robot_0_FR_thigh", "robot_0_FR_calf"]


def test_left_legs_mirror_right_ones():
    m = model()
    for link in ("hip", "thigh"):
        left, right = m.body(f"robot_0_FL_{link}"), m.body(f"robot_0_FR_{link}")
        assert left.pos * [1, -1, 1] == pytest.approx(right.pos)
        assert left.ipos * [1, -1, 1] == pytest.approx(right.ipos)


def test_the_inertia_about_the_vertical_axis_is_the_servo_models():
    import mujoco

    m = model()
    data = mujoco.MjData(m)
    data.qpos[7:19] = go1.HOME
    mujoco.mj_forward(m, data)
    full = np.zeros((m.nv, m.nv))
    mujoco.mj_fullM(m, data, full)
    assert full[5, 5] == pytest.approx(0.417, abs=0.02)  # measured by the planar servo's authors


def test_the_box_keeps_its_mass_inertia_and_two_frictions():
    m = model()
    body = m.body("object_0")
    assert body.mass[0] == pytest.approx(4.0) and max(body.inertia) == pytest.approx(0.96, abs=0.01)
    assert m.geom("object_0_ground").friction[0] == pytest.approx(0.5)
    assert m.geom("object_0").friction[0] == pytest.approx(0.6)


# -- worlds ------------------------------------------------------------------------------------------


def test_a_standing_robot_stays_up_and_nothing_is_fallen():
    worlds = make_worlds()
    place(worlds, [[2.0, 0.0, 0.3], [-2.0, 0.0, 2.0]])
    worlds.place_objects(torch.ones(3, dtype=torch.bool), torch.zeros(3, 1, 3))
    for _ in range(50):
        worlds.step_joints(torch.tensor(go1.HOME).expand(3, 2, 12))
    assert not worlds.fallen.any()
    assert (worlds.position[..., 2] > 0.22).all()
    assert worlds.object_pose.abs().max() < 1e-3


def test_velocities_and_gravity_are_told_in_the_trunks_frame():
    worlds = make_worlds()
    quarter = math.pi / 2
    place(worlds, [[0.0, 3.0, quarter], [0.0, -3.0, 0.0]], velocity=[[0.0, 0.4, 0.1, 0.0, 0.0, 0.7], [0.2, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert worlds.yaw[0].tolist() == pytest.approx([quarter, 0.0], abs=1e-6)
    assert worlds.lin_vel_b[1, 0].tolist() == pytest.approx([0.4, 0.0, 0.1], abs=1e-6)
    assert worlds.lin_vel_b[1, 1].tolist() == pytest.approx([0.2, 0.0, 0.0], abs=1e-6)
    assert worlds.yaw_rate[2].tolist() == pytest.approx([0.7, 0.0], abs=1e-6)
    assert worlds.gravity_b[0, 0].tolist() == pytest.approx([0.0, 0.0, -1.0], abs=1e-6)


def test_a_robot_on_its_back_or_in_the_air_has_fallen():
    worlds = make_worlds(objects=())
    worlds._state[1, 4:8] = [0.0, 1.0, 0.0, 0.0]  # half a turn about x
    worlds.refresh()
    assert worlds.fallen.tolist() == [[False, False], [True, False], [False, False]]
    place(worlds, [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]], height=0.9)
    assert worlds.fallen.all()


def test_a_masked_placement_leaves_other_worlds_alone():
    worlds = make_worlds()
    for _ in range(3):
        worlds.step_joints(torch.tensor(go1.HOME).expand(3, 2, 12) + 0.1)
    before = worlds._state.copy()
    place(worlds, [[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]], mask=torch.tensor([False, True, False]))
    worlds.place_objects(torch.tensor([False, True, False]), torch.full((3, 1, 3), 0.25))
    assert (worlds._state[[0, 2]] == before[[0, 2]]).all()
    assert worlds.position[1, 0, :2].tolist() == [1.0, 2.0] and worlds.object_pose[1, 0].tolist() == pytest.approx([0.25] * 3)


def test_a_restored_state_goes_on_bit_for_bit():
    one, other = make_worlds(), make_worlds()
    targets = torch.tensor(go1.HOME) + 0.2 * torch.randn(3, 2, 12)
    one.params["motor_strength"].copy_(torch.tensor([0.9, 1.0, 1.1]))
    place(one, [[1.0, 0.0, 0.3], [-1.0, 0.0, 0.0]])
    one.step_joints(targets)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for worlds in (one, other):
        worlds.step_joints(targets - 0.1)
    assert (one._state == other._state).all() and torch.equal(one.torque, other.torque)


def test_a_latency_holds_the_old_targets_for_that_long():
    worlds = make_worlds()
    worlds.params["latency"].copy_(torch.tensor([0.0, 0.005, 0.012]))
    worlds.step_joints(torch.full((3, 2, 12), 0.5))
    fresh = worlds._control[:, :, 1] == 0.5  # the first thigh, per physics step of 5 ms
    assert fresh.tolist() == [[True] * 4, [False, True, True, True], [False, False, False, True]]


@pytest.mark.parametrize("name, read", [
    ("foot_friction", lambda m: m.geom("robot_1_RL_foot").friction[0] / 0.8),
    ("object_friction", lambda m: m.geom("object_0_ground").friction[0] / 0.5),
    ("object_mass", lambda m: m.body("object_0").mass[0] / 4.0),
    ("trunk_mass", lambda m: m.body("robot_0").mass[0] / 5.204),
    ("motor_strength", lambda m: -m.actuator("robot_0_FL_calf").biasprm[1] / 35.0),
])
def test_a_redrawn_parameter_reaches_its_worlds_model_at_the_next_placement(name, read):
    worlds = make_worlds()
    mask = torch.tensor([True, False, True])
    worlds.randomize(mask, {name: (1.5, 1.5)})
    place(worlds, [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], mask=mask)
    assert [read(m) for m in worlds.models] == pytest.approx([1.5, 1.0, 1.5], rel=1e-6)


# -- walking -----------------------------------------------------------------------------------------


def random_policy(path, inputs: int = locomotion.NUM_OBS, layout=True):
    arrays = {"mean": torch.zeros(inputs), "rstd": torch.ones(inputs), "W0": 0.1 * torch.randn(inputs, 5), "b0": torch.randn(5),
              "W1": 0.1 * torch.randn(5, 12), "b1": torch.zeros(12)}
    if layout:
        locomotion.save(path, arrays, locomotion.Layout(True, "elu", False, 0.25, 4.0, 5.0), locomotion.Gait(2.5, 0.25))
    else:
        np.savez(path, **{name: value.numpy() for name, value in arrays.items()})
    return path


def senses(n: int) -> locomotion.Senses:
    return locomotion.Senses(*(torch.randn(n, 1, size) for size in (3, 3, 3, 12, 12)))


def test_the_trot_lifts_diagonal_feet_in_turns():
    gait = locomotion.Gait(2.0, 0.3)
    quarter, three = gait.joints(torch.tensor(0.25)), gait.joints(torch.tensor(0.75))
    lifted = (quarter - torch.tensor(locomotion.HOME)).view(4, 3)
    assert lifted[[0, 3], 1].tolist() == pytest.approx([0.3, 0.3]) and lifted[[0, 3], 2].tolist() == pytest.approx([-0.6, -0.6])
    assert lifted[[1, 2]].abs().max() < 1e-6
    assert torch.allclose((three - torch.tensor(locomotion.HOME)).view(4, 3)[[1, 2]], lifted[[0, 3]], atol=1e-6)


def test_a_policy_without_a_clock_stands_on_its_own_feet(tmp_path):
    policy = locomotion.load(random_policy(tmp_path / "other.npz", inputs=48, layout=False), (2, 1), 0.02, CPU)
    policy.reset(torch.ones(2, dtype=torch.bool))
    targets = policy.targets(senses(2), torch.zeros(2, 1, 3))
    action = policy.last_action
    assert torch.allclose(targets, torch.tensor(locomotion.HOME) + 0.5 * action, atol=1e-6) and (action.abs() <= 1.0).all()


def test_the_walking_tasks_policy_acts_alike_in_training_and_in_the_simulator(tmp_path):
    """One forward pass by hand, on the observation that Go1Walk builds."""
    path = random_policy(tmp_path / "own.npz")
    policy = locomotion.load(path, (3, 1), 0.02, CPU)
    felt, command = senses(3), torch.randn(3, 1, 3)
    policy.phase.fill_(0.3)
    targets = policy.targets(felt, command)
    seen = locomotion.observe(felt, torch.zeros(3, 1, 12), command, torch.full((3, 1), 0.35))
    with np.load(path) as file:
        w0, b0, w1, b1 = (torch.from_numpy(file[name].astype(np.float32)) for name in ("W0", "b0", "W1", "b1"))
    action = (torch.nn.functional.elu(seen.clamp(-5, 5) @ w0 + b0) @ w1 + b1).clamp(-4, 4)
    gait = locomotion.Gait(2.5, 0.25)
    assert torch.allclose(targets, locomotion.joint_targets(action, torch.full((3, 1), 0.35), gait, 0.25), atol=1e-5)


@pytest.mark.parametrize("make, words", [
    (lambda path: path, "no readable .npz"),
    (lambda path: np.savez(path, mean=np.zeros(3)) or path, "lacks rstd"),
    (lambda path: random_policy(path, inputs=7, layout=False), "takes 7 inputs, 48"),
])
def test_a_file_that_is_no_policy_is_refused_in_one_line(make, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as error:
        locomotion.load(make(tmp_path / "bad.npz"), (1, 1), 0.02, CPU)
    assert "\n" not in str(error.value)


# -- behind the pushing tasks' seam -------------------------------------------------------------------


def make_sim(tmp_path, num_envs: int = 3) -> WalkingSim:
    robots = (RobotSpec("a", 12.74, 0.417), RobotSpec("b", 12.74, 0.417))
    path = tmp_path / "walk.npz"
    cfg = config(locomotion=str(path if path.exists() else random_policy(path)), trim_rate=1.5)
    return WalkingSim(Scene(robots, (BOX,), 0.6), cfg, num_envs, CPU, Go1Worlds)


def test_an_engine_is_told_which_parameters_are_redrawn(tmp_path, monkeypatch):
    sim, told = make_sim(tmp_path), []
    monkeypatch.setattr(Go1Worlds, "randomize", lambda self, mask, ranges: told.append(list(ranges)))  # Warp's keeps constants that follow from masses
    sim.randomize(torch.ones(3, dtype=torch.bool), {"object_mass": (0.5, 1.0)})
    assert told == [["object_mass"]]


def test_a_reset_places_bodies_at_rest_and_touches_only_its_worlds(tmp_path):
    sim = make_sim(tmp_path)
    everywhere = torch.ones(3, dtype=torch.bool)
    poses = torch.tensor([[1.3, 0.0, 3.0], [-1.3, 0.0, 0.2]]).expand(3, 2, 3)
    sim.reset(everywhere, poses, torch.zeros(3, 1, 3))
    for _ in range(4):
        sim.step(torch.full((3, 2, 3), 0.5))
    before = {name: value.clone() for name, value in sim.state_dict().items()}
    mask = torch.tensor([False, False, True])
    sim.reset(mask, poses + 0.5, torch.full((3, 1, 3), 0.125))
    for name, value in sim.state_dict().items():
        rows = value[..., :2] if name.startswith("params/") else value[:2]
        assert torch.equal(rows, before[name][..., :2] if name.startswith("params/") else before[name][:2]), name
    assert sim.agent_pose[2, 0].tolist() == pytest.approx([1.8, 0.5, 3.5 - 2 * math.pi], abs=1e-5)
    assert sim.object_pose[2, 0].tolist() == pytest.approx([0.125] * 3, abs=1e-6) and sim.agent_vel[2].abs().max() == 0.0


def test_a_restored_simulator_goes_on_bit_for_bit(tmp_path):
    one, other = make_sim(tmp_path), make_sim(tmp_path)
    poses = torch.tensor([[1.3, 0.0, 3.0], [-1.3, 0.0, 0.2]]).expand(3, 2, 3)
    one.reset(torch.ones(3, dtype=torch.bool), poses, torch.zeros(3, 1, 3))
    one.step(torch.full((3, 2, 3), 0.4))
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for sim in (one, other):
        sim.step(torch.full((3, 2, 3), -0.2))
    assert torch.equal(one.agent_pose, other.agent_pose) and torch.equal(one.object_pose, other.object_pose)


def test_the_live_views_stay_the_same_tensors(tmp_path):
    sim = make_sim(tmp_path)
    views = [sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel, sim.fallen]
    sim.reset(torch.ones(3, dtype=torch.bool), torch.tensor([[1.3, 0.0, 3.0], [-1.3, 0.0, 0.2]]).expand(3, 2, 3), torch.zeros(3, 1, 3))
    sim.step(torch.zeros(3, 2, 3))
    assert all(a is b for a, b in zip(views, (sim.agent_pose, sim.agent_vel, sim.object_pose, sim.object_vel, sim.fallen)))


def test_pushes_say_what_the_box_feels_and_change_nothing():
    scene = Scene((RobotSpec("go1", 12.74, 0.417),), (BOX,), 0.6)
    sim = WalkingSim(scene, config(), 2, CPU, Go1Worlds)
    everywhere = torch.ones(2, dtype=torch.bool)
    sim.reset(everywhere, torch.tensor([[[-0.93, 0.0, 0.0]], [[-3.0, 0.0, 0.0]]]), torch.zeros(2, 1, 3))
    before = sim.worlds._state.copy()
    total, steps = 0.0, 150
    for _ in range(steps):
        sim.step(torch.tensor([0.4, 0.0, 0.0]).expand(2, 1, 3))
        points, forces = sim.pushes(0)
        total += float(forces[:, 0].sum())
        assert points.shape == forces.shape and sim.pushes(1)[1].shape == (0, 2)
    assert float(sim.object_pose[0, 0, 0]) > 0.1
    assert 0.5 < total / steps / (BOX.friction * BOX.mass * 9.81) < 1.5  # the ground's friction, but for the way there
    state = sim.worlds._state.copy()
    sim.pushes(0)
    assert (state == sim.worlds._state).all() and (state != before).any()
