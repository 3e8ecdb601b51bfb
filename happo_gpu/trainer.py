"""The loop: collect, update, log, evaluate, save."""
from __future__ import annotations

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
from happo_gpu.guard import Guard, NonFinite
from happo_gpu.log import EpisodeMeans, Logger, PhaseTimer, to_host
from happo_gpu.recording import Recorder, Recording
from happo_gpu.signals import Stop

_COUNTERS = ("epoch", "frames", "train_seconds", "best", "last_return", "rollbacks")
EVALUATION_SEED = 20_000  # fixed, so that evaluations of a run face the same starts and goals


@dataclass(frozen=True)
class Camera:
    """Films the first ``num_envs`` environments of the next evaluation every ``every`` iterations."""

    every: int
    num_envs: int
    write: Callable[[Recording, Path], None]


class Trainer:
    """Runs a learner on a task for ``cfg.max_iterations`` iterations.

    Everything that decides the numbers of iteration i + 1 is in :meth:`state_dict` after iteration
    i, so that a run which is killed and resumed equals one that never stopped, bit for bit. Of several
    processes the first alone has a logger, evaluates and writes.
    """

    def __init__(
        self, task, eval_task, learner, rollout: Rollout, logger: Optional[Logger], cfg: TrainConfig, run_dir: Path, name: str,
        camera: Optional[Camera] = None, max_rollbacks: int = 0,
    ) -> None:
        self.task, self.eval_task, self.learner, self.rollout = task, eval_task, learner, rollout
        self.logger, self.cfg, self.run_dir, self.name = logger, cfg, run_dir, name
        self.camera, self.max_rollbacks, self.rollbacks = camera, max_rollbacks, 0
        self.epoch, self.frames, self.train_seconds, self.best = 0, 0, 0.0, float("-inf")
        self.last_return, self._logged_epoch = 0.0, 0
        self.frames_per_epoch = rollout.num_steps * rollout.num_envs * task.decimation * distributed.SIZE
        self.policy = learner.policy(task.num_envs)
        self._episodes, self._timer = EpisodeMeans(), PhaseTimer(task.device)
        self._guard = Guard(task, learner, rollout, run_dir)

    def run(self, stop: Optional[Stop] = None) -> None:
        """Trains to the end, or until ``stop``; saves in both cases.

        Raises:
            NonFinite: something is not finite, and no rollback is left.
            OSError: the last checkpoint cannot be written.
        """
        stopping = _agreed(stop)
        self._guard.remember(self._own_state())
        while self.epoch < self.cfg.max_iterations and not stopping:
            stats = self.iterate()
            stopping = _agreed(stop)  # asked once: what is saved was logged, and so found finite
            try:
                self._after_iteration(stats, stopping)
            except NonFinite as error:
                self._roll_back(error)
        self._save_last()
        print("MAX EPOCHS NUM!" if self.epoch >= self.cfg.max_iterations else f"stopped by a signal; resume with resume={self.run_dir}",
              flush=True)

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

    def _after_iteration(self, stats: Dict[str, torch.Tensor], stopping: bool = False) -> None:
        cadences = (self.cfg.log_every, self.cfg.eval_every, self.cfg.save_every)
        if any(self._due(every) for every in cadences) or stopping:
            self._log(stats)  # what is evaluated or saved has its seconds counted
        else:
            self._guard.check(to_host({"pulse": self._guard.pulse()})["pulse"], {}, self.epoch)
        if self._due(self.cfg.eval_every):
            self._evaluate()
        if self._due(self.cfg.save_every) and self.epoch < self.cfg.max_iterations:
            self._save_last(may_fail=True)

    def _due(self, every: int) -> bool:
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.cfg.max_iterations)

    def _log(self, stats: Dict[str, torch.Tensor]) -> None:
        values = to_host({**stats, "pulse": self._guard.pulse()})
        self._guard.check(values.pop("pulse"), values, self.epoch)
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
        self._guard.remember(self._own_state())

    def _frames_since_log(self) -> int:
        epochs = self.epoch - self._logged_epoch
        self._logged_epoch = self.epoch
        return epochs * self.frames_per_epoch

    def _evaluate(self) -> None:
        """By the first process; the others wait to hear whether the policy is the best so far."""
        if distributed.agree(self._evaluate_here() if self.logger else False):
            self._save(f"{self.name}.pth", may_fail=True)

    def _evaluate_here(self) -> bool:
        policy = self.learner.policy(self.eval_task.num_envs, deterministic=True)
        recorder = Recorder(self.eval_task, self.camera.num_envs) if self._films() else None
        with recorder or nullcontext():
            result = evaluate(self.eval_task, policy, EVALUATION_SEED)
        if recorder:
            self.camera.write(recorder.recording(), self.run_dir / "videos" / f"ep_{self.epoch}.mp4")
        result.update(epoch=self.epoch, frames=self.frames, train_seconds=self.train_seconds, wall_time=time.time())
        self.logger.evaluation(result)
        score = (result.get("success_rate", result["mean_return"]), -result.get("finished_time", 0.0))
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

    def _save_last(self, may_fail: bool = False) -> None:
        self._save(f"last_{self.name}_ep_{self.epoch}_rew_{self.last_return:.2f}.pth", may_fail)
        if self.logger:
            checkpoint.rotate(self.run_dir, self.cfg.keep_checkpoints)
            self.logger.flush()  # a resumed run writes only what comes after

    def _save(self, name: str, may_fail: bool) -> None:
        """Gathers and writes a checkpoint; with ``may_fail`` says why it cannot: the next time may go better."""
        state = self.state_dict()
        if state is None:
            return
        try:
            checkpoint.save(self.run_dir / "nn" / name, state)
        except OSError as error:
            if not may_fail:
                raise
            print(f"warning: no checkpoint written ({error}); training goes on, earlier ones are intact", flush=True)

    def _roll_back(self, error: NonFinite) -> None:
        """Goes on from the last good checkpoint with half the learning rate; raises ``error`` if that is not allowed any more."""
        found = checkpoint.newest_good(self.run_dir, self.task.device) if self.rollbacks < self.max_rollbacks else None
        if distributed.largest(int(found is None)):  # all processes or none
            raise error
        path, state = found
        count = self.rollbacks + 1
        self.load_state_dict(state)
        self.learner.scale_rates(0.5 ** (count - self.rollbacks))  # the checkpoint may be older than the rollback before
        self.rollbacks = count
        self._episodes.take(), self._timer.take()
        if self.logger:
            self.logger.rewind(self.frames)
        self._guard.remember(self._own_state())
        print(f"warning: {error}; rolled back to '{path}' with {0.5 ** count:g} of the learning rate "
              f"({count} of {self.max_rollbacks} times)", flush=True)

    # -- checkpoint ----------------------------------------------------------------------------

    def state_dict(self) -> Optional[Dict[str, Any]]:
        """What all processes continue from, and under ``processes`` what each has of its own; None but on the first."""
        own = distributed.gather(self._of_this_process())
        return None if own is None else {**self._shared_state(), "processes": own}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Continues bit for bit; with another number of processes, from the same weights with new episodes."""
        if "processes" not in state:
            raise ConfigError("the checkpoint is of an older version, which can be evaluated but not continued; "
                              "write checkpoint=<file> in place of resume= to start from its weights")
        self.learner.load_state_dict(state["learner"])
        for key in _COUNTERS:
            setattr(self, key, state[key])
        self._logged_epoch = self.epoch
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

    def _shared_state(self) -> Dict[str, Any]:
        return {"learner": self.learner.state_dict(), **{key: getattr(self, key) for key in _COUNTERS}}

    def _of_this_process(self) -> Dict[str, Any]:
        memory = self.learner.critic_hidden
        return {"task": self.task.state_dict(), "hidden": [hidden.clone() for hidden in self.policy.hidden],
                "critic_hidden": None if memory is None else memory.clone(), "rng": checkpoint.rng_state(self.task.device)}

    def _own_state(self) -> Dict[str, Any]:
        """Enough to repeat this process alone."""
        return {**self._shared_state(), "processes": [self._of_this_process()]}


def _agreed(stop: Optional[Stop]) -> bool:
    """Whether any process was asked to stop: then all do."""
    return distributed.largest(int(bool(stop))) > 0
