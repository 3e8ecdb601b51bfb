"""What sim=isaacgym tells Isaac Gym and reads from it, on a stand-in for its tensors; its URDF against MuJoCo; and, where it is installed, the real thing."""
from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CPU, compose_config, compose_raw

from happo_gpu import build, config, isaac
from happo_gpu.config import ConfigError
from happo_gpu.sim import go1, go1_urdf
from happo_gpu.sim.base import ObjectSpec, Rectangle

ROOT = Path(__file__).resolve().parent.parent.parent
N, A = 3, 2
NAMES = sorted(f"{leg}_{joint}" for leg in go1.LEGS for joint in go1.JOINTS)  # not our order, as PhysX may have it
BODIES = {"go1": [link.name for link in go1.links()], "object": ["object"]}
TEE = ObjectSpec((1.0, 0.5, 0.25), 3.0, 0.41667, 0.65, (Rectangle(0.0, -0.25, 1.0, 0.25), Rectangle(0.0, 0.25, 0.25, 0.25)))
EVERYWHERE = torch.ones(N, dtype=torch.bool)


class Gym:
    """Isaac Gym's tensors and calls, with a physics of bodies that fly on and joints that are where they are told to be. No proof that PhysX runs."""

    def __init__(self):
        self.floor, self.friction, self.told, self.filters = None, {}, [], []

    def create_sim(self, compute, graphics, kind, params):
        self.dt = params.dt
        return "sim"

    def add_ground(self, sim, plane):
        self.floor = plane.static_friction

    def load_asset(self, sim, folder, name, options):
        return (Path(folder) / name).read_text().split('robot name="')[1].split('"')[0]

    def get_asset_rigid_body_names(self, asset):
        return BODIES[asset]

    def get_asset_rigid_body_shape_indices(self, asset):
        return [SimpleNamespace(start=2 * i, count=2) for i in range(len(BODIES[asset]))]

    def get_asset_rigid_shape_properties(self, asset):
        return [SimpleNamespace(friction=1.0) for _ in range(2 * len(BODIES[asset]))]

    def set_asset_rigid_shape_properties(self, asset, shapes):
        self.friction[asset] = dict(zip(BODIES[asset], [shape.friction for shape in shapes[1::2]]))

    def get_actor_rigid_shape_properties(self, env, handle):
        return [SimpleNamespace(friction=1.0)]

    def set_actor_rigid_shape_properties(self, env, handle, shapes):
        self.friction[env, handle] = shapes[0].friction

    def get_asset_dof_properties(self, asset):
        return {name: np.zeros(12) for name in ("driveMode", "stiffness", "damping", "armature", "friction")}

    def get_asset_dof_names(self, asset):
        return NAMES

    def create_env(self, sim, lower, upper, per_row):
        self.envs = getattr(self, "envs", -1) + 1
        return self.envs

    def create_actor(self, env, asset, pose, name, group, bits):
        self.filters.append((env, name, group, bits))
        return int(name == "object_0") * A + int(name[-1])

    def set_actor_dof_properties(self, env, handle, drives):
        self.drives = drives

    def prepare_sim(self, sim):
        self.roots, self.joints = torch.zeros(N * (A + 1), 13), torch.zeros(N * A * 12, 2)
        self.inside = self.roots.clone(), self.joints.clone()  # what the physics works on

    def acquire_actor_root_state_tensor(self, sim):
        return self.roots

    def acquire_dof_state_tensor(self, sim):
        return self.joints

    def get_env_origin(self, env):
        return SimpleNamespace(x=100.0 * env, y=10.0 * env, z=0.0)

    def set_actor_root_state_tensor_indexed(self, sim, roots, actors, count):
        assert actors.dtype == torch.int32 and count == len(actors) and roots.data_ptr() == self.roots.data_ptr()
        self.told.append(actors.tolist())
        self.inside[0][actors.long()] = roots.view(-1, 13)[actors.long()]

    def set_dof_state_tensor_indexed(self, sim, joints, actors, count):
        assert actors.dtype == torch.int32 and joints.data_ptr() == self.joints.data_ptr()
        for actor in actors.tolist():
            world, robot = divmod(actor, A + 1)
            rows = slice((world * A + robot) * 12, (world * A + robot + 1) * 12)
            self.inside[1][rows] = joints.view(-1, 2)[rows]

    def set_dof_position_target_tensor(self, sim, targets):
        assert targets.is_contiguous()
        self.targets = targets.clone()

    def simulate(self, sim):
        roots, joints = self.inside
        roots[:, :3] += self.dt * roots[:, 7:10]
        joints[:, 0] = self.targets.flatten()

    def refresh_actor_root_state_tensor(self, sim):
        self.roots.copy_(self.inside[0])

    def refresh_dof_state_tensor(self, sim):
        self.joints.copy_(self.inside[1])


@pytest.fixture
def worlds(monkeypatch):
    gym, package, api, interop = Gym(), ModuleType("isaacgym"), ModuleType("isaacgym.gymapi"), ModuleType("isaacgym.gymtorch")
    for name in ("PlaneParams", "AssetOptions", "Transform"):
        setattr(api, name, SimpleNamespace)
    api.SimParams = lambda: SimpleNamespace(physx=SimpleNamespace())
    api.Vec3 = lambda x, y, z: SimpleNamespace(x=x, y=y, z=z)
    api.SIM_PHYSX, api.UP_AXIS_Z, api.DOF_MODE_POS, api.CC_NEVER, api.acquire_gym = 1, 1, 1, 0, lambda: gym
    interop.wrap_tensor = interop.unwrap_tensor = lambda tensor: tensor
    package.gymapi, package.gymtorch = api, interop
    for module in (package, api, interop):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "happo_gpu.sim.isaacgym", raising=False)
    from happo_gpu.sim.isaacgym import IsaacGymWorlds

    cfg = compose_config("sim=isaacgym", "eval_every=0").sim.legs
    box = ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.96, 0.55)
    yield IsaacGymWorlds(A, (box,), 0.775, dataclasses.replace(cfg, substeps=5, dt=0.004), N)
    monkeypatch.delitem(sys.modules, "happo_gpu.sim.isaacgym")


def place(worlds, mask, joints=None, velocity=None):
    pose = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, -2.0]]).expand(N, A, 3)
    joints = torch.tensor(go1.HOME).expand(N, A, 12) if joints is None else joints
    worlds.place(mask, pose, torch.full((N, A), 0.3), joints, torch.zeros(N, A, 6) if velocity is None else velocity)
    worlds.place_objects(mask, torch.tensor([[[3.0, -1.0, 1.0]]]).expand(N, 1, 3))


def test_what_is_placed_is_told_once_before_the_next_physics_and_only_of_its_worlds(worlds):
    gym = worlds._gym
    place(worlds, EVERYWHERE)
    assert gym.told == [] and worlds.position[1, 0].tolist() == pytest.approx([1.0, 2.0, 0.3])
    worlds.step_joints(torch.zeros(N, A, 12))
    assert gym.told == [list(range(9))]
    worlds.step_joints(torch.zeros(N, A, 12))
    place(worlds, torch.tensor([False, True, False]))
    worlds.step_joints(torch.zeros(N, A, 12))
    assert gym.told == [list(range(9)), [3, 4, 5]]


def test_states_are_theirs_in_the_world_and_ours_in_each_environment(worlds):
    spin = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.0, 0.7]).expand(N, A, 6)  # m/s in the world; rad/s in the trunk's frame
    place(worlds, EVERYWHERE, velocity=spin)
    worlds.step_joints(torch.zeros(N, A, 12))
    half, root = 0.25, worlds._gym.inside[0].view(N, A + 1, 13)[2, 0]
    assert root[:3].tolist() == pytest.approx([200.0 + 1.0 + 0.002, 20.0 + 2.0 + 0.004, 0.3 + 0.006], abs=1e-4)
    assert root[3:7].tolist() == pytest.approx([0.0, 0.0, np.sin(half), np.cos(half)], abs=1e-6)
    assert root[10:].tolist() == pytest.approx([0.5 * np.cos(0.5), 0.5 * np.sin(0.5), 0.7], abs=1e-6)
    assert worlds.position[2, 0].tolist() == pytest.approx([1.002, 2.004, 0.306], abs=1e-4)
    assert worlds.yaw[2].tolist() == pytest.approx([0.5, -2.0], abs=1e-6)
    assert worlds.ang_vel_b[2, 0].tolist() == pytest.approx([0.5, 0.0, 0.7], abs=1e-6)
    assert worlds.object_pose[2, 0].tolist() == pytest.approx([3.0, -1.0, 1.0], abs=1e-4)


def test_every_joint_is_called_by_its_name(worlds):
    wanted = torch.arange(N * A * 12, dtype=torch.float32).view(N, A, 12) / 100.0
    place(worlds, EVERYWHERE, joints=wanted + 5.0)
    worlds.step_joints(wanted)
    named = worlds._gym.targets.view(N, A, 12)
    for i, name in enumerate(f"{leg}_{joint}" for leg in go1.LEGS for joint in go1.JOINTS):
        assert torch.equal(named[..., NAMES.index(name)], wanted[..., i]), name
    assert torch.equal(worlds.joint_pos, wanted)
    worlds.step_joints(wanted)


def test_the_latency_holds_back_the_first_physics_steps(worlds):
    seen, gym = [], worlds._gym
    gym.simulate = lambda sim: seen.append(gym.targets[0, 0, 0].item())
    worlds.params["latency"].fill_(0.0079)
    worlds.step_joints(torch.full((N, A, 12), 2.0))
    assert [value == 2.0 for value in seen] == [False, False, True, True, True]


def test_means_of_frictions_are_the_configured_ones_and_follow_the_parameter(worlds):
    gym, robot, box = worlds._gym, worlds._gym.friction["go1"], worlds._gym.friction["object"]["object"]
    assert 0.5 * (gym.floor + box) == pytest.approx(0.55) and 0.5 * (robot["trunk"] + box) == pytest.approx(0.775)
    assert 0.5 * (gym.floor + robot["FR_calf"]) == pytest.approx(0.8)
    worlds.randomize(torch.tensor([False, True, False]), {"object_friction": (1.2, 1.2)})
    place(worlds, EVERYWHERE)
    assert gym.friction[1, 2] == pytest.approx(2 * 0.66 - 0.55) and (0, 2) not in gym.friction
    assert sorted(worlds.params) == ["latency", "object_friction"]


def test_robots_meet_each_other_and_not_themselves_or_other_worlds(worlds):
    assert worlds._gym.filters[3:6] == [(1, "robot_0", 1, 1), (1, "robot_1", 1, 2), (1, "object_0", 1, 0)]
    assert worlds._gym.drives["stiffness"].tolist() == [35.0] * 12 and worlds._gym.drives["armature"].tolist() == [0.01] * 12


def test_a_saved_state_is_told_after_it_is_loaded(worlds):
    place(worlds, EVERYWHERE)
    worlds.step_joints(torch.zeros(N, A, 12))
    state = {name: value.clone() for name, value in worlds.state_dict().items()}
    nothing = torch.zeros(N, 1, 2)
    worlds.kick(torch.tensor([0.0, 1.0, 0.0]).view(N, 1, 1).expand(N, A, 6), nothing)
    worlds.step_joints(torch.zeros(N, A, 12))
    assert worlds._gym.told[-1] == [3, 4, 5]
    worlds.kick(torch.zeros(N, A, 6), torch.tensor([1.0, 0.0, 0.0]).view(N, 1, 1).expand(N, 1, 2))
    worlds.step_joints(torch.zeros(N, A, 12))
    assert worlds._gym.told[-1] == [0, 1, 2]
    worlds.load_state_dict(state)
    worlds.step_joints(torch.zeros(N, A, 12))
    assert worlds._gym.told[-1] == list(range(9)) and worlds.position[1, 0].tolist() == pytest.approx([1.0, 2.0, 0.3], abs=1e-4)


# -- the description -------------------------------------------------------------------------------


def compiled(urdf):
    mujoco = pytest.importorskip("mujoco", reason="MuJoCo reads URDF")
    keep = '<mujoco><compiler fusestatic="false" discardvisual="false" balanceinertia="false"/></mujoco>'
    return mujoco, mujoco.MjModel.from_xml_string(urdf.replace("</robot>", keep + "</robot>"))


def inertia(mujoco, model, body):
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.body_iquat[body])
    return turn.reshape(3, 3) @ np.diag(model.body_inertia[body]) @ turn.reshape(3, 3).T


def test_the_urdf_is_the_robot_that_mujoco_has():
    mujoco, urdf = compiled(go1_urdf.robot())
    from happo_gpu.sim import go1_mujoco

    model = go1_mujoco.build(1, go1_mujoco.Motors(35.0, 0.5), 0.005)
    for link in go1.links()[1:]:  # MuJoCo takes a file's first link for the world
        one, other = urdf.body(link.name).id, model.body(f"robot_0_{link.name}").id
        for field in ("body_mass", "body_pos", "body_ipos"):
            np.testing.assert_allclose(getattr(urdf, field)[one], getattr(model, field)[other], atol=1e-9)
        np.testing.assert_allclose(inertia(mujoco, urdf, one), inertia(mujoco, model, other), atol=1e-9)
        mine, theirs = urdf.joint(link.name), model.joint(f"robot_0_{link.name}")
        np.testing.assert_allclose(mine.axis, theirs.axis)
        np.testing.assert_allclose(mine.range, theirs.range)
        shapes = [(geoms.geom_pos[i], geoms.geom_size[i]) for geoms, body in ((urdf, one), (model, other))
                  for i in range(geoms.body_geomadr[body], geoms.body_geomadr[body] + geoms.body_geomnum[body])]
        for (at, size), (where, large) in zip(shapes[: len(shapes) // 2], shapes[len(shapes) // 2 :]):
            np.testing.assert_allclose([*at, *size], [*where, *large], atol=1e-6)
    assert 'mass value="5.204"' in go1_urdf.robot()


def test_an_objects_urdf_has_its_parts():
    text = go1_urdf.pushed(TEE)
    assert text.count("<box") == 2 and '<box size="0.5 0.5 0.5"/>' in text and '<origin xyz="0.0 0.25 0.0"' in text
    assert 'izz="0.41667"' in text and '<mass value="3.0"/>' in text
    assert '<cylinder radius="1.5" length="0.5"/>' in go1_urdf.pushed(ObjectSpec((1.5, 1.5, 0.25), 10.0, 11.25, 0.5, round=True))


# -- what it refuses -------------------------------------------------------------------------------


def test_evaluations_while_training_are_refused_and_afterwards_are_not():
    with pytest.raises(ConfigError, match="sim=isaacgym runs once in a process.*write eval_every=0, and test=True afterwards"):
        config.parse(compose_raw("sim=isaacgym"))
    config.parse(compose_raw("sim=isaacgym", "test=True", "checkpoint=x"))


@pytest.mark.parametrize("task, line", [("Go1Walk", "sim=isaacgym has the pushing tasks only"), ("Go1PushLong", "sim=isaacgym has no obstacles yet"),
                                        ("Go1WheeledPush", "sim=isaacgym has robots on legs only"), ("Go1Push", "sim=isaacgym steps on CUDA, not on cpu")])
def test_what_it_has_not_is_one_line(task, line):
    with pytest.raises(ConfigError, match=line):
        build.build_task(compose_config(f"task={task}", "sim=isaacgym", "eval_every=0", f"num_envs={N}"), N, CPU, "eager")


def test_without_isaac_gym_it_is_one_line_that_says_what_to_install():
    code = "import sys; sys.modules['isaacgym'] = None; from happo_gpu import isaac; isaac.before_torch({'task': {'name': 'Go1Push'}, 'sim': {'name': 'isaacgym'}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "sim=isaacgym needs the package isaacgym; install NVIDIA's Isaac Gym Preview 4 (Python 3.8), which no registry has" in done.stderr


def test_after_torch_it_is_too_late(monkeypatch):
    monkeypatch.delitem(sys.modules, "isaacgym", raising=False)
    with pytest.raises(ConfigError, match="sim=isaacgym needs isaacgym imported before torch"):
        isaac.before_torch({"task": {"name": "Go1Push"}, "sim": {"name": "isaacgym"}})


def test_isaac_gym_itself_walks_and_pushes(tmp_path):
    pytest.importorskip("isaacgym", reason="NVIDIA's Isaac Gym Preview 4 is a closed download for Python 3.8 and CUDA")
    code = ("import isaacgym, sys; sys.path.insert(0, 'tests'); from conftest import compose_config; from happo_gpu import build; import torch; "
            "cfg = compose_config('sim=isaacgym', 'num_envs=7', 'eval_every=0', 'sim_device=cuda:0', 'rl_device=cuda:0'); "
            "sim = build.build_task(cfg, 7, build.device_of(cfg), 'eager').sim; d = torch.device('cuda:0'); "
            "sim.reset(torch.ones(7, dtype=torch.bool, device=d), torch.tensor([[-0.95, 0, 0], [0, 3.0, 1.0]], device=d).expand(7, 2, 3), "
            "torch.zeros(7, 1, 3, device=d)); "
            "[sim.step(torch.tensor([0.5, 0, 0], device=d).expand(7, 2, 3)) for _ in range(100)]; "
            "assert not sim.fallen.any() and (sim.object_pose[:, 0, 0] > 0.05).all(), (sim.fallen, sim.object_pose)")
    assert subprocess.run([sys.executable, "-c", code], cwd=str(ROOT)).returncode == 0
