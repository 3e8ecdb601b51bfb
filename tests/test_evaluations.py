"""Evaluating runs and agents: what is measured, kept, shown, and not measured twice."""
from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml

from conftest import CPU, compose_config, compose_raw, make_task
from happo_gpu import build, evaluations, testing
from happo_gpu.baselines import Untrained, baseline
from happo_gpu.config import ConfigError, parse
from happo_gpu.evaluate import evaluate, wilson_interval
from happo_gpu.log import CLOCKS
from happo_gpu.trainer import EVALUATION_SEED

SMALL = ["num_envs=11", "algo.episode_length=5", "algo.model.hidden_sizes=[8,8]", "algo.actor_num_mini_batch=2",
         "algo.critic_num_mini_batch=2", "task.env.controlFrequencyInv=2", "task.env.episodeLength=24", "accelerate=eager",
         "task.env.goalDistance=[0.9,1.1]", "train.eval_envs=19", "eval_every=2", "save_every=2", "max_iterations=6"]


def again(**changes):
    """The run's config as test=True sees it; by default with training's own starts."""
    return parse({**compose_raw(*SMALL), "test": True, "num_envs": 19, "seed": EVALUATION_SEED, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    (path / "config.yaml").write_text(yaml.safe_dump(compose_raw(*SMALL)))
    trainer = build.build_trainer(compose_config(*SMALL), path, "mine", CPU, build.seed_everything(1, False))
    trainer.run()
    trainer.logger.close()
    return path


@pytest.fixture
def run_dir(trained, tmp_path):
    return Path(shutil.copytree(str(trained), str(tmp_path / "run")))


@pytest.fixture
def tasks_built(monkeypatch):
    built, make = [], build.build_task
    monkeypatch.setattr(build, "build_task", lambda *args: built.append(args) or make(*args))
    return built


def result(frames=1000, rate=0.5, seed=1, episodes=100, typed=(), settings="a", checkpoint="last_x_ep_1_rew_0.pth"):
    return {"frames": frames, "epoch": frames, "success_rate": rate, "success_rate_ci95": [0.0, 1.0], "mean_return": 2.0, "seed": seed,
            "episodes": episodes, "typed": list(typed), "settings": settings, "content": f"{checkpoint} {frames}", "checkpoint": checkpoint}


# -- runs ----------------------------------------------------------------------------------------------


def test_a_run_s_checkpoints_measure_what_training_measured(run_dir, tasks_built):
    testing.evaluate_run(again(), run_dir, [])
    assert len(tasks_built) == 1
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    trained = {line["evaluation"]["epoch"]: line["evaluation"] for line in lines if "evaluation" in line}
    tested = list(evaluations.read(run_dir).values())
    assert [each["epoch"] for each in tested] == [2, 4, 6]  # the best is one of these
    for each in tested:
        same = trained[each["epoch"]]
        assert 0.0 < each["success_rate"] < 1.0  # starts at both sides of the goal's edge: worth comparing
        assert {key: value for key, value in same.items() if key not in CLOCKS} == {key: each[key] for key in same if key in each}


def test_on_other_starts_a_checkpoint_is_as_good_within_its_interval(run_dir):
    """As training measured it; which starts it meets is chance, its success is not."""
    testing.evaluate_run(again(seed=3, num_envs=211), run_dir, [])
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    trained = {line["evaluation"]["epoch"]: line["evaluation"]["success_rate_ci95"] for line in lines if "evaluation" in line}
    tested = list(evaluations.read(run_dir).values())
    assert len(tested) == 3
    for each in tested:
        low, high = trained[each["epoch"]]
        assert 0.0 < low < each["success_rate"] < high < 1.0


def test_a_killed_evaluation_goes_on_with_what_is_missing(run_dir, monkeypatch, capsys):
    played, whole = [], testing.evaluate.evaluate

    def killed_at_the_third(*args):
        played.append(args)
        if len(played) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(testing.evaluate, "evaluate", killed_at_the_third)
    with pytest.raises(SystemExit):
        testing.evaluate_run(again(), run_dir, [])
    with (run_dir / evaluations.FILE).open("a") as file:
        file.write('{"episodes": 19, "mean_ret\n')
    assert ": 4, of them 3 to evaluate" in capsys.readouterr().out and len(evaluations.read(run_dir)) == 2
    testing.evaluate_run(again(), run_dir, [])
    assert "1 to evaluate" in capsys.readouterr().out and len(played) == 4
    monkeypatch.setattr(build, "build_task", None)  # nothing is missing, so nothing may be built
    testing.evaluate_run(again(), run_dir, [])
    out = capsys.readouterr().out
    assert "0 to evaluate" in out and out.count("last_mine_ep_") == 3 and "mine.pth" in out and len(played) == 4


def test_other_settings_and_seeds_are_kept_apart(run_dir, capsys):
    testing.evaluate_run(again(), run_dir, [])
    testing.evaluate_run(again(seed=3), run_dir, [])
    near = compose_raw(*SMALL, "task.env.goalDistance=[0.5,0.6]")
    testing.evaluate_run(again(task=near["task"]), run_dir, ["task.env.goalDistance=[0.5,0.6]"])
    assert capsys.readouterr().out.count("3 to evaluate") == 3
    kept = list(evaluations.read(run_dir).values())
    assert len(kept) == 9 and [each["success_rate"] for each in kept[6:]] == [1.0] * 3
    curves = evaluations.curves(kept)
    assert list(curves) == ["as trained", "task.env.goalDistance=[0.5,0.6]"] and [len(points) for points in curves.values()] == [3, 3]


def test_a_damaged_checkpoint_does_not_cost_the_others(run_dir, capsys):
    (run_dir / "nn" / "mine.pth").write_bytes(b"PK\x03\x04 this was a checkpoint once")
    testing.evaluate_run(again(), run_dir, [])
    assert "warning: checkpoint" in capsys.readouterr().out and len(evaluations.read(run_dir)) == 3


def test_a_directory_that_is_no_run_is_said_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        testing.evaluate_run(again(), tmp_path, [])
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match="no .pth file in its nn/"):
        testing.evaluate_run(again(), tmp_path, [])


def test_without_matplotlib_a_run_is_evaluated_all_the_same(run_dir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    testing.evaluate_run(again(), run_dir, [])
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1 and "pip install" in warnings[0] and not (run_dir / "evaluations.png").exists()


# -- what is shown of results --------------------------------------------------------------------------


def test_seeds_of_a_checkpoint_are_one_point_and_of_a_seed_the_most_episodes_count():
    (point,) = evaluations.curves([result(rate=0.5), result(rate=0.9, episodes=300), result(rate=0.1, seed=2)])["as trained"]
    assert point.value == pytest.approx((300 * 0.9 + 100 * 0.1) / 400)
    assert (point.low, point.high) == wilson_interval(point.value, 400)


def test_the_best_checkpoint_is_told_from_the_periodic_ones():
    points = evaluations.curves([result(3000), result(1000), result(2000, checkpoint="x.pth")])["as trained"]
    assert [(point.frames, point.best) for point in points] == [(1000, False), (2000, True), (3000, False)]


def test_a_table_leaves_out_what_a_task_does_not_have():
    with_success = evaluations.table([result()]).splitlines()
    assert with_success[0].split() == ["epoch", "frames", "success", "[95", "%]", "return", "checkpoint"]
    assert "50.0 % [0.0, 100.0]" in with_success[1]
    bare = {key: value for key, value in result().items() if not key.startswith("success")}
    assert evaluations.table([bare]).splitlines()[0].split() == ["epoch", "frames", "return", "checkpoint"]


def test_evaluations_are_drawn_one_colour_a_setting(tmp_path):
    from happo_gpu import plot

    rows = [result(1000, 0.2), result(3000, 0.7), result(2000, 0.6, checkpoint="x.pth"), result(3000, 0.4, typed=["sim=mujoco"], settings="b")]
    plot.plot_evaluations(tmp_path, evaluations.curves(rows), "success rate")
    assert (tmp_path / "evaluations.png").stat().st_size > 5000
    assert ElementTree.parse(str(tmp_path / "evaluations.svg")).getroot().tag.endswith("svg")
    axis = plot.evaluations_figure(evaluations.curves(rows), "title").axes[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["as trained", "sim=mujoco", "best checkpoint of the run"]
    assert axis.lines[0].get_xydata().tolist() == [[0.001, 0.2], [0.003, 0.7]]


# -- agents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Harvest", "Crew"])
def test_untrained_agents_take_only_what_is_available(name):
    task = make_task(f"task={name}", num_envs=307)
    task.reset()
    sizes = [agent.action_space for agent in task.agents]
    idle, chance = (Untrained(task, chance=chance).act(task.obs_buf, task.available_buf, task.reset_buf)[0] for chance in (False, True))
    assert idle.shape == chance.shape == (307, task.num_actions)
    start = column = 0
    for space in sizes:
        if space.continuous:
            drawn = chance[:, column: column + space.size]
            assert bool((idle[:, column: column + space.size] == 0.0).all()) and -1.0 <= drawn.min() < -0.9 and 0.9 < drawn.max() <= 1.0
            column += space.size
        for choices in space.choices:
            menu = torch.ones(307, choices) if task.available_buf is None else task.available_buf[:, start: start + choices].float()
            assert bool((menu.gather(1, chance[:, column: column + 1].long()) == 1.0).all())
            assert torch.equal(idle[:, column], (menu.cumsum(1) == 0.0).sum(1).float())  # the first that is there
            assert set(chance[:, column].tolist()) == {float(i) for i in range(choices) if menu[:, i].any()}
            start, column = start + choices, column + 1


def test_agents_leave_their_results_of_every_seed_where_no_run_would_be_resumed(tmp_path):
    for seed in (1, 2):
        testing.evaluate_agent(parse({**compose_raw("task=Recall", "num_envs=101"), "test": True, "agent": "scripted", "seed": seed}),
                               tmp_path / "Recall_scripted", ["task=Recall"])
    kept = list(evaluations.read(tmp_path / "Recall_scripted").values())
    assert [(each["seed"], each["mean_score"], each["agent"]) for each in kept] == [(1, 1.0, "scripted"), (2, 1.0, "scripted")]
    assert json.loads((tmp_path / "Recall_scripted" / "evaluation.json").read_text()) == kept[1]
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_task_without_a_scripted_policy_says_so():
    class Bare:
        def scripted_actions(self):
            raise NotImplementedError

    with pytest.raises(ConfigError, match="Bare has no scripted policy; write agent=zero or agent=random"):
        baseline(Bare(), "scripted")


@pytest.mark.parametrize("changes, line", [
    ({"agent": "clever"}, "write one of: zero, random, scripted"), ({"agent": "zero"}, "write test=True agent=zero"),
    ({"agent": "zero", "test": True, "checkpoint": "runs/x"}, "write one of them"),
])
def test_an_agent_that_cannot_be_is_said_in_one_line(changes, line):
    with pytest.raises(ConfigError, match=line):
        parse({**compose_raw(), **changes})


def test_the_scripted_team_pushes_the_box_to_the_goal():
    task = make_task("task.env.controlFrequencyInv=10", "task.env.episodeLength=800", num_envs=41)
    scripted = evaluate(task, baseline(task, "scripted"), seed=5)
    assert scripted["success_rate"] > 0.9 and scripted["collision_rate"] == 0.0


def test_a_result_that_follows_a_line_cut_short_has_a_line_of_its_own(tmp_path):
    result = {key: key for key in evaluations.SAME}
    (tmp_path / evaluations.FILE).write_text('{"seed": 1, "succ')
    for episodes in (1, 2):
        evaluations.append(tmp_path, {**result, "seed": episodes})
    assert [each["seed"] for each in evaluations.read(tmp_path).values()] == [1, 2]
