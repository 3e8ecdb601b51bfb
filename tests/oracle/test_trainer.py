"""The learner's own update on recorded rollouts: it is handed the data and the random order, and nothing else.

The replayer takes values, memory and log-probabilities from the file, because recorded data may be stale.
On fresh data the learner computes them itself, and must arrive at the same weights.
"""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracle.check import Report
from tests.oracle.replay import OnPolicyReplay
from tests.oracle.test_oracle import FILES


def load(path: Path):
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays["config"]))


def is_fresh(path: Path) -> bool:
    config = load(path)[1]
    return "algo_name" in config and not config.get("stale") and config["harl"]["algo"].get("use_gae", False)


class WholeUpdate(OnPolicyReplay):
    """Leaves everything but the random order to the learner."""

    def iteration(self, k: int) -> None:
        out, learner = f"out/it{k}", self.learner
        ended, cut = (self.arrays[f"in/it{k}/critic/{name}"][1:] == 0.0 for name in ("masks", "bad_masks"))
        ended, cut = (flags.reshape(*flags.shape[:2], -1)[..., 0] for flags in (ended, cut))
        rollout = replace(
            self.rollout(f"in/it{k}"), terminated=torch.from_numpy(ended & ~cut), truncated=torch.from_numpy(ended & cut)
        )
        order = [int(i) for i in self.arrays[f"{out}/agent_order"]][: len(learner.actors)]
        learner._draw_order = lambda: order
        drawn = [self.of_actor(k, i, len(learner.groups[i])) for i in order if self.cfg.actor_step != "trust_region"]
        self._permutations = (each for source in (*drawn, self.arrays[f"perm/it{k}/critic"]) for each in source)
        targets = learner.evaluate_rollout(rollout)
        self.report.compare("returns", f"{out}/returns", targets.returns, self.arrays[f"{out}/returns"][:-1])
        learner.learn(rollout, targets)
        for i, actor in enumerate(learner.actors):
            self.compare_network(f"{out}/actor{i}", actor, learner.actor_optimizers[i])
        self.compare_network(f"{out}/critic", learner.critic, learner.critic_optimizer)


@pytest.mark.parametrize("path", [path for path in FILES if is_fresh(path)], ids=lambda path: path.stem)
def test_learner_alone_arrives_at_the_recorded_weights(path):
    report = Report()
    WholeUpdate(*load(path), report).run()
    assert report.passed, report.line(path.stem)
