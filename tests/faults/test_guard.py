"""A value that is not finite stops the run in its iteration, with a name and a file to replay."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CPU, compose_config, compose_raw
from test_distributed import torchrun

from happo_gpu import build, checkpoint, replay
from happo_gpu.guard import NonFinite

SMALL = ["accelerate=eager", "num_envs=11", "algo.episode_length=3", "algo.ppo_epoch=1", "algo.critic_epoch=1",
         "algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=1", "algo.critic_num_mini_batch=1", "train.eval_envs=3",
         "eval_every=0", "save_every=1", "max_iterations=5", "num_threads=1"]
NAN = float("nan")


def make(tmp_path, *overrides, task="Spread"):
    overrides = [f"task={task}", *SMALL, *overrides]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(compose_raw(*overrides)))
    return build.build_trainer(compose_config(*overrides), tmp_path, "it", CPU, build.seed_everything(3, False))


def poison(owner, hook, at_call, environment, column):
    """Makes one of the values that a task's hook returns NaN, once."""
    original, calls = getattr(owner, hook), []

    def hooked(*args):
        values = original(*args).clone()
        calls.append(1)
        if len(calls) == at_call:
            values[environment, column] = NAN
        return values

    setattr(owner, hook, hooked)


def message(trainer):
    with pytest.raises(NonFinite) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_observation_is_named_with_its_environment_and_agent(tmp_path):
    trainer = make(tmp_path)
    poison(trainer.task, "compute_observations", 5, environment=4, column=8)  # the step after step 1 of iteration 2
    assert message(trainer).startswith(
        "iteration 2: non-finite observation at step 2 of the rollout, 1 environments: 4; agents: slow; replay it with ")
    dump = checkpoint.load(tmp_path / "nonfinite_ep_2.pth", CPU)
    assert dump["epoch"] == 1 and dump["fault"]["environments"] == [4]
    assert dump["last"]["obs"].shape == (3, 1, 13) and bool(dump["last"]["obs"][2, 0, 8].isnan())


def test_it_is_found_in_its_iteration_where_few_are_logged(tmp_path):
    trainer = make(tmp_path, "log_every=5", "save_every=0")
    poison(trainer.task, "compute_observations", 5, environment=4, column=8)
    assert message(trainer).startswith("iteration 2: non-finite observation at step 2 of the rollout, 1 environments: 4; agents: slow; ")


def test_what_is_remembered_of_memories_is_what_they_were(tmp_path):
    trainer = make(tmp_path, "algo.episode_length=8", task="Recall")
    trainer.iterate()
    (process,) = trainer._own_state()["processes"]
    memories = [*process["hidden"], process["critic_hidden"]]
    before = [memory.clone() for memory in memories]
    trainer.iterate()
    assert all(map(torch.equal, memories, before)) and not torch.equal(trainer.learner.critic_hidden, before[-1])


def test_the_observation_after_the_last_step_counts_too(tmp_path):
    trainer = make(tmp_path)
    poison(trainer.task, "compute_observations", 3, environment=10, column=0)
    assert "iteration 1: non-finite observation after the rollout, 1 environments: 10; agents: fast" in message(trainer)


def test_a_reward_is_named_with_its_environment_and_agent(tmp_path):
    trainer = make(tmp_path, "task.env.teamReward=false")
    poison(trainer.task, "compute_reward", 7, environment=6, column=2)
    assert "iteration 3: non-finite reward at step 0 of the rollout, 1 environments: 6; agents: rail" in message(trainer)


def test_weights_are_named_by_the_agent_that_acts_on_them(tmp_path):
    trainer = make(tmp_path)
    trainer.learner.actors[1].head.mean.weight.data[0, 0] = NAN
    told = message(trainer)
    assert "iteration 1: non-finite action (the policy's weights are not finite) at step 0" in told
    assert "11 environments: 0, 1, 2, 3, 4, ...; agents: slow" in told


def test_the_critics_weights_are_named_by_the_losses(tmp_path):
    trainer = make(tmp_path)
    trainer.learner.critic.head.bias.data[0] = NAN
    assert "iteration 1: non-finite loss (losses/c_loss" in message(trainer)


def test_a_simulator_is_named_and_a_reset_heals_it(tmp_path):
    trainer = make(tmp_path, "task.env.controlFrequencyInv=1", task="Go1Push")
    trainer.task.sim.agent_vel[4, 1, 0] = NAN
    told = message(trainer)
    assert "iteration 1: non-finite state (simulator: robot_pose, robot_vel" in told and "at step 0 of the rollout, 1 environments: 4;" in told
    trainer.task.reset()
    assert all(bool(value.isfinite().all()) for value in trainer.task.state_dict()["sim"].values())


def test_a_fault_comes_again_from_its_file(tmp_path, capsys):
    trainer = make(tmp_path, "algo.lr=1.0e38", "log_every=4", "save_every=0")  # the first update already goes too far
    told = message(trainer)
    assert told.startswith("iteration 1: non-finite")
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    replay.main([str(tmp_path / "nonfinite_ep_1.pth")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("again in iteration 1: non-finite")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_rollback_goes_on_from_the_last_good_checkpoint_with_half_the_rate(tmp_path, capsys):
    trainer = make(tmp_path, "on_nan=rollback")
    poison(trainer.task, "compute_observations", 8, environment=4, column=8)  # once: the second time it is well
    trainer.run()
    assert trainer.epoch == 5 and trainer.rollbacks == 1
    assert trainer.learner.actor_optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 * trainer.learner.cfg.lr * (1 - 4 / 5))
    out = capsys.readouterr().out
    assert "warning: iteration 3: non-finite observation" in out and "rolled back to" in out and "0.5 of the learning rate (1 of 3 times)" in out
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4, 5]
    assert checkpoint.newest_good(tmp_path, CPU)[1]["rollbacks"] == 1


def test_rollbacks_end_where_they_do_not_help(tmp_path):
    trainer = make(tmp_path, "on_nan=rollback", "train.max_rollbacks=2")
    steps = trainer.task.physics_step

    def broken():
        steps()
        trainer.task.position[7] += NAN if trainer.epoch == 2 else 0.0

    trainer.task.physics_step = broken
    assert "iteration 3: non-finite" in message(trainer)
    assert trainer.rollbacks == 2 and trainer.learner._rate_scale == 0.25


def test_without_a_checkpoint_there_is_nothing_to_roll_back_to(tmp_path):
    trainer = make(tmp_path, "on_nan=rollback", "save_every=0")
    poison(trainer.task, "compute_observations", 2, environment=4, column=8)
    assert "iteration 1" in message(trainer)


def test_rates_that_follow_the_kl_are_halved_too(tmp_path):
    learner = make(tmp_path, "algo.adaptive_kl=0.01", "algo.use_linear_lr_decay=false").learner
    before = learner.actor_optimizers[2].param_groups[0]["lr"].clone()
    learner.scale_rates(0.5)
    assert torch.equal(learner.actor_optimizers[2].param_groups[0]["lr"], 0.5 * before)


# -- several processes -------------------------------------------------------------------------------------


def two_processes(home, at_call, *arguments):
    """A run under torchrun whose second process sees a NaN at one of its steps, three to an iteration."""
    return torchrun(2, str(Path(__file__).with_name("nan_worker.py")), str(at_call), "task=Spread", *SMALL, *arguments, cwd=home)


# In the rollout it reaches the weights of all processes through the gradients, after it one process alone can know.
@pytest.mark.parametrize("at_call, where", [pytest.param(4, "at step 1 of the rollout", marks=pytest.mark.slow), (6, "after the rollout")])
def test_what_one_process_sees_is_named_by_its_number_and_ends_all(tmp_path, at_call, where):
    done = two_processes(tmp_path, at_call)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and f"iteration 2: non-finite observation {where}, 1 environments: 4; agents: slow; in process 1; replay" in line
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in run_dir.glob("nonfinite*")] == ["nonfinite_ep_2_process_1.pth"]


def test_all_processes_roll_back_together(tmp_path):
    done = two_processes(tmp_path, 9, "on_nan=rollback")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("warning: iteration 3: non-finite observation") == 1 and "epoch: 5/5" in done.stdout
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert checkpoint.newest_good(run_dir, CPU)[1]["rollbacks"] == 1
