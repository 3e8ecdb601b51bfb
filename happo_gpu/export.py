"""A trained run's policies as files that need nothing of this package: ONNX, TorchScript and one card.

    python -m happo_gpu.export checkpoint=runs/<run>/nn/<name>.pth [output=DIR]

Each agent gets a file of either kind: observation in, command in physical units (or chosen indices) out, the input
normaliser and the action scaling inside. ``card.json`` says what every column is.
"""
from __future__ import annotations

import inspect
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from happo_gpu import build, checkpoint
from happo_gpu.cli import run_of
from happo_gpu.command import options, run
from happo_gpu.config import ConfigError, parse
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.recurrent import Memory
from happo_gpu.saved import saved_raw
from happo_gpu.types import AgentSpec, Command, Quantity, to_commands

CARD = "card.json"
OPSET = 17  # the first with LayerNormalization
# The exporter by tracing: it is in every torch since 2.0, takes a second, and these networks have no control flow.
# The one by torch.export came later, takes 20 s and needs onnxscript; newer torch has to be told not to use it.
_BY_TRACING = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


@dataclass(frozen=True)
class Options:
    checkpoint: str = field()
    output: str = field()  # '': the run's own export/


def main(arguments: List[str]) -> None:
    given = options(Options, arguments, {"checkpoint": "", "output": ""})
    if not given.checkpoint:
        raise ConfigError("export needs a checkpoint; write checkpoint=runs/<run>/nn/<name>.pth")
    path = Path(given.checkpoint)
    export(path, Path(given.output) if given.output else run_of(path) / "export")


def export(path: Path, output: Path) -> None:
    """Writes the policies of a checkpoint and their card to a directory.

    Without the package onnx its files are left out, and a line says so. That is no error: all that this
    machine can do is done, and exit code 2 keeps its meaning, nothing written.
    """
    state = checkpoint.load(path, torch.device("cpu"))
    raw = saved_raw(run_of(path))
    task, policies = _policies(raw, state, path)
    card = _card(raw, task, policies, path, state)
    files: Dict[str, bytes] = {}
    for entry, policy in zip(card["agents"], policies):
        files[entry["torchscript"]] = torchscript_bytes(policy)
        if entry["onnx"]:
            files[entry["onnx"]] = onnx_bytes(policy)
    if not all(entry["onnx"] for entry in card["agents"]):
        print("no ONNX files: the package onnx is not installed; write pip install -e '.[export]' and export again", file=sys.stderr)
    files[CARD] = (json.dumps(card, indent=2, allow_nan=False) + "\n").encode()
    _write(output, files)
    print(f"=> writing '{output}' ({', '.join(files)})", flush=True)


# -- from a run to its policies ------------------------------------------------------------------


class Deployed(nn.Module):
    """One agent's deterministic policy as it leaves the project.

    Inputs, in the order of ``input_names``: obs (B, O_i); available (B, C_i) bool, of a discrete agent that
    cannot always do everything; hidden (B, R, H) of a recurrent one, zeros at the start of an episode.
    Outputs, in the order of ``output_names``: command (B, U_i) in physical units, or choice (B, U_i) int64; next_hidden.
    """

    def __init__(self, actor: Actor, agent: AgentSpec, commands: Sequence[Command], masked: bool) -> None:
        super().__init__()
        self.actor, self.agent = actor, agent
        recurrent, continuous = actor.rnn is not None, agent.action_space.continuous
        self.input_names = ["obs"] + ["available"] * (masked and not continuous) + ["hidden"] * recurrent
        self.output_names = ["command" if continuous else "choice"] + ["next_hidden"] * recurrent
        self.register_buffer("clip", torch.tensor([command.clip for command in commands]))  # (U_i,)
        self.register_buffer("scale", torch.tensor([command.scale for command in commands]))  # (U_i,)

    def forward(self, *inputs: Tensor) -> Tuple[Tensor, ...]:
        given = dict(zip(self.input_names, inputs))
        obs, available, hidden = given["obs"], given.get("available"), given.get("hidden")
        if hidden is None:
            return (self._outward(self.actor(obs, available)[0].mode()),)
        memory = Memory(hidden, torch.zeros_like(hidden[:, 0, :1], dtype=torch.bool))  # first: (B, 1), cleared by the caller
        menu = None if available is None else available.unsqueeze(1)
        distribution, after = self.actor(obs.unsqueeze(1), menu, memory)
        return self._outward(distribution.mode().squeeze(1)), after[:, -1]

    def _outward(self, action: Tensor) -> Tensor:
        continuous = self.agent.action_space.continuous
        return to_commands(action, self.clip, self.scale) if continuous else action.to(torch.int64)

    def example(self) -> Tuple[Tensor, ...]:
        """Inputs of a batch of one."""
        each = {"obs": torch.zeros(1, self.agent.num_obs), "available": torch.ones(1, self.agent.num_choices, dtype=torch.bool)}
        if self.actor.rnn is not None:
            cells = self.actor.rnn.cells
            each["hidden"] = torch.zeros(1, len(cells), cells[0].hidden_size)
        return tuple(each[name] for name in self.input_names)


def _policies(raw: Dict[str, Any], state: Dict[str, Any], path: Path) -> Tuple[Any, List[Deployed]]:
    """The run's task, in one environment, and the policy of each of its agents."""
    cfg, device = parse({**raw, "precision": "float32"}), torch.device("cpu")
    task = build.build_task(cfg, 1, device, "eager")
    learner = build.build_learner(cfg, task, device, 0)
    checkpoint.put_weights(state, learner, path)
    drivers = {agent: actor for actor, group in zip(learner.actors, learner.groups) for agent in group}
    masked = task.available_buf is not None
    columns = zip(task.agents, task.action_names())
    return task, [Deployed(drivers[i], agent, commands, masked).eval() for i, (agent, commands) in enumerate(columns)]


# -- the files -----------------------------------------------------------------------------------


def torchscript_bytes(policy: Deployed) -> bytes:
    """What torch.jit.load reads; any batch size."""
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the one step of a GRU's loop becomes a constant, as it should
        torch.jit.save(torch.jit.trace(policy, policy.example()), buffer)
    return buffer.getvalue()


def onnx_bytes(policy: Deployed) -> bytes:
    """An ONNX model with named ports; any batch size."""
    buffer = io.BytesIO()
    names = policy.input_names + policy.output_names
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above, and newer torch recommends its other exporter
        torch.onnx.export(
            policy, policy.example(), buffer, input_names=policy.input_names, output_names=policy.output_names,
            dynamic_axes={name: {0: "B"} for name in names}, opset_version=OPSET, **_BY_TRACING,
        )
    return buffer.getvalue()


def _write(output: Path, files: Dict[str, bytes]) -> None:
    """All files or none; the card goes first and comes last, so that what lies beside a card belongs to it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(output), prefix=".") as beside:
            for name, content in files.items():
                Path(beside, name).write_bytes(content)
            if (output / CARD).exists():
                (output / CARD).unlink()
            for name in sorted(files, key=lambda name: name == CARD):
                os.replace(str(Path(beside, name)), str(output / name))
    except OSError as error:
        raise ConfigError(f"output={output} cannot be written ({error.strerror}); name another directory") from error


# -- the card ------------------------------------------------------------------------------------


def _card(raw: Dict[str, Any], task: Any, policies: Sequence[Deployed], path: Path, state: Dict[str, Any]) -> Dict[str, Any]:
    seconds = task.dt if task.sim else None  # a task without a simulator counts steps, not seconds
    return {
        "task": raw["task"]["name"], "algo": raw["algo"]["name"],
        "checkpoint": path.name, "epoch": state.get("epoch"), "git_commit": _git_commit(),
        "control_period_s": seconds,
        "control_steps_per_decision": task.decimation,
        "decision_rate_hz": 1.0 / (seconds * task.decimation) if seconds else None,
        "agents": [
            _agent_card(*columns) for columns in zip(policies, task.observation_names(), task.action_names())
        ],
        "config": raw,
    }


def _agent_card(policy: Deployed, seen: Sequence[Quantity], done: Sequence[Command]) -> Dict[str, Any]:
    agent, inputs = policy.agent, policy.example()
    with torch.no_grad():
        outputs = policy(*inputs)
    return {
        "name": agent.name,
        "onnx": f"{agent.name}.onnx" if _has_onnx() else None,
        "torchscript": f"{agent.name}.pt",
        "inputs": [_port(*port) for port in zip(policy.input_names, inputs)],
        "outputs": [_port(*port) for port in zip(policy.output_names, outputs)],
        "observations": [quantity._asdict() for quantity in seen],
        "actions": [_action_card(command, choices) for command, choices in _with_choices(done, agent)],
    }


def _port(name: str, value: Tensor) -> Dict[str, Any]:
    return {"name": name, "shape": ["B"] + list(value.shape[1:]), "dtype": str(value.dtype).replace("torch.", "")}


def _with_choices(commands: Sequence[Command], agent: AgentSpec) -> List[Tuple[Command, Optional[int]]]:
    return list(zip(commands, agent.action_space.choices or [None] * agent.num_actions))


def _action_card(command: Command, choices: Optional[int]) -> Dict[str, Any]:
    named = {"name": command.name, "unit": command.unit}
    if choices is not None:
        return {**named, "choices": choices}
    limit = command.clip * command.scale
    return {**named, "limits": [-limit, limit] if math.isfinite(limit) else None}


def _has_onnx() -> bool:
    try:
        import onnx  # noqa: F401, torch's exporter imports it
    except ImportError:
        return False
    return True


def _git_commit() -> Optional[str]:
    """The commit of the code that exports, '-dirty' if changed since; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # installed, perhaps inside somebody else's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    run(main, __doc__)
