"""Walking policies: from velocity commands and what the robot feels to joint targets.

A policy is a file of plain arrays (.npz): an input normaliser, the weights of an MLP and how its input and output
are to be read; or an ONNX graph (.onnx). The project's own policy rides on a trot: a clock lifts the diagonal pairs of feet in
turns, the network adds to that. Files without a clock (other people's policies) move the legs alone.
"""
from __future__ import annotations

import dataclasses
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

from happo_gpu.config import ConfigError
from happo_gpu.sim.onnx_graph import OnnxNetwork

NUM_JOINTS = 12
HOME = (0.0, 0.9, -1.8) * 4  # rad, FR FL RR RL: hip, thigh, calf
PHASE_OFFSET = (0.0, 0.5, 0.5, 0.0)  # of a cycle: diagonal feet move together
OWN_POLICY = Path(__file__).resolve().parent / "go1_walk.npz"
_IMU = (-0.01592, -0.06659, -0.00617)  # m, where other people's policies measure velocity


@functools.lru_cache(maxsize=None)
def constant(values: Tuple[float, ...], device: torch.device) -> Tensor:
    """A tensor of numbers, made once: in the loop it would be a copy to the device every step."""
    return torch.tensor(values, device=device)


class Gait(NamedTuple):
    """A trot in place: during its half of the cycle a foot is lifted by bending the knee."""

    frequency: float  # Hz; 0: no clock
    lift: float  # rad that the thigh bends at mid-swing; the knee bends twice as far

    def advance(self, phase: Tensor, dt: float) -> Tensor:
        """The next phase (...), in [0, 1)."""
        return torch.remainder(phase + self.frequency * dt, 1.0)

    def joints(self, phase: Tensor) -> Tensor:
        """Joint angles (..., 12) of standing plus the lift of the feet that swing at phase (...)."""
        offset = constant(PHASE_OFFSET, phase.device)
        swing = torch.sin(2.0 * math.pi * (phase.unsqueeze(-1) + offset)).clamp(min=0.0)  # (..., 4)
        bend = torch.stack((torch.zeros_like(swing), self.lift * swing, -2.0 * self.lift * swing), -1)
        return constant(HOME, phase.device) + bend.flatten(-2)


class Senses(NamedTuple):
    """What a walking robot feels, (..., 3) and (..., 12); see sim.base.LeggedSim."""

    lin_vel_b: Tensor
    ang_vel_b: Tensor
    gravity_b: Tensor
    joint_pos: Tensor
    joint_vel: Tensor


def observe(senses: Senses, last_action: Tensor, command: Tensor, phase: Tensor) -> Tensor:
    """The project's own observation, (..., 50)."""
    angle = 2.0 * math.pi * phase.unsqueeze(-1)
    home = constant(HOME, phase.device)
    return torch.cat((
        senses.lin_vel_b, senses.ang_vel_b, senses.gravity_b, senses.joint_pos - home, 0.05 * senses.joint_vel,
        last_action, command, angle.sin(), angle.cos(),
    ), -1)


NUM_FOREIGN = 9 + 3 * NUM_JOINTS + 3  # numbers that a policy without a clock sees
NUM_OBS = NUM_FOREIGN + 2


@dataclass(frozen=True)
class Layout:
    """How a file's network is to be read."""

    clock: bool  # the project's observation; False: 48 numbers in the order of MuJoCo Playground's joystick task
    activation: str  # swish | elu | relu | tanh
    squash: bool  # tanh on the action
    action_scale: float  # rad per unit of action
    clip: float  # largest action
    input_clip: float  # largest normalised input


_FOREIGN = Layout(clock=False, activation="swish", squash=True, action_scale=0.5, clip=1.0, input_clip=math.inf)
_ACTIVATIONS = {"swish": torch.nn.functional.silu, "elu": torch.nn.functional.elu, "relu": torch.relu, "tanh": torch.tanh}


class Mlp:
    """A network of arrays: a normaliser, mean and rstd, and layers W0, b0, W1, ...; observation (..., I) to action (..., 12)."""

    def __init__(self, arrays: Dict[str, Tensor], layout: Layout) -> None:
        self.layout, self._mean, self._rstd = layout, arrays["mean"], arrays["rstd"]
        depth = sum(name.startswith("W") for name in arrays)
        self._layers: List[Tuple[Tensor, Tensor]] = [(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(depth)]

    def __call__(self, seen: Tensor) -> Tensor:
        layout = self.layout
        hidden = ((seen - self._mean) * self._rstd).clamp(-layout.input_clip, layout.input_clip)
        for weight, bias in self._layers[:-1]:
            hidden = _ACTIVATIONS[layout.activation](hidden @ weight + bias)
        weight, bias = self._layers[-1]
        action = (hidden @ weight + bias)[..., :NUM_JOINTS]
        return torch.tanh(action) if layout.squash else action.clamp(-layout.clip, layout.clip)


class WalkingPolicy:
    """A frozen network with its clock and its last action, for any number of robots.

    Attributes:
        phase: (*shape,) of the gait, in cycles. last_action: (*shape, 12).
    """

    def __init__(self, network: Callable[[Tensor], Tensor], layout: Layout, gait: Gait, shape: Tuple[int, ...], dt: float,
                 device: torch.device) -> None:
        self.network, self.layout, self.gait, self.dt = network, layout, gait, dt
        self.phase = torch.zeros(shape, device=device)
        self.last_action = torch.zeros(*shape, NUM_JOINTS, device=device)

    @torch.no_grad()
    def targets(self, senses: Senses, command: Tensor) -> Tensor:
        """Joint targets (*shape, 12), rad, for commands (*shape, 3) in m/s, m/s, rad/s."""
        if self.layout.clock:
            self.phase.copy_(self.gait.advance(self.phase, self.dt))
            seen = observe(senses, self.last_action, command, self.phase)
        else:
            seen = self._foreign(senses, command)
        self.last_action.copy_(self.network(seen))
        return joint_targets(self.last_action, self.phase, self.gait, self.layout.action_scale)

    def _foreign(self, senses: Senses, command: Tensor) -> Tensor:
        imu, home = constant(_IMU, command.device), constant(HOME, command.device)
        velocity = senses.lin_vel_b + torch.linalg.cross(senses.ang_vel_b, imu.expand_as(senses.ang_vel_b))
        return torch.cat((velocity, senses.ang_vel_b, senses.gravity_b, senses.joint_pos - home,
                          senses.joint_vel, self.last_action, command), -1)

    def reset(self, mask: Tensor) -> None:
        """Forgets the last action and draws a new phase where mask (shape[0],) is true."""
        mask = mask.view(-1, *([1] * (self.phase.dim() - 1)))
        self.phase.copy_(torch.where(mask, torch.rand_like(self.phase), self.phase))
        self.last_action.masked_fill_(mask.unsqueeze(-1), 0.0)  # not a product: 0 * NaN is NaN


def joint_targets(action: Tensor, phase: Tensor, gait: Gait, scale: float) -> Tensor:
    """Joint angles (..., 12) that an action asks for: the trot (or standing, without a clock) plus scale * action."""
    return gait.joints(phase) + scale * action


def load(path: Path, shape: Tuple[int, ...], dt: float, device: torch.device) -> WalkingPolicy:
    """Reads a policy, for robots in a tensor of ``shape``; raises ConfigError."""
    network, layout, gait = (_from_onnx if path.suffix == ".onnx" else _from_arrays)(path, device)
    return WalkingPolicy(network, layout, gait, shape, dt, device)


def _from_arrays(path: Path, device: torch.device) -> Tuple[Mlp, Layout, Gait]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
    except (OSError, ValueError) as error:
        raise ConfigError(f"sim.locomotion={path}: no readable .npz file of a walking policy ({error})") from error
    missing = [name for name in ("mean", "rstd", "W0", "b0") if name not in arrays]
    if missing:
        raise ConfigError(f"sim.locomotion={path} lacks {missing[0]}; needed: mean, rstd, W0, b0, W1, b1, ...")
    layout, gait = _FOREIGN, Gait(0.0, 0.0)
    if "layout" in arrays:
        named = dict(zip(arrays["layout_names"].tolist(), arrays["layout"].tolist()))
        layout = Layout(True, str(arrays["activation"]), False, named["action_scale"], named["clip"], named["input_clip"])
        gait = Gait(named["frequency"], named["lift"])
    wanted, given = NUM_OBS if layout.clock else NUM_FOREIGN, arrays["W0"].shape[0]
    if given != wanted:
        raise ConfigError(f"sim.locomotion={path} takes {given} inputs, {wanted} are given")
    tensors = {name: torch.from_numpy(value.astype(np.float32)).to(device) for name, value in arrays.items()
               if name in ("mean", "rstd") or (name[0] in "Wb" and name[1:].isdigit())}
    return Mlp(tensors, layout), layout, gait


def _from_onnx(path: Path, device: torch.device) -> Tuple[Callable[[Tensor], Tensor], Layout, Gait]:
    """A graph that normalises, squashes and clips by itself; which of the two observations it takes, its size says."""
    network = OnnxNetwork(path, device)
    if network.num_inputs not in (NUM_FOREIGN, NUM_OBS):
        raise ConfigError(f"sim.locomotion={path} takes {network.num_inputs} inputs; known: {NUM_FOREIGN} (MuJoCo Playground's "
                          f"joystick task), {NUM_OBS} (exports of task=Go1Walk)")
    if network.num_outputs != NUM_JOINTS:
        raise ConfigError(f"sim.locomotion={path} gives {network.num_outputs} outputs; {NUM_JOINTS} joints need one each")
    if network.num_inputs == NUM_FOREIGN:
        return network, _FOREIGN, Gait(0.0, 0.0)
    env, gait = _card_of(path)
    scale = env["actionScale"]  # an export's outputs are in rad, what the network sees of its last action is not
    layout = dataclasses.replace(_FOREIGN, clock=True, action_scale=scale)
    return lambda seen: network(seen) / scale, layout, Gait(gait["frequency"], gait["lift"])


def _card_of(path: Path) -> Tuple[Dict[str, float], Dict[str, float]]:
    """task.env and task.gait of an exported Go1Walk."""
    card = path.parent / "card.json"
    try:
        task = json.loads(card.read_text())["config"]["task"]
        return task["env"], task["gait"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"sim.locomotion={path} takes {NUM_OBS} inputs, as exports of task=Go1Walk do, but {card}, which says "
                          "how its gait goes, is missing or is not theirs; keep both in one directory") from error


def save(path: Path, arrays: Dict[str, Tensor], layout: Layout, gait: Gait) -> None:
    """Writes a policy of the project's own layout; weights W (in, out) in half precision."""
    import numpy as np

    numbers = {"action_scale": layout.action_scale, "clip": layout.clip, "input_clip": layout.input_clip,
               "frequency": gait.frequency, "lift": gait.lift}
    weights = {name: value.detach().cpu().numpy().astype(np.float32 if name in ("mean", "rstd") else np.float16)
               for name, value in arrays.items()}
    np.savez(path, activation=np.array(layout.activation), layout=np.array(list(numbers.values())),
             layout_names=np.array(list(numbers)), **weights)
