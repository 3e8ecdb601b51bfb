"""The typed schema: what is accepted, and one-line errors that say what to write."""
from __future__ import annotations

import copy
import dataclasses

import pytest

from conftest import compose_raw
from happo_gpu.config import ConfigError, parse
from happo_gpu.config.schema import flatten, nearest


@pytest.fixture(scope="module")
def composed() -> dict:
    return compose_raw()


@pytest.fixture
def raw(composed) -> dict:
    return copy.deepcopy(composed)


def set_key(raw: dict, path: str, value) -> dict:
    *groups, leaf = path.split(".")
    for group in groups:
        raw = raw[group]
    raw[leaf] = value
    return raw


def refusal(raw: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shipped_config_parses_and_every_number_is_the_yaml_files(raw):
    cfg = parse(raw)
    assert cfg.task.name == "Go1Push" and cfg.algo.name == "HAPPO" and cfg.sim.name == "planar"
    assert cfg.task.env.numEnvs == raw["task"]["env"]["numEnvs"]
    assert cfg.task.object.halfExtents == tuple(raw["task"]["object"]["halfExtents"])
    assert cfg.algo.model.hidden_sizes == tuple(raw["algo"]["model"]["hidden_sizes"])


def test_config_is_read_only(raw):
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(raw).seed = 7


# -- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, message", [
    ("algo.gama", "unknown key algo.gama; did you mean gamma?"),
    ("task.env.episodelength", "unknown key task.env.episodelength; did you mean episodeLength?"),
    ("num_env", "unknown key num_env; did you mean num_envs?"),
    ("sim.stifness", "unknown key sim.stifness; did you mean stiffness?"),
])
def test_unknown_key_names_the_nearest(raw, path, message):
    set_key(raw, path, 1)
    assert refusal(raw) == message


def test_unknown_key_like_no_other_lists_the_known_ones(raw):
    set_key(raw, "task.robot.zzz", 1)
    assert refusal(raw) == "unknown key task.robot.zzz; known: inertia, mass, reach"


def test_nearest_compares_the_last_part_of_nested_names():
    known = ["task", "task.env.numEnvs", "algo.gamma", "algo.model.gain"]
    assert nearest("task.env.numEnv", known) == "did you mean task.env.numEnvs?"
    assert nearest("gama", known) == "did you mean algo.gamma?"


def test_flatten_names_groups_and_leaves():
    assert flatten({"a": 1, "b": {"c": {"d": 2}, "e": 3}}) == ["a", "b", "b.c", "b.c.d", "b.e"]


@pytest.mark.parametrize("path", ["algo.lr", "task.object.mass", "seed", "sim.mass_split"])
def test_missing_key_is_named_with_its_path(raw, path):
    del set_key(raw, path, None)[path.split(".")[-1]]
    assert refusal(raw) == f"missing key {path}: add it to the YAML file or the command line"


def test_number_in_place_of_a_group_is_refused(raw):
    raw["sim"] = 3
    assert refusal(raw) == "sim must be a group of keys, not 3"


# -- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, value, message", [
    ("algo.lr", "fast", "algo.lr='fast' must be a number"),
    ("algo.ppo_epoch", 2.5, "algo.ppo_epoch=2.5 must be a whole number"),
    ("algo.ppo_epoch", True, "algo.ppo_epoch=True must be a whole number"),
    ("algo.lr", True, "algo.lr=True must be a number"),
    ("task.env.teamReward", 1, "task.env.teamReward=1 must be True or False"),
    ("task.env.teamReward", "yes", "task.env.teamReward='yes' must be True or False"),
    ("experiment", True, "experiment=True must be text"),
    ("num_envs", "many", "num_envs='many' must be a whole number"),
    ("num_envs", True, "num_envs=True must be a whole number"),
    ("sim.stiffness", 95.0, "sim.stiffness=95.0 must be a list, e.g. sim.stiffness=[1,2]"),
    ("algo.model.hidden_sizes", [], "algo.model.hidden_sizes=[] must be a list, e.g. algo.model.hidden_sizes=[1,2]"),
    ("algo.model.hidden_sizes", [64, 0.5], "algo.model.hidden_sizes=0.5 must be a whole number"),
    ("task.randomize", [1], "task.randomize=[1] must be a group of keys"),
    ("seed", None, "seed=None must be a whole number"),
])
def test_wrong_type_says_what_was_given_and_what_is_needed(raw, path, value, message):
    set_key(raw, path, value)
    assert refusal(raw) == message


def test_whole_number_is_taken_as_a_float(raw):
    set_key(raw, "algo.max_grad_norm", 10)
    set_key(raw, "sim.stiffness", [95, 87, 13])
    cfg = parse(raw)
    assert cfg.algo.max_grad_norm == 10.0 and type(cfg.algo.max_grad_norm) is float
    assert [type(value) for value in cfg.sim.stiffness] == [float] * 3


def test_experiment_may_be_a_number_and_empty_text_may_be_null(raw):
    raw.update(experiment=42, checkpoint=None)
    cfg = parse(raw)
    assert cfg.experiment == "42" and cfg.checkpoint == ""


# -- ranges and choices -------------------------------------------------------------------------


@pytest.mark.parametrize("path, value, message", [
    ("algo.gamma", 1.01, "algo.gamma=1.01 is out of range; allowed: 0 to 1"),
    ("algo.gamma", -0.1, "algo.gamma=-0.1 is out of range; allowed: 0 to 1"),
    ("algo.lr", 0, "algo.lr=0.0 is out of range; allowed: above 0"),
    ("algo.lr", float("nan"), "algo.lr=nan is out of range; allowed: above 0"),
    ("algo.entropy_coef", -1, "algo.entropy_coef=-1.0 is out of range; allowed: 0 or more"),
    ("algo.ppo_epoch", 0, "algo.ppo_epoch=0 is out of range; allowed: 1 or more"),
    ("task.numAgents", 9, "task.numAgents=9 is out of range; allowed: 1 to 8"),
    ("num_envs", 0, "num_envs=0 is out of range; allowed: 1 or more"),
    ("seed", -2, "seed=-2 is out of range; allowed: -1 or more"),
    ("sim.dt", 0.05, "sim.dt=0.05 is out of range; allowed: 0.0001 to 0.02"),
    ("task.object.halfExtents", [0.6, -0.6, 0.25], "task.object.halfExtents=-0.6 is out of range; allowed: above 0"),
])
def test_number_out_of_range_says_the_range(raw, path, value, message):
    set_key(raw, path, value)
    assert refusal(raw) == message


@pytest.mark.parametrize("path, value", [
    ("algo.gamma", 0.0), ("algo.gamma", 1.0), ("algo.entropy_coef", 0.0), ("seed", -1), ("eval_every", 0),
])
def test_ends_of_a_range_are_allowed(raw, path, value):
    set_key(raw, path, value)
    parse(raw)


@pytest.mark.parametrize("path, value, options", [
    ("algo.time_limit", "bootstap", "bootstrap, mask, terminal"),
    ("task.env.spawn", "Separated", "separated, reference"),
    ("accelerate", "cuda", "auto, eager, compile, graph"),
])
def test_unknown_choice_lists_the_choices(raw, path, value, options):
    set_key(raw, path, value)
    assert refusal(raw) == f"{path}={value!r} is not known; write one of: {options}"


# -- relations between keys ---------------------------------------------------------------------


def test_root_num_envs_wins_over_the_tasks_and_empty_leaves_it(raw):
    raw["task"]["env"]["numEnvs"] = 101
    assert parse(raw).task.env.numEnvs == 101
    raw["num_envs"] = 1009
    assert parse(raw).task.env.numEnvs == 1009


def test_root_cadence_wins_over_the_train_files_one_by_one(raw):
    before = parse(raw).train
    raw.update(max_iterations=13, eval_every=0)
    after = parse(raw).train
    assert after == dataclasses.replace(before, max_iterations=13, eval_every=0)
    assert before.max_iterations != 13 and before.eval_every != 0


def test_episode_must_end_with_a_decision(raw):
    raw["task"]["env"].update(episodeLength=1000, controlFrequencyInv=7)
    assert refusal(raw) == ("task.env.episodeLength=1000 is no multiple of task.env.controlFrequencyInv=7: "
                            "episodes end with a decision")
    raw["task"]["env"].update(controlFrequencyInv=8)
    parse(raw)


@pytest.mark.parametrize("key, value, count", [
    ("commandLimit", [0.5, 0.5], 3), ("spawnRadius", [1.2], 2), ("goalDistance", [1.0, 2.0, 3.0], 2),
])
def test_list_of_the_wrong_length_says_how_many_are_needed(raw, key, value, count):
    raw["task"]["env"][key] = value
    assert refusal(raw) == f"task.env.{key}={value}: {count} numbers are needed"


@pytest.mark.parametrize("factors", [[1.1, 0.9], [0.0, 1.0], [1.0], [0.9, 1.0, 1.1]])
def test_random_factors_must_be_an_ordered_positive_pair(raw, factors):
    raw["task"]["randomize"] = {"object_mass": factors}
    assert refusal(raw).startswith("task.randomize.object_mass=[")
    assert refusal(raw).endswith("write two factors, 0 < low <= high")


def test_equal_random_factors_and_none_at_all_are_allowed(raw):
    raw["task"]["randomize"] = {"object_mass": [1.5, 1.5]}
    assert parse(raw).task.randomize == {"object_mass": (1.5, 1.5)}
    raw["task"]["randomize"] = {}
    assert parse(raw).task.randomize == {}


@pytest.mark.parametrize("easiest, message", [
    ({"goalDistance": [1.3, 1.1]}, "task.curriculum.easiest.goalDistance=[1.3, 1.1]: write two numbers, 0 < low <= high"),
    ({"object_mass": [0.5, 0.6]}, "task.curriculum.easiest.object_mass: no reset draws it; drawn are: object_friction, goalDistance, "
                                  "what +task.randomize.<parameter>=[low,high] adds"),
])
def test_a_curriculum_is_of_ordered_pairs_of_what_resets_draw(raw, easiest, message):
    raw["task"]["curriculum"]["easiest"] = easiest
    assert refusal(raw) == message


def test_planned_ways_have_no_curriculum_of_goals(raw):
    raw["task"].update(goal="sequence", randomize={})
    raw["task"]["curriculum"]["easiest"] = {"goalDistance": [1.1, 1.3]}
    assert "goalDistance: no reset draws it; drawn are: what" in refusal(raw)


def test_an_agent_can_be_blind_to_known_inputs_only_and_must_exist(raw):
    raw["task"]["env"]["blind"] = {"agent_1": ["gaol"]}
    assert refusal(raw) == "task.env.blind.agent_1='gaol' is not known; write one of: goal, box_yaw, partner"
    raw["task"]["env"]["blind"] = {"agent_2": ["goal"]}
    assert refusal(raw) == "task.env.blind.agent_2: the task has no such agent; write one of: agent_0, agent_1"
    raw["task"]["env"]["blind"] = {"agent_1": ["goal"]}
    assert parse(raw).task.env.blind == {"agent_1": ("goal",)}


@pytest.mark.parametrize("parts, message", [
    ([[0.0, 0.0, 0.5]], "task.object.parts=[0.0, 0.0, 0.5]: 4 numbers are needed"),
    ([0.5, 0.5], "task.object.parts=0.5 must be a list, e.g. task.object.parts=[1,2]"),
    (0.5, "task.object.parts=0.5 must be a list of lists, e.g. task.object.parts=[[1,2]]"),
])
def test_parts_of_an_object_are_lists_of_four_numbers(raw, parts, message):
    raw["task"]["object"]["parts"] = parts
    assert refusal(raw) == message


def test_a_round_object_has_no_parts(raw):
    raw["task"]["object"].update(parts=[[0, 0, 0.5, 0.5]], round=True)
    assert refusal(raw).endswith("write task.object.parts=[]")


def test_another_robot_must_be_an_agent_of_the_task_and_on_legs_or_wheels(raw):
    other = {"drive": "wheels", "mass": 5, "inertia": 0.1, "reach": 0.2}
    raw["task"]["otherRobots"] = {"agent_2": other}
    assert refusal(raw) == "task.otherRobots.agent_2: the task has no such agent; write one of: agent_0, agent_1"
    raw["task"]["otherRobots"] = {"agent_1": {**other, "drive": "wings"}}
    assert refusal(raw) == "task.otherRobots.agent_1.drive='wings' is not known; write one of: legs, wheels"


def test_shared_actor_with_compounding_factor_is_refused(raw):
    raw["algo"]["model"]["share_param"], raw["algo"]["compound_factor"] = True, True
    assert "write algo=MAPPO to share one" in refusal(raw)


def test_more_mini_batches_than_samples_are_refused(raw):
    raw["num_envs"], raw["algo"]["episode_length"] = 1, 5
    raw["algo"].update(actor_num_mini_batch=5, critic_num_mini_batch=6)
    assert refusal(raw) == "algo.critic_num_mini_batch=6 is more than the 5 samples of an iteration"
    parse({**raw, "test": True})  # to act it needs none
    raw["algo"]["critic_num_mini_batch"] = 5
    parse(raw)
