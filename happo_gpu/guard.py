"""Values that are not finite: noticed with the logged read, named, and left in a file that replays them."""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import Tensor

from happo_gpu import checkpoint, distributed
from happo_gpu.data.rollout import Rollout

SHOWN = 5  # environments that a message names and a dump shows


class NonFinite(RuntimeError):
    """A simulator, a reward or a policy produced a value that is not finite; the message is one line."""


@dataclass(frozen=True)
class Fault:
    """The first value of an iteration, in the order of events, that is not finite."""

    what: str  # observation, action, state, reward, loss or weight
    where: str  # its names among several, or ''
    step: int  # of the rollout; -1: after it
    environments: List[int]  # all of them; none where the update itself went wrong
    agents: List[str]

    def __str__(self) -> str:
        text = f"non-finite {self.what}" + (f" ({self.where})" if self.where else "")
        if not self.environments:
            return text + " in the update"
        step = f" at step {self.step} of the rollout" if self.step >= 0 else " after the rollout"
        first = ", ".join(map(str, self.environments[:SHOWN])) + (", ..." if len(self.environments) > SHOWN else "")
        return f"{text}{step}, {len(self.environments)} environments: {first}; agents: {', '.join(self.agents)}"


class Guard:
    """Watches one run, and remembers the last state from which everything was finite."""

    def __init__(self, task, learner, rollout: Rollout, run_dir: Path) -> None:
        self._task, self._learner, self._rollout, self._run_dir = task, learner, rollout, run_dir
        self._before: Dict[str, Any] = {}

    def pulse(self) -> Tensor:
        """A number, 0-d, that is finite if the rollout and the weights are. Asks the host nothing."""
        rollout = self._rollout
        watched = [rollout.obs, rollout.actions, rollout.log_probs, rollout.final_states, rollout.rewards, self._task.obs_buf]
        weights = [value for _, value in _weights(self._learner)]
        return torch.stack([value.detach().sum(dtype=torch.float32) for value in watched + weights]).sum()

    def remember(self, state: Dict[str, Any]) -> None:
        """Keeps a copy of the trainer's state, to replay from."""
        self._before = {**state, "learner": _copied(state["learner"])}

    def check(self, pulse: float, values: Mapping[str, float], epoch: int) -> None:
        """Raises :class:`NonFinite` if anything is not finite in any process by iteration ``epoch``, having written the dump."""
        losses = {tag: value for tag, value in values.items() if tag.startswith("losses/")}
        finite = math.isfinite(pulse) and all(map(math.isfinite, losses.values()))
        if distributed.largest(int(not finite)) == 0:
            return
        faults = distributed.agree(distributed.gather(find(self._task, self._learner, self._rollout, losses)))
        guilty = _first(faults)
        if guilty is None:  # numbers so large that only their sum is not finite
            return
        message = f"iteration {epoch}: {faults[guilty]}" + f"; in process {guilty}" * (distributed.SIZE > 1)
        if distributed.RANK == guilty:
            message += self._dump(faults[guilty], message, epoch)
        raise NonFinite(distributed.agree(distributed.gather(message))[guilty])  # the same for all, once the file is there

    def _dump(self, fault: Fault, message: str, epoch: int) -> str:
        """Writes what replays the iteration; returns what to say of it."""
        path = self._run_dir / (f"nonfinite_ep_{epoch}" + f"_process_{distributed.RANK}" * (distributed.RANK > 0) + ".pth")
        try:
            checkpoint.save(path, {**self._before, "fault": {"message": message, "epoch": epoch, **asdict(fault)},
                                   "last": _last_states(self._rollout, fault.environments[:SHOWN])})
        except OSError as error:
            return f"; {path} could not be written ({error.strerror})"
        return f"; replay it with python -m happo_gpu.replay {path}"


def _first(faults: List[Optional[Fault]]) -> Optional[int]:
    """The process where it began, None if nowhere: gradients carry what one process's environments did to the weights of all."""
    found = [rank for rank, fault in enumerate(faults) if fault is not None]
    return min(found, key=lambda rank: (not faults[rank].environments, rank), default=None)


def find(task, learner, rollout: Rollout, losses: Mapping[str, float]) -> Optional[Fault]:
    """Searches an iteration in the order of its events; None if all is finite. Reads the device."""
    agents = [agent.name for agent in task.agents]
    obs_owner = _owners(agents, [agent.num_obs for agent in task.agents])
    action_owner = _owners(agents, [agent.num_actions for agent in task.agents])
    reward_owner = agents if task.num_values > 1 else []
    state_owner = agents if task.per_agent_states else []
    events = [
        ("observation", rollout.obs, obs_owner), ("action", rollout.actions, action_owner), ("action", rollout.log_probs, action_owner),
        ("state", rollout.final_states, state_owner), ("reward", rollout.rewards, reward_owner),
    ]
    found: List[Tuple[int, int]] = []  # step, index of the event
    for index, (_, values, _) in enumerate(events):
        steps = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten().tolist()
        found += [(steps[0], index)] if steps else []
    if found:
        step, index = min(found)
        what, values, owner = events[index]
        return _fault(task, what, values[step], owner or None, step, agents)
    if not bool(torch.isfinite(task.obs_buf).all()):
        return _fault(task, "observation", task.obs_buf, obs_owner, -1, agents)
    loud = [tag for tag, value in losses.items() if not math.isfinite(value)]
    if loud:
        return Fault("loss", ", ".join(loud), -1, [], [])
    sick = [name for name, value in _weights(learner) if not bool(torch.isfinite(value).all())]
    return Fault("weight", ", ".join(sick), -1, [], []) if sick else None


def _fault(task, what: str, values: Tensor, owners: Optional[List[str]], step: int, agents: List[str]) -> Fault:
    """From one step's values (N, ...), whose second axis belongs to ``owners``."""
    bad = (~torch.isfinite(values)).flatten(2).any(-1) if values.dim() > 2 else ~torch.isfinite(values)  # (N, X)
    environments = bad.any(1).nonzero().flatten().tolist()
    columns = bad.any(0).nonzero().flatten().tolist()
    named = [agent for agent in agents if agent in {owners[c] for c in columns}] if owners else agents
    return Fault(what, _where(task, what), step, environments, named)


def _where(task, what: str) -> str:
    if what == "action":
        return "the policy's weights are not finite"
    sim = task.sim.state_dict() if task.sim else {}
    sick = [name for name, value in sim.items() if not bool(torch.isfinite(value).all())]
    return "simulator: " + ", ".join(sick) if sick else ""


def _owners(agents: List[str], sizes: List[int]) -> List[str]:
    """The agent that each column belongs to."""
    return list(chain.from_iterable([name] * size for name, size in zip(agents, sizes)))


def _weights(learner) -> Iterator[Tuple[str, Tensor]]:
    for name, net in [*((f"actor {i}", actor) for i, actor in enumerate(learner.actors)), ("critic", learner.critic),
                      ("value_norm", learner.value_norm)]:
        for key, value in net.state_dict().items():
            yield f"{name} {key}", value


def _copied(state: Any) -> Any:
    """As copy.deepcopy, which takes ten times as long: every logged iteration is remembered."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(_copied, state))
    return state


def _last_states(rollout: Rollout, environments: List[int]) -> Dict[str, Tensor]:
    """The iteration's rollout of some environments, each (T, n, ...)."""
    names = ("obs", "states", "actions", "log_probs", "rewards", "final_states", "first")
    return {name: getattr(rollout, name)[:, environments].clone() for name in names}
