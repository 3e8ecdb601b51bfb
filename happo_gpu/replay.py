"""Repeats the iterations that ended in a value that is not finite.

    python -m happo_gpu.replay runs/<run>/nonfinite_ep_<E>.pth

The file is a checkpoint of the last moment at which everything was finite, and says what was found after it. Same state,
same numbers: the fault comes again, here after every iteration looked at. Nothing in the run's directory is changed.
"""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import List

import torch

from happo_gpu import build, checkpoint, guard
from happo_gpu.command import run, saved_config
from happo_gpu.config import ConfigError


def main(arguments: List[str]) -> None:
    path = Path(arguments[0])
    cfg = saved_config(path.parent, wandb_activate=False, capture_video=False)
    device = build.device_of(cfg)
    state = checkpoint.load(path, device)
    if "fault" not in state:
        raise ConfigError(f"{path} is a checkpoint, but of no fault; give runs/<run>/nonfinite_ep_<E>.pth")
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    print(state["fault"]["message"], flush=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        trainer = build.build_trainer(cfg, Path(elsewhere), "replay", device, build.seed_everything(cfg.seed, cfg.torch_deterministic), state)
        fault = None
        while fault is None and trainer.epoch < state["fault"]["epoch"]:
            stats = trainer.iterate()
            losses = {tag: float(value) for tag, value in stats.items() if tag.startswith("losses/")}
            fault = guard.find(trainer.task, trainer.learner, trainer.rollout, losses)
        trainer.logger.close()
    print(f"again in iteration {trainer.epoch}: {fault}" if fault else
          f"iterations up to {trainer.epoch} are finite now: the fault did not come from the state alone", flush=True)


if __name__ == "__main__":
    run(main, __doc__ or "")
