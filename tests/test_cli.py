"""What a user types, and the one line that comes back when it is wrong."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ["num_envs=11", "accelerate=eager", "algo.episode_length=3", "algo.actor_num_mini_batch=1",
        "algo.critic_num_mini_batch=1", "task.env.controlFrequencyInv=2", "task.env.episodeLength=20",
        "train.eval_envs=5", "num_threads=1"]


def train(cwd, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=str(cwd), capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    result = train(home, *TINY, "max_iterations=4", "eval_every=2", "save_every=2", "experiment=mine")
    assert result.returncode == 0, result.stdout + result.stderr
    return home, result.stdout


def test_a_run_leaves_what_users_look_for(finished_run):
    home, out = finished_run
    (run_dir,) = (home / "runs").iterdir()
    assert run_dir.name.startswith("mine_")
    assert (run_dir / "config.yaml").is_file() and list((run_dir / "summaries").iterdir())
    names = sorted(path.name for path in (run_dir / "nn").iterdir())
    assert "mine.pth" in names and any(name.startswith("last_mine_ep_4_rew_") for name in names)
    for line in ("fps step: ", "fps step and policy inference: ", "fps total: ", "epoch: 4/4 frames: 264",
                 "saving next best rewards", "=> saving checkpoint '", "MAX EPOCHS NUM!"):
        assert line in out, line


def test_a_checkpoint_is_evaluated_from_another_directory_level(finished_run):
    home, _ = finished_run
    (run_dir,) = (home / "runs").iterdir()
    result = train(home, *TINY, "test=True", f"checkpoint={run_dir.relative_to(home)}/nn/mine.pth")
    assert result.returncode == 0, result.stderr
    assert "=> loading checkpoint '" in result.stdout and "success rate" in result.stdout
    written = json.loads((run_dir / "evaluation.json").read_text())
    for key in ("success_rate", "success_rate_ci95", "finished_time", "collaboration_degree", "collision_rate",
                "mean_return", "final_distance"):
        assert key in written


def test_a_run_is_evaluated_on_another_simulator_and_several_seeds(finished_run):
    home, _ = finished_run
    (run_dir,) = (home / "runs").iterdir()
    result = train(home, "-m", "seed=1,2", "test=True", f"checkpoint={run_dir.relative_to(home)}", "sim=mujoco", "num_envs=3")
    assert result.returncode == 0, result.stderr
    kept = [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text().splitlines()]
    kept = [(each["seed"], each["sim"], each["episodes"]) for each in kept if each["typed"] == ["sim=mujoco"]]
    assert kept == 2 * [(1, "mujoco", 3)] + 2 * [(2, "mujoco", 3)]  # epochs 2 and 4, of which one is the best
    assert result.stdout.count("success [95 %]") == 2 and (run_dir / "evaluations.svg").is_file()


def test_a_small_task_without_a_simulator_is_trained_continued_and_evaluated_without_being_named_again(tmp_path):
    result = train(tmp_path, "task=Recall", "num_envs=11", "train.eval_envs=5", "num_threads=1", "max_iterations=1", "experiment=small")
    assert result.returncode == 0 and "evaluation: return" in result.stdout, result.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    result = train(tmp_path, f"resume={run_dir}", "max_iterations=2")
    assert result.returncode == 0 and "epoch: 2/2" in result.stdout, result.stderr
    result = train(tmp_path, "test=True", f"checkpoint={run_dir}/nn/small.pth")
    assert result.returncode == 0, result.stderr
    written = json.loads((run_dir / "evaluation.json").read_text())
    assert 0.0 <= written["mean_score"] <= 1.0 and "sim" not in written and "score" in result.stdout


def test_a_finished_run_is_continued_by_resume(finished_run):
    home, _ = finished_run
    result = train(home, "resume=auto", "experiment=mine", "max_iterations=5")
    assert result.returncode == 0, result.stderr
    assert "epoch: 5/5" in result.stdout and len(list((home / "runs").iterdir())) == 1


def test_ctrl_c_saves_and_exits_cleanly(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, "max_iterations=100000", "eval_every=0"],
        cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    for line in process.stdout:
        if "epoch: 2/" in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err
    assert "=> saving checkpoint '" in out and "resume=" in out
    assert list(tmp_path.glob("runs/*/nn/last_*.pth"))


def damaged(tmp_path):
    path = tmp_path / "cut.pth"
    path.write_bytes(b"PK\x03\x04 this was a checkpoint once")
    return path


@pytest.mark.parametrize("arguments, told", [
    (["num_env=64"], ["num_env", "did you mean num_envs?"]),
    (["task.env.episodeLenght=3"], ["task.env.episodeLenght", "did you mean task.env.episodeLength?"]),
    (["algo.gama=0.9"], ["did you mean algo.gamma?"]),
    (["task=Go1Pull"], ["task=Go1Pull", "did you mean Go1Push?"]),
    (["algo=HAPO"], ["algo=HAPO", "HAPPO"]),
    (["train=Go1PushHAPP"], ["did you mean Go1PushHAPPO?"]),
    (["num_envs=-5"], ["num_envs=-5", "1 or more"]),
    (["algo.gamma=1.5"], ["algo.gamma=1.5", "0 to 1"]),
    (["algo.clip_param=big"], ["algo.clip_param='big'", "a number"]),
    (["task.env.spawn=anywhere"], ["separated, reference"]),
    (["test=True"], ["checkpoint="]),
    (["test=True", "checkpoint=runs/none.pth"], ["runs/none.pth", "does not exist"]),
    (["test=True", "checkpoint=cut.pth"], ["cut.pth", "damaged"]),
    (["sim_device=cuda:99", "rl_device=cuda:99"], ["cuda:99", "sim_device=cpu"]),
    (["sim_device=gpu"], ["sim_device='gpu'", "cuda:0"]),
    (["resume=runs/none"], ["config.yaml", "resume=runs/none"]),
    (["task.randomize.gravity=[0.5,2]"], ["unknown key task.randomize.gravity"]),
    (["experiment=group/name"], ["experiment=group/name", "without a slash"]),
    (["task=IsaacLab", "algo=MAPPO"], ["task=IsaacLab", "eval_every=0"]),
    (["num_envs=[1"], ["cannot read the command line", "[1"]),
])
def test_bad_input_ends_in_one_clear_line(tmp_path, arguments, told):
    damaged(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = train(tmp_path, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for part in told:
        assert part in lines[0], lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("typed", ["num_envs=13", "algo.model.hidden_sizes=[16,16]"])
def test_a_run_that_is_resumed_with_another_size_ends_in_one_line(finished_run, typed):
    home, _ = finished_run
    result = train(home, "resume=auto", "experiment=mine", "max_iterations=9", typed)
    assert result.returncode == 2 and result.stderr.startswith("error: the checkpoint does not fit (") and result.stderr.count("\n") == 1, result.stderr


def test_an_error_found_while_building_leaves_no_run_behind(tmp_path):
    result = train(tmp_path, *TINY, "+task.randomize.objct_mass=[0.9,1.1]")
    assert result.returncode == 2 and "is no parameter of sim=planar" in result.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_multirun_runs_every_value(tmp_path):
    result = train(tmp_path, "-m", *TINY, "seed=1,2", "max_iterations=1", "eval_every=0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 2
