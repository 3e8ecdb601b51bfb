"""What the commands besides training share: key=value arguments, errors in one line, a run's config and its policy."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import yaml

from happo_gpu import cli
from happo_gpu.config import Config, ConfigError, parse
from happo_gpu.config.schema import typed

SAVED_GROUPS = ("task", "sim", "algo")  # train/<Task><ALGO>.yaml is spread over them


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


def saved_raw(run_dir: Path, sim: str = "") -> Dict[str, Any]:
    """A run's saved config as plain data, on its own or another simulator; a key that is newer than the run takes its default."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: it says which task and model a checkpoint is of; "
                          "give a checkpoint where its run left it, runs/<run>/nn/<name>.pth")
    try:
        saved = yaml.safe_load(path.read_text())
        if sim and sim != saved["sim"]["name"]:
            saved["sim"] = {"name": sim}  # all else as cfg/sim has it
        groups = [f"{group}={saved[group]['name']}" for group in SAVED_GROUPS]
        with initialize_config_dir(str(cli.CFG_DIR), version_base="1.2"):
            defaults = compose("config", overrides=groups)
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, HydraException) as error:
        raise ConfigError(f"{path} cannot be read ({' '.join(str(error).split())[:160]}): it is damaged or no run's config") from error
    OmegaConf.set_struct(defaults, False)  # a run may have keys of its own: +task.randomize.object_mass=[0.9,1.1]
    return OmegaConf.to_container(OmegaConf.merge(defaults, saved), resolve=True)


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
