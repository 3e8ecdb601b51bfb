"""Curves are worth less than training: what cannot be written any more is given up in one line."""
from __future__ import annotations

import errno
import sys

from happo_gpu.log import Logger

RECORD = {"epoch": 1, "max_epochs": 3, "frames": 7, "train_seconds": 0.5, "performance/step_fps": 1.0,
          "performance/step_inference_fps": 1.0, "performance/step_inference_rl_update_fps": 1.0}


def warnings(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]


def test_a_full_disk_under_the_metrics_is_one_line(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logger = Logger.__new__(Logger)
    logger._run_dir, logger._sinks, logger._board = tmp_path, [], None
    logger._jsonl = (tmp_path / "metrics.jsonl").open("w")
    for _ in range(3):
        logger.iteration(RECORD)
    logger.close()
    (line,) = warnings(capsys)
    assert "metrics.jsonl is no longer written" in line and "No space left" in line and "training goes on" in line


def test_a_tensorboard_that_fails_is_one_line_and_no_traceback(tmp_path, capsys):
    logger = Logger(tmp_path, [])

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    logger._board._get_file_writer().event_writer._async_writer._worker._record_writer.write = full
    for _ in range(3):
        logger.iteration(RECORD)
        logger.flush()
    logger.close()
    captured = capsys.readouterr()
    assert captured.out.count("warning: TensorBoard is no longer written") == 1 and captured.err == ""
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_missing_tensorboard_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logger = Logger(tmp_path, [])
    logger.iteration(RECORD)
    logger.close()
    assert len(warnings(capsys)) == 1
