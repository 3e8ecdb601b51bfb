"""Boxes that never move, in both simulators: robots and the pushed object stop at them."""
from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import yaml

from happo_gpu.config.files import CFG_DIR
from happo_gpu.config.schema import typed
from happo_gpu.config.sims import MujocoConfig, PlanarConfig
from happo_gpu.sim.base import ObjectSpec, Rectangle, RobotSpec, Scene
from happo_gpu.sim.planar import PlanarSim

CUBOID = ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.96, 0.5)
TEE = ObjectSpec((0.5, 0.58333, 0.25), 3.0, 0.41667, 0.65, (Rectangle(0.0, -0.16667, 0.5, 0.25), Rectangle(0.0, 0.33333, 0.25, 0.25)))
CYLINDER = ObjectSpec((0.6, 0.6, 0.25), 4.0, 0.72, 0.5, round=True)
BLOCK, SLAB = (0.5, 0.5, 0.5), (0.3, 0.7, 0.5)
NOSE = 0.276  # m from a robot's centre to its tip
FAR = (40.0, 40.0, 0.0)


def planar(robots, obstacles, box=FAR, pushed=CUBOID, sizes=(BLOCK,)) -> PlanarSim:
    """A world for each pose of the only robot; obstacles (N, B, 3)."""
    raw = yaml.safe_load((CFG_DIR / "sim" / "planar.yaml").read_text())
    cfg = dataclasses.replace(typed(PlanarConfig, raw, "sim"), ripple=(0.0, 0.0, 0.0))
    sim, n = PlanarSim(Scene((RobotSpec("go1", 12.74, 0.417),), (pushed,), 0.7, sizes), cfg, len(robots), torch.device("cpu")), len(robots)
    everywhere = torch.ones(n, dtype=torch.bool)
    sim.reset(everywhere, torch.tensor(robots).unsqueeze(1), torch.tensor(box).expand(n, 1, 3))
    sim.place_obstacles(everywhere, torch.tensor(obstacles))
    return sim


def forward(sim, seconds: float) -> None:
    for _ in range(round(seconds / sim.dt)):
        sim.step(torch.tensor([0.5, 0.0, 0.0]).expand(sim.num_envs, 1, 3))


def test_a_robot_walks_up_to_an_obstacle_however_that_is_turned_and_no_further():
    sim = planar([(-1.5, 0.0, 0.0)] * 3, [[(0.0, 0.0, 0.0)], [(0.0, 0.0, math.pi / 4)], [(0.0, 5.0, 0.0)]])
    forward(sim, 3.0)
    x = sim.agent_pose[:, 0, 0].tolist()
    assert x[0] == pytest.approx(-0.5 - NOSE, abs=0.02)
    assert x[1] < -0.6 - NOSE  # a corner, half the diagonal ahead
    assert x[2] > -0.2  # past it
    assert sim.obstacle_pose[2, 0].tolist() == [0.0, 5.0, 0.0]


@pytest.mark.parametrize("pushed", [CUBOID, TEE, CYLINDER], ids=["cuboid", "tee", "cylinder"])
def test_a_pushed_object_stops_at_an_obstacle_and_rests_there(pushed):
    back = pushed.radius if pushed.round else max(x for part in pushed.rectangles for x, _ in part.corners())
    sim = planar([(-back - NOSE - 0.05, 0.0, 0.0)], [[(back + 0.3 + 0.4, 0.0, 0.0)]], box=(0.0, 0.0, 0.0), pushed=pushed, sizes=(SLAB,))
    forward(sim, 6.0)
    assert float(sim.object_pose[0, 0, 0]) == pytest.approx(0.4, abs=0.03)  # the gap that there was
    assert float(sim.object_vel.abs().max()) < 0.05


def test_the_corner_of_an_obstacle_in_a_face_pushes_along_the_face_s_normal():
    sim = planar([FAR], [[(0.6 + math.hypot(0.5, 0.5) - 0.01, 0.0, math.pi / 4)]], box=(0.0, 0.0, 0.0))
    sim.substep()
    vx, vy, rate = sim.object_vel[0, 0].tolist()
    assert vx < -1e-3 and vy == pytest.approx(0.0, abs=1e-5) and rate == pytest.approx(0.0, abs=1e-4)


def test_two_obstacles_and_a_reset_of_one_world():
    sim = planar([(0.0, 0.0, 0.0)] * 2, [[(1.0, 0.0, 0.0), (3.0, 0.0, 0.0)]] * 2, sizes=(BLOCK, SLAB))
    sim.place_obstacles(torch.tensor([False, True]), torch.full((2, 2, 3), 7.0))
    assert sim.obstacle_pose[0, :, 0].tolist() == [1.0, 3.0] and bool((sim.obstacle_pose[1] == 7.0).all())
    state = {name: value.clone() for name, value in sim.state_dict().items()}
    sim.place_obstacles(torch.ones(2, dtype=torch.bool), torch.zeros(2, 2, 3))
    sim.load_state_dict(state)
    assert sim.obstacle_pose[0, :, 0].tolist() == [1.0, 3.0]


def test_a_reset_forgets_the_springs_of_contacts_with_obstacles_in_its_worlds_alone():
    sim = planar([FAR] * 2, [[(0.0, 0.0, 0.0)]] * 2)
    springs = [value for name, value in sim.state_dict().items() if name.startswith("stretch") and name.endswith("obstacle")]
    assert len(springs) == 2
    for spring in springs:
        spring.fill_(0.01)
    sim.reset(torch.tensor([False, True]), torch.tensor([FAR, FAR]).unsqueeze(1), torch.tensor(FAR).expand(2, 1, 3))
    for spring in springs:
        assert bool((spring[..., 0] == 0.01).all()) and not spring[..., 1].any()


def test_whole_robots_and_objects_stop_at_obstacles_in_mujoco():
    pytest.importorskip("mujoco")
    from happo_gpu.sim.legged import Go1Worlds
    from happo_gpu.sim.walking import WalkingSim

    raw = yaml.safe_load((CFG_DIR / "sim" / "mujoco.yaml").read_text())
    scene = Scene((RobotSpec("go1", 12.74, 0.417),), (CUBOID,), 0.7, (BLOCK,))
    sim = WalkingSim(scene, typed(MujocoConfig, raw, "sim"), 3, torch.device("cpu"), Go1Worlds)
    everywhere = torch.ones(3, dtype=torch.bool)
    boxes = torch.tensor([[9.0, 9.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).unsqueeze(1)
    sim.reset(everywhere, torch.zeros(3, 1, 3), boxes)
    sim.place_obstacles(everywhere, torch.tensor([[[1.3, 0.0, 0.0]], [[2.2, 0.0, 0.0]], [[0.0, 9.0, 0.0]]]))
    forward(sim, 4.0)
    robot, box = sim.agent_pose[:, 0, 0].tolist(), sim.object_pose[:, 0, 0].tolist()
    assert robot[0] < 1.3 - 0.5 - 0.2 and robot[0] > 0.3  # at the block
    assert box[1] < 1.13 < 1.3 < box[2]  # 0.1 m of room, or free
    assert sim.obstacle_pose[1, 0].tolist() == pytest.approx([2.2, 0.0, 0.0])
