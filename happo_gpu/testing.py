"""What test=True does: evaluates one checkpoint, all of a run, or an agent that needs none."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

from happo_gpu import build, checkpoint, evaluate, evaluations
from happo_gpu.baselines import baseline
from happo_gpu.config import Config, ConfigError
from happo_gpu.evaluations import Result


def evaluate_agent(cfg: Config, directory: Path, typed: Sequence[str]) -> None:
    """agent=zero, random or scripted, into ``directory``; ``typed`` are the overrides of task and sim."""
    device = build.device_of(cfg)
    seed = build.seed_everything(cfg.seed, cfg.torch_deterministic)
    task = build.build_test_task(cfg, device)
    policy = baseline(task, cfg.agent)
    print(f"Started to play: {task.num_envs} environments, {cfg.agent} actions", flush=True)
    result = evaluate.evaluate(task, policy, seed)
    _tell(directory, {**result, "agent": cfg.agent, "content": cfg.agent, **evaluations.settings_of(cfg, seed, typed)})


def evaluate_checkpoint(cfg: Config, path: Path, run_dir: Path, typed: Sequence[str]) -> None:
    """One checkpoint, into its run's directory."""
    device = build.device_of(cfg)
    state = checkpoint.load(path, device)
    seed = build.seed_everything(cfg.seed, cfg.torch_deterministic)
    task, learner = build.build_for_test(cfg, device, seed)
    print(f"Started to play: {task.num_envs} environments", flush=True)
    _tell(run_dir, {**_play(task, learner, state, path, seed), **evaluations.settings_of(cfg, seed, typed)})


def evaluate_run(cfg: Config, run_dir: Path, typed: Sequence[str]) -> None:
    """Every checkpoint of a run that has no result under these settings yet; then a table and curves of all."""
    paths = _checkpoints_of(run_dir)
    seed = build.seed_everything(cfg.seed, cfg.torch_deterministic)
    settings = evaluations.settings_of(cfg, seed, typed)
    wanted = {path: evaluations.identity({**settings, "content": _content(path)}) for path in paths}
    known = evaluations.read(run_dir)
    # The best checkpoint is often one of the periodic ones: the same file is evaluated once.
    first = {identity: path for path, identity in reversed(list(wanted.items()))}
    missing = [path for path in paths if wanted[path] not in known and first[wanted[path]] == path]
    print(f"checkpoints in {run_dir / 'nn'}: {len(paths)}, of them {len(missing)} to evaluate; results in {evaluations.FILE}", flush=True)
    if missing:
        try:
            _evaluate_all(cfg, missing, run_dir, settings)
        except KeyboardInterrupt:
            print("stopped; the same command again evaluates the rest", flush=True)
            sys.exit(130)
        known = evaluations.read(run_dir)
    rows = [{**known[identity], "checkpoint": path.name} for path, identity in wanted.items() if identity in known]
    if not rows:
        raise ConfigError(f"checkpoint={run_dir}: none of its checkpoints can be read")
    print(evaluations.table(rows), flush=True)
    _draw(run_dir, list(known.values()))


def _checkpoints_of(run_dir: Path) -> List[Path]:
    """The periodic ones by epoch, then the best."""
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(f"checkpoint={run_dir}: no run there (config.yaml is missing); give runs/<run>, or a .pth file")
    periodic = checkpoint.numbered(run_dir)[::-1]
    paths = periodic + sorted(set((run_dir / "nn").glob("*.pth")) - set(periodic))
    if not paths:
        raise ConfigError(f"checkpoint={run_dir}: no .pth file in its nn/; give a run that has saved a checkpoint, runs/<run>")
    return paths


def _evaluate_all(cfg: Config, paths: List[Path], run_dir: Path, settings: Result) -> None:
    """One task for all: only the weights change."""
    device, seed = build.device_of(cfg), settings["seed"]
    task, learner = build.build_for_test(cfg, device, seed, len(paths))
    for path in paths:
        try:
            state = checkpoint.load(path, device)
        except ConfigError as error:  # a file that a crash damaged; the others are worth having
            print(f"warning: {error}", flush=True)
            continue
        evaluations.append(run_dir, {**_play(task, learner, state, path, seed), **settings})


def _play(task, learner, state: Dict[str, Any], path: Path, seed: int) -> Result:
    checkpoint.put_weights(state, learner, path)
    result = evaluate.evaluate(task, learner.policy(task.num_envs, deterministic=True), seed)
    return {**result, "checkpoint": path.name, "content": _content(path), "epoch": state["epoch"], "frames": state["frames"]}


def _content(path: Path) -> str:
    return evaluations.digest(path.read_bytes())


def _tell(directory: Path, result: Result) -> None:
    print(evaluate.report(result), flush=True)
    evaluate.write(directory / "evaluation.json", result)
    evaluations.append(directory, result)


def _draw(run_dir: Path, results: List[Result]) -> None:
    """A missing package costs the picture, not the evaluation."""
    try:
        from happo_gpu import plot  # heavy to import

        quantity = "success rate" if "success_rate" in results[0] else "return"
        plot.plot_evaluations(run_dir, evaluations.curves(results), quantity)
    except (ConfigError, ImportError) as error:
        print(f"warning: no picture: {error}", flush=True)
