"""The loop: collect, update, log, evaluate, save."""
from __future__ import annotations

import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import torch

from happo_gpu import checkpoint, distributed
from happo_gpu.config import ConfigError
from happo_gpu.config.algo import TrainConfig
from happo_gpu.data.collect import collect
from happo_gpu.data.rollout import Rollout
from happo_gpu.evaluate import evaluate
from happo_gpu.log import EpisodeMeans, Logger, PhaseTimer, to_host
from happo_gpu.recording import Recorder, Recording

EVALUATION_SEED = 20_000  # fixed, so that evaluations of a run face the same starts and goals


class NonFinite(RuntimeError):
    """A simulator or policy produced a value that is not finite."""


@dataclass(frozen=True)
class Camera:
    """Films the first ``num_envs`` environments of the next evaluation every ``every`` iterations."""

    every: int
    num_envs: int
    write: Callable[[Recording, Path], None]


class Trainer:
    """Runs a learner on a task for ``cfg.max_iterations`` iterations.

    Everything that decides the numbers of iteration i + 1 is in :meth:`state_dict` after iteration
    i, so that a run which is killed and resumed equals one that never stopped, bit for bit.
    """

    def __init__(
        self, task, eval_task, learner, rollout: Rollout, logger: Logger, cfg: TrainConfig, run_dir: Path, name: str,
        camera: Optional[Camera] = None,
    ) -> None:
        self.task, self.eval_task, self.learner, self.rollout = task, eval_task, learner, rollout
        self.logger, self.cfg, self.run_dir, self.name = logger, cfg, run_dir, name
        self.camera = camera
        self.epoch, self.frames, self.train_seconds, self.best = 0, 0, 0.0, float("-inf")
        self.last_return = 0.0
        self.frames_per_epoch = rollout.num_steps * rollout.num_envs * task.decimation * distributed.SIZE
        self.policy = learner.policy(task.num_envs)
        self._episodes, self._timer = EpisodeMeans(), PhaseTimer(task.device)
        self._stop: Optional[int] = None

    def run(self) -> None:
        """Trains to the end, or until a signal asks to stop; saves in both cases."""
        previous = {sig: signal.signal(sig, self._ask_to_stop) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.epoch < self.cfg.max_iterations and self._stop is None:
                stats = self.iterate()
                self._stop = distributed.largest(self._stop or 0) or None  # all stop, or none
                self._after_iteration(stats)
            self._save_last()
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)
        print("MAX EPOCHS NUM!" if self._stop is None else "stopped by a signal; resume with resume="
              + str(self.run_dir), flush=True)

    def iterate(self) -> Dict[str, torch.Tensor]:
        """One iteration, entirely on the device; returns 0-d statistics that nobody has read yet."""
        self.learner.set_progress(self.epoch / self.cfg.max_iterations)
        self._timer.start()
        collect(self.task, self.policy, self.rollout, [self._episodes.add], self._timer.lap)
        stats = self.learner.update(self.rollout)
        self._timer.lap("update")
        self.epoch += 1
        self.frames += self.frames_per_epoch
        return stats

    # -- what follows an iteration, each at its own cadence ------------------------------------

    def _after_iteration(self, stats: Dict[str, torch.Tensor]) -> None:
        cadences = (self.cfg.log_every, self.cfg.eval_every, self.cfg.save_every)
        if any(self._due(every) for every in cadences) or self._stop is not None:
            self._log(stats)  # what is evaluated or saved has its seconds counted
        if self._due(self.cfg.eval_every):
            self._evaluate()
        if self._due(self.cfg.save_every) and self.epoch < self.cfg.max_iterations:
            self._save_last()

    def _due(self, every: int) -> bool:
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.cfg.max_iterations)

    def _log(self, stats: Dict[str, torch.Tensor]) -> None:
        values = to_host({**stats, "finite": self.task.finite.all()})
        if values.pop("finite") < 1.0:
            raise NonFinite(self._describe_non_finite())
        episodes = self._episodes.take()
        if "return" in episodes:
            self.last_return = episodes["return"]
        seconds = self._timer.take()
        spent = sum(seconds.values())
        self.train_seconds += spent
        frames = self._frames_since_log()
        step, inference = seconds["step"], seconds["step"] + seconds["inference"]
        record = {
            "epoch": self.epoch, "max_epochs": self.cfg.max_iterations, "frames": self.frames,
            "train_seconds": self.train_seconds, "wall_time": time.time(),
            "performance/step_fps": frames / step,
            "performance/step_inference_fps": frames / inference,
            "performance/step_inference_rl_update_fps": frames / spent,
            "performance/agent_steps_per_s": frames * len(self.task.agents) / spent,
            "performance/decisions_per_s": frames / self.task.decimation / spent,
            "performance/step_time": step, "performance/step_inference_time": inference,
            "performance/rl_update_time": seconds["update"],
            "info/epochs": self.epoch,
            "info/e_clip": self.learner.cfg.clip_param,
            **values, **{f"Episode/{key}": value for key, value in episodes.items()},
        }
        if self.logger:
            self.logger.iteration(record)

    def _frames_since_log(self) -> int:
        epochs = self.epoch - getattr(self, "_logged_epoch", self._first_epoch)
        self._logged_epoch = self.epoch
        return epochs * self.frames_per_epoch

    _first_epoch = 0

    def _describe_non_finite(self) -> str:
        bad = (~self.task.finite).nonzero().flatten().tolist()
        return (
            f"non-finite observations by iteration {self.epoch} in {len(bad)} environments, first: {bad[:5]}; "
            f"the last good checkpoint is {checkpoint.latest(self.run_dir)}"
        )

    def _evaluate(self) -> None:
        """By the first process; the others wait to hear whether the policy is the best so far."""
        better = distributed.agree(self._evaluate_here() if self.logger else None)
        if better:
            self._save(f"{self.name}.pth")

    def _evaluate_here(self) -> bool:
        policy = self.learner.policy(self.eval_task.num_envs, deterministic=True)
        recorder = Recorder(self.eval_task, self.camera.num_envs) if self._films() else None
        with recorder or nullcontext():
            result = evaluate(self.eval_task, policy, EVALUATION_SEED)
        result.update(epoch=self.epoch, frames=self.frames, train_seconds=self.train_seconds)
        self.logger.evaluation(result)
        score = (result.get("success_rate", result["mean_return"]), -result.get("finished_time", 0.0))
        if recorder:
            self.camera.write(recorder.recording(), self.run_dir / "videos" / f"ep_{self.epoch}.mp4")
        better = self.best == float("-inf") or score > tuple(self.best)
        if better:
            self.best = list(score)
            print(f"saving next best rewards: {result['mean_return']:.3f}", flush=True)
        return better

    def _films(self) -> bool:
        """Whether this is the first evaluation since a multiple of the camera's cadence, or the last of the run."""
        if self.camera is None:
            return False
        return self.epoch % self.camera.every < self.cfg.eval_every or self.epoch == self.cfg.max_iterations

    def _save_last(self) -> None:
        self._save(f"last_{self.name}_ep_{self.epoch}_rew_{self.last_return:.2f}.pth")

    def _save(self, name: str) -> None:
        state = self.state_dict()
        if state is not None:
            checkpoint.save(self.run_dir / "nn" / name, state)

    def _ask_to_stop(self, signum: int, frame: Any) -> None:
        if self._stop is not None:
            raise KeyboardInterrupt
        self._stop = signum
        print("\nstopping after this iteration (again: at once)", flush=True)

    # -- checkpoint ----------------------------------------------------------------------------

    def state_dict(self) -> Optional[Dict[str, Any]]:
        """What every process continues from, and under ``processes`` what each has of its own; None but on the first."""
        own = distributed.gather({
            "task": self.task.state_dict(), "hidden": [hidden.clone() for hidden in self.policy.hidden],
            "critic_hidden": self.learner.critic_hidden, "rng": checkpoint.rng_state(self.task.device),
        })
        if own is None:
            return None
        return {
            "learner": self.learner.state_dict(), "processes": own, "epoch": self.epoch, "frames": self.frames,
            "train_seconds": self.train_seconds, "best": self.best, "last_return": self.last_return,
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Continues bit for bit; with another number of processes, from the same weights with new episodes."""
        if "processes" not in state:
            raise ConfigError("the checkpoint is of an older version, which can be evaluated but not continued; "
                              "write checkpoint=<file> in place of resume= to start from its weights")
        self.learner.load_state_dict(state["learner"])
        for key in ("epoch", "frames", "train_seconds", "best", "last_return"):
            setattr(self, key, state[key])
        self._first_epoch = self.epoch
        if len(state["processes"]) != distributed.SIZE:
            print(f"warning: the checkpoint is of {len(state['processes'])} processes, now there are {distributed.SIZE}: "
                  "weights and counters go on, episodes start anew", flush=True)
            return
        own = state["processes"][distributed.RANK]
        self.task.load_state_dict(own["task"])
        for hidden, saved in zip(self.policy.hidden, own["hidden"]):
            hidden.copy_(saved)
        self.learner.critic_hidden = own["critic_hidden"]
        checkpoint.set_rng_state(own["rng"], self.task.device)
