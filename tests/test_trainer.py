"""The loop: reproducible, resumable, resident on the device, loud about non-finite values."""
from __future__ import annotations

import json
import sys

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import build, checkpoint
from happo_gpu.guard import NonFinite

SMALL = ["num_envs=11", "algo.episode_length=5", "algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=2",
         "algo.critic_num_mini_batch=2", "task.env.controlFrequencyInv=2", "task.env.episodeLength=24",
         "train.eval_envs=3", "eval_every=0", "save_every=0", "max_iterations=6"]


def make(tmp_path, *overrides, state=None, name="run"):
    cfg = compose_config(*SMALL, *overrides)
    run_dir = tmp_path / name
    run_dir.mkdir(exist_ok=True)
    seed = build.seed_everything(cfg.seed, False)
    return build.build_trainer(cfg, run_dir, "Go1Push", CPU, seed, state)


def weights(trainer):
    return [p.detach().clone() for net in (*trainer.learner.actors, trainer.learner.critic) for p in net.parameters()]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second))


def test_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    runs = []
    for seed in (1, 1, 2):
        trainer = make(tmp_path, f"seed={seed}")
        trainer.run()
        runs.append(weights(trainer))
    assert equal(runs[0], runs[1]) and not equal(runs[0], runs[2])


def test_evaluation_does_not_change_the_run(tmp_path):
    quiet = make(tmp_path, name="a")
    quiet.run()
    watched = make(tmp_path, "eval_every=2", name="b")
    watched.run()
    assert equal(weights(quiet), weights(watched))


# Of the first episodes half succeed at once.
CURRICULUM = ["+task.curriculum.easiest.goalDistance=[1.0,1.1]", "task.env.successDistance=1.05", "task.noise.position=0.05",
              "task.noise.angle=0.1"]


@pytest.mark.parametrize("overrides", [[], CURRICULUM], ids=["plain", "curriculum and noise"])
def test_killed_and_resumed_equals_never_stopped(tmp_path, overrides):
    whole = make(tmp_path, *overrides, name="whole")
    whole.run()
    first = make(tmp_path, *overrides, name="cut")
    for _ in range(3):
        first._after_iteration(first.iterate())
    first._save_last()
    for _ in range(2):  # these two are lost with the process
        first._after_iteration(first.iterate())
    torch.manual_seed(999)
    _, state = checkpoint.newest_good(tmp_path / "cut", CPU)
    second = make(tmp_path, *overrides, state=state, name="cut")
    assert second.epoch == 3
    second.run()
    assert equal(weights(whole), weights(second))
    for name, value in whole.task.state_dict()["sim"].items():
        assert torch.equal(value, second.task.state_dict()["sim"][name]), name
    assert torch.equal(whole.task.difficulty, second.task.difficulty) and bool(whole.task.difficulty.any()) == bool(overrides)
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("task", ["Recall", "Harvest"])
def test_memories_masks_and_deaths_survive_a_resume(tmp_path, task):
    # Rollouts of 6 steps cut episodes of 8 and 50: states must run on from one iteration into the next.
    small = [f"task={task}", "num_envs=11", "algo.episode_length=6", "algo.model.hidden_sizes=[8,8]",
             "algo.model.recurrent=chunked", "algo.model.data_chunk_length=3", "algo.actor_num_mini_batch=2",
             "algo.critic_num_mini_batch=2", "train.eval_envs=3", "eval_every=0", "save_every=0", "max_iterations=5"]

    def build_one(name, state=None):
        cfg = compose_config(*small)
        (tmp_path / name).mkdir(exist_ok=True)
        return build.build_trainer(cfg, tmp_path / name, task, CPU, build.seed_everything(3, False), state)

    whole = build_one("whole")
    whole.run()
    first = build_one("cut")
    for _ in range(2):
        first._after_iteration(first.iterate())
    first._save_last()
    torch.manual_seed(999)
    second = build_one("cut", checkpoint.newest_good(tmp_path / "cut", CPU)[1])
    second.run()
    assert equal(weights(whole), weights(second))
    assert equal(whole.policy.hidden, second.policy.hidden) and bool(whole.policy.hidden[0].any())


def test_an_iteration_never_crosses_to_the_host(tmp_path, monkeypatch):
    trainer = make(tmp_path)
    trainer.iterate()  # lazily built state (Adam) exists from here on

    def forbid(owner, name):
        original = getattr(owner, name)

        def cross(*args, **kwargs):
            # torch's optimisers count their steps in a tensor that always lives on the host.
            assert "optim" in sys._getframe(1).f_code.co_filename, f"Tensor.{name} in the training path"
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, cross)

    for name in ("item", "cpu", "numpy", "tolist", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__"):
        forbid(torch.Tensor, name)
    forbid(torch, "nonzero")
    trainer.iterate()
    with pytest.raises(AssertionError, match="Tensor.item"):  # the trap does close
        trainer.task.rew_buf.sum().item()


def test_training_path_does_not_import_numpy():
    """But for simulators that step on the CPU, whose engine takes arrays."""
    import ast
    from pathlib import Path

    import happo_gpu

    engines = {"legged.py", "mujoco_worlds.py", "locomotion.py", "onnx_graph.py", "worker.py"}  # they step on the CPU, or read a file of arrays
    commands = {"outlines.py", "plot.py", "pushes.py", "video.py", "canvas.py", "encode.py", "compare.py", "render.py", "scene.py", "view.py"}  # a run imports them only if it films, in build_camera
    for path in Path(happo_gpu.__file__).parent.rglob("*.py"):
        if path.name in engines | commands or path.parent.name == "lanes":  # which has arrays of names, not of numbers
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not any(name.split(".")[0] == "numpy" for name in names), path


def test_non_finite_state_stops_the_run_and_names_the_environment(tmp_path):
    trainer = make(tmp_path)
    trainer.task.sim.agent_pose[4, 1, 0] = float("nan")
    with pytest.raises(NonFinite, match=r"iteration 1: non-finite .* 1 environments: 4;"):
        trainer.run()


def test_buffers_are_never_rebound(tmp_path):
    trainer = make(tmp_path)
    named = {**vars(trainer.rollout), **trainer.task._persistent(), **trainer.task.sim.state_dict(),
             "obs": trainer.task.obs_buf, "rew": trainer.task.rew_buf}
    addresses = {name: value.data_ptr() for name, value in named.items() if torch.is_tensor(value)}
    trainer.iterate()
    named = {**vars(trainer.rollout), **trainer.task._persistent(), **trainer.task.sim.state_dict(),
             "obs": trainer.task.obs_buf, "rew": trainer.task.rew_buf}
    assert addresses == {name: named[name].data_ptr() for name in addresses}


def test_records_carry_the_tags_that_people_read(tmp_path):
    trainer = make(tmp_path, "max_iterations=13", "eval_every=13")
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    record, evaluation = lines[-2], lines[-1]["evaluation"]
    for tag in ("performance/step_inference_rl_update_fps", "performance/step_fps", "losses/a_loss", "losses/c_loss",
                "losses/entropy", "info/kl", "info/last_lr", "losses/a_loss/agent_1", "info/factor_max/agent_0",
                "info/clip_fraction/agent_1", "info/update_order", "Episode/success", "Episode/reward_ocb"):
        assert tag in record, tag
    assert record["frames"] == 13 * 5 * 11 * 2
    assert evaluation["episodes"] == 3 and 0.0 <= evaluation["success_rate"] <= 1.0


def test_mappo_trains_from_the_same_learner(tmp_path):
    trainer = make(tmp_path, "algo=MAPPO", "train=Go1PushHAPPO", "algo.compound_factor=false")
    before = weights(trainer)
    trainer.run()
    assert len(trainer.learner.actors) == 1 and not equal(before, weights(trainer))
