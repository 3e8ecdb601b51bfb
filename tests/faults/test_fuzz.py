"""Whatever is typed, the answer is a config or one line; never a traceback."""
from __future__ import annotations

import copy

import pytest
from conftest import compose_raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from happo_gpu.config import Config, ConfigError, parse

JUNK = st.sampled_from([
    0, 1, -1, 7, 2**31, 2**63, -(10**400), 10**400, 0.5, 1e-30, 1e300, float("nan"), float("inf"), float("-inf"), True, False, None,
    "", "auto", "HATRPO", "rollback", "Recall", "mujoco", "a\nb", "1e5", "${seed}", [], {}, [1], [[1]], {"name": [1]}, {1: 2}, {None: [1, 2]},
])
VALUES = st.one_of(JUNK, st.integers(), st.floats(), st.text(max_size=5), st.lists(JUNK, max_size=3),
                   st.dictionaries(st.text(max_size=3), JUNK, max_size=2))
EDITS = st.lists(st.tuples(st.sampled_from(["set", "set", "add", "delete"]), st.integers(0, 255), VALUES), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def composed():
    return [compose_raw(*overrides) for overrides in (
        (), ("task=Recall",), ("task=Go1Walk", "sim=mujoco"), ("algo=MAPPO",), ("algo.model.recurrent=chunked", "+task.randomize.object_mass=[0.5,2]"))]


def places(raw):
    """Every key of nested data, with the group that it is in."""
    for key, value in raw.items():
        yield raw, key
        if isinstance(value, dict):
            yield from places(value)


def edit(raw, kind, number, value):
    """Sets, deletes or adds one key somewhere in nested data; a copy of `value`, for the next edit may be made inside it."""
    value = copy.deepcopy(value)
    everywhere = list(places(raw))
    if not everywhere:
        return
    group, key = everywhere[number % len(everywhere)]
    if kind == "delete":
        del group[key]
    elif kind == "set":
        group[key] = value
    else:
        group["new" if isinstance(value, (dict, list)) else value] = value


@settings(max_examples=2200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 4), edits=EDITS)
def test_any_config_is_parsed_or_refused_in_one_line(composed, which, edits):
    raw = copy.deepcopy(composed[which])
    for each in edits:
        edit(raw, *each)
    try:
        assert isinstance(parse(raw), Config)
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) > 5
