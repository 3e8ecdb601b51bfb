"""A search: trials are runs, the study goes on where it stopped, and what cannot be searched is one line."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from happo_gpu import sweep
from happo_gpu.config import ConfigError

TASK = ["task=Recall", "max_iterations=3", "eval_every=1", "num_envs=11"]
# Stands in for a training run: scores 1 for one minibatch and 0 otherwise, at three evaluations.
RUN = """
import json, pathlib, sys, time
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
run = pathlib.Path("runs", given["experiment"] + "_now")
run.mkdir()
for epoch in (1, 2, 3):
    with (run / "metrics.jsonl").open("a") as out:
        score = float(given["algo.actor_num_mini_batch"] == "1")
        out.write(json.dumps({"evaluation": {"epoch": epoch, "mean_return": score}}) + "\\n")
    time.sleep(PAUSE)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Arguments of every run that was started; they take no time."""
    started = []

    def train(arguments, output, code=RUN.replace("PAUSE", "0")):
        started.append(arguments)
        return subprocess.Popen([sys.executable, "-S", "-c", code, *arguments], stdout=output, stderr=output)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_train", train)
    monkeypatch.setattr(sweep, "POLL", 0.02)
    return started


def trials_of(name):
    import optuna

    return optuna.load_study(study_name=name, storage=f"sqlite:///runs/{name}.db").trials


def test_a_search_finds_the_better_value_and_goes_on_where_it_stopped(stand_in, capsys):
    arguments = [*TASK, "algo.actor_num_mini_batch=1,2", "algo.lr=0.001", "algo.clip_param=0.2", "study=mine"]
    sweep.main([*arguments, "trials=1"])
    sweep.main([*arguments, "trials=4"])
    trials = trials_of("mine")
    assert len(trials) == len(stand_in) == 4
    for trial in trials:
        assert set(trial.params) == {"algo.actor_num_mini_batch", "algo.entropy_coef"}  # the last is cfg/sweep.yaml's
        assert 0.0001 <= trial.params["algo.entropy_coef"] <= 0.03 and Path(f"runs/mine_{trial.number}_now").is_dir()
    out = capsys.readouterr().out
    assert {trial.value for trial in trials if trial.params["algo.actor_num_mini_batch"] == "1"} <= {1.0}
    assert "best of 4: trial " in out and "python train.py -m task=Recall" in out and "seed=1,2,3,4,5" in out
    with pytest.raises(ConfigError, match=r"begun with other settings \(differing: num_envs=11 num_envs=13\)"):
        sweep.main([*arguments, "trials=5", "num_envs=13"])


def test_a_trial_below_the_median_is_stopped_early(stand_in, monkeypatch):
    monkeypatch.setattr(sweep, "FIRST", 1)
    sweep.main([*TASK, "algo.actor_num_mini_batch=1", "algo.lr=0.001", "algo.clip_param=0.2", "trials=1", "study=cut"])
    slow, train = RUN.replace("PAUSE", "1"), sweep._train
    monkeypatch.setattr(sweep, "_train", lambda arguments, output: train([*arguments, "algo.actor_num_mini_batch=8"], output, slow))
    sweep.main([*TASK, "algo.actor_num_mini_batch=1", "algo.lr=0.001", "algo.clip_param=0.2", "trials=2", "study=cut"])
    assert [trial.state.name for trial in trials_of("cut")] == ["COMPLETE", "PRUNED"]


def test_a_setting_that_no_trial_could_run_with_ends_the_search(stand_in, monkeypatch):
    monkeypatch.setattr(sweep, "RUNS", Path("elsewhere"))
    train, code = sweep._train, "import sys; print('error: too little memory', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr(sweep, "_train", lambda arguments, output: train(arguments, output, code))
    with pytest.raises(ConfigError, match="3 trials in a row failed; the last: error: too little memory"):
        sweep.main([*TASK, "trials=5"])
    assert len(stand_in) == 3


def test_settings_with_which_a_trial_diverges_do_not_end_the_search(stand_in, monkeypatch, capsys):
    train, diverge = sweep._train, "import sys; print('error: iteration 3: non-finite loss', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr(sweep, "_train", lambda *given: train(*given, *([diverge] if len(stand_in) in (0, 2) else [])))
    sweep.main([*TASK, "algo.actor_num_mini_batch=1", "trials=2", "study=rough"])
    assert [trial.state.name for trial in trials_of("rough")] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert capsys.readouterr().out.count("error: iteration 3: non-finite loss") == 2


@pytest.mark.parametrize("arguments, told", [
    (["algo.lrr=interval(1,2)"], "unknown key algo.lrr; did you mean algo.lr?"),
    (["algo.clip_param=interval(-1,0.3)"], "algo.clip_param=-1"),
    (["algo.lr=interval(1"], "cannot read the command line"),
    (["task=Recal"], "did you mean Recall?"),
    (["eval_every=0"], "write eval_every=10"),
    (["trials=0"], "trials=0"),
    (["algo.lr=1", "algo.clip_param=0.2", "algo.entropy_coef=0", "algo.actor_num_mini_batch=1"], "nothing is left to search"),
])
def test_what_cannot_be_searched_is_said_before_anything_is_written(stand_in, arguments, told):
    with pytest.raises(ConfigError) as error:
        sweep.main([*TASK, *arguments])
    assert told in str(error.value) and not stand_in and not Path("runs").exists()


def test_every_kind_of_actor_step_has_a_space_of_its_own():
    spaces = {algo: set(sweep.search_of([f"algo={algo}"])[0].space) for algo in ("HAPPO", "HAA2C", "HATRPO")}
    assert spaces["HAPPO"] == {"algo.lr", "algo.clip_param", "algo.entropy_coef", "algo.actor_num_mini_batch"}
    assert "algo.clip_param" not in spaces["HAA2C"] and "algo.trust_region.kl_threshold" in spaces["HATRPO"]


def test_two_processes_may_begin_a_study_at_the_same_moment(stand_in, monkeypatch):
    import optuna
    from sqlalchemy.exc import OperationalError

    create, refused = optuna.storages.RDBStorage.__init__, [OperationalError("create table", {}, Exception("it exists"))] * 2

    def create_or_refuse(self, *arguments, **options):
        if refused:
            raise refused.pop()
        create(self, *arguments, **options)

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", create_or_refuse)
    assert sweep.open_study("both", sweep.Search([], {})).study_name == "both" and not refused


def test_a_missing_package_is_one_line(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[sweep\]'"):
        sweep.main(TASK)
