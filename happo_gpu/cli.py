"""The command line: Hydra composes the config, this file runs it and words every error in one line."""
from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from happo_gpu import process
from happo_gpu.config.files import CFG_DIR, GROUPS, composed_raw

_START = time.perf_counter()


def main() -> None:
    """Entry of ``train.py`` and of the console script ``happo-gpu``."""
    process.prepare()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; the lines below are ours
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from happo_gpu.config import ConfigError

    @hydra.main(version_base="1.2", config_path=str(CFG_DIR), config_name="config")
    def run(composed: DictConfig) -> None:
        try:  # inside Hydra's job, or it would add lines of its own
            _run(composed)
        except ConfigError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'}: {error.strerror or error}; checkpoints written so far are intact")

    try:
        check_groups(sys.argv[1:])
        run()
    except ConfigError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(reason_of(error, sys.argv[1:]))


def fail(message: str) -> None:
    """How every command ends that was given something it cannot use."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


# -- errors that Hydra would word in many lines -------------------------------------------------


def check_groups(arguments: List[str]) -> None:
    """Raises ConfigError for an unknown option of a config group; Hydra would overlook one of train."""
    from happo_gpu.config import ConfigError
    from happo_gpu.config.schema import nearest

    for key, value in _pairs(arguments):
        options = sorted(path.stem for path in (CFG_DIR / key).glob("*.yaml")) if key in GROUPS else []
        for option in value.split(",") if options else []:  # a multirun sweeps over several
            if option not in options:
                raise ConfigError(f"{key}={option} is not known; {nearest(option, options)} (allowed: {', '.join(options)})")


def reason_of(error: Exception, arguments: List[str]) -> str:
    """One line for what Hydra refused."""
    from happo_gpu.config import ConfigError

    try:
        _check_keys(arguments)
    except ConfigError as reason:
        return str(reason)
    return "cannot read the command line: " + " ".join(str(error).split())


def _check_keys(arguments: List[str]) -> None:
    """Raises ConfigError for an unknown key, naming the nearest known one; slow, for when Hydra has failed."""
    from happo_gpu.config import ConfigError
    from happo_gpu.config.schema import nearest

    pairs = _pairs(arguments)
    known = _known_keys([f"{key}={value.split(',')[0]}" for key, value in pairs if key in GROUPS])
    for key, _ in pairs:
        if key not in known and key not in GROUPS and not key.startswith(("hydra", "+", "~")):
            raise ConfigError(f"unknown key {key}; {nearest(key, known)}")


def _pairs(arguments: List[str]) -> List[Tuple[str, str]]:
    return [_split(argument) for argument in arguments if "=" in argument and not argument.startswith("-")]


def _split(argument: str) -> Tuple[str, str]:
    key, _, value = argument.partition("=")
    return key, value


def _known_keys(groups: List[str]) -> List[str]:
    from happo_gpu.config.schema import flatten

    return flatten(composed_raw(groups))


# -- one run -------------------------------------------------------------------------------------


def _run(composed: Any) -> None:
    from omegaconf import OmegaConf

    from happo_gpu import isaac, saved

    raw = OmegaConf.to_container(composed, resolve=True)
    isaac.before_torch(raw)
    run_dir = None
    if raw["resume"]:
        run_dir, raw = _resumed(raw)
    elif raw["test"] and raw["checkpoint"] and not raw["agent"]:
        played = run_of(_from_here(raw["checkpoint"]))
        raw = saved.with_typed(saved.saved_raw(played), raw, _typed()) if (played / "config.yaml").is_file() else raw
    isaac.before_torch(raw)
    from happo_gpu.config import ConfigError, parse

    cfg = parse(raw)  # before torch is imported, which takes longer than all before: what is mistyped is said at once
    from happo_gpu import distributed

    if cfg.num_threads:
        import torch

        torch.set_num_threads(cfg.num_threads)
    if cfg.test:
        if distributed.SIZE > 1:
            raise ConfigError(f"test=True runs in one process, not in {distributed.SIZE}; start it with python, not with torchrun")
        _test(cfg)
    else:
        _train(cfg, raw, run_dir)


def _train(cfg: Any, raw: Dict[str, Any], resumed: Any) -> None:
    from happo_gpu.signals import REQUEUE, Stop

    with Stop() as stop:
        finished = _trained(cfg, raw, resumed, stop)
    if stop.by_cluster and not finished:
        sys.exit(REQUEUE)


def _trained(cfg: Any, raw: Dict[str, Any], resumed: Any, stop: Any) -> bool:
    """Trains until ``stop`` or the end; returns whether it was the end."""
    import torch

    from happo_gpu import build, checkpoint, distributed, memory, precision
    from happo_gpu.config import ConfigError, parse
    from happo_gpu.guard import NonFinite

    device = build.device_of(cfg)
    distributed.start(device)
    settled = distributed.agree(precision.settle(cfg.algo.model, device))
    if settled != cfg.algo.model.precision:  # saved, for the probe may fall out otherwise when the run is resumed
        raw = {**raw, "precision": settled}
        cfg = parse(raw)
    if distributed.RANK:
        sys.stdout = open(os.devnull, "w")  # what one process says, all mean
    state = None
    if resumed:
        found = checkpoint.newest_good(resumed, device)
        if found is None:
            raise ConfigError(f"resume={resumed}: no good checkpoint last_*_ep_*.pth in its nn/; start it anew")
        state = found[1]
    need = build.predict_memory(cfg, device)
    run_dir = resumed or distributed.agree(None if distributed.RANK else _new_run_dir(cfg))
    seed = build.seed_everything(cfg.seed, cfg.torch_deterministic)
    print(f"device: {device}  seed: {seed}  threads: {torch.get_num_threads()}  run: {run_dir}", flush=True)
    room = memory.free(device)
    print(f"memory: {need} predicted" + (f"; only {room / memory.MB:.0f} MB are free, {_LESS_MEMORY}" if room and room < need.total else ""),
          flush=True)
    try:
        trainer = _built(cfg, raw, run_dir, device, seed, state)
        base = memory.resident(device) - need.built
        several = f" in each of {distributed.SIZE} processes, {cfg.task.env.numEnvs * distributed.SIZE} in all" * (distributed.SIZE > 1)
        print(f"Started to train: {cfg.task.env.numEnvs} environments{several}, {trainer.frames_per_epoch} frames an epoch, "
              f"start-up {time.perf_counter() - _START:.1f} s", flush=True)
        try:
            trainer.run(stop)
        finally:
            if trainer.logger:
                trainer.logger.close()
            distributed.stop()
    except NonFinite as error:
        if distributed.RANK:
            sys.exit(2)
        fail(f"{error}; the last good checkpoint is {next(iter(checkpoint.numbered(run_dir)), None)}")
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        fail(f"out of memory: {need} were predicted; {_LESS_MEMORY}")
    peak = memory.peak(device)
    print(f"memory: peak {peak / memory.MB:.0f} MB, of them {(peak - base) / memory.MB:.0f} MB for this run", flush=True)
    return trainer.epoch >= cfg.train.max_iterations


_LESS_MEMORY = "write a smaller num_envs or algo.episode_length"


def _built(cfg: Any, raw: Dict[str, Any], run_dir: Path, device: Any, seed: int, state: Any) -> Any:
    """The trainer; a new run's directory gets its config, or goes again if the trainer cannot be built."""
    import yaml

    from happo_gpu import build, checkpoint, distributed
    from happo_gpu.config import ConfigError

    try:
        trainer = build.build_trainer(cfg, run_dir, cfg.experiment or cfg.task.name, device, seed, state)
    except ConfigError:
        if not state and not distributed.RANK:
            shutil.rmtree(run_dir, ignore_errors=True)  # curves without a point
        raise
    if cfg.checkpoint and not state:  # fine-tuning: its weights, everything else anew
        start = _from_here(cfg.checkpoint)
        checkpoint.put_weights(checkpoint.load(start, device), trainer.learner, start)
    if not state and not distributed.RANK:
        raw["seed"] = seed
        (run_dir / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return trainer


def _test(cfg: Any) -> None:
    from happo_gpu import testing
    from happo_gpu.config import ConfigError

    typed = [override for override in (each.lstrip("+") for each in _typed()) if _split(override)[0].lstrip("~").split(".")[0] in ("task", "sim")]
    path = _from_here(cfg.checkpoint)
    if cfg.agent:
        testing.evaluate_agent(cfg, Path("runs") / f"{cfg.task.name}_{cfg.agent}", typed)
    elif not cfg.checkpoint:
        raise ConfigError("test=True needs a checkpoint; write checkpoint=runs/<run>/nn/<name>.pth, "
                          "checkpoint=runs/<run> for all of a run, or agent=scripted for none")
    elif path.is_dir():
        testing.evaluate_run(cfg, path, typed)
    else:
        testing.evaluate_checkpoint(cfg, path, run_of(path), typed)


def _new_run_dir(cfg: Any) -> Path:
    stem = cfg.experiment or cfg.task.name + cfg.algo.name
    base = Path("runs") / f"{stem}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    path, count = base, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:  # a second run in the same second
            path, count = Path(f"{base}_{count}"), count + 1


def _resumed(raw: Dict[str, Any]) -> Tuple[Any, Dict[str, Any]]:
    """The run directory to continue (None: start one) and its config with what was typed on top."""
    from happo_gpu import saved
    from happo_gpu.config import ConfigError

    if raw["resume"] == "auto":
        stem = raw["experiment"] or f"{raw['task']['name']}{raw['algo']['name']}"
        run_dir = _newest_run(str(stem))
        if run_dir is None:
            return None, raw  # the first of a chain of cluster jobs
    else:
        run_dir = _from_here(raw["resume"])
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(f"resume={raw['resume']}: no run there (config.yaml is missing); give a directory under runs/, or auto")
    before = saved.saved_raw(run_dir)
    merged = saved.with_typed(before, raw, _typed())
    for key in ("task", "sim", "algo"):
        if merged[key]["name"] != before[key]["name"]:
            raise ConfigError(f"{key}={merged[key]['name']}: the run in {run_dir} has {key}={before[key]['name']}; "
                              "start a new run to change it")
    return run_dir, merged


def _newest_run(stem: str) -> Optional[Path]:
    """The newest run of that name which has a checkpoint to go on from."""
    from happo_gpu import checkpoint

    time_of = re.compile(re.escape(stem) + r"_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?")
    runs = []
    for path in Path("runs").glob("*/config.yaml"):
        match = time_of.fullmatch(path.parent.name)  # not the runs of stem_other
        if match:
            runs.append((match.group(1), int(match.group(2) or 0), path.parent))
    return next((run for _, _, run in sorted(runs, reverse=True) if checkpoint.has_good(run)), None)


def _typed() -> List[str]:
    """The overrides of this run's command line, of a multirun those of one of its jobs."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def run_of(checkpoint: Path) -> Path:
    """The run directory of runs/<run>/nn/<name>.pth, or runs/<run> itself."""
    if checkpoint.is_dir():
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "nn" else checkpoint.parent


def _from_here(path: str) -> Path:
    """Resolves a path against the directory that the command was typed in."""
    from hydra.utils import to_absolute_path

    return Path(to_absolute_path(path))


if __name__ == "__main__":
    main()
