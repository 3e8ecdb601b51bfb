"""A search for settings with Optuna: every trial is a run of the main command, its last evaluation the objective.

    python -m happo_gpu.sweep task=Recall algo=HAPPO [trials=20] [study=NAME]
    python -m happo_gpu.sweep task=Spread 'algo.lr=tag(log,interval(1e-4,1e-2))' algo.actor_num_mini_batch=2,4,8 algo.clip_param=0.2

Takes what train.py takes. What has several values is searched: cfg/sweep.yaml's learning rate, clip, entropy and
minibatches, and any key in Hydra's notation, a,b,c or interval(low,high), on top. The objective is the success rate, or the return
of a task without one. A trial that does worse than the median of the earlier ones at the same iteration is stopped.

The study is the file runs/NAME.db: the same command goes on with it until it has ``trials`` trials, and may run in several
processes at a time. Trial 7 leaves the run directory runs/NAME_7_<time>.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Tuple

import yaml

from happo_gpu import cli, command
from happo_gpu.config import Config, ConfigError, parse
from happo_gpu.config.files import CFG_DIR, composed_raw
from happo_gpu.config.schema import limit

RUNS = Path("runs")
POLL = 0.5  # s between looks at a trial's evaluations
HOPELESS = 3  # failures in a row after which no trial is expected to get further
FIRST = 5  # trials that are not stopped early
TRIES = 20  # to open the study


@dataclass(frozen=True)
class SweepOptions:
    trials: int = limit(low=1)
    study: str = field()


DEFAULTS = {"trials": 20, "study": ""}


@dataclass(frozen=True)
class Search:
    """Settings that every trial has, and those that are searched, as Hydra's overrides by key."""

    fixed: List[str]
    space: Dict[str, Any]

    def told(self) -> List[str]:
        return sorted(self.fixed) + sorted(override.input_line for override in self.space.values())

    def draw(self, trial: Any) -> List[str]:
        """One trial's settings, as arguments."""
        return [f"{key}={_suggest(trial, key, override)}" for key, override in self.space.items()]

    def ends(self, last: bool) -> List[str]:
        """The lowest values, or the highest."""
        return [f"{key}={_values(override)[-1 if last else 0]}" for key, override in self.space.items()]


# -- what is searched --------------------------------------------------------------------------------


def search_of(arguments: List[str]) -> Tuple[Search, Config]:
    """What was typed on top of cfg/sweep.yaml, and the config of a trial; ConfigError for what no trial could run."""
    typed = _overrides(arguments)
    fixed = [override.input_line for override in typed.values() if not override.is_sweep_override()]
    cli.check_groups(arguments)
    first = [f"{key}={_values(override)[0]}" for key, override in typed.items() if override.is_sweep_override()]
    defaults = yaml.safe_load((CFG_DIR / "sweep.yaml").read_text())[_config([*fixed, *first]).algo.actor_step]
    space = {**_overrides([f"{key}={values}" for key, values in defaults.items()]), **typed}
    search = Search(fixed, {key: override for key, override in space.items() if override.is_sweep_override()})
    if not search.space:
        raise ConfigError("nothing is left to search: every key has one value; write e.g. algo.gamma=interval(0.9,0.999)")
    cfg, _ = (_config([*fixed, *search.ends(last)]) for last in (False, True))
    if not cfg.train.eval_every:
        raise ConfigError("a search reads evaluations, and eval_every=0 asks for none; write eval_every=10")
    return search, cfg


def _overrides(arguments: List[str]) -> Dict[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return {override.get_key_element(): override for override in OverridesParser.create().parse_overrides(arguments)}
    except HydraException as error:
        raise ConfigError(cli.reason_of(error, arguments)) from error


def _config(arguments: List[str]) -> Config:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return parse(composed_raw(arguments))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(cli.reason_of(error, arguments)) from error


def _values(override: Any) -> List[Any]:
    """Every value, or of an interval both ends."""
    if override.is_interval_sweep():
        return [override.value().start, override.value().end]
    return list(override.sweep_string_iterator())


def _suggest(trial: Any, key: str, override: Any) -> Any:
    values = _values(override)
    if not override.is_interval_sweep():
        return trial.suggest_categorical(key, values)
    suggest = trial.suggest_int if all(isinstance(value, int) for value in values) else trial.suggest_float
    return suggest(key, *values, log="log" in override.value().tags)


# -- a trial -----------------------------------------------------------------------------------------


def run_trial(study: Any, search: Search, last_epoch: int) -> str:
    """Draws settings, trains and tells the study; a trial that is interrupted or fails does not count. Returns why it failed, or ''."""
    from optuna.trial import TrialState

    trial, state, told = study.ask(), TrialState.FAIL, 0
    settings, name = search.draw(trial), f"{study.study_name}_{trial.number}"
    before = set(RUNS.glob(f"{name}_*"))
    with tempfile.TemporaryFile("w+") as output:
        process = _train([*search.fixed, *settings, f"experiment={name}"], output)
        try:
            while process.poll() is None and state != TrialState.PRUNED:
                time.sleep(POLL)
                scores = list(_new_evaluations(name, before).items())
                for epoch, score in scores[told:]:
                    trial.report(score, epoch)
                if len(scores) > told and trial.should_prune():
                    state = TrialState.PRUNED
                told = len(scores)
        finally:
            _stop(process)
            scores = _new_evaluations(name, before)
            if state == TrialState.FAIL and process.returncode == 0 and scores.get(last_epoch) is not None:
                state = TrialState.COMPLETE
            study.tell(trial, scores[last_epoch] if state == TrialState.COMPLETE else None, state)
        output.seek(0)
        reason = (output.read().strip() or "it said nothing").splitlines()[-1] if process.returncode and state == TrialState.FAIL else ""
    last = max(scores, default=0)
    print(f"trial {trial.number}: {state.name.lower()} {scores.get(last, float('nan')):.4f} after {last} iterations   "
          + " ".join(settings) + f"   {reason}" * bool(reason), flush=True)
    return reason


def _train(arguments: List[str], output: Any) -> subprocess.Popen:
    """In a session of its own: Ctrl-C reaches it through :func:`_stop` alone, once."""
    here = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])  # this very package
    return subprocess.Popen([sys.executable, "-m", "happo_gpu.cli", *arguments], stdout=output, stderr=output,
                            env={**os.environ, "PYTHONPATH": here.rstrip(os.pathsep)}, start_new_session=True)


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()  # it saves a checkpoint and leaves
    process.wait()


def _new_evaluations(name: str, before: set) -> Dict[int, float]:
    """Iterations and scores so far, of a run directory that was not there ``before``."""
    scores = {}
    for run_dir in set(RUNS.glob(f"{name}_*")) - before:
        path = run_dir / "metrics.jsonl"
        for line in path.read_text().split("\n")[:-1] if path.is_file() else []:
            evaluation = json.loads(line).get("evaluation")
            if evaluation:
                scores[evaluation["epoch"]] = evaluation.get("success_rate", evaluation["mean_return"])
    return scores


# -- the study ---------------------------------------------------------------------------------------


def open_study(name: str, search: Search) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("a search needs the package optuna; write pip install -e '.[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    RUNS.mkdir(exist_ok=True)
    study = optuna.create_study(
        storage=_storage(f"sqlite:///{RUNS / name}.db"), study_name=name, direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(constant_liar=True), pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST))
    told = study.user_attrs.setdefault("search", search.told())
    if told != search.told():
        changed = " ".join(sorted(set(told) ^ set(search.told())))
        raise ConfigError(f"study={name} was begun with other settings (differing: {changed}); write another study=")
    study.set_user_attr("search", told)
    return study


def _storage(url: str) -> Any:
    """The study's file; where two processes create it at the same moment, one of them is refused and comes again."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    for left in reversed(range(TRIES)):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})  # s, while another one writes
        except SQLAlchemyError:
            if not left:
                raise
            time.sleep(POLL)


def counted(study: Any) -> List[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def report(study: Any, search: Search) -> None:
    if not any(trial.state.name == "COMPLETE" for trial in counted(study)):
        return
    best = study.best_trial
    settings = " ".join([*search.fixed, *(f"{key}={value}" for key, value in best.params.items())])
    print(f"best of {len(counted(study))}: trial {best.number} with {best.value:.4f}, of one seed and chosen as the best; "
          f"to see what it is worth:\npython train.py -m {settings} seed=1,2,3,4,5", flush=True)


def main(arguments: List[str]) -> None:
    own = [argument for argument in arguments if argument.partition("=")[0] in DEFAULTS]
    chosen = command.options(SweepOptions, own, DEFAULTS)
    search, cfg = search_of([argument for argument in arguments if argument not in own])
    study = open_study(chosen.study or f"sweep_{cfg.task.name}{cfg.algo.name}", search)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        failures = 0  # in a row: one may be of its settings, which diverge
        while len(counted(study)) < chosen.trials:
            reason = run_trial(study, search, cfg.train.max_iterations)
            failures = failures + 1 if reason else 0
            if failures == HOPELESS:
                raise ConfigError(f"{failures} trials in a row failed; the last: {reason}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on", flush=True)
    report(study, search)


if __name__ == "__main__":
    command.run(main, __doc__)
