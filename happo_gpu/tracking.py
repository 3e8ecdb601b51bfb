"""A run's records to Weights & Biases; whatever goes wrong there is one warning, and the run goes on."""
from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Dict, Optional

from happo_gpu.config import Config
from happo_gpu.log import evaluation_tags


class WandbRun:
    """The tags of TensorBoard under wandb's step = frames, and the resolved config. WANDB_MODE=offline works as usual."""

    def __init__(self, cfg: Config, run_dir: Path, seed: int) -> None:
        self._run = _start(cfg, run_dir, seed)

    def iteration(self, record: Dict[str, float]) -> None:
        self._log({tag: value for tag, value in record.items() if tag != "frames"}, record["frames"])

    def evaluation(self, record: Dict[str, Any]) -> None:
        self._log(evaluation_tags(record), record["frames"])

    def close(self) -> None:
        self._try(lambda: self._run.finish())

    def _log(self, values: Dict[str, float], frames: float) -> None:
        self._try(lambda: self._run.log(values, step=int(frames)))

    def _try(self, call) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:  # of any kind: it is somebody else's service
            _warn(f"Weights & Biases failed and gets no more of this run ({' '.join(str(error).split())[:160]})")
            self._run = None


def _start(cfg: Config, run_dir: Path, seed: int) -> Optional[Any]:
    """None, after one line of warning, where wandb is missing or refuses."""
    try:
        import wandb
    except ImportError:
        _warn("wandb_activate=True has no effect: it needs the package wandb; write pip install -e '.[wandb]'")
        return None
    try:
        return wandb.init(
            project=cfg.wandb_project, entity=cfg.wandb_entity or None, group=cfg.wandb_group or None,
            name=cfg.wandb_name or run_dir.name, id=re.sub(r"[^\w.-]", "_", run_dir.name), resume="allow",  # a resumed run goes on there
            dir=str(run_dir), config={**dataclasses.asdict(cfg), "seed": seed},
            settings=wandb.Settings(console="off"),  # it would catch the display's redrawing
        )
    except Exception as error:  # no key, no network, ...
        _warn(f"wandb_activate=True has no effect ({' '.join(str(error).split())[:160]}); "
              "WANDB_MODE=offline before the command works without an account")
        return None


def _warn(text: str) -> None:
    print(f"warning: {text}", flush=True)
