"""The import layers and fences of the design: who may know whom."""
from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Set, Tuple

import pytest

import happo_gpu

PACKAGE = Path(happo_gpu.__file__).parent
# module prefix -> prefixes of happo_gpu that it may import, besides its own package
BASE = {"config", "types", "geometry", "loops"}
LAYERS: List[Tuple[str, Set[str]]] = [
    ("config", set()), ("saved", {"config"}), ("process", set()), ("signals", set()), ("isaac", {"config"}), ("types", set()), ("geometry", set()), ("loops", set()),
    ("sim", BASE | {"threads"}), ("nets", BASE | {"distributed"}), ("distributed", BASE), ("kept", set()), ("captured", BASE),
    ("threads", set()), ("lanes", BASE | {"kept", "threads"}), ("accelerate", BASE | {"captured", "lanes", "threads"}),
    ("outside.worker", set()), ("outside", BASE),
    ("tasks", BASE | {"sim.base", "sim.locomotion", "outside"}),
    ("data", BASE),
    ("algo", BASE | {"nets", "data", "distributed"}),
    ("precision", BASE | {"nets", "algo.batch", "accelerate"}),
    ("checkpoint", BASE), ("log", BASE | {"distributed"}), ("evaluate", BASE),
    ("console", BASE), ("dashboard", BASE | {"console"}), ("tracking", BASE | {"log"}),
    ("recording", BASE), ("outlines", BASE | {"sim.base", "tasks.push"}), ("scene", BASE | {"outlines"}), ("playback", BASE | {"evaluate", "recording"}),
    ("baselines", BASE), ("evaluations", BASE | {"evaluate"}),
    ("guard", BASE | {"checkpoint", "data", "distributed"}), ("memory", BASE | {"data", "algo.batch"}),
    ("trainer", BASE | {"distributed", "checkpoint", "evaluate", "guard", "log", "data", "recording", "signals"}),
    ("pushes", BASE | {"evaluate", "outlines", "recording"}),
    ("plot", BASE | {"evaluations", "outlines", "pushes", "command", "cli"}),
    ("sweep", BASE | {"command", "cli"}), ("compare", BASE | {"command", "plot"}),
    ("canvas", set()), ("encode", BASE),
    ("video", BASE | {"canvas", "encode", "evaluate", "outlines", "recording", "command", "cli"}),
    ("render", BASE | {"encode", "evaluate", "outlines", "recording", "command", "cli"}),
    ("view", BASE | {"outlines", "scene", "playback", "command"}),
    ("warm_up", BASE | {"accelerate", "algo", "baselines", "distributed", "nets"}),
    ("build", {""}), ("cli", {""}), ("command", {""}), ("export", {""}), ("replay", {""}),
    ("testing", {""}),
]
FENCES: Dict[str, Set[str]] = {
    "torch.distributed": {"distributed"}, "torch.compile": {"accelerate"}, "torch._dynamo": {"accelerate"},
    "torch.cuda.graph": {"captured"}, "ctypes.CDLL": {"lanes.kernel", "lanes.chain", "lanes.gather", "process"}, "isaacgym": {"isaac", "sim.isaacgym"},
    "isaaclab": {"isaac"}, "isaaclab_tasks": {"tasks.isaaclab"},
}
# What could run code that somebody else wrote: a file's, a config's or another process's.
RUNS_CODE = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
             "hydra.utils.instantiate", "hydra.utils.call", "torch.hub.load"}
HOST = {"item", "cpu", "numpy", "tolist", "nonzero"}
MAY_SYNCHRONISE = {"log", "checkpoint", "evaluate", "recording", "pushes", "scene", "plot", "video", "render", "sim.mujoco_worlds", "sim.legged",
                   "sim.legged_warp", "sim.isaacgym", "guard", "sim.locomotion", "lanes.trace"}  # the last compiles for the host


def modules() -> List[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).replace(".__init__", "").replace("__init__", "")


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".") or prefix == ""


def imports_of(tree: ast.AST) -> Set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def forbidden_imports(module: str, tree: ast.AST) -> List[str]:
    allowed = next((deps for prefix, deps in LAYERS if within(module, prefix)), None)
    if allowed is None:
        return [] if not module else [f"{module} has no layer in this test"]
    own = module.split(".")[0]
    inside = [name[len("happo_gpu."):] for name in imports_of(tree) if name.startswith("happo_gpu.")]
    return [name for name in inside if not within(name, own) and not any(within(name, dep) for dep in allowed)]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_downward_only(path):
    assert forbidden_imports(name_of(path), ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_fenced_words_stay_behind_their_fence(path):
    tree, module = ast.parse(path.read_text()), name_of(path)
    used = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | imports_of(tree)
    for word, owners in FENCES.items():
        if any(name == word or name.startswith(word + ".") for name in used):
            assert module in owners, f"{word} in {module}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_the_host_is_asked_only_where_numbers_leave_the_device(path):
    module = name_of(path)
    if any(within(module, owner) for owner in MAY_SYNCHRONISE):
        return
    calls = {node.func.attr for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not calls & HOST, f"{module} calls {sorted(calls & HOST)}"


def runs_code(tree: ast.AST) -> List[str]:
    """Calls that could, and those of a shell or of a loader that was not told to read plain data."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, given = dotted(call.func), {keyword.arg: ast.dump(keyword.value) for keyword in call.keywords}
        plain = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}.get(name)
        if name in RUNS_CODE or "value=True" in given.get("shell", "") or plain and f"value={plain[1]}" not in given.get(plain[0], ""):
            found.append(name)
    return found


@pytest.mark.parametrize("path", [*modules(), *(PACKAGE.parent / "examples").glob("*.py"), PACKAGE.parent / "train.py"], ids=lambda path: path.stem)
def test_nothing_that_is_read_or_typed_is_run(path):
    assert runs_code(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("breach", ["eval(text)", "subprocess.run(line, shell=True)", "torch.load(path)", "torch.load(path, weights_only=False)",
                                    "np.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text)", "os.system(line)"])
def test_what_would_run_it_is_caught(breach):
    assert runs_code(ast.parse(breach))


def test_the_rules_do_catch_a_breach():
    assert forbidden_imports("algo.sgd", ast.parse("from happo_gpu.tasks.push import Go1Push"))
    assert forbidden_imports("tasks.push", ast.parse("from happo_gpu.sim.planar import PlanarSim"))
    assert not forbidden_imports("tasks.push", ast.parse("from happo_gpu.sim.base import Sim"))


def test_importing_the_package_and_its_config_does_not_import_torch():
    code = "import sys, happo_gpu, happo_gpu.config, happo_gpu.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=str(PACKAGE.parent)).returncode == 0


def test_python_3_8_is_enough():
    pytest.importorskip("vermin")
    code = [str(PACKAGE), *(str(PACKAGE.parent / name) for name in ("examples", "docs/examples", "train.py"))]
    seen = subprocess.run([sys.executable, "-c", "import vermin; vermin.main()", "-q", "-t=3.8-", "--no-tips", "--eval-annotations", *code],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert seen.returncode == 0, seen.stdout
