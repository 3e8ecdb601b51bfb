"""A run's saved config: completed by what is newer than the run, and with what is typed now on top."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Set

from happo_gpu.config import TASK_CONFIGS, ConfigError
from happo_gpu.config.files import GROUPS, composed_raw
from happo_gpu.config.schema import free_groups

_NAMED = ("task", "sim", "algo")  # train/<Task><ALGO>.yaml is spread over them
_SHORT = {"task.env.numEnvs": "num_envs", "algo.model.precision": "precision",  # keys that win over others
          **{f"train.{key}": key for key in ("max_iterations", "log_every", "eval_every", "save_every")}}
Raw = Dict[str, Any]


def saved_raw(run_dir: Path, sim: str = "") -> Raw:
    """As plain data, on its own or another simulator; a key that is newer than the run takes its default.

    Raises:
        ConfigError: there is none, or it is no run's.
    """
    import yaml
    from hydra.errors import HydraException

    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: it says which task and model a checkpoint is of; "
                          "give a checkpoint where its run left it, runs/<run>/nn/<name>.pth")
    try:
        saved = yaml.safe_load(path.read_text())
        if sim and sim != saved["sim"]["name"]:
            saved["sim"] = {"name": sim}  # all else as cfg/sim has it
        defaults = composed_raw([f"{group}={saved[group]['name']}" for group in _NAMED])
        free = {f"task.{name}" for name in free_groups(TASK_CONFIGS[saved["task"]["name"]])}
        return _completed(saved, defaults, free, "")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, HydraException) as error:
        raise ConfigError(f"{path} cannot be read ({' '.join(str(error).split())[:160]}): it is damaged or no run's config") from error


def _completed(saved: Mapping[str, Any], defaults: Mapping[str, Any], free: Set[str], path: str) -> Raw:
    """``free`` are groups of any keys: what is not in a saved one was taken out."""
    merged = dict(defaults)
    for key, value in saved.items():
        here = f"{path}.{key}" if path else key
        nested = isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping) and here not in free
        merged[key] = _completed(value, defaults[key], free, here) if nested else value
    return merged


def with_typed(saved: Raw, raw: Raw, overrides: Sequence[str]) -> Raw:
    """A run's config with what was typed on top: ``overrides``, and ``raw`` as they and the defaults compose.

    A group typed by another name replaces the run's.
    """
    merged = copy.deepcopy(saved)
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    for group in _NAMED:
        if group in keys and raw[group]["name"] != merged[group]["name"]:
            merged[group] = raw[group]
    for key in keys:
        *groups, last = key.lstrip("~").split(".")
        if key in GROUPS:
            continue
        at, typed = merged, raw
        for group in groups:
            at, typed = at.setdefault(group, {}), typed.get(group, {})
        if key.startswith("~"):
            at.pop(last, None)
        else:
            at[last] = typed[last]
            if key in _SHORT and _SHORT[key] not in keys:
                merged[_SHORT[key]] = ""
    return merged
