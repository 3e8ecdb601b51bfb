"""What makes a planar policy push with real legs: one part of the training model left out or changed at a time.

    python benchmarks/ablate_transfer.py [--seeds 1 2 3] [--variants baseline no_latency ...] [--episodes 300] [overrides of training]

Every variant is Go1Push trained on the planar simulator with a few overrides, by the main command with 1,024 environments
(200 iterations; overrides of your own come after these), and evaluated without further training: on the planar simulator
that it was trained on, on the default one, and on whole Go1s. All evaluations of one kind have the same starts and goals. Written after
every run to benchmarks/results/ablate_transfer.json; started again, it does what is missing there.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from transfer import COLUMNS, ROOT, SEED  # first: it prepares the process

from machine import commit, machine

from happo_gpu import cli, command, evaluate
from happo_gpu.config import parse
from happo_gpu.config.files import composed_raw
from happo_gpu.saved import saved_raw

TRAINING = ["num_envs=1024", "max_iterations=200", "eval_every=20"]
RESULTS = ROOT / "benchmarks" / "results"
BASE = "task=Go1Push"
IDEAL = ["sim.stiffness=[1000,1000,40]", "sim.force_limit=[1000,1000]", "sim.torque_limit=1000", "sim.gain=1.0"]
WIDE = {"servo_stiffness": (0.7, 1.3), "servo_gain": (0.8, 1.2), "force_limit": (0.8, 1.2), "contact_friction": (0.5, 1.5),
        "object_inertia": (0.7, 1.3), "torsion_radius": (0.8, 1.2)}
VARIANTS: Dict[str, List[str]] = {
    "baseline": [],
    "no_dead_zone": ["sim.dead_zone=0.0"],
    "no_trim": ["sim.trim_rate=0.0"],
    "ideal_servo": [*IDEAL, "sim.dead_zone=0.0", "sim.trim_rate=0.0", "sim.latency=0.0", "sim.ripple=[0,0,0]"],
    "stiff_servo": IDEAL,
    "blunt_nose": ["sim.nose_radius=0.0", "sim.front=0.129"],  # as far out, twice as wide
    "no_latency": ["sim.latency=0.0"],
    "no_noise": ["sim.ripple=[0,0,0]"],
    "no_randomisation": ["task.randomize.object_friction=[1,1]"],
    "wide_randomisation": ["task.randomize.object_friction=[0.7,1.3]", *(f"+task.randomize.{key}=[{low},{high}]" for key, (low, high) in WIDE.items())],
    "mapush_inertia": ["task.object.inertia=0.25"],
    "small_torsion_radius": ["sim.torsion_radius=0.5"],
    "large_torsion_radius": ["sim.torsion_radius=0.9"],
    "own_walker": [],  # the numbers that calibrate_planar.py identified
}
Row = Dict[str, Any]


def overrides_of(variant: str) -> List[str]:
    if variant != "own_walker":
        return VARIANTS[variant]
    path = RESULTS / "calibrate_planar.json"
    if not path.is_file():
        raise SystemExit(f"variant own_walker needs {path}; write python benchmarks/calibrate_planar.py, or name the --variants")
    found = {key: value for key, value in json.loads(path.read_text())["identified"].items() if value is not None}
    found["dead_zone_width"] = max(found["dead_zone_width"], 0.001)
    found["latency"] = min(found["latency"], 0.02)
    found["nose_radius"] = max(found["nose_radius"], 0.0)
    return [f"sim.{key}=" + json.dumps(value, separators=(",", ":")) for key, value in found.items()]


def run(variant: str, seed: int, arguments: argparse.Namespace, extra: List[str]) -> Row:
    """Trains one variant with one seed and evaluates its best checkpoint."""
    with tempfile.TemporaryDirectory() as home:
        words = [sys.executable, str(ROOT / "train.py"), BASE, f"seed={seed}", *TRAINING, *overrides_of(variant), *extra]
        done = subprocess.run(words, cwd=home, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
        (path,) = Path(home).glob("runs/*/nn/Go1Push.pth")
        walkers = {"whole robots": "", **{Path(file).stem: file for file in arguments.locomotion}}
        return {"variant": variant, "seed": seed, "commit": commit(), "settings": settings(variant, arguments, extra),
                "planar as trained": figures(path, arguments.episodes, "", trained=True), "planar": figures(path, arguments.episodes, ""),
                **{name: figures(path, arguments.episodes, "mujoco", f"sim.locomotion={file}") for name, file in walkers.items()}}


def settings(variant: str, arguments: argparse.Namespace, extra: List[str]) -> List[str]:
    """What a row rests on: rows that rest on something else are not taken over."""
    return [*TRAINING, *overrides_of(variant), *extra, f"episodes={arguments.episodes}", *arguments.locomotion]


def figures(path: Path, episodes: int, sim: str, *overrides: str, trained: bool = False) -> Row:
    """A checkpoint's first episodes on the default task and simulator, or on those that it was trained on."""
    raw = saved_raw(cli.run_of(path))
    if not trained:
        default = composed_raw([BASE, *([f"sim={sim}"] if sim else []), *overrides])
        raw = {**raw, "task": default["task"], "sim": default["sim"]}
    here = {"num_envs": episodes, "sim_device": "cpu", "rl_device": "cpu", "accelerate": "auto"}
    task, policy = command.task_and_policy(parse({**raw, **here}), path, SEED)
    result = evaluate.evaluate(task, policy, SEED)
    return {key: result[key] for key in COLUMNS}


def show(rows: List[Row]) -> None:
    """Means over seeds; of success on whole robots also the lowest seed, and the difference from the baseline."""
    kinds = [key for key in rows[0] if key not in ("variant", "seed", "commit", "settings")]
    legs = kinds[2:]
    print(f"{'variant':<22}{'seeds':>6}" + "".join(f"{kind:>19}" for kind in kinds[:2])
          + "".join(f"{kind[:20]:>21}{'lowest':>8}{'to baseline':>13}{'together':>10}{'exceptions':>12}" for kind in legs))

    def mean(variant: str, kind: str, column: str = "success_rate") -> float:
        values = [row[kind][column] for row in rows if row["variant"] == variant]
        return 100.0 * sum(values) / len(values) if values else float("nan")

    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        line = f"{variant:<22}{len(mine):>6}" + "".join(f"{mean(variant, kind):>17.1f} %" for kind in kinds[:2])
        for kind in legs:
            lowest, change = min(100.0 * row[kind]["success_rate"] for row in mine), mean(variant, kind) - mean("baseline", kind)
            line += f"{mean(variant, kind):>19.1f} %{lowest:>8.1f}{change:>+13.1f}"
            line += "".join(f"{mean(variant, kind, column):>{width}.1f} %" for column, width in (("collaboration_degree", 8), ("collision_rate", 10)))
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=300, help="of every evaluation")
    parser.add_argument("--locomotion", nargs="*", default=[], help="walking policies besides the project's own")
    parser.add_argument("--output", type=Path, default=RESULTS / "ablate_transfer.json")
    arguments, extra = parser.parse_known_args()
    arguments.locomotion = [str(Path(file).resolve()) for file in arguments.locomotion]
    rows: List[Row] = json.loads(arguments.output.read_text())["rows"] if arguments.output.is_file() else []
    wanted = {variant: settings(variant, arguments, extra) for variant in arguments.variants}
    other = [row["variant"] for row in rows if row["settings"] != wanted.get(row["variant"], row["settings"])]
    if other:
        raise SystemExit(f"{arguments.output} holds {other[0]} with other settings; name another --output, or delete it")
    known = {(row["variant"], row["seed"]) for row in rows}
    for seed in arguments.seeds:  # seeds outside: a run that is stopped has something of every variant
        for variant in arguments.variants:
            if (variant, seed) in known:
                continue
            rows.append(run(variant, seed, arguments, extra))
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
            show([rows[-1]])
    print()
    show(sorted(rows, key=lambda row: list(VARIANTS).index(row["variant"])))


if __name__ == "__main__":
    main()
