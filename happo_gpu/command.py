"""What the commands besides training share: key=value arguments, errors in one line, a run's config and its policy."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import yaml

from happo_gpu import cli
from happo_gpu.config import Config, ConfigError, parse
from happo_gpu.config.schema import typed
from happo_gpu.saved import saved_raw


def run(main: Callable[[List[str]], None], usage: str) -> None:
    """Calls ``main`` with the command line; an error becomes one line and exit code 2."""
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(usage.strip())
        sys.exit(0 if arguments else 2)
    try:
        main(arguments)
    except ConfigError as error:
        cli.fail(str(error))
    except OSError as error:
        cli.fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def options(cls: type, arguments: List[str], defaults: Dict[str, Any]) -> Any:
    """``cls``, a config class, from key=value arguments on top of ``defaults``."""
    given = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument} is no option; write key=value, of {', '.join(defaults)}")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError:  # a path with a bracket in it
            given[key] = value
    return typed(cls, {**defaults, **given}, "")


def saved_config(run_dir: Path, sim: str = "", **changes: Any) -> Config:
    """A run's config, for its policy to act and not to learn, with root keys changed; on its own or another simulator."""
    return parse({**saved_raw(run_dir, sim), "test": True, **changes})


def run_config_of(checkpoint: str, num_envs: int, sim: str = "") -> Config:
    """The config of runs/<run>/nn/<name>.pth, to draw on any machine: few environments, so on the CPU and uncompiled."""
    if not checkpoint:
        raise ConfigError("a checkpoint is needed; write checkpoint=runs/<run>/nn/<name>.pth")
    if not Path(checkpoint).is_file():
        raise ConfigError(f"checkpoint {checkpoint} does not exist; give a .pth file, e.g. runs/<run>/nn/<name>.pth")
    if sim:
        cli.check_groups([f"sim={sim}"])
    return saved_config(cli.run_of(Path(checkpoint)), sim, num_envs=num_envs, sim_device="cpu", rl_device="cpu", accelerate="eager")


def task_and_policy(cfg: Config, path: Path, seed: int) -> Tuple[Any, Any]:
    """The task, seeded, and the checkpoint's deterministic policy."""
    from happo_gpu import build, checkpoint

    device = build.device_of(cfg)
    state = checkpoint.load(path, device)
    seed = build.seed_everything(seed, cfg.torch_deterministic)
    task, learner = build.build_for_test(cfg, device, seed)
    checkpoint.put_weights(state, learner, path)
    return task, learner.policy(task.num_envs, deterministic=True)
