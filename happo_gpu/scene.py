"""What a picture in three dimensions shows of a pushing task: surfaces, where they are, forces and words. Who draws them is another matter.

Lengths in m; a body's surfaces are in its own frame; quaternions have w first.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from happo_gpu.config import Config
from happo_gpu.config.sims import PlanarConfig
from happo_gpu.outlines import COLOURS, Outlines

BOX_COLOUR, DARK, WHITE, GREY = "#D9A066", "#3A3D42", "#FFFFFF", "#7A7D85"
CORNERS = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
BELLY, BACK, BEVEL = 0.06, 0.32, 0.03  # heights of a planar robot's body, and its rounded edge
DECK, WHEEL_RADIUS, WHEEL_WIDTH = 0.25, 0.098, 0.04  # of a robot on wheels: its top; wheels of jackal.urdf.xacro, as in cfg/sim/planar.yaml
NOSE_RADIUS = 0.05  # of the mark that says which end is the front
METRES_PER_NEWTON = 0.02  # of a force's arrow: half a metre is about what slides the 4 kg box
LEAST_FORCE = 1.0  # N that is drawn

Surface = Tuple[np.ndarray, np.ndarray]  # vertices (V, 3), triangles (F, 3), outside counter-clockwise
Poses = Tuple[np.ndarray, np.ndarray]  # positions (B, 3), quaternions (B, 4)


class Part(NamedTuple):
    """A surface of one colour, fixed to a body."""

    body: int
    surface: Surface
    colour: str


@dataclass(frozen=True)
class Stage:
    """The bodies of an environment, the same in all of them, and where they are now."""

    bodies: List[str]
    parts: List[Part]
    poses: Callable[[int], Poses]  # of an environment


@dataclass(frozen=True)
class Moment:
    """What changes from one picture to the next."""

    positions: np.ndarray  # (B, 3)
    quaternions: np.ndarray  # (B, 4)
    goal: np.ndarray  # (2,)
    arrows: np.ndarray  # (P, 2, 3), from, to
    status: str


def stage_of(cfg: Config, task, outlines: Outlines) -> Stage:
    if isinstance(cfg.sim, PlanarConfig):
        return planar_stage(task, outlines, cfg.task.object.halfExtents[2])
    return legged_stage(task.sim.worlds)


def moment_of(task, stage: Stage, outlines: Outlines, n: int) -> Moment:
    """Environment ``n`` as it is now."""
    shown = {name: value[n].numpy() for name, value in task.snapshot().items()}
    points, forces = (value.numpy() for value in task.sim.pushes(n))
    top = 2.0 * task.cfg.object.halfExtents[2]
    seconds, limit = float(task.progress_buf[n]) * task.dt, task.max_episode_length * task.dt
    return Moment(*stage.poses(n), shown["goal"].copy(), arrows(points, forces, top + 0.05),
                  status(shown, seconds, limit, outlines.success))


# -- surfaces --------------------------------------------------------------------------------------


def loft(rings: np.ndarray) -> Surface:
    """The closed surface over R rings (R, P, 3) of points that run counter-clockwise, seen from the last ring."""
    count, points = rings.shape[:2]
    here = np.arange(points)
    after = np.roll(here, -1)
    sides = [np.stack((low + here, low + after, low + points + after, low + points + here), -1)
             for low in points * np.arange(count - 1)]  # (P, 4) each
    quads = np.concatenate(sides)
    fan = np.stack((np.zeros(points - 2, int), here[1:-1], here[2:]), -1)
    faces = np.concatenate((quads[:, :3], quads[:, [0, 2, 3]], fan[:, ::-1], fan + points * (count - 1)))
    return rings.reshape(-1, 3), faces


def prism(outline: np.ndarray, low: float, high: float, bevel: float = 0.0) -> Surface:
    """A convex outline (P, 2), counter-clockwise, from one height to another with slanted edges."""
    inner = outline * (1.0 - bevel / np.linalg.norm(outline, axis=-1, keepdims=True))
    levels = [(inner, low), (outline, low + bevel), (outline, high - bevel), (inner, high)] if bevel else [(outline, low), (outline, high)]
    return loft(np.stack([np.column_stack((ring, np.full(len(ring), height))) for ring, height in levels]))


def turned(profile: Sequence[Tuple[float, float]], sides: int = 24) -> Surface:
    """A profile of (radius, height), from the bottom up, turned about z."""
    angle = 2.0 * np.pi * np.arange(sides) / sides
    return loft(np.array([np.stack((r * np.cos(angle), r * np.sin(angle), np.full(sides, z)), -1) for r, z in profile]))


def capsule(radius: float, half: float, sides: int = 24) -> Surface:
    """A cylinder along z of the given half length with half a ball on each end; a ball, where that is 0."""
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 14)
    return turned([(radius * np.cos(a), radius * np.sin(a) + np.copysign(half, a)) for a in angle], sides)


def moved(surface: Surface, position: np.ndarray, quaternion: np.ndarray) -> Surface:
    w, axis = quaternion[0], quaternion[1:]
    across = 2.0 * np.cross(axis, surface[0])
    return surface[0] + w * across + np.cross(axis, across) + position, surface[1]


# -- the planar simulator: bodies that slide ---------------------------------------------------------


def planar_stage(task, outlines: Outlines, half_height: float) -> Stage:
    sim, agents = task.sim, outlines.num_agents
    parts = []
    for i, robot in enumerate(sim.scene.robots):
        rolls = robot.drive == "wheels"
        parts += on_wheels(i, outlines.robot[i]) if rolls else [Part(i, prism(outlines.robot[i], BELLY, BACK, BEVEL), COLOURS[i])]
        middle = np.array((outlines.nose[i, 0, 0], 0.0, DECK if rolls else BACK))
        parts.append(Part(i, moved(capsule(NOSE_RADIUS, 0.0), middle, np.array((1.0, 0.0, 0.0, 0.0))), WHITE))
    pushed = sim.scene.objects[0]
    convex = [outlines.box] if pushed.round else [np.array(each.corners()) for each in pushed.rectangles]
    parts += [Part(agents, prism(outline, 0.0, 2.0 * half_height), BOX_COLOUR) for outline in convex]
    parts += [Part(agents + 1 + i, prism(CORNERS * size[:2], 0.0, 2.0 * size[2]), GREY) for i, size in enumerate(sim.scene.obstacles)]
    bodies = [f"robot_{i}" for i in range(agents)] + ["box"] + [f"obstacle_{i}" for i in range(len(sim.scene.obstacles))]
    return Stage(bodies, parts, lambda n: lying(np.concatenate((sim.agent_pose[n], sim.object_pose[n], sim.obstacle_pose[n]))))


def on_wheels(body: int, footprint: np.ndarray) -> List[Part]:
    """A box on four wheels, whose outer faces reach to the ends of a footprint (P, 2)."""
    length, width = np.abs(footprint).max(0)
    inside = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.9 * length, width - WHEEL_WIDTH - 0.01)
    wheel = turned([(WHEEL_RADIUS, -0.5 * WHEEL_WIDTH), (WHEEL_RADIUS, 0.5 * WHEEL_WIDTH)])
    about_y = np.array((np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0))
    middles = [np.array((x * (length - WHEEL_RADIUS), y * (width - 0.5 * WHEEL_WIDTH), WHEEL_RADIUS)) for x in (-1, 1) for y in (-1, 1)]
    return [Part(body, prism(inside, BELLY, DECK, BEVEL), COLOURS[body]),
            Part(body, joined([moved(wheel, middle, about_y) for middle in middles]), DARK)]


def lying(poses: np.ndarray) -> Poses:
    """Poses (B, 3) in the plane, x, y and yaw, on the ground."""
    half, zero = 0.5 * poses[:, 2], np.zeros(len(poses))
    return np.column_stack((poses[:, :2], zero)), np.column_stack((np.cos(half), zero, zero, np.sin(half)))


# -- whole robots in MuJoCo --------------------------------------------------------------------------


def legged_stage(worlds) -> Stage:
    """Every geom of every body but the floor, trunks in their robot's colour."""
    model = worlds.models[0]
    bodies = [model.body(i).name for i in range(1, model.nbody)]
    surfaces: Dict[Tuple[int, str], List[Surface]] = {}
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] > 0:
            body = int(model.geom_bodyid[geom]) - 1
            colour = colour_of(bodies[body], model.geom(geom).name)
            shape = geom_surface(model.geom_type[geom], model.geom_size[geom])
            surfaces.setdefault((body, colour), []).append(moved(shape, model.geom_pos[geom], model.geom_quat[geom]))

    def poses(n: int) -> Poses:
        data = worlds.posed(n)
        return data.xpos[1:], data.xquat[1:]

    return Stage(bodies, [Part(body, joined(some), colour) for (body, colour), some in surfaces.items()], poses)


def colour_of(body: str, geom: str) -> str:
    kind, number, *limb = body.split("_")
    if kind == "object":
        return BOX_COLOUR
    if kind == "obstacle":
        return GREY
    return "#111111" if geom.endswith("_foot") else DARK if limb else COLOURS[int(number)]


def geom_surface(kind: int, size: np.ndarray) -> Surface:
    """A geom of MuJoCo in its own frame, by its numbers of mjtGeom."""
    if kind == 6:  # box
        return prism(CORNERS * size[:2], -size[2], size[2])
    if kind == 5:  # cylinder
        return turned([(size[0], -size[1]), (size[0], size[1])])
    return capsule(size[0], size[1] if kind == 3 else 0.0, 16)  # capsule, ball


def joined(surfaces: List[Surface]) -> Surface:
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in surfaces[:-1]])
    return (np.concatenate([vertices for vertices, _ in surfaces]),
            np.concatenate([faces + start for (_, faces), start in zip(surfaces, starts)]))


# -- forces and words --------------------------------------------------------------------------------


def arrows(points: np.ndarray, forces: np.ndarray, height: float) -> np.ndarray:
    """(P, 2, 3) from, to: the forces (C, 2) at points (C, 2) that are worth drawing, at a height where nothing hides them."""
    drawn = np.linalg.norm(forces, axis=-1) > LEAST_FORCE
    start = np.column_stack((points, np.full(len(points), height)))[drawn]
    return np.stack((start, start + METRES_PER_NEWTON * np.column_stack((forces, np.zeros(len(forces))))[drawn]), 1)


def status(shown: Dict[str, np.ndarray], seconds: float, limit: float, success: float) -> str:
    """Time, distance and how it stands, as Markdown."""
    distance = float(np.linalg.norm(shown["goal"] - shown["object_pose"][0, :2]))
    state = "pushing"
    if shown["success"]:
        state = "**success**"
    elif shown["exception"]:
        state = "**collision or fall**"
    elif seconds >= limit - 1e-6:
        state = "**time is up**"
    return f"{seconds:.2f} s of {limit:.0f} s: {state}\n\nbox to goal {distance:.2f} m (success below {success:.2f} m)"
