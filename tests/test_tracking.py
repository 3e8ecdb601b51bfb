"""Weights & Biases: what arrives, and a run that goes on whatever happens there."""
from __future__ import annotations

import json
import struct
import sys
import time
from types import SimpleNamespace

import pytest

from conftest import compose_config
from happo_gpu.tracking import WandbRun

RECORD = {"epoch": 3, "frames": 1155, "train_seconds": 2.5, "losses/a_loss/agent_1": -0.25, "Episode/success": 0.5}
EVALUATION = {"epoch": 3, "frames": 1155, "train_seconds": 2.5, "success_rate": 0.75, "success_rate_ci95": [0.5, 0.875], "mean_return": -7.0}


def records_of(path):
    """The records of a .wandb file, once wandb's own process has written the last of them."""
    end = time.monotonic() + 120.0
    while True:
        records = list(records_so_far(path))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < end, [record.WhichOneof("record_type") for record in records]
        time.sleep(0.1)


def records_so_far(path):
    """The protobuf records of a file with a header of 7 bytes, then LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header fits into the rest of a block
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + 7 + length > len(data):  # still being written
            return
        part += data[at + 7: at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def test_tags_config_and_evaluations_arrive_in_an_offline_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb: pip install -e '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cfg = compose_config("wandb_activate=True", "wandb_project=pushing", "wandb_group=five seeds", "algo.gamma=0.875")
    run_dir = tmp_path / "mine_2026"
    run_dir.mkdir()
    run = WandbRun(cfg, run_dir, seed=11)
    run.iteration(RECORD)
    run.evaluation(EVALUATION)
    run.close()
    (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    history, config, about = {}, {}, None
    for record in records_of(path):
        for item in record.history.item:
            history[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        for item in (*record.run.config.update, *record.config.update):
            config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        about = record.run if record.WhichOneof("record_type") == "run" else about
    assert (about.project, about.run_group, about.display_name, about.run_id) == ("pushing", "five seeds", "mine_2026", "mine_2026")
    assert history["losses/a_loss/agent_1"] == -0.25 and history["Episode/success"] == 0.5 and history["_step"] == 1155
    assert history["evaluation/success_rate"] == 0.75 and history["evaluation/mean_return"] == -7.0
    assert config["seed"] == 11 and config["algo"]["gamma"] == 0.875 and config["task"]["name"] == "Go1Push"


def test_a_resumed_run_goes_on_under_the_same_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb: pip install -e '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cfg, run_dir = compose_config("wandb_activate=True"), tmp_path / "mine 2026"
    run_dir.mkdir()
    for frames in (1155, 1540):
        run = WandbRun(cfg, run_dir, seed=11)
        run.iteration({**RECORD, "frames": frames})
        run.close()
    seen = []  # by upload: each part's id and steps
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        records = records_of(path)
        ids = {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"}
        items = [item for record in records for item in record.history.item]
        seen.append((ids, [json.loads(item.value_json) for item in items if (item.key or ".".join(item.nested_key)) == "_step"]))
    assert seen == [({"mine_2026"}, [1155]), ({"mine_2026"}, [1540])]


def test_a_missing_package_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = WandbRun(compose_config("wandb_activate=True"), tmp_path, seed=11)
    run.iteration(RECORD)
    run.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: ") and "pip install -e '.[wandb]'" in line


def test_a_service_that_fails_is_told_once_and_left_alone(tmp_path, monkeypatch, capsys):
    asked = []

    def log(values, step):
        asked.append(step)
        raise ConnectionError("gone")

    service = SimpleNamespace(init=lambda **_: SimpleNamespace(log=log), Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", service)
    run = WandbRun(compose_config("wandb_activate=True"), tmp_path, seed=11)
    for _ in range(3):
        run.iteration(RECORD)
    run.close()
    assert asked == [1155] and capsys.readouterr().out.count("warning: ") == 1
