"""The base class of tasks: order of events, episode bookkeeping and the masked auto-reset.

Names are those of IsaacGymEnvs. A task writes the hooks; it never resets itself and never sees an
index list: what happens to some environments happens by mask, on the device.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from happo_gpu.loops import repeat
from happo_gpu.sim.base import Sim
from happo_gpu.types import AgentSpec, Command, Quantity


class VecTask:
    """N environments, each an episode of at most ``max_episode_length`` control steps.

    One call of :meth:`step` is one decision of the policies: ``decimation`` control steps under one
    action. An environment that terminates on the way stops earning and is reset at the end.

    Attributes:
        obs_buf: (N, O) observations of all agents, side by side.
        states_buf: (N, S) the critic's state, or (N, A, S) with ``per_agent_states``.
        available_buf: (N, C) bool, what discrete agents can do now; None without ``masks``.
        active_buf: (N, A) 1 where an agent lives; None without ``deaths``. What a dead agent sees
            and does is not learned from.
        rew_buf: (N, K) reward of the last decision, summed over its control steps.
        reset_buf: (N,) bool, episodes that ended in the last decision.
        timeout_buf: (N,) bool, those of them that ran out of time (and did not terminate).
        progress_buf: (N,) int64, control steps since the start of the episode.
        extras: ``time_outs``; ``final_states`` (N, S), the critic's state before any reset; ``reset``, which is reset_buf;
            ``episode``: metrics (N,) of each environment's episode, of use where ``reset_buf``.
    """

    def __init__(
        self, sim: Optional[Sim], agents: List[AgentSpec], num_envs: int, num_states: int, num_values: int,
        max_episode_length: int, decimation: int, device: torch.device,
        per_agent_states: bool = False, masks: bool = False, deaths: bool = False,
    ) -> None:
        self.sim, self.agents, self.num_envs, self.device = sim, agents, num_envs, device
        self.num_states, self.num_values = num_states, num_values
        self.num_obs = sum(agent.num_obs for agent in agents)
        self.num_actions = sum(agent.num_actions for agent in agents)
        self.max_episode_length, self.decimation = max_episode_length, decimation
        self.per_agent_states = per_agent_states
        self.dt = sim.dt if sim else 1.0  # s, one control step

        n = num_envs
        self.obs_buf = torch.zeros(n, self.num_obs, device=device)
        states = (n, len(agents), num_states) if per_agent_states else (n, num_states)
        self.states_buf = torch.zeros(states, device=device)
        self.final_states = torch.zeros(states, device=device)
        num_choices = sum(agent.num_choices for agent in agents)
        self.available_buf = torch.ones(n, num_choices, dtype=torch.bool, device=device) if masks else None
        self.active_buf = torch.ones(n, len(agents), device=device) if deaths else None
        self.rew_buf = torch.zeros(n, num_values, device=device)
        self.reset_buf = torch.zeros(n, dtype=torch.bool, device=device)
        self.timeout_buf = torch.zeros(n, dtype=torch.bool, device=device)
        self.terminated_buf = torch.zeros(n, dtype=torch.bool, device=device)
        self.progress_buf = torch.zeros(n, dtype=torch.int64, device=device)
        self.episode_return = torch.zeros(n, device=device)  # mean over value heads
        self.episode_sums: Dict[str, Tensor] = {}  # name -> (N,), summed over an episode, by tasks
        self._ended: Dict[str, Tensor] = {}  # metrics of the episodes as they stood before the resets
        self.extras: Dict[str, Any] = {
            "time_outs": self.timeout_buf, "final_states": self.final_states, "reset": self.reset_buf, "episode": self._ended,
        }
        # accelerate.py may replace these with compiled versions of themselves.
        self.after_physics: Callable[[], None] = self.post_physics_step
        self.advance: Callable[[], None] = self.control_steps
        self.conclude: Callable[[], None] = self.end_decision

    # -- hooks that a task writes ------------------------------------------------------------

    def pre_physics_step(self, actions: Tensor) -> None:
        """Turns actions (N, U) into commands that hold for the whole decision."""
        raise NotImplementedError

    def physics_step(self) -> None:
        """Advances the simulator one control period."""
        raise NotImplementedError

    def post_physics_step(self) -> None:
        """After each control period: progress, termination and reward, where not yet ended."""
        alive = ~self.terminated_buf
        self.progress_buf.add_(alive)
        reward = self.compute_reward(alive.to(self.rew_buf.dtype))  # (N, K)
        self.rew_buf.add_(reward)

    def compute_reward(self, alive: Tensor) -> Tensor:
        """Reward (N, K) of one control period, zero where ``alive`` (N,) is 0; sets terminated_buf."""
        raise NotImplementedError

    def compute_time_outs(self) -> Tensor:
        """Episodes that have run out of time, (N,) bool."""
        return self.progress_buf >= self.max_episode_length

    def compute_observations(self) -> Tensor:
        """Observations of all agents, (N, O)."""
        raise NotImplementedError

    def compute_states(self) -> Tensor:
        """The critic's state, (N, S), or (N, A, S) with ``per_agent_states``."""
        raise NotImplementedError

    def compute_available(self) -> Tensor:
        """What each discrete agent can do, (N, C) bool; only asked of a task with ``masks``."""
        raise NotImplementedError

    def compute_active(self) -> Tensor:
        """Which agents live, (N, A) 1 or 0; only asked of a task with ``deaths``."""
        raise NotImplementedError

    def scripted_actions(self) -> Tensor:
        """Actions (N, U) of a hand-written policy that sees everything: a bound on what can be learned."""
        raise NotImplementedError

    def episode_metrics(self) -> Dict[str, Tensor]:
        """Metrics (N,) of the episode so far, read where it ends."""
        raise NotImplementedError

    def snapshot(self) -> Dict[str, Tensor]:
        """What a picture of the environments shows, live tensors (N, ...); only asked of a task with a scene."""
        raise NotImplementedError

    def reset_where(self, mask: Tensor) -> None:
        """Starts new episodes where mask (N,) is true; touches nothing elsewhere."""
        raise NotImplementedError

    def observation_names(self) -> List[List[Quantity]]:
        """What each agent's columns are, in order; numbers where a task does not say."""
        return [[Quantity(f"obs_{i}") for i in range(agent.num_obs)] for agent in self.agents]

    def action_names(self) -> List[List[Command]]:
        """What each agent's outputs command, in order; numbers where a task does not say."""
        return [[Command(f"action_{i}") for i in range(agent.num_actions)] for agent in self.agents]

    # -- the order of events -----------------------------------------------------------------

    def reset(self, stagger: bool = False) -> Dict[str, Tensor]:
        """Starts every environment anew; ``stagger`` spreads their ages over an episode's length."""
        everything = torch.ones_like(self.reset_buf)
        self._reset_bookkeeping(everything)
        self.reset_where(everything)
        self.reset_buf.fill_(True)
        if stagger:
            decisions = self.max_episode_length // self.decimation
            self.progress_buf.copy_(torch.randint_like(self.progress_buf, decisions) * self.decimation)
        self._write_episode()
        self._observe()
        return {"obs": self.obs_buf, "states": self.states_buf}

    def step(self, actions: Tensor) -> Tuple[Dict[str, Tensor], Tensor, Tensor, Dict[str, Any]]:
        """Applies actions (N, U) for one decision.

        Returns:
            ``{"obs", "states"}`` after the resets, rew_buf, reset_buf, extras. All are live buffers:
            copy what must survive the next step.
        """
        self.rew_buf.zero_()
        self.terminated_buf.zero_()
        self.pre_physics_step(actions)
        self.advance()
        self.conclude()
        return {"obs": self.obs_buf, "states": self.states_buf}, self.rew_buf, self.reset_buf, self.extras

    def control_steps(self) -> None:
        """The control periods of one decision."""
        repeat(self.decimation, self._control_step)

    def end_decision(self) -> None:
        """What follows them: time-outs, the state reached, resets, and what is seen after them."""
        self.episode_return.add_(self.rew_buf.mean(-1))
        self.timeout_buf.copy_(self.compute_time_outs() & ~self.terminated_buf)
        self.reset_buf.copy_(self.terminated_buf | self.timeout_buf)
        self.final_states.copy_(self.compute_states())
        self._write_episode()
        self._reset_bookkeeping(self.reset_buf)
        self.reset_where(self.reset_buf)
        self._observe()

    def _control_step(self) -> None:
        self.physics_step()
        self.after_physics()

    def _write_episode(self) -> None:
        """Copies the metrics: the reset that follows clears what they are made of, in place."""
        for name, value in {"return": self.episode_return, "length": self.progress_buf, **self.episode_metrics()}.items():
            if name not in self._ended:  # at the first reset
                self._ended[name] = torch.zeros(self.num_envs, device=self.device)
            self._ended[name].copy_(value)

    def _reset_bookkeeping(self, mask: Tensor) -> None:
        for value in (self.progress_buf, self.episode_return, *self.episode_sums.values()):
            value.masked_fill_(mask, 0)  # not a product: 0 * NaN is NaN

    def _observe(self) -> None:
        self.obs_buf.copy_(self.compute_observations())
        self.states_buf.copy_(self.compute_states())
        if self.available_buf is not None:
            self.available_buf.copy_(self.compute_available())
        if self.active_buf is not None:
            self.active_buf.copy_(self.compute_active())

    # -- checkpoint --------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Everything that a bit-equal continuation needs, as clones."""
        sim = self.sim.state_dict() if self.sim else {}
        return {
            "buffers": {name: value.clone() for name, value in self._saved().items()},
            "sim": {name: value.clone() for name, value in sim.items()},
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        for name, value in self._saved().items():
            value.copy_(state["buffers"][name])
        if self.sim:
            self.sim.load_state_dict(state["sim"])

    def _saved(self) -> Dict[str, Tensor]:
        named = {"obs_buf": self.obs_buf, "states_buf": self.states_buf, "reset_buf": self.reset_buf,
                 "available_buf": self.available_buf, "active_buf": self.active_buf, **self._persistent()}
        return {name: value for name, value in named.items() if value is not None}

    def _persistent(self) -> Dict[str, Tensor]:
        """Tensors besides the simulator's that outlive a step; a task adds its own."""
        named = {"progress_buf": self.progress_buf, "episode_return": self.episode_return}
        named.update({"sums/" + name: value for name, value in self.episode_sums.items()})
        return named
