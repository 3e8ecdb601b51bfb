"""Faster ways through the steps of an epoch, compiled on a CPU or recorded for a GPU, end where torch's Adam does."""
from __future__ import annotations

import copy

import pytest
import torch

from conftest import compose_config, random_rollout
from happo_gpu import warm_up
from happo_gpu.types import AgentSpec, box


PLAIN = [AgentSpec("left", 5, box(2)), AgentSpec("right", 3, box(4))]
WAYS = {"compiled": warm_up.compile_learner, "recorded": warm_up.capture_learner}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("overrides", [
    [], ["algo.weight_decay=0.1", "algo.use_max_grad_norm=false"], ["algo.adaptive_kl=0.01", "algo.use_linear_lr_decay=false"],
    ["algo.valuenorm_update=minibatch", "algo.max_grad_norm=0.1"], ["algo=MAPPO", "algo.model.share_param=false"],
], ids=" ".join)
def test_whole_updates_in_faster_steps_end_where_torchs_adam_does(emulated_graphs, capsys, way, overrides):
    cfg = compose_config("algo.model.hidden_sizes=[37,26]", "algo.actor_num_mini_batch=3", "algo.critic_num_mini_batch=2", "algo.episode_length=4",
                         "algo.lr=0.01", *overrides).algo
    ends = []
    for is_fast in (False, True):
        torch.manual_seed(2)
        learner, rollout = random_rollout(PLAIN, cfg)
        if is_fast:
            WAYS[way](learner, learner.policy(1))
            assert all(each.steps_plain != each._steps_plain for each in (*learner.actor_gradients, learner.critic_gradients))
        stats = []
        for update in range(3):
            torch.manual_seed(update)
            learner.set_progress(update / 5)
            stats.append(learner.update(rollout))
            if update == 0:
                stopped = copy.deepcopy(learner.state_dict())
            if update == 1:  # as a run that goes on from an older file
                learner.load_state_dict(copy.deepcopy(stopped))
        ends.append((learner.state_dict(), stats))
    (plain, plain_stats), (fast, fast_stats) = ends
    for mine, torchs in zip(tensors_of(fast), tensors_of(plain)):
        torch.testing.assert_close(mine, torchs, rtol=1e-3, atol=1e-4)
    for mine, torchs in zip(fast_stats, plain_stats):
        for tag, value in torchs.items():
            torch.testing.assert_close(mine[tag], value, rtol=1e-3, atol=1e-4, msg=lambda text, tag=tag: f"{tag}: {text}")
    assert capsys.readouterr().out == ""


def tensors_of(state):
    """Of a state dict, in order."""
    if isinstance(state, torch.Tensor):
        return [state.float()]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else []
    return [tensor for value in values for tensor in tensors_of(value)]
