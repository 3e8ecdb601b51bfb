"""What sim=planar needs to know of a walking Go1, identified on the full-body simulator, beside what cfg/sim/planar.yaml holds.

    python benchmarks/calibrate_planar.py [--locomotion other.npz] [--robots 8]

Seven experiments with sim=mujoco and its walking policy, nothing of planar in them:
response to commands that change every 0.5 s (latency, time constant); held commands along one axis (gain, dead zone); the
gait's sway; force against velocity, the trunk pulled from outside (stiffness, stall force); a wall that cannot be moved, met at
every angle (footprint, nose). Then the scripted pushes of planar_vs_mujoco.py, box pose after 3 to 4 s: full body against planar
with its present numbers, with the identified ones, and with these and the ground friction under the box that fits best. Prints the tables and writes benchmarks/results/calibrate_planar.json.
It changes no configuration.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from walk import ROOT, Walkers  # first: it prepares the process

import mujoco
import numpy as np
import torch
import yaml
from machine import machine
from planar_stress import load_config, load_scene
from planar_vs_mujoco import FIT, FRICTION, HELD_OUT, Push, error, run_planar, summary, travelled

from happo_gpu.config.schema import typed
from happo_gpu.config.sims import MujocoConfig, PlanarConfig
from happo_gpu.sim import locomotion
from happo_gpu.sim.base import ObjectSpec
from happo_gpu.sim.legged import Go1Worlds
from happo_gpu.sim.walking import WalkingSim

MASS, INERTIA = 12.74, 0.417  # kg, kg m^2: cfg/task/Go1Push.yaml
AXES = ("forward", "sideways", "turn")
SPEEDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
LOADS = (np.linspace(-30.0, 70.0, 11), np.linspace(-30.0, 70.0, 11), np.linspace(-6.0, 20.0, 14))  # N, N, N m against the command
LINEAR = (30.0, 30.0, 6.0)  # loads up to which speed falls in proportion; a box of 4 kg is 20 N
RADII, SHARES = (0.6, 0.7, 0.8, 0.9), (0.5, 0.65, 0.8, 1.0)  # m, torsion_radius; friction_share: what pushes are tried with
WALL = ObjectSpec((0.6, 5.0, 0.25), 1e5, 1e6, 1.0)
NOSE_ANGLE, FLANK_ANGLE = 40.0, 20.0  # degrees off straight ahead (off square) that count as nose (as flank)
Numbers = Dict[str, Any]


class PulledWorlds(Go1Worlds):
    """One robot a world that feels ``wrench`` (N, 3) besides, heading frame: N forward, N to the left, N m."""

    wrench: torch.Tensor

    def _advance(self) -> None:
        cos, sin = self.yaw[:, 0].cos(), self.yaw[:, 0].sin()
        along, across, turn = self.wrench.unbind(-1)
        applied = np.zeros((self.num_envs, self.models[0].nbody, 6))
        applied[:, self._trunks[0]] = torch.stack((cos * along - sin * across, sin * along + cos * across, *3 * (0 * turn,), turn), -1).numpy()
        everywhen = np.broadcast_to(applied.reshape(self.num_envs, 1, -1), (self.num_envs, self.cfg.substeps, applied[0].size))
        kinds = mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_XFRC_APPLIED
        self._rollout.rollout(self.models, self._data, self._state, np.concatenate((self._controls, everywhen), -1), control_spec=kinds,
                              nstep=self.cfg.substeps, state=self._states)
        np.copyto(self._state, self._states[:, -1])


class Lab:
    """The full-body simulator's walking robots, by the number."""

    def __init__(self, cfg: MujocoConfig, policy: Path, repeats: int) -> None:
        self.cfg, self.policy, self.repeats, self.dt = cfg, policy, repeats, cfg.legs.dt * cfg.legs.substeps

    def robots(self, commands: np.ndarray, **kwargs: Any) -> Tuple[Walkers, torch.Tensor]:
        """``repeats`` robots, at phases of their own, for every row of commands (C, 3); and their commands (C * repeats, 3)."""
        rows = torch.from_numpy(commands).float().repeat_interleave(self.repeats, 0)
        return Walkers(len(rows), self.cfg, self.policy, **kwargs), rows

    def velocities(self, walkers: Walkers, commands: Callable[[int], torch.Tensor], seconds: float) -> np.ndarray:
        """(T, N, 3) in the heading frame, after every control period."""
        seen = []
        for step in range(round(seconds / self.dt)):
            walkers.walk(commands(step))
            seen.append(walkers.velocity().numpy().copy())
        return np.stack(seen).astype(np.float64)

    def steady(self, values: np.ndarray) -> np.ndarray:
        """Means (C, 3) of velocities (T, C * repeats, 3) over time and repeats."""
        return values.mean(0).reshape(-1, self.repeats, 3).mean(1)


# -- the experiments -----------------------------------------------------------------------------------


def response(lab: Lab, seconds: float) -> Numbers:
    """First-order response with a delay to commands drawn from +-0.5 every 0.5 s: per axis delay, time constant, gain, residual."""
    hold = round(0.5 / lab.dt)
    walkers, _ = lab.robots(np.zeros((8, 3)))
    draws = torch.rand(round(seconds / lab.dt) // hold + 1, len(walkers.worlds.yaw), 3) - 0.5
    seen = lab.velocities(walkers, lambda step: draws[step // hold], seconds)
    asked = draws.repeat_interleave(hold, 0)[: len(seen)].numpy().astype(np.float64)
    settled = hold  # the start is from standing
    fits = []
    for axis in range(3):
        best = min((_first_order(asked[..., axis], seen[..., axis], lab.dt, delay, tau, settled)
                    for delay in np.arange(0.0, 0.061, 0.005) for tau in np.geomspace(0.01, 0.4, 38)), key=lambda fit: fit["residual"])
        fits.append(best)
    return {key: [fit[key] for fit in fits] for key in fits[0]}


def _first_order(asked: np.ndarray, seen: np.ndarray, dt: float, delay: float, tau: float, settled: int) -> Dict[str, float]:
    """Exact response of v' = (command(t - delay) - v) / tau to held commands (T, N); the gain that fits it best to ``seen``."""
    late, rest = int(delay / dt + 1e-9), delay % dt if delay % dt < dt - 1e-9 else 0.0
    keep, old = math.exp(-dt / tau), math.exp(-(dt - rest) / tau)
    v, path = np.zeros(asked.shape[1]), []
    for t in range(len(asked)):
        new, before = asked[max(t - late, 0)], asked[max(t - late - 1, 0)]
        v = keep * v + (old - keep) * before + (1.0 - old) * new
        path.append(v)
    model, truth = np.array(path)[settled:], seen[settled:]
    gain = float((model * truth).sum() / (model * model).sum())
    return {"latency": delay, "tau": tau, "gain": gain, "residual": float(np.sqrt(((gain * model - truth) ** 2).mean()))}


def holds(lab: Lab) -> Numbers:
    """Steady speed of commands along one axis; the dead zone and gain of cfg/sim/planar.yaml that fit them, and the gait's sway."""
    commands = np.array([[speed * sign * (axis == i) for i in range(3)] for axis in range(3) for sign in (1, -1) for speed in SPEEDS])
    walkers, rows = lab.robots(commands)
    seen = lab.velocities(walkers, lambda step: rows, 5.0)[round(2.0 / lab.dt):]
    answer = np.abs((lab.steady(seen) * np.sign(commands)).sum(1))  # along the command
    asked = np.abs(commands).sum(1)
    fit = min((_dead_zone(asked, answer, zone, width) for zone in np.arange(0.0, 0.301, 0.01) for width in np.arange(0.01, 0.401, 0.01)),
              key=lambda fit: (round(fit["residual"], 4), fit["dead_zone"], fit["dead_zone_width"]))
    clock = walkers.policy.gait.frequency  # 0: the policy has none, and its steps are counted
    sway = seen[:, np.repeat(np.abs(commands[:, 0]) >= 0.3, lab.repeats)]
    swing = np.abs(np.fft.rfft(sway[..., 0] - sway[..., 0].mean(0), axis=0)).mean(1)  # forward: twice a cycle
    return {**fit, "curve": [{"command": c.tolist(), "speed": s} for c, s in zip(commands, answer)],
            "sway": sway.std(0).mean(0).tolist(), "frequency": clock or float(0.5 * np.argmax(swing) / (len(sway) * lab.dt))}


def _dead_zone(asked: np.ndarray, answer: np.ndarray, zone: float, width: float) -> Dict[str, float]:
    model = asked * np.clip((asked - zone) / width, 0.0, 1.0)
    gain = float((model * answer).sum() / max((model * model).sum(), 1e-9))
    return {"gain": gain, "dead_zone": float(zone), "dead_zone_width": float(width), "residual": float(np.sqrt(((gain * model - answer) ** 2).mean()))}


def force_velocity(lab: Lab) -> Numbers:
    """Steady velocity at 0.5 under a load against the command; per axis the servo's stiffness, and the load that stops a robot."""
    result: Numbers = {"stiffness": [], "residual": [], "stall": [], "curve": []}
    for axis, loads in enumerate(LOADS):
        commands = np.zeros((len(loads), 3))
        commands[:, axis] = 0.5
        walkers, rows = lab.robots(commands, kind=PulledWorlds)
        walkers.worlds.wrench = torch.zeros(len(rows), 3)
        walkers.worlds.wrench[:, axis] = -torch.from_numpy(np.repeat(loads, lab.repeats)).float()
        seen = lab.velocities(walkers, lambda step: rows, 4.0)[round(2.0 / lab.dt):]
        stood = ~walkers.worlds.fallen[:, 0].numpy().reshape(-1, lab.repeats)
        means = seen.mean(0).reshape(-1, lab.repeats, 3)[..., axis]
        speeds = np.array([row[good].mean() if good.all() else math.nan for row, good in zip(means, stood)])
        part = np.isfinite(speeds) & (np.abs(loads) <= LINEAR[axis])
        slope, start = np.polyfit(loads[part], speeds[part], 1)
        result["stiffness"].append(float(-1.0 / slope))
        result["residual"].append(float(np.sqrt(((start + slope * loads[part] - speeds[part]) ** 2).mean())))
        result["stall"].append(_crossing(loads, speeds))
        result["curve"].append({"axis": AXES[axis], "load": loads.tolist(), "speed": speeds.tolist(), "fell": (1.0 - stood.mean(1)).tolist()})
    return result


def _crossing(loads: np.ndarray, speeds: np.ndarray) -> float:
    """The load at which robots come to rest; NaN if none of them does it, or if they fall before."""
    for i in range(len(loads) - 1):
        if speeds[i] > 0.0 >= speeds[i + 1]:
            return float(loads[i] + (loads[i + 1] - loads[i]) * speeds[i] / (speeds[i] - speeds[i + 1]))
    return math.nan


def wall(lab: Lab) -> Numbers:
    """Robots that walk against a wall at every angle: where it meets them (a support function), and how hard they push."""
    degrees = np.arange(-180.0, 180.0, 10.0)
    walkers, _ = lab.robots(np.zeros((len(degrees), 3)), objects=(WALL,))
    worlds, n = walkers.worlds, len(degrees) * lab.repeats
    heading = torch.from_numpy(np.radians(degrees)).float().repeat_interleave(lab.repeats)  # of the robot; the wall is at +x
    everyone, pose = torch.ones(n, dtype=torch.bool), torch.zeros(n, 1, 3)
    pose[:, 0, 0], pose[:, 0, 2] = -0.55 - WALL.half_extents[0], heading
    worlds.place(everyone, pose, worlds.position[..., 2], worlds.joint_pos, torch.zeros(n, 1, 6))
    worlds.place_objects(everyone, torch.zeros(n, 1, 3))
    angles, gaps, forces = [], [], []
    for step in range(round(5.0 / lab.dt)):
        yaw = worlds.yaw[:, 0]
        off = torch.remainder(heading - yaw + math.pi, 2.0 * math.pi) - math.pi
        walkers.walk(torch.stack((0.5 * yaw.cos(), -0.5 * yaw.sin(), (3.0 * off).clamp(-0.5, 0.5)), -1))
        if step * lab.dt >= 3.0 and step % 5 == 0:
            angles.append(worlds.yaw[:, 0].numpy().copy())
            gaps.append(-WALL.half_extents[0] - worlds.position[:, 0, 0].numpy())
            forces.append([float(worlds.pushes(i)[1][:, 0].sum()) for i in range(n)])
    angle, gap, force = (np.array(each, dtype=np.float64) for each in (angles, gaps, forces))  # (T, N)
    touching = (force.mean(0) > 5.0) & ~worlds.fallen[:, 0].numpy()
    angle, gap, force = angle[:, touching], gap[:, touching], force[:, touching]
    ahead = np.abs(angle) < math.radians(NOSE_ANGLE)
    columns = np.stack((np.cos(angle[ahead]), np.ones(ahead.sum())), 1)
    (nose_x, nose_radius), *_ = np.linalg.lstsq(columns, gap[ahead], rcond=None)
    flank = np.abs(np.abs(angle) - math.pi / 2) < math.radians(FLANK_ANGLE)
    behind = np.abs(angle) > math.pi - math.radians(FLANK_ANGLE)
    # A capsule's support: beside, its radius and the farther of its ends; behind, that end.
    front, rear, radius = _capsule(angle[flank | behind], gap[flank | behind])
    model = np.maximum(front * np.cos(angle), rear * np.cos(angle)) + radius
    rest = flank | behind

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt((values ** 2).mean()))

    degree = np.degrees(angle).round(-1)
    sides = {name: np.abs(np.abs(degree) - square) < 11.0 for name, square in (("front", 0.0), ("side", 90.0), ("rear", 180.0))}
    return {"nose_x": float(nose_x), "nose_radius": float(nose_radius), "nose_residual": rms(columns @ [nose_x, nose_radius] - gap[ahead]),
            "front": front, "rear": rear, "radius": radius, "capsule_residual": rms((model - gap)[rest]),
            **{f"force_{name}": float(force[part].mean()) for name, part in sides.items()},
            "support": [{"degrees": d, "m": float(gap[degree == d].mean()), "N": float(force[degree == d].mean())} for d in np.unique(degree)]}


def _capsule(angle: np.ndarray, gap: np.ndarray) -> Tuple[float, float, float]:
    """Ends and radius of the capsule whose support function is nearest to ``gap``."""
    grid = [(f, r) for f in np.arange(0.0, 0.26, 0.01) for r in np.arange(-0.35, 0.01, 0.01)]
    fits = []
    for front, rear in grid:
        reach = np.maximum(front * np.cos(angle), rear * np.cos(angle))
        radius = float((gap - reach).mean())
        fits.append((float((((gap - reach) - radius) ** 2).mean()), float(front), float(rear), radius))
    return min(fits)[1:]


# -- what they say -------------------------------------------------------------------------------------


def identified(lab: Lab, found: Dict[str, Numbers]) -> Tuple[Numbers, Dict[str, Any]]:
    """The keys of cfg/sim/planar.yaml as the experiments have them, and each key's residual in the key's unit or as named."""
    move, held, load, shape = (found[key] for key in ("response", "holds", "force_velocity", "wall"))
    lag = [mass / k for mass, k in zip((MASS, MASS, INERTIA), load["stiffness"])]
    # planar's ripple is of the reference, and a trunk of time constant `lag` follows it only so far; forward it sways twice a cycle.
    rates = [2.0 * math.pi * held["frequency"] * times for times in (2.0, 1.0, 1.0)]
    ripple = [std * math.hypot(1.0, rate * tau) for std, rate, tau in zip(held["sway"], rates, lag)]
    values: Numbers = {
        "gain": held["gain"], "stiffness": load["stiffness"], "force_limit": [shape["force_front"], shape["force_side"]],
        "torque_limit": load["stall"][2],
        "latency": float(np.mean(move["latency"][:2])), "dead_zone": held["dead_zone"], "dead_zone_width": held["dead_zone_width"],
        "trim_rate": lab.cfg.trim_rate, "ripple": ripple, "ripple_frequency": held["frequency"],
        **{key: shape[key] for key in ("nose_x", "nose_radius", "front", "rear", "radius")},
    }
    residuals = {
        "gain": f"{held['residual']:.3f} m/s", "dead_zone": f"{held['residual']:.3f} m/s", "dead_zone_width": f"{held['residual']:.3f} m/s",
        "stiffness": "speeds " + _text(load["residual"]), "latency": "speeds " + _text(move["residual"]),
        "force_limit": "of a wall that stops it", "torque_limit": "of a torque that stops it",
        "trim_rate": "as sim=mujoco walks", "ripple": "trunk sways " + _text(held["sway"]), "ripple_frequency": "of the gait",
        **{key: f"{1000 * shape['nose_residual']:.0f} mm" for key in ("nose_x", "nose_radius")},
        **{key: f"{1000 * shape['capsule_residual']:.0f} mm" for key in ("front", "rear", "radius")},
    }
    return values, residuals


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def admitted(values: Numbers, present: PlanarConfig) -> PlanarConfig:
    """The present configuration with what was identified, within the limits that planar sets to its keys."""
    given = {**values, "latency": min(values["latency"], 0.02), "trim_limit": (0.0, 0.0, 0.0) if values["trim_rate"] <= 0.0 else present.trim_limit}
    for key, low in (("nose_radius", 0.0), ("dead_zone_width", 1e-3)):
        given[key] = max(given[key], low)
    known = {key: value for key, value in given.items() if not np.isnan(np.asarray(value, dtype=np.float64)).any()}
    return dataclasses.replace(present, **{key: tuple(value) if isinstance(value, list) else value for key, value in known.items()})


# -- pushes --------------------------------------------------------------------------------------------


def run_full_body(pushes: Sequence[Push], cfg: MujocoConfig, repeats: int) -> List[List[np.ndarray]]:
    """The box's pose at every control step, (T + 1, 3), per scene and repeat; repeats differ in the phase of their gaits."""
    scene, every = load_scene(FRICTION), [push for push in pushes for _ in range(repeats)]
    sim = WalkingSim(scene, cfg, len(every), torch.device("cpu"), Go1Worlds)
    sim.params["object_mass"].copy_(torch.tensor([push.mass for push in every]))
    sim.params["object_friction"].copy_(torch.tensor([push.friction for push in every]))
    start = torch.tensor([[(0.0, 0.0, push.box_yaw)] for push in every])
    sim.reset(torch.ones(len(every), dtype=torch.bool), torch.tensor([push.robots for push in every]), start)
    poses = [sim.object_pose[:, 0].numpy().copy()]
    for step in range(round(max(push.seconds for push in pushes) / sim.dt)):
        sim.step(torch.from_numpy(np.stack([push.command(step * sim.dt) for push in every])).float())
        poses.append(sim.object_pose[:, 0].numpy().copy())
    path = np.stack(poses, 1).astype(np.float64)
    path[..., 2] = np.unwrap(path[..., 2], axis=1)
    paths = [path[i, : round(push.seconds / sim.dt) + 1] for i, push in enumerate(every)]
    return [paths[i : i + repeats] for i in range(0, len(paths), repeats)]


def fit_ground(pushes: Sequence[Push], truths: Sequence[np.ndarray], planar: PlanarConfig) -> Tuple[PlanarConfig, List[Dict[str, float]]]:
    """The torsion radius and friction share that bring pushes closest to their truths, and the table of all tried.

    Closest is mean cm + mean degrees: at the box's face one is as long as the other.
    """
    table = []
    for radius in RADII:
        for share in SHARES:
            tried = dataclasses.replace(planar, torsion_radius=radius, friction_share=share)
            each = summary([error(path, truth) for path, truth in zip(run_planar(pushes, tried, load_scene(FRICTION)), truths)])
            table.append({"torsion_radius": radius, "friction_share": share, "cm": each["mean_cm"], "deg": each["mean_deg"]})
    best = min(table, key=lambda row: row["cm"] + row["deg"])
    return dataclasses.replace(planar, torsion_radius=best["torsion_radius"], friction_share=best["friction_share"]), table


def compare(name: str, pushes: Sequence[Push], truths: Sequence[List[np.ndarray]], planars: Dict[str, PlanarConfig]) -> Numbers:
    """One group's table: final box poses of planar against the mean of the full-body repeats, whose own spread is the yardstick."""
    means = [np.mean(paths, axis=0) for paths in truths]
    columns = {key: run_planar(pushes, planar, load_scene(FRICTION)) for key, planar in planars.items()}
    print(f"\n{name:26s}full body: way, yaw |" + "|".join(f"{key + ':':>11s}   cm     %   deg" for key in (*columns, "repeats")))
    rows = []
    for i, push in enumerate(pushes):
        row: Numbers = {"scene": push.name, "way_m": travelled(means[i]), "yaw_deg": math.degrees(means[i][-1, 2] - push.box_yaw)}
        row.update({key: error(paths[i], means[i]) for key, paths in columns.items()})
        spread = [error(path, means[i]) for path in truths[i]]
        row["repeats"] = {key: float(np.mean([each[key] for each in spread])) for key in spread[0]}
        print(f"{push.name:26s}{row['way_m']:8.2f} m{row['yaw_deg']:9.1f} |" + "|".join(_cells(row[key]) for key in (*columns, "repeats")))
        rows.append(row)
    result = {key: summary([row[key] for row in rows]) for key in (*columns, "repeats")}
    for stat in ("mean", "max"):
        print(f"{stat:26s}{'':20s}|" + "|".join(_cells({unit: each[f"{stat}_{unit}"] for unit in ("cm", "percent", "deg")}) for each in result.values()))
    return {"scenes": rows, **result}


def _cells(row: Dict[str, float]) -> str:
    return "{cm:16.1f} {percent:5.1f} {deg:5.1f}".format(**row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locomotion", type=Path, default=locomotion.OWN_POLICY)
    parser.add_argument("--robots", type=int, default=8, help="repeats of every measurement, at random phases of the gait")
    parser.add_argument("--seconds", type=float, default=12.0, help="of the response experiment")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "calibrate_planar.json")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    cfg = typed(MujocoConfig, yaml.safe_load((ROOT / "cfg" / "sim" / "mujoco.yaml").read_text()), "sim")
    cfg = dataclasses.replace(cfg, locomotion=str(arguments.locomotion))
    lab = Lab(cfg, arguments.locomotion, arguments.robots)
    found = {"response": response(lab, arguments.seconds), "holds": holds(lab), "force_velocity": force_velocity(lab), "wall": wall(lab)}
    values, residuals = identified(lab, found)
    present = load_config()
    print(f"{'cfg/sim/planar.yaml':<20}{'identified':<26}{'present':<24}residual")
    for key, value in values.items():
        print(f"{key + ':':<20}{_text(value):<26}{_text(getattr(present, key)):<24}{residuals[key]}")
    move, shape = found["response"], found["wall"]
    print(f"response: time constants {_text(move['tau'])} s (mass / stiffness: {_text([m / k for m, k in zip((MASS, MASS, INERTIA), values['stiffness'])])}),"
          f" delays {_text(move['latency'])} s, gains {_text(move['gain'])}")
    print(f"against a wall at 0.5 m/s: {shape['force_front']:.1f} N ahead, {shape['force_side']:.1f} N sideways, {shape['force_rear']:.1f} N backwards")
    still = {"ripple": (0.0, 0.0, 0.0)}  # its random phase would only add noise to planar
    groups = {"FIT": FIT, "HELD-OUT": HELD_OUT}
    truths = {name: run_full_body(pushes, cfg, min(arguments.robots, 4)) for name, pushes in groups.items()}
    known, means = dataclasses.replace(admitted(values, present), **still), [np.mean(paths, axis=0) for paths in truths["FIT"]]
    fitted, table = fit_ground(FIT, means, known)
    print(f"with these, the FIT pushes below are nearest at torsion_radius: {fitted.torsion_radius} (present {present.torsion_radius}), "
          f"friction_share: {fitted.friction_share} (present {present.friction_share})")
    planars = {"present": dataclasses.replace(present, **still), "identified": known, "fitted": fitted}
    pushes = {name: compare(name, group, truths[name], planars) for name, group in groups.items()}
    result = {"machine": machine(), "locomotion": arguments.locomotion.name, "identified": values, "present": {key: getattr(present, key) for key in values},
              "residuals": residuals, "experiments": found, "ground": table, "pushes": pushes}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1).replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
