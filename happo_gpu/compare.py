"""One table from many runs: what each setting reached over its seeds, and whether the seeds tell the settings apart.

    python -m happo_gpu.compare runs/*
    python -m happo_gpu.compare runs/A_* -- runs/B_* [-- runs/C_* ...] [output=table.json]

The first puts runs together whose config.yaml differs in the seed alone, and names the groups by what differs between them;
the second takes the groups as given. Prints Markdown; output= also writes everything as JSON. Only finished runs count.

The end of a run is its last evaluation. Intervals of means are Student's t over seeds. The probability of improvement is that of
a seed of one group beating a seed of the other, ties being half; its interval is a bootstrap over seeds; p is
Mann-Whitney's, two-sided, exact for small groups, and Holm's for several pairs.
"""
from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import yaml

from happo_gpu import command
from happo_gpu.config import ConfigError
from happo_gpu.plot import read_records

SOLVED = 0.95  # success
LEVEL = 0.05  # of significance
RESAMPLES = 10_000
FEW = 5  # seeds below which the table says that they are few
NAMES = ("task.name", "sim.name", "algo.name")  # tell groups apart before any other key does
# These change no number of a run, or only its random ones.
ASIDE = {"seed", "experiment", "checkpoint", "resume", "test", "headless", "sim_device", "rl_device", "num_threads", "accelerate",
         "train.log_every", "train.save_every", "log_every", "save_every", "capture_video", "capture_video_every"}


@dataclass(frozen=True)
class Run:
    path: Path
    config: Dict[str, Any]  # leaves by dotted name
    evaluations: List[Dict[str, Any]]

    def unfinished(self) -> str:
        """Why the run does not count, or ''."""
        last, end = (self.evaluations[-1]["epoch"] if self.evaluations else None), self.config["max_iterations"]
        if last is None:
            return "has no evaluation"
        return f"was last evaluated at iteration {last} of {end}" if last < end else ""

    def end(self, metric: str) -> float:
        return self.evaluations[-1][metric]

    def first_solved(self, axis: str) -> Optional[float]:
        return next((e[axis] for e in self.evaluations if e["success_rate"] >= SOLVED), None)


Groups = Dict[str, List[Run]]


# -- reading -----------------------------------------------------------------------------------------


def read(run_dir: Path) -> Run:
    records = read_records(run_dir)
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run_dir} is no run: it has no config.yaml; give a directory under runs/")
    raw = yaml.safe_load(path.read_text())
    config = _leaves(raw)
    # '' at the root means the train file's; so that both ways of writing a number are the same
    for key, inner in (("max_iterations", "train.max_iterations"), ("num_envs", "task.env.numEnvs"), ("eval_every", "train.eval_every")):
        config[inner] = config[key] = config[inner] if config[key] == "" else config[key]
    return Run(run_dir, config, [record["evaluation"] for record in records if "evaluation" in record])


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in raw.items():
        found.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return found


def differing(runs: Sequence[Run]) -> List[str]:
    """Keys whose values are not the same in all runs, but for those set aside."""
    keys = dict.fromkeys([*NAMES, *(key for run in runs for key in run.config)])
    keep = (key for key in keys if key not in ASIDE and not key.startswith("wandb_"))
    return [key for key in keep if len({repr(run.config.get(key)) for run in runs}) > 1]


def by_settings(runs: Sequence[Run]) -> Groups:
    """Groups that differ in nothing but what is set aside, named by the fewest leading keys that tell them apart."""
    keys = differing(runs)
    telling: List[str] = []
    for key in keys:
        if _count(runs, telling + [key]) > _count(runs, telling):
            telling.append(key)
    groups: Groups = {}
    for run in runs:
        name = ", ".join(f"{key}={run.config.get(key)}" for key in telling) or f"{run.config['task.name']} {run.config['algo.name']}"
        groups.setdefault(name, []).append(run)
    return groups


def _count(runs: Sequence[Run], keys: Sequence[str]) -> int:
    return len({tuple(repr(run.config.get(key)) for key in keys) for run in runs})


def by_hand(sets: Sequence[Sequence[Run]]) -> Groups:
    """Groups as typed, named by what their directories begin with."""
    groups: Groups = {}
    for runs in sets:
        name = os.path.commonprefix([run.path.name for run in runs]).rstrip("_-") or f"group {len(groups) + 1}"
        groups[name if name not in groups else f"{name} ({len(groups) + 1})"] = list(runs)
    return groups


# -- numbers -----------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> Optional[Tuple[float, float]]:
    """95 % interval of the mean, Student's t; None for one value."""
    if len(values) < 2:
        return None
    half = float(_stats().t.ppf(1.0 - LEVEL / 2.0, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def interquartile_mean(values: Sequence[float]) -> Optional[float]:
    """Mean of the middle half (Agarwal et al., 2021); None below four values, which have no quartiles to leave out."""
    return float(_stats().trim_mean(values, 0.25)) if len(values) >= 4 else None


def improvement(first: Sequence[float], second: Sequence[float]) -> Tuple[float, Tuple[float, float]]:
    """Probability that a value of ``first`` beats one of ``second``, and its 95 % bootstrap interval."""
    wins, draw = _wins(first, second), np.random.default_rng(0)
    n, m = wins.shape
    rows, columns = draw.integers(n, size=(RESAMPLES, n, 1)), draw.integers(m, size=(RESAMPLES, 1, m))
    low, high = np.quantile(wins[rows, columns].mean((1, 2)), (LEVEL / 2.0, 1.0 - LEVEL / 2.0))
    return float(wins.mean()), (float(low), float(high))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p; exact, ties included, while the ways to deal the values to the groups can be counted. 1 for a single run,
    which says nothing of how its like would do."""
    if min(len(first), len(second)) < 2:
        return 1.0
    stats = _stats()
    if math.comb(len(first) + len(second), len(first)) > RESAMPLES:
        return float(stats.mannwhitneyu(first, second, method="asymptotic").pvalue)
    return float(stats.permutation_test((first, second), lambda a, b: _wins(a, b).mean(), n_resamples=math.inf).pvalue)


def _wins(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """1 where a value of ``first`` is above one of ``second``, a half where they are equal, else 0; (n, m)."""
    return np.sign(np.subtract.outer(first, second)) / 2.0 + 0.5


def holm(values: Sequence[float]) -> List[float]:
    """p values of several tests, raised so that all together err in 5 % of cases at most (Holm, 1979)."""
    raised, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        raised[i] = highest
    return raised


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise ConfigError("a comparison needs the package scipy; write pip install -e '.[compare]'") from error
    return stats


def summary(runs: Sequence[Run], metrics: Sequence[str]) -> Dict[str, Any]:
    told: Dict[str, Any] = {"runs": [str(run.path) for run in runs], "seeds": [run.config["seed"] for run in runs]}
    for metric in metrics:
        values = [run.end(metric) for run in runs]
        told[metric] = {"values": values, "mean": mean(values), "ci95": interval(values), "interquartile_mean": interquartile_mean(values)}
    if "success_rate" in metrics:
        for axis in ("train_seconds", "frames"):
            reached = [value for value in (run.first_solved(axis) for run in runs) if value is not None]
            told[f"{axis}_to_95"] = {"reached": len(reached), "median": median(reached) if reached else None}
    return told


def pairs(groups: Groups, metric: str) -> List[Dict[str, Any]]:
    """Every two groups, the better one first."""
    found = []
    for pair in itertools.combinations(groups, 2):
        ends = {name: [run.end(metric) for run in groups[name]] for name in pair}
        better, worse = sorted(pair, key=lambda name: -mean(ends[name]))
        probability, limits = improvement(ends[better], ends[worse])
        found.append({"better": better, "worse": worse, "probability_of_improvement": probability, "ci95": limits,
                      "p": mann_whitney(ends[better], ends[worse])})
    for pair, p in zip(found, holm([pair["p"] for pair in found])):
        pair["p_holm"] = p
    return found


def notes(groups: Groups) -> List[str]:
    """What a reader of the table must know before believing it."""
    told = []
    sizes = {name: len(runs) for name, runs in groups.items()}
    if len(set(sizes.values())) > 1:
        told.append("unequal numbers of seeds: " + ", ".join(f"{name}: {n}" for name, n in sizes.items()))
    if min(sizes.values()) < FEW:
        told.append(f"{min(sizes.values())} seeds are few: intervals rest on them alone, and those of the bootstrap are too narrow")
    hopeless = [f"{a} and {b}" for a, b in itertools.combinations(groups, 2) if 2 / math.comb(sizes[a] + sizes[b], sizes[a]) > LEVEL]
    if hopeless:
        told.append(f"too few seeds for p < {LEVEL}, whatever they show: {'; '.join(hopeless)}")
    for name, runs in groups.items():
        seeds = [run.config["seed"] for run in runs]
        if len(set(seeds)) < len(seeds):
            told.append(f"{name}: a seed comes twice ({', '.join(map(str, sorted(seeds)))}); such runs are not independent")
        if differing(runs):
            told.append(f"{name}: its runs differ in {', '.join(differing(runs)[:5])}")
    frames = {run.end("frames") for runs in groups.values() for run in runs}
    if len(frames) > 1:
        told.append(f"runs end after {min(frames) / 1e6:.1f} to {max(frames) / 1e6:.1f} M frames")
    return told


# -- the table ---------------------------------------------------------------------------------------


def table(summaries: Dict[str, Dict[str, Any]], metrics: Sequence[str]) -> str:
    heads, rows = ["", "seeds"], {name: [name, str(len(told["seeds"]))] for name, told in summaries.items()}
    for metric in metrics:
        heads += [f"{'success, %' if metric == 'success_rate' else 'return'}, mean [95 %]", "middle half"]
        for name, told in summaries.items():
            part, form = told[metric], _percent if metric == "success_rate" else "{:.3f}".format
            limits = f" [{', '.join(map(form, part['ci95']))}]" if part["ci95"] else ""
            middle = part["interquartile_mean"]
            rows[name] += [form(part["mean"]) + limits, "-" if middle is None else form(middle)]
    if "success_rate" in metrics:
        heads += ["95 % after", "frames to 95 %"]
        for name, told in summaries.items():
            rows[name] += [_reached(told, "train_seconds", "{:.0f} s", 1.0), _reached(told, "frames", "{:.1f} M", 1e-6)]
    lines = [heads, ["---"] * len(heads), *rows.values()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}"  # t knows no bounds


def _reached(told: Dict[str, Any], axis: str, form: str, scale: float) -> str:
    part, count = told[f"{axis}_to_95"], len(told["seeds"])
    if part["reached"] < count:
        return f"{part['reached']} of {count} seeds"
    return form.format(part["median"] * scale)


def sentence(pair: Dict[str, Any]) -> str:
    low, high = pair["ci95"]
    verdict = "is better than" if pair["p_holm"] < LEVEL else "is not told apart from"
    return (f"{pair['better']} {verdict} {pair['worse']}: probability of improvement "
            f"{pair['probability_of_improvement']:.2f} [{low:.2f}, {high:.2f}], p = {pair['p_holm']:.3f}")


# -- the command -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompareOptions:
    output: str = field()


DEFAULTS = {"output": ""}


def main(arguments: List[str]) -> None:
    own = [argument for argument in arguments if "=" in argument and not Path(argument).is_dir()]
    chosen = command.options(CompareOptions, own, DEFAULTS)
    sets: List[List[Run]] = [[]]
    left_out = []
    for argument in (argument for argument in arguments if argument not in own):
        if argument == "--":
            sets.append([])
            continue
        if Path(argument).exists() and not (Path(argument) / "config.yaml").is_file():  # evaluations of agents and studies lie there, too
            left_out.append(f"left out: {argument} is no run of training")
            continue
        run = read(Path(argument))
        reason = run.unfinished()
        if reason:
            left_out.append(f"left out: {argument} {reason}")
        else:
            sets[-1].append(run)
    if not all(sets):
        raise ConfigError("; ".join(["a group without finished runs; write runs/A_* -- runs/B_*", *left_out]))
    groups = by_hand(sets) if len(sets) > 1 else by_settings(sets[0])
    runs = [run for members in groups.values() for run in members]
    metrics = [metric for metric in ("success_rate", "mean_return") if all(metric in run.evaluations[-1] for run in runs)]
    summaries, told = {name: summary(members, metrics) for name, members in groups.items()}, notes(groups)
    if len({run.config["task.name"] for run in runs}) > 1:
        found, told = [], [*told, "several tasks: their numbers are not compared"]
    else:
        found = pairs(groups, metrics[0])
    print("\n\n".join(part for part in (table(summaries, metrics), "\n".join(f"- {sentence(pair)}" for pair in found),
                                        "\n".join(f"- {note}" for note in [*told, *left_out])) if part))
    if chosen.output:
        Path(chosen.output).write_text(json.dumps({"groups": summaries, "pairs": found, "notes": [*told, *left_out]}, indent=1) + "\n")


if __name__ == "__main__":
    command.run(main, __doc__)
