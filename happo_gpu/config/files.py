"""Where the YAML files are, and how Hydra composes them."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Sequence

_PACKAGE = Path(__file__).resolve().parent.parent
CFG_DIR = _PACKAGE / "cfg" if (_PACKAGE / "cfg").is_dir() else _PACKAGE.parent / "cfg"
GROUPS = ("task", "sim", "algo", "train")


def composed(overrides: Sequence[str], folder: Path = CFG_DIR, version: str = "1.2") -> Any:
    """The config of a folder with these overrides, also while a job of Hydra's own runs, which composed another.

    Raises:
        HydraException: an override is of no use.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=version):
            return compose("config", overrides=list(overrides))
    finally:
        if running is not None:
            GlobalHydra.instance().clear()
            GlobalHydra.instance().initialize(running)


def composed_raw(overrides: Sequence[str]) -> Dict[str, Any]:
    """This project's, as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(composed(overrides), resolve=True)
