"""Policies that leave the project act as they did inside it, and the card says what their columns are."""
from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from conftest import CPU, compose_raw

from happo_gpu import build, checkpoint, config, export
from happo_gpu.command import run
from happo_gpu.sim import locomotion
from happo_gpu.tasks import crew
from happo_gpu.types import split_choices, split_obs, to_commands

ROOT = Path(__file__).resolve().parent.parent
N = 7  # environments
RUNS = {
    "Go1Push": ["task=Go1Push", "task.numAgents=3", "task.env.controlFrequencyInv=2", "task.env.episodeLength=22",
                "task.env.clipActions=1.5", "task.env.commandLimit=[0.3,0.5,0.7]", "algo.model.normalize_input=true"],
    "Shared": ["task=Go1Push", "algo=MAPPO", "algo.model.share_param=true", "algo.model.recurrent=naive",
               "task.env.observation=reference", "task.env.controlFrequencyInv=2", "task.env.episodeLength=22"],
    "Spread": ["task=Spread", "algo.model.use_feature_normalization=true", "algo.model.use_layer_norm=true"],
    "Harvest": ["task=Harvest", "algo.model.normalize_input=true"],
    "Crew": ["task=Crew", "algo.model.recurrent=chunked", "algo.model.data_chunk_length=5", "algo.model.recurrent_n=2",
             "algo.model.normalize_input=true"],
    "Recall": ["task=Recall"],
}


def untrained_run(folder, *overrides):
    """A run directory as training leaves it, its policy large random weights; the learner, and the checkpoint's path."""
    raw = compose_raw("algo.model.hidden_sizes=[11,13]", *overrides)
    cfg = config.parse(raw)
    learner = build.build_learner(cfg, build.build_task(cfg, N, CPU, "eager"), CPU, 0)
    for actor in learner.actors:
        for parameter in actor.parameters():
            parameter.data.normal_(0.0, 0.5)
        if cfg.algo.model.normalize_input:
            actor.norm.update(3.0 + 2.0 * torch.randn(101, actor.norm.mean.numel()))
    path = folder / "nn" / "mine.pth"
    checkpoint.save(path, {"learner": learner.state_dict(), "epoch": 5})
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    return cfg, learner, path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """name -> config, learner, run directory; each exported once."""
    done = {}

    def get(name):
        if name not in done:
            torch.manual_seed(5)
            run_dir = tmp_path_factory.mktemp(name)
            cfg, learner, path = untrained_run(run_dir, *RUNS[name])
            export.export(path, run_dir / "export")
            done[name] = cfg, learner, run_dir
        return done[name]

    return get


def card_of(run_dir):
    return json.loads((run_dir / "export" / "card.json").read_text())


# -- the round trip ------------------------------------------------------------------------------


def onnx_runner(folder, entry):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(folder / entry["onnx"]), providers=["CPUExecutionProvider"])
    for ports, given in ((entry["inputs"], session.get_inputs()), (entry["outputs"], session.get_outputs())):
        assert [(port["name"], port["shape"]) for port in ports] == [(port.name, port.shape) for port in given]
    return lambda inputs: [torch.from_numpy(out) for out in session.run(None, {name: x.numpy() for name, x in inputs.items()})]


def torchscript_runner(folder, entry):
    module = torch.jit.load(str(folder / entry["torchscript"]))
    return lambda inputs: module(*inputs.values())


def applied(task, actions):
    """What the task makes of actions (N, U)."""
    if task.sim is None and not hasattr(task, "velocity"):
        return actions
    task.pre_physics_step(actions)
    return task.commands.flatten(1) if task.sim else task.velocity


@pytest.mark.parametrize("name", list(RUNS))
@pytest.mark.parametrize("runner", [onnx_runner, torchscript_runner])
def test_a_file_commands_what_the_policy_and_the_task_would(exported, name, runner):
    if runner is onnx_runner:
        pytest.importorskip("onnx")
    cfg, learner, run_dir = exported(name)
    task, policy = build.build_task(cfg, N, CPU, "eager"), learner.policy(N, deterministic=True)
    task.reset()
    agents = card_of(run_dir)["agents"]
    files = [runner(run_dir / "export", entry) for entry in agents]
    memory = [torch.zeros(hidden.shape) for hidden in policy.hidden]
    for step in range(3):
        obs = 3.0 + 4.0 * torch.randn(N, task.num_obs)
        wanted = applied(task, policy.act(obs, task.available_buf, torch.full((N,), step == 0))[0])
        menus = split_choices(task.available_buf, task.agents) if task.available_buf is not None else None
        got = []
        for i, seen in enumerate(split_obs(obs, task.agents)):
            inputs = {"obs": seen, **({"available": menus[i]} if menus else {}), **({"hidden": memory[i]} if memory else {})}
            assert list(inputs) == [port["name"] for port in agents[i]["inputs"]]
            action, *after = files[i](inputs)
            if memory:
                torch.testing.assert_close(after[0], policy.hidden[i], rtol=0.0, atol=1e-5)
                memory[i] = after[0]
            got.append(action.to(torch.float32))
        torch.testing.assert_close(torch.cat(got, -1), wanted, rtol=0.0, atol=1e-5)


def test_commands_are_clamped_and_some_are_not(exported):
    """Or the test above would not see the limits."""
    cfg, learner, run_dir = exported("Go1Push")
    entry = card_of(run_dir)["agents"][1]
    (command,) = torchscript_runner(run_dir / "export", entry)({"obs": 3.0 + 4.0 * torch.randn(101, 14)})
    limit = torch.tensor([0.3, 0.5, 0.7])
    at_limit = torch.isclose(command.abs(), limit)
    assert command.shape == (101, 3) and bool((command.abs() <= limit + 1e-6).all())
    assert bool(at_limit.any(0).all()) and bool((~at_limit).any(0).all())


# -- the card ------------------------------------------------------------------------------------


def test_the_card_tells_rates_ports_and_limits(exported):
    card = card_of(exported("Go1Push")[2])
    assert (card["task"], card["algo"], card["checkpoint"], card["epoch"]) == ("Go1Push", "HAPPO", "mine.pth", 5)
    assert card["control_period_s"] == 0.02 and card["control_steps_per_decision"] == 2 and card["decision_rate_hz"] == 25.0
    assert card["config"]["algo"]["model"]["hidden_sizes"] == [11, 13]
    assert [agent["name"] for agent in card["agents"]] == ["agent_0", "agent_1", "agent_2"]
    named = [(action["name"], action["unit"]) for action in card["agents"][2]["actions"]]
    assert named == [("velocity_x_b", "m/s"), ("velocity_y_b", "m/s"), ("yaw_rate", "rad/s")]
    for action, limit in zip(card["agents"][2]["actions"], (0.3, 0.5, 0.7)):
        assert action["limits"] == pytest.approx([-limit, limit])


def test_the_card_of_a_task_without_a_simulator_counts_steps_and_choices(exported):
    card = card_of(exported("Crew")[2])
    assert card["control_period_s"] is None and card["decision_rate_hz"] is None
    aim, tune, settings = card["agents"]
    assert aim["actions"] == [{"name": "point_x", "unit": "1", "limits": None}, {"name": "point_y", "unit": "1", "limits": None}]
    assert tune["actions"] == [{"name": "channel", "unit": "index", "choices": 4}]
    assert [action["choices"] for action in settings["actions"]] == [3, 2]
    assert settings["inputs"][1] == {"name": "hidden", "shape": ["B", 2, 13], "dtype": "float32"}
    assert settings["outputs"][0] == {"name": "choice", "shape": ["B", 2], "dtype": "int64"}


@pytest.mark.parametrize("observation", ["default", "reference"])
def test_observation_names_stand_for_their_columns(observation):
    cfg = config.parse(compose_raw("task=Go1Push", "task.numAgents=3", f"task.env.observation={observation}"))
    task = build.build_task(cfg, 1, CPU, "eager")
    task.reset()
    robots = torch.tensor([[[1.0, 2.0, 0.5 * math.pi], [-3.0, 0.0, 0.0], [0.0, 5.0, math.pi]]])
    task.sim.reset(torch.tensor([True]), robots, torch.tensor([[[0.0, 0.0, 0.7 * math.pi]]]))
    task.goal.copy_(torch.tensor([[3.0, 7.0]]))
    seen = split_obs(task.compute_observations()[0], task.agents)
    first, second, _ = ({quantity.name: float(value) for quantity, value in zip(names, values)}
                     for names, values in zip(task.observation_names(), seen))
    wanted = {"goal_x_b": 5.0, "goal_y_b": -2.0, "box_x_b": -2.0, "box_y_b": 1.0,  # robot 0 looks along y
              "agent_2_x_b": 3.0, "agent_2_y_b": 1.0, "agent_1_x_b": -2.0, "agent_1_y_b": 4.0}
    if observation == "default":
        wanted.update({"cos(4*box_yaw_b)": math.cos(0.8 * math.pi), "sin(4*box_yaw_b)": math.sin(0.8 * math.pi),
                       "cos(agent_2_yaw_b)": 0.0, "sin(agent_2_yaw_b)": 1.0, "cos(agent_1_yaw_b)": 0.0, "sin(agent_1_yaw_b)": -1.0})
    else:
        wanted.update({"box_yaw_b": 0.2 * math.pi, "agent_2_yaw_b": 0.5 * math.pi, "agent_1_yaw_b": 1.5 * math.pi})
    assert first == pytest.approx(wanted, abs=1e-5)
    assert (second["agent_0_x_b"], second["agent_0_y_b"]) == pytest.approx((4.0, 2.0), abs=1e-5)
    units = {quantity.name: quantity.unit for quantity in task.observation_names()[0]}
    assert units["goal_x_b"] == "m" and units.get("box_yaw_b", "rad") == "rad" and units.get("cos(4*box_yaw_b)", "1") == "1"


@pytest.mark.parametrize("name", ["Go1Push", "Go1Walk", "Spread", "Harvest", "Recall", "Crew"])
def test_every_column_has_a_name_of_its_own(name):
    if name == "Go1Walk":
        pytest.importorskip("mujoco")
    task = build.build_task(config.parse(compose_raw(f"task={name}", *["sim=mujoco"] * (name == "Go1Walk"))), 1, CPU, "eager")
    for agent, seen, done in zip(task.agents, task.observation_names(), task.action_names()):
        assert len(seen) == len({quantity.name for quantity in seen}) == agent.num_obs
        assert len(done) == len({command.name for command in done}) == agent.num_actions
        assert not any(quantity.name.startswith("obs_") for quantity in seen)
    assert len(task.observation_names()) == len(task.action_names()) == len(task.agents)


def test_a_task_that_names_nothing_gets_numbers(monkeypatch):
    for method in ("observation_names", "action_names"):
        monkeypatch.delattr(crew.Crew, method)
    task = build.build_task(config.parse(compose_raw("task=Crew")), 1, CPU, "eager")
    assert [quantity.name for quantity in task.observation_names()[2]] == ["obs_0", "obs_1", "obs_2", "obs_3"]
    assert [command.name for command in task.action_names()[2]] == ["action_0", "action_1"]


def test_a_crew_sees_the_readings_that_its_names_say():
    task = build.build_task(config.parse(compose_raw("task=Crew")), N, CPU, "eager")
    task.reset()
    for names, values in zip(task.observation_names(), split_obs(task.obs_buf, task.agents)):
        for quantity, column in zip(names, values.unbind(-1)):
            assert torch.equal(column, task.readings[:, crew.READINGS.index(quantity.name)]), quantity


def test_a_walker_adds_its_commands_to_the_gait():
    pytest.importorskip("mujoco")
    task = build.build_task(config.parse(compose_raw("task=Go1Walk", "sim=mujoco")), 1, CPU, "eager")
    actions = 5.0 * torch.randn(1, 12)
    task.pre_physics_step(actions)
    clip, scale = (torch.tensor([getattr(command, key) for command in task.action_names()[0]]) for key in ("clip", "scale"))
    torch.testing.assert_close(task.targets[:, 0] - task.gait.joints(task.phase[:, 0]), to_commands(actions, clip, scale))


def test_an_exported_walker_walks_in_the_simulators_as_in_its_task(tmp_path):
    for package in ("mujoco", "onnx"):
        pytest.importorskip(package)
    cfg, learner, path = untrained_run(tmp_path, "task=Go1Walk", "task.gait.frequency=3.5", "algo.model.normalize_input=true")
    export.export(path, tmp_path / "export")
    walker = locomotion.load(tmp_path / "export" / "robot.onnx", (N, 1), 0.02, CPU)
    task, policy = build.build_task(cfg, N, CPU, "eager"), learner.policy(N, deterministic=True)
    first = torch.ones(N, dtype=torch.bool)
    for _ in range(3):  # what it sees includes what it did
        senses = locomotion.Senses(*(torch.randn(N, 1, size) for size in (3, 3, 3, 12, 12)))
        command, phase = torch.randn(N, 1, 3), walker.gait.advance(walker.phase, 0.02)
        task.phase.copy_(phase)
        seen = locomotion.observe(senses, task.action.unsqueeze(1), command, phase)
        task.pre_physics_step(policy.act(seen.squeeze(1), None, first)[0])
        torch.testing.assert_close(walker.targets(senses, command), task.targets, atol=1e-5, rtol=1e-5)


# -- the command ---------------------------------------------------------------------------------


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    run(export.main, export.__doc__)


@pytest.fixture
def recall_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    untrained_run(tmp_path / "runs" / "mine", *RUNS["Recall"])
    return tmp_path / "runs" / "mine"


def test_files_go_to_the_run_unless_another_directory_is_named(recall_run, monkeypatch, capsys):
    pytest.importorskip("onnx")
    run_main(monkeypatch, "checkpoint=runs/mine/nn/mine.pth")
    names = sorted(path.name for path in (recall_run / "export").iterdir())
    assert names == ["card.json", "colour.onnx", "colour.pt", "side.onnx", "side.pt"]
    assert "=> writing 'runs/mine/export'" in capsys.readouterr().out
    run_main(monkeypatch, "checkpoint=runs/mine/nn/mine.pth", "output=robots/one")
    assert sorted(path.name for path in Path("robots/one").iterdir()) == names


@pytest.mark.parametrize("arguments, told", [
    (["checkpoint="], ["checkpoint=runs/<run>"]),
    (["checkpoint=runs/none.pth"], ["runs/none.pth", "does not exist"]),
    (["checkpoint=runs/mine/nn/cut.pth"], ["cut.pth", "damaged"]),
    (["checkpoint=moved.pth"], ["config.yaml", "where its run left it"]),
    (["checkpoint=other/nn/mine.pth"], ["does not fit"]),
    (["checkpoint=scrap/nn/mine.pth"], ["scrap/config.yaml", "damaged"]),
    (["checkpont=runs/mine/nn/mine.pth"], ["did you mean checkpoint?"]),
    (["checkpoint=runs/mine/nn/mine.pth", "output=moved.pth"], ["output=moved.pth", "another directory"]),
])
def test_bad_input_ends_in_one_clear_line_and_nothing_is_written(recall_run, monkeypatch, capsys, tmp_path, arguments, told):
    whole = (recall_run / "nn" / "mine.pth").read_bytes()
    (recall_run / "nn" / "cut.pth").write_bytes(whole[:len(whole) // 2])
    Path("moved.pth").write_bytes(whole)
    for folder, text in (("other", (recall_run / "config.yaml").read_text().replace("- 13", "- 17")), ("scrap", "a: [1")):
        Path(folder, "nn").mkdir(parents=True)
        Path(folder, "nn", "mine.pth").write_bytes(whole)
        Path(folder, "config.yaml").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_main(monkeypatch, *arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    assert all(part in lines[0] for part in told), lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_without_onnx_the_rest_is_written_and_a_line_says_what_to_install(recall_run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)  # its import fails
    run_main(monkeypatch, "checkpoint=runs/mine/nn/mine.pth")
    assert sorted(path.name for path in (recall_run / "export").iterdir()) == ["card.json", "colour.pt", "side.pt"]
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "onnx" in line and "pip install" in line
    assert [agent["onnx"] for agent in card_of(recall_run)["agents"]] == [None, None]


def test_an_export_that_fails_halfway_leaves_the_last_one_as_it_was(recall_run, monkeypatch):
    run_main(monkeypatch, "checkpoint=runs/mine/nn/mine.pth")
    before = {path: path.read_bytes() for path in (recall_run / "export").iterdir()}
    whole = export.torchscript_bytes

    def breaks(policy):
        if policy.agent.name == "side":
            raise RuntimeError("no more")
        return whole(policy)

    monkeypatch.setattr(export, "torchscript_bytes", breaks)
    untrained_run(recall_run, *RUNS["Recall"])  # other weights
    with pytest.raises(RuntimeError):
        run_main(monkeypatch, "checkpoint=runs/mine/nn/mine.pth")
    assert {path: path.read_bytes() for path in (recall_run / "export").iterdir()} == before


# -- the example ---------------------------------------------------------------------------------


def deploy(folder, *arguments):
    return subprocess.run([sys.executable, str(ROOT / "examples" / "deploy.py"), str(folder), *arguments],
                          capture_output=True, text=True, timeout=120)


def test_exported_policies_push_without_torch_in_their_process(exported):
    """Recurrent ones, too. The example asserts by itself that its process has not imported torch."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    result = deploy(exported("Shared")[2] / "export", "--episodes", "2", "--fast")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "episode 2: out of time after 0.44 s" in result.stdout  # 22 control steps
    assert "of 22\n" in result.stdout  # a decision every other control step
    assert "median" in result.stdout and "p99" in result.stdout and "missed deadlines" in result.stdout


def test_the_example_says_what_it_cannot_drive(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    for folder, told in ((tmp_path, "card.json"), (exported("Recall")[2] / "export", "task=Recall")):
        result = deploy(folder)
        (line,) = result.stderr.strip().splitlines()
        assert result.returncode == 2 and line.startswith("error: ") and told in line
