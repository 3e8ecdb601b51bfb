"""The pages build, and what they tell people to type exists: commands, modules, keys, files, extras; the worked example runs."""
from __future__ import annotations

import ast
import configparser
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Set

import pytest
from conftest import compose_raw

from happo_gpu import config
from happo_gpu.config.schema import flatten

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
KEY = r"[a-z][A-Za-z_]*(?:\.[A-Za-z_]+)*"
GROUPS = ["task=Go1Push", "task=Go1Walk", "task=Recall", "sim=mujoco", "sim=mujoco_warp", "sim=isaacgym", "task=PettingZoo", "task=MaMuJoCo",
          "task=IsaacGymEnvs", "task=IsaacLab"]  # every kind of config class


def commands(page: Path) -> List[List[str]]:
    """What a page says to type: lines of fenced bash blocks and of indented ones, as words."""
    fenced = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = "\n".join(fenced).splitlines() + re.findall(r"^    (.+)", page.read_text(), re.M)
    lines += re.findall(r"`((?:python|torchrun) [^`]+)`", page.read_text())
    words = [shlex.split(line, comments=True) for line in lines if re.match(r"(python|srun|torchrun|pip|make) ", line)]
    return [line for line in words if "--algo" not in line]  # HARL's


TYPED = {" ".join(line): (page.name, line) for page in PAGES for line in commands(page)}  # each once: composing takes time


def check(line: List[str]) -> None:
    """Raises where the command does not exist or does not take what follows."""
    if line[0] == "make":
        assert re.search(f"^{line[1]}:", (ROOT / "Makefile").read_text(), re.M)
    elif line[0] == "pip":
        check_extras(line)
    elif "train.py" in line:
        check_training(line[line.index("train.py") + 1:])
    elif line[1] == "-m":
        assert importlib.util.find_spec(line[2]), line[2]
        trains = " ".join(known_keys()) if line[2] == "happo_gpu.sweep" else ""  # which takes what train.py takes
        check_options(line[3:], Path(importlib.util.find_spec(line[2]).origin).read_text() + trains)
    else:
        check_options([word for word in line[2:] if word.startswith("--")], (ROOT / line[1]).read_text())


def check_extras(line: List[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(str(ROOT / "setup.cfg"))
    extras = re.findall(r"\[(.+)\]", line[-1])
    assert set("".join(extras).split(",")) - {""} <= set(setup["options.extras_require"])


def check_training(words: List[str]) -> None:
    """Composed and parsed as the command itself would; of a multirun's values the first."""
    words = [re.sub(r"<[^>]*>", "x", word) for word in words if word != "-m" and not word.startswith("task=<")]
    words = [word if "[" in word else word.split(",")[0].replace("task=Meet", "task=Recall") for word in words]  # Meet is the reader's
    config.parse(compose_raw(*words))


def check_options(words: List[str], source: str) -> None:
    for word in words:
        option = word.split("=")[0]
        assert "=" not in word and not word.startswith("--") or option in source, word


@pytest.mark.parametrize("page, line", TYPED.values(), ids=[f"{page}: {line}" for line, (page, _) in TYPED.items()])
def test_what_a_page_says_to_type_exists(page, line):
    check(line)


@pytest.mark.parametrize("line, error", [
    ("make nonsense", AssertionError), ("pip install -e .[nonsense]", AssertionError), ("python -m happo_gpu.nonsense", AssertionError),
    ("python -m happo_gpu.plot nonsense=3", AssertionError), ("python benchmarks/walk.py --nonsense", AssertionError),
    ("python train.py task.env.nonsense=3", Exception), ("torchrun --standalone train.py num_envs=0", config.ConfigError),
])
def test_the_check_does_catch_what_is_wrong(line, error):
    with pytest.raises(error):
        check(shlex.split(line))


@functools.lru_cache(maxsize=None)
def known_keys() -> Set[str]:
    """Of every group, and of the commands that take options of their own."""
    keys = {"train"}
    for group in GROUPS:
        keys.update(flatten(compose_raw(group)))
    for command in (ROOT / "happo_gpu").glob("*.py"):
        keys.update(re.findall(r"\[([a-z_]+)=", ast.get_docstring(ast.parse(command.read_text())) or ""))
    return keys


@pytest.mark.parametrize("page", PAGES[:-2], ids=lambda page: page.name)
def test_every_key_that_a_page_names_exists(page):
    named = set(re.findall(rf"`({KEY})=[^` ]*`", page.read_text()))
    if page.name == "coming_from.md":  # there | here
        here = re.findall(r"^\|.*\|(.*)\|$", page.read_text(), re.M)
        named = {key for cell in here for key in re.findall(rf"`({KEY})(?:=[^` ]*)?`", cell)}
    assert named <= known_keys(), sorted(named - known_keys())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    named = re.findall(r"`((?:cfg|happo_gpu|benchmarks|docs|examples|tests)/[\w/.]+\.\w+)`", text)
    written = {"happo_gpu/tasks/meet.py", "cfg/task/Meet.yaml", "cfg/train/MeetHAPPO.yaml", "tests/tasks/test_meet.py"}  # by the reader
    missing = [name for name in links if not (page.parent / name).exists()]
    missing += [name for name in named if name not in written and not (ROOT / name).exists()]
    assert not missing


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "site")]
    result = subprocess.run(build, cwd=str(ROOT), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "one decision of the policies" in (tmp_path / "site" / "api.html").read_text()  # VecTask's docstring


def test_the_worked_example_does_what_its_page_says(tmp_path):
    """The page's files and lines in a copy of the package: its test passes, and it learns."""
    for name in ("happo_gpu", "cfg"):
        shutil.copytree(str(ROOT / name), str(tmp_path / name))
    for source, target in (("docs/examples/meet.py", "happo_gpu/tasks"), ("docs/examples/Meet.yaml", "cfg/task"),
                           ("docs/examples/MeetHAPPO.yaml", "cfg/train"), ("train.py", "."), ("tests/conftest.py", "."),
                           ("docs/examples/test_meet.py", ".")):
        shutil.copy(str(ROOT / source), str(tmp_path / target))
    page = (ROOT / "docs" / "own_task.md").read_text()
    row, entry = re.search(r"(TASK_CONFIGS: .* = \{)(.*, )\.\.\.", page).groups()
    imported, table, name = re.search(r"(from .* import Meet\n)\n(SMALL_TASKS = \{)(.*, )\.\.\.", page).groups()
    insert(tmp_path / "happo_gpu/config/tasks.py", row, row + entry)
    insert(tmp_path / "happo_gpu/build.py", table, imported + table + name)
    run = functools.partial(subprocess.run, cwd=str(tmp_path), capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    tested = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_meet.py"])
    assert tested.returncode == 0, tested.stdout
    trained = run([sys.executable, "train.py", "task=Meet", "algo=HAPPO", "num_threads=1", "max_iterations=5"])
    assert trained.returncode == 0, trained.stderr
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    last = json.loads(metrics.read_text().splitlines()[-1])["evaluation"]
    assert last["mean_score"] > 0.85  # 0.67 for who does nothing, 0.95 for the scripted policy


def insert(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))
