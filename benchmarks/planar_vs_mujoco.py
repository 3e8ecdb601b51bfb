"""sim=planar against MuJoCo's C engine on the same planar scenes: where does a pushed box end up?

Both simulate robots that are servoed in the plane and push one box. In MuJoCo the box is a free body
on a floor and the robots have slide and hinge joints; the servo is written out again below, in numpy.
Constants may be chosen on FIT scenes, never on HELD-OUT (cfg's torsion radius comes from neither but
from full-body robots). The yardstick is MuJoCo at the planar time step (5 ms) against itself at 1 ms:
what one engine's own step size costs.

The reference is not beyond doubt: while robots push it, MuJoCo's box hops, so that the floor's force
varies by more than the box's weight and robots carry part of it. Softer constants halve the hopping;
the last table shows it, the way of a coasting box (0.102 m in theory), and the errors against each.

Prints tables and writes benchmarks/results/planar_vs_mujoco.json.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import mujoco
import numpy as np
import torch

from planar_stress import ROOT, load_config, load_scene
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.sim.base import Scene
from happo_gpu.sim.planar import PlanarSim

FRICTION = 0.5  # box on ground, unless the scene says otherwise
HEIGHT = 0.25  # m; robots touch the box at the height of its centre
RADII = (0.65, 0.70, 0.75, 0.80, 0.85)  # m, torsion radii to compare
REFERENCES = {  # MJCF attributes of the floor contact; all results but the last table use the first
    "MuJoCo default": "",
    "soft, friction 0.11 s": 'solimp="0.5 0.5 0.001" solreffriction="0.11 1"',
    "softer, friction 0.07 s": 'solimp="0.2 0.2 0.001" solreffriction="0.07 1"',
    "friction 1 s (too slow)": 'solreffriction="1 1"',  # calmest, but a coasting box keeps going: wrong
}
MOVED = 0.10  # m; relative errors of scenes that move less say nothing
Pose = Tuple[float, float, float]


@dataclass(frozen=True)
class Push:
    """A scripted scene: every robot's start pose and its commands in turn, each for an equal time."""

    name: str
    robots: Sequence[Pose]  # m, m, rad
    commands: Sequence[Sequence[Pose]]  # per phase, per robot: m/s, m/s, rad/s, body frame
    seconds: float = 3.0
    mass: float = 4.0  # kg
    friction: float = FRICTION
    box_yaw: float = 0.0  # rad
    box_vel: Pose = (0.0, 0.0, 0.0)  # m/s, m/s, rad/s

    def command(self, time: float) -> np.ndarray:
        phase = int(time / self.seconds * len(self.commands) + 1e-9)
        return np.array(self.commands[min(phase, len(self.commands) - 1)])


AWAY = (6.0, 6.0, 0.0)
REST = (0.0, 0.0, 0.0)
GO = (0.5, 0.0, 0.0)
PI = math.pi


def west(y: float, yaw: float = 0.0, x: float = -0.90) -> Pose:
    """Behind the box's -x face, nose 2 cm from it when it looks straight on."""
    return (x, y, yaw)


def alone(name: str, pose: Pose, *commands: Pose, **kwargs: Any) -> Push:
    return Push(name, (pose, AWAY), [(command, REST) for command in commands], **kwargs)


def both(name: str, first: Pose, second: Pose, c1: Pose, c2: Pose, **kwargs: Any) -> Push:
    return Push(name, (first, second), [(c1, c2)], **kwargs)


FIT = (
    alone("centre", west(0.0), GO),
    alone("0.2 m off centre", west(0.2), GO),
    both("two, even", west(0.3), west(-0.3), GO, GO),
    both("couple", west(0.4), (0.9, -0.4, PI), GO, GO),
    alone("oblique 20 deg", west(-0.15, 0.35, -0.93), GO),
    alone("flank, centre", (0.05, -0.77, 0.0), (0.0, 0.5, 0.0)),
    alone("push and turn", west(0.0), (0.5, 0.0, 0.3)),
)
HELD_OUT = (
    alone("0.4 m off centre", west(0.4), GO),
    both("two, uneven", west(0.4), west(0.0), GO, (0.4, 0.0, 0.0), seconds=4.0),
    alone("oblique 40 deg", west(0.1, -0.7, -0.93), GO),
    alone("corner", (-1.17, 0.03, 0.0), GO, box_yaw=PI / 4),
    alone("flank, 0.25 m off", (0.25, 0.77, 0.0), (0.0, -0.5, 0.0)),
    alone("push and turn back", west(0.15), (0.5, 0.0, -0.4), (0.5, 0.0, 0.4), seconds=4.0),
    both("8 kg, two", west(0.35), west(-0.2), GO, GO, mass=8.0, seconds=4.0),
    alone("friction 0.3, off centre", west(-0.25), GO, friction=0.3),
    both("adjacent faces", west(0.1), (0.2, -0.90, PI / 2), GO, GO),
    both("uneven couple", west(0.45), (0.9, -0.15, PI), GO, (0.4, 0.0, 0.0)),
    alone("backwards", (-1.0, -0.1, PI), (-0.5, 0.0, 0.0), (-0.4, 0.2, 0.0)),
    alone("stop and go", west(-0.1), GO, REST, (0.5, 0.2, 0.0), GO, seconds=4.0),
    both("noses meet at a corner", (-1.1, 0.5, 0.0), (-0.55, 1.1, -PI / 2), GO, GO),
)
SLIDE = tuple(
    Push(f"launch {v:g} m/s, {w:g} rad/s", (AWAY, (7.0, 7.0, 0.0)), [(REST, REST)], 1.5, box_vel=(v * math.cos(a), v * math.sin(a), w))
    for v, w, a in ((1.0, 0.0, 0.3), (1.0, 1.0, 0.0), (1.0, 3.0, 0.4), (0.5, 3.0, 0.0), (0.0, 3.0, 0.0))
)


# -- MuJoCo ------------------------------------------------------------------------------------------


class Servo:
    """PlanarSim's velocity servo from its description, in numpy: the same order of updates at 50 Hz."""

    def __init__(self, cfg: PlanarConfig, num_robots: int, period: float) -> None:
        self.cfg, self.period = cfg, period
        self.v_ref, self.v_last = np.zeros((num_robots, 3)), np.zeros((num_robots, 3))
        self.model, self.trim = np.zeros((num_robots, 3)), np.zeros((num_robots, 3))
        self.lag = 1.0 - np.exp(-period / np.array(cfg.model_time))

    def command(self, command: np.ndarray, vel: np.ndarray, yaw: np.ndarray) -> None:
        """Takes commands (A, 3), body frame, at world velocities (A, 3)."""
        cfg, limit = self.cfg, np.array(self.cfg.trim_limit)
        self.model += self.lag * (command - self.model)
        error = self.model - turned(vel, -yaw)
        self.trim = np.clip(self.trim + cfg.trim_rate * self.period * error, -limit, limit)
        wanted = command + self.trim
        speed = np.linalg.norm(wanted, axis=1, keepdims=True)
        gain = cfg.gain * np.clip((speed - cfg.dead_zone) / cfg.dead_zone_width, 0.0, 1.0)
        self.v_last, self.v_ref = self.v_ref, gain * wanted

    def wrench(self, vel: np.ndarray, yaw: np.ndarray, since: float) -> np.ndarray:
        """World wrench (A, 3), N and N m, `since` seconds after the last command."""
        cfg = self.cfg
        v_ref = self.v_ref if since + 1e-6 >= cfg.latency else self.v_last
        force = np.array(cfg.stiffness) * (v_ref - turned(vel, -yaw))
        force[:, :2] /= np.maximum(np.hypot(force[:, 0] / cfg.force_limit[0], force[:, 1] / cfg.force_limit[1]), 1.0)[:, None]
        force[:, 2] = force[:, 2].clip(-cfg.torque_limit, cfg.torque_limit)
        return turned(force, yaw)


def turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotates the (x, y) of (A, 3) by an angle (A,) each."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack((cos * vectors[:, 0] - sin * vectors[:, 1], sin * vectors[:, 0] + cos * vectors[:, 1], vectors[:, 2]), 1)


def mjcf(push: Push, cfg: PlanarConfig, scene: Scene, dt: float, floor: str) -> str:
    """The scene as MJCF.

    Horizontal capsules at one height have sim=planar's outline and touch a vertical face at a known
    point; upright cylinders would touch along a line and leave the height of the force to the solver.
    A trunk rigid in z would load the box by friction, hence the soft vertical joint of 200 N/m.
    """
    hx, hy, hz = scene.objects[0].half_extents
    mu = scene.contact_friction
    tip = cfg.nose_x + cfg.nose_radius - cfg.radius  # robots meet as capsules as long as nose and body
    robots, pairs = "", f'<pair geom1="floor" geom2="box" condim="3" friction="{push.friction} {push.friction}" {floor}/>'
    for i, robot in enumerate(scene.robots):
        inertia = f"{robot.inertia} {robot.inertia} {robot.inertia}"
        robots += f"""<body pos="0 0 {HEIGHT}" gravcomp="1"><inertial pos="0 0 0" mass="{robot.mass}" diaginertia="{inertia}"/>
          <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
          <joint type="slide" axis="0 0 1" stiffness="200" damping="20"/><joint type="hinge" axis="0 0 1"/>
          <geom name="nose{i}" type="sphere" size="{cfg.nose_radius}" pos="{cfg.nose_x} 0 0"/>
          <geom name="body{i}" type="capsule" size="{cfg.radius}" fromto="{cfg.rear} 0 0 {cfg.front} 0 0"/>
          <geom name="hull{i}" type="capsule" size="{cfg.radius}" fromto="{cfg.rear} 0 0 {tip} 0 0"/></body>"""
        pairs += "".join(f'<pair geom1="{part}{i}" geom2="box" condim="3" friction="{mu} {mu}"/>' for part in ("nose", "body"))
        pairs += "".join(f'<pair geom1="hull{j}" geom2="hull{i}" condim="3" friction="{mu} {mu}"/>' for j in range(i))
    shape = [push.mass / 3.0 * (b * b + c * c) for b, c in ((hy, hz), (hx, hz))]
    yaw_inertia = scene.objects[0].inertia * push.mass / scene.objects[0].mass
    return f"""<mujoco><option timestep="{dt}" cone="elliptic" impratio="10" solver="Newton" iterations="100" tolerance="1e-12"/>
      <default><geom contype="0" conaffinity="0"/></default><worldbody><geom name="floor" type="plane" size="20 20 1"/>{robots}
      <body pos="0 0 {hz}"><freejoint/><inertial pos="0 0 0" mass="{push.mass}" diaginertia="{shape[0]} {shape[1]} {yaw_inertia}"/>
      <geom name="box" type="box" size="{hx} {hy} {hz}"/></body></worldbody><contact>{pairs}</contact></mujoco>"""


def floor_force(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Normal force of the floor on the box, N."""
    force, total = np.zeros(6), 0.0
    for i in range(data.ncon):
        if model.geom("floor").id in data.contact[i].geom:
            mujoco.mj_contactForce(model, data, i, force)
            total += force[0]
    return total


def run_mujoco(push: Push, cfg: PlanarConfig, scene: Scene, dt: float, floor: str = "") -> Tuple[np.ndarray, float]:
    """The box's pose at every control step, (T + 1, 3), and the floor force's deviation per weight."""
    model = mujoco.MjModel.from_xml_string(mjcf(push, cfg, scene, dt, floor))
    data, period = mujoco.MjData(model), cfg.dt * cfg.substeps
    num_robots = len(scene.robots)
    planar = np.array([[4 * i, 4 * i + 1, 4 * i + 3] for i in range(num_robots)])  # of a robot's four joints
    data.qpos[planar] = push.robots
    data.qpos[-4:] = (math.cos(push.box_yaw / 2), 0.0, 0.0, math.sin(push.box_yaw / 2))
    data.qvel[-6:-4], data.qvel[-1] = push.box_vel[:2], push.box_vel[2]
    servo, substeps, poses, forces = Servo(cfg, num_robots, period), round(period / dt), [], []
    for step in range(round(push.seconds / period) + 1):
        w, _, _, z = data.qpos[-4:]
        poses.append((*data.qpos[-7:-5], 2.0 * math.atan2(z, w)))
        servo.command(push.command(step * period), data.qvel[planar], data.qpos[planar[:, 2]])
        for substep in range(substeps):
            data.qfrc_applied[planar] = servo.wrench(data.qvel[planar], data.qpos[planar[:, 2]], substep * dt)
            mujoco.mj_step(model, data)
        forces.append(floor_force(model, data))
    poses = np.array(poses)
    poses[:, 2] = np.unwrap(poses[:, 2])
    settled = len(forces) // 6  # the first contact is an impact in any engine
    return poses, float(np.std(forces[settled:]) / (9.81 * push.mass))


# -- planar ------------------------------------------------------------------------------------------


def run_planar(pushes: Sequence[Push], cfg: PlanarConfig, scene: Scene) -> List[np.ndarray]:
    """The box's pose at every control step, (T + 1, 3) per scene; one world a scene, all in one batch."""
    sim = PlanarSim(scene, cfg, len(pushes), torch.device("cpu"))
    for i, push in enumerate(pushes):
        sim.params["object_mass"][i] = push.mass
        sim.params["object_inertia"][i] = scene.objects[0].inertia * push.mass / scene.objects[0].mass
        sim.params["object_friction"][i] = push.friction
    start = torch.tensor([[(0.0, 0.0, push.box_yaw)] for push in pushes])  # (N, 1, 3)
    sim.reset(torch.ones(len(pushes), dtype=torch.bool), torch.tensor([push.robots for push in pushes]), start)
    sim.object_vel.copy_(torch.tensor([[push.box_vel] for push in pushes]))
    poses = [sim.object_pose[:, 0].numpy().copy()]
    for step in range(round(max(push.seconds for push in pushes) / sim.dt)):
        commands = np.stack([push.command(step * sim.dt) for push in pushes])  # (N, A, 3)
        sim.step(torch.from_numpy(commands).float())
        poses.append(sim.object_pose[:, 0].numpy().copy())
    path = np.stack(poses, 1).astype(np.float64)  # (N, T + 1, 3)
    return [path[i, : round(push.seconds / sim.dt) + 1] for i, push in enumerate(pushes)]


# -- comparison --------------------------------------------------------------------------------------


def travelled(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1).sum())


def error(path: np.ndarray, reference: np.ndarray) -> Dict[str, float]:
    """Difference of the final poses: cm, per cent of the longer way (NaN if short), degrees."""
    distance = float(np.linalg.norm(path[-1, :2] - reference[-1, :2]))
    way = max(travelled(path), travelled(reference))
    relative = 100.0 * distance / way if way >= MOVED else math.nan
    return {"cm": 100.0 * distance, "percent": relative, "deg": math.degrees(abs(path[-1, 2] - reference[-1, 2]))}


def summary(errors: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """Means and maxima over scenes; scenes that hardly move have no relative error."""
    values = {key: np.array([e[key] for e in errors]) for key in ("cm", "percent", "deg")}
    return {f"{stat}_{key}": float(getattr(np, "nan" + stat)(v)) for key, v in values.items() for stat in ("mean", "max")}


def compare(name: str, pushes: Sequence[Push], cfg: PlanarConfig, scene: Scene, truth: Sequence[np.ndarray]) -> Dict[str, Any]:
    """Prints one group's table; returns its rows and summaries for planar and for the yardstick."""
    rows, columns = [], {"planar": run_planar(pushes, cfg, scene), "yardstick": [run_mujoco(p, cfg, scene, cfg.dt)[0] for p in pushes]}
    print(f"\n{name:26s}  MuJoCo 1 ms: way, yaw |  planar: cm      %    deg | yardstick: cm    %    deg")
    for i, (push, reference) in enumerate(zip(pushes, truth)):
        row = {"scene": push.name, "way_m": travelled(reference), "yaw_deg": math.degrees(reference[-1, 2] - push.box_yaw)}
        row.update({key: error(paths[i], reference) for key, paths in columns.items()})
        numbers = "   |".join("{cm:9.1f} {percent:7.1f} {deg:6.1f}".format(**row[key]) for key in columns)
        print(f"{push.name:26s} {row['way_m']:13.2f} m {row['yaw_deg']:7.1f}  |{numbers}")
        rows.append(row)
    result = {key: summary([row[key] for row in rows]) for key in columns}
    for stat in ("mean", "max"):
        numbers = "   |".join(f"{s[stat + '_cm']:9.1f} {s[stat + '_percent']:7.1f} {s[stat + '_deg']:6.1f}" for s in result.values())
        print(f"{stat:26s} {'':24s} |{numbers}")
    return {"scenes": rows, **result}


def torsion_table(groups: Dict[str, Sequence[Push]], truth: Dict[str, List[np.ndarray]], cfg: PlanarConfig, scene: Scene) -> List[Dict[str, Any]]:
    """Mean errors of every group under every torsion radius."""
    print(f"\ntorsion radius, m  {'':4s}" + "".join(f"{name:>24s}" for name in groups) + "   (mean cm, %, deg)")
    table = []
    for radius in RADII:
        planar = dataclasses.replace(cfg, torsion_radius=radius)
        row = {name: summary([error(p, t) for p, t in zip(run_planar(pushes, planar, scene), truth[name])]) for name, pushes in groups.items()}
        print(f"{radius:17.2f}      " + "".join(f"{s['mean_cm']:10.1f} {s['mean_percent']:6.1f} {s['mean_deg']:6.1f}" for s in row.values()))
        table.append({"radius": radius, **row})
    return table


def reference_table(groups: Dict[str, Sequence[Push]], cfg: PlanarConfig, scene: Scene) -> List[Dict[str, Any]]:
    """Per reference: floor force deviation per weight in pushes, way of a coasting box, planar's mean errors."""
    print(f"\n{'reference':26s} hopping  coasting" + "".join(f"{name:>23s}" for name in groups) + "   (mean cm, %, deg)")
    table = []
    planar = {name: run_planar(pushes, cfg, scene) for name, pushes in groups.items()}
    for reference, floor in REFERENCES.items():
        runs = {name: [run_mujoco(push, cfg, scene, 0.001, floor) for push in pushes] for name, pushes in groups.items()}
        row = {name: summary([error(p, t) for p, (t, _) in zip(planar[name], runs[name])]) for name in groups}
        hop = float(np.mean([deviation for group in runs.values() for _, deviation in group]))
        coast = travelled(run_mujoco(SLIDE[0], cfg, scene, 0.001, floor)[0])
        numbers = "".join(f"{s['mean_cm']:10.1f} {s['mean_percent']:5.1f} {s['mean_deg']:6.1f}" for s in row.values())
        print(f"{reference:26s} {hop:7.2f} {coast:7.3f} m{numbers}")
        table.append({"reference": reference, "floor": floor, "hopping": hop, "coasting_m": coast, **row})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override sim constants")
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/planar_vs_mujoco.json"), help="'' writes nothing")
    args = parser.parse_args()
    overrides = {key: float(value) for key, value in (item.split("=") for item in args.set)}
    # The sway of the gait starts at a random phase, so it would only add noise to a comparison.
    cfg, scene = load_config(ripple=(0.0, 0.0, 0.0), **overrides), load_scene(FRICTION)
    groups = {"FIT": FIT, "HELD-OUT": HELD_OUT, "SLIDE": SLIDE}
    truth = {name: [run_mujoco(push, cfg, scene, 0.001)[0] for push in pushes] for name, pushes in groups.items()}
    result: Dict[str, Any] = {name: compare(name, pushes, cfg, scene, truth[name]) for name, pushes in groups.items()}
    result["torsion"] = torsion_table(groups, truth, cfg, scene)
    result["references"] = reference_table({"FIT": FIT, "HELD-OUT": HELD_OUT}, cfg, scene)
    if args.out:
        result["settings"] = {"mujoco": mujoco.__version__, "torch": torch.__version__, "config": dataclasses.asdict(cfg)}
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1)
        Path(args.out).write_text(text.replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
