"""The arrays of a recorded file, and the files of HARL's GAE and ValueNorm alone."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from tests.oracle.cases import GaeCase, ValueNormCase
from tests.oracle.world import CUT, ENVS, STEPS, array, named, space


class Recorder:
    """The arrays of one file."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self.config, self.arrays = config, {}

    def keep(self, prefix: str, values: Any, once: bool = False) -> None:
        """Copies an array, or a dictionary of them under ``prefix``; ``once`` leaves a kept one alone."""
        if isinstance(values, dict):
            for name, value in values.items():
                self.keep(f"{prefix}/{name}", value, once)
        elif not once or prefix not in self.arrays:
            self.arrays[prefix] = array(values)

    def save(self, path: Path) -> None:
        np.savez_compressed(path, config=json.dumps(self.config), **self.arrays)


def record_gae(case: GaeCase, seed: int) -> Recorder:
    """HARL's compute_returns on random numbers."""
    from harl.common.buffers.on_policy_critic_buffer_ep import OnPolicyCriticBufferEP
    from harl.common.buffers.on_policy_critic_buffer_fp import OnPolicyCriticBufferFP
    from harl.common.valuenorm import ValueNorm

    rng, num_agents = np.random.RandomState(seed), 3 if case.state_type == "FP" else None
    settings = dict(use_proper_time_limits=case.proper, use_gae=case.use_gae, gamma=0.99, gae_lambda=0.95)
    record = Recorder({"kind": "gae", "state_type": case.state_type, "use_valuenorm": case.valuenorm != "off",
                       "valuenorm_state": case.valuenorm, **settings, "T": STEPS, "N": ENVS, "num_agents": num_agents})
    every = {**settings, "episode_length": STEPS, "n_rollout_threads": ENVS, "hidden_sizes": [32], "recurrent_n": 1}
    args = (every, space("box", 4))
    buffer = OnPolicyCriticBufferFP(*args, num_agents) if num_agents else OnPolicyCriticBufferEP(*args)
    norm = None if case.valuenorm == "off" else ValueNorm(1)
    for _ in range(4 if case.valuenorm == "on" else 0):
        norm.update(rng.normal(4.0, 3.0, (64, 1)).astype(np.float32))
    ended = rng.uniform(size=(STEPS + 1, ENVS) + (1,) * (buffer.masks.ndim - 2)) < 0.12
    buffer.masks[:], buffer.bad_masks[:] = ~ended, ~(ended & (rng.uniform(size=buffer.masks.shape) < CUT))
    buffer.rewards[:] = rng.normal(0.3, 1.0, buffer.rewards.shape)
    buffer.value_preds[:] = rng.normal(0.0, 1.0, buffer.value_preds.shape)
    next_value = rng.normal(0.0, 1.0, buffer.value_preds[0].shape).astype(np.float32)
    record.keep("in", {name: getattr(buffer, name) for name in ("rewards", "masks", "bad_masks", "value_preds")})
    record.keep("in/next_value", next_value)
    record.keep("in/valuenorm", {} if norm is None else named(norm))
    buffer.compute_returns(next_value, norm)
    values = buffer.value_preds if norm is None else norm.denormalize(buffer.value_preds)
    record.keep("out", {"returns": buffer.returns, "value_preds_after": buffer.value_preds,
                        "values_denormalized": values, "advantages_raw": buffer.returns[:-1] - values[:-1]})
    return record


def record_valuenorm(case: ValueNormCase, seed: int) -> Recorder:
    """HARL's ValueNorm, update after update."""
    from harl.common.valuenorm import ValueNorm

    rng, norm = np.random.RandomState(seed), ValueNorm(1, beta=case.beta, per_element_update=case.per_element)
    record = Recorder({
        "kind": "valuenorm", "beta": case.beta, "per_element_update": case.per_element, "epsilon": norm.epsilon,
        "norm_axes": 1, "input_shape": 1, "n_updates": case.updates, "var_min": 0.01,
    })
    probe = np.linspace(case.mean - 5.0 * case.std, case.mean + 5.0 * case.std, 11, dtype=np.float32)[:, None]
    rows: Dict[str, List[np.ndarray]] = {}
    for j in range(-1, case.updates):
        if j >= 0:
            batch = rng.normal(case.mean, case.std, (96 - 16 * (j % 3), 1)).astype(np.float32)
            record.keep(f"in/batch{j}", batch)
            norm.update(batch)
        mean, variance = norm.running_mean_var()
        row = {**named(norm), "debiased_mean": mean, "debiased_var": variance,
               "normalized": norm.normalize(probe), "denormalized": norm.denormalize(probe)}
        for name, value in row.items():
            rows.setdefault(name, []).append(array(value))
    record.keep("in/probe", probe)
    record.keep("out", {name: np.stack(values) for name, values in rows.items()})
    return record
