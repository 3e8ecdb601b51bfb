"""The display of a terminal, read as text, and the lines that everything else gets."""
from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from happo_gpu import build, console, dashboard

RECORD = {
    "epoch": 3, "max_epochs": 13, "frames": 2_310_000, "train_seconds": 65.0, "wall_time": 1000.0,
    "performance/step_fps": 345198.0, "performance/step_inference_fps": 322699.0,
    "performance/step_inference_rl_update_fps": 201648.0, "losses/c_loss": 0.5, "losses/a_loss": -0.1, "losses/entropy": 3.0,
    "losses/a_loss/dog": -0.0192, "losses/entropy/dog": 3.168, "info/kl/dog": 0.1095, "info/clip_fraction/dog": 0.455,
    "losses/a_loss/cart": -0.1189, "losses/entropy/cart": 2.7, "info/kl/cart": 0.0234, "info/clip_fraction/cart": 0.277,
    "Episode/return": -94.074, "Episode/success": 0.123,
}
EVALUATION = {"train_seconds": 60.0, "frames": 2e6, "mean_return": -34.07, "success_rate": 0.93,
              "success_rate_ci95": [0.8625, 0.9657], "finished_time": 9.2}


def text_of(record, evaluation=EVALUATION, width=80):
    out = Console(file=io.StringIO(), width=width)
    out.print(dashboard.picture(record, evaluation, 75.0, Path("runs/mine")))
    return out.file.getvalue()


def a_display(width=80):
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    return dashboard.Dashboard(Path("runs/mine"), out), out.file


def test_the_display_shows_every_figure_beside_its_name():
    text = text_of(RECORD)
    for line in (r"epoch 3/13 .* 2.3 M frames, trained 1:05, left 1:15", r"step 345,198 +\+inference 322,699 +total 201,648",
                 r"training +evaluation after 60 s", r"return +-94\.074 +-34\.070", r"success +12\.3 % +93\.0 % \[86\.2, 96\.6\]",
                 r"policy loss +entropy +KL, approx\. +clip fraction", r"dog +-0\.0192 +3\.168 +0\.1095 +0\.455",
                 r"cart +-0\.1189 +2\.700 +0\.0234 +0\.277", r"critic loss 0\.5000 +memory [\d,]+ MB", r"runs/mine"):
        assert re.search(line, text), line + "\n" + text
    assert max(map(len, text.splitlines())) <= 80


def test_memory_is_the_process_s_and_where_there_is_a_gpu_also_its_whichever_the_run_chose(monkeypatch):
    assert re.search(r"memory [\d,]+ MB at most", text_of(RECORD))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (0, 3001 * 2**20)[device])
    assert re.search(r"memory [\d,]+ MB   GPU 3,001 MB at most", text_of(RECORD))


def test_figures_that_a_run_does_not_have_leave_no_hole():
    lacking = ("clip_fraction", "success", "return")
    text = text_of({tag: value for tag, value in RECORD.items() if not any(word in tag for word in lacking)}, evaluation={})
    assert "clip fraction" not in text and "success" not in text and "entropy" in text


def test_a_narrow_terminal_wraps_no_line():
    assert len(text_of(RECORD, width=40).splitlines()) == len(text_of(RECORD).splitlines())


def test_printed_lines_scroll_above_and_the_terminal_is_left_as_it_was(monkeypatch):
    shown, out = a_display()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    before = sys.stdout
    shown.iteration(RECORD)
    shown.evaluation(EVALUATION)
    shown.iteration({**RECORD, "epoch": 4, "wall_time": 1007.0})
    shown.close()
    written = out.getvalue()
    assert "evaluation: success 93.0 %" in written and written.rindex("evaluation: success") < written.rindex("critic loss")
    assert "left 1:03" in written  # nine iterations of seven seconds
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1 and sys.stdout is before  # the cursor


def test_drawing_takes_a_hundredth_of_the_time_at_most(monkeypatch):
    shown, _ = a_display()
    clock, drawn = [0.0], []

    def draw():
        drawn.append(clock[0])
        clock[0] += 0.5

    monkeypatch.setattr(dashboard.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(shown, "_draw", draw)
    for _ in range(1000):
        shown.iteration(RECORD)
        clock[0] += 0.25
    shown.close()
    assert 4 <= len(drawn) <= 9 and min(b - a for a, b in zip(drawn[1:-1], drawn[2:-1])) >= 50.0


@pytest.mark.parametrize("terminal, term, rich, chosen", [
    (False, "xterm", True, console.Lines), (True, "dumb", True, console.Lines),
    (True, "xterm", False, console.Lines), (True, "xterm", True, dashboard.Dashboard),
])
def test_only_a_terminal_with_rich_has_a_display(monkeypatch, terminal, term, rich, chosen):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    if not rich:
        monkeypatch.setitem(sys.modules, "happo_gpu.dashboard", None)
    assert type(build.build_console(Path("runs/mine"))) is chosen
