"""python -m tests.oracle.record HARL_DIRECTORY OUT_DIRECTORY [NAME...]: records what HARL's own classes compute.

Drives the unmodified runners, actors, critic, buffers and ValueNorm of a HARL checkout on made-up
rollouts and writes one file per case of tests.oracle.cases. Needs HARL's dependencies (torch, numpy,
gymnasium, pyyaml, absl-py, tensorboardX, setproctitle) and nothing of this project.

Files hold, by HARL's names: ``config`` (JSON), ``in/`` initial weights and each iteration's buffers,
``perm/`` every permutation that was drawn, ``out/`` returns, advantages, factors, log-probabilities,
first gradients, and weights and optimiser moments after the update. replay.py reads all of it.
"""
from __future__ import annotations

import contextlib
import functools
import sys
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional
from unittest import mock

import numpy as np
import torch

from tests.oracle.cases import CASES, Case, GaeCase, ValueNormCase
from tests.oracle.parts import Recorder, record_gae, record_valuenorm
from tests.oracle.world import ENVS, STEPS, World, array, named


def numbers(info: Dict[str, Any]) -> Dict[str, float]:
    """HARL's train_info mixes numbers, tensors and arrays of one."""
    return {name: array(value).astype(np.float64).item() for name, value in info.items()}


def shown(function: Callable, show: Callable, before: bool = False) -> Callable:
    """``function``, followed by show(result, *args), or preceded by show(*args)."""

    def watched(*args: Any, **named_args: Any) -> Any:
        if before:
            show(*args)
        result = function(*args, **named_args)
        if not before:
            show(result, *args)
        return result

    return watched


def spy(owner: Any, method: str, show: Callable, before: bool = False) -> None:
    """Replaces a method of one object, not of its class."""
    setattr(owner, method, shown(getattr(owner, method), show, before))


class Run(Recorder):
    """One case of whole updates: HARL's runner, watched while it learns."""

    def __init__(self, case: Case, seed: int, harl: Path) -> None:
        self.case, self.world = case, World(case, seed, harl)
        self.runner, args = self.world.runner, self.world.args
        settings = {name: getattr(case, name) for name in ("deaths", "vn_warm", "rand_head", "stale", "reward_scale")}
        super().__init__({
            "algo_name": case.algo, "obs_dims": case.obs, "act_spaces": case.acts, "state_type": case.state_type,
            "seed": seed, "share_obs_dim": self.world.share_obs_dim,
            "harl": {section: args[section] for section in ("train", "model", "algo")}, **settings,
        })
        self.k = 0  # the iteration
        self.inside: Optional[str] = None  # whose update is running: actor0, ..., share, critic
        self._permutations: Dict[str, List[np.ndarray]] = {}
        self._watch()

    def record(self) -> None:
        """Iterations of collect, compute, train and after_update, as HARL's runners go round."""
        train = self.world.args["train"]
        episodes = train["num_env_steps"] // STEPS // ENVS
        for self.k in range(self.case.iterations):
            if train["use_linear_lr_decay"]:
                for learner in (*self.world.actors.values(), self.runner.critic):
                    learner.lr_decay(self.k + 1, episodes)
            self.world.collect()
            if self.k == 0:
                self.world.disturb(self.case.stale)
                self._keep_networks("in")
            self._keep_rollout()
            self.learn()
            self.runner.after_update()

    def learn(self) -> None:
        """compute() and train() of HARL's runner on the buffers as they are."""
        runner, out = self.runner, f"out/it{self.k}"
        buffer, order, self._permutations = runner.critic_buffer, list(range(self.world.num_agents)), {}
        runner.compute()
        values, norm = buffer.value_preds, runner.value_normalizer
        denormalized = values if norm is None else norm.denormalize(values)
        self.keep(out, {"returns": buffer.returns, "values_denormalized": denormalized,
                        "advantages_raw": buffer.returns[:-1] - denormalized[:-1]})
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch("torch.randperm", self._randperm(torch.randperm)))
            self._watch_trust_region(patches)
            actor_infos, critic_info = runner.train()
        for name, drawn in self._permutations.items():
            self.keep(f"perm/it{self.k}/{name}", np.stack(drawn).astype(np.int32))
        if self.case.algo != "mappo" and not runner.fixed_order:
            order = [int(i) for i in self._permutations["order"][0]]
        self.keep(f"{out}/agent_order", order)
        for i, info in list(zip(order, actor_infos))[: len(self.world.actors)]:
            self.keep(f"{out}/actor{i}/info", numbers(info))
        self.keep(f"{out}/critic/info", numbers(critic_info))
        self._keep_networks(out, "/params")
        for name, (network, optimizer) in self.world.learners.items():
            for parameter, weight in network.named_parameters():
                self.keep(f"{out}/{name}/adam/{parameter}", optimizer.state.get(weight, {}))
        if self.case.algo != "mappo":
            self.keep(f"{out}/factor_after_last", self._last_factor())

    def _keep_networks(self, prefix: str, leaf: str = "") -> None:
        for name, (network, _) in self.world.learners.items():
            self.keep(f"{prefix}/{name}{leaf}", named(network))
        if self.runner.value_normalizer is not None:
            self.keep(f"{prefix}/valuenorm", named(self.runner.value_normalizer))

    def _keep_rollout(self) -> None:
        model = self.world.args["model"]
        recurrent = model["use_recurrent_policy"] or model["use_naive_recurrent_policy"]
        for i, buffer in enumerate(self.runner.actor_buffer):
            names = ["obs", "actions", "action_log_probs", "masks", "active_masks"] + ["rnn_states"] * recurrent
            names += ["available_actions"] * (buffer.available_actions is not None)
            self.keep(f"in/it{self.k}/actor{i}", {name: getattr(buffer, name) for name in names})
        names = ["share_obs", "value_preds", "rewards", "masks", "bad_masks"] + ["rnn_states_critic"] * recurrent
        self.keep(f"in/it{self.k}/critic", {name: getattr(self.runner.critic_buffer, name) for name in names})

    def _last_factor(self) -> np.ndarray:
        """The last agent's factor times its ratio, which HARL computes and drops."""
        where = f"out/it{self.k}/actor{self.arrays[f'out/it{self.k}/agent_order'][-1]}"
        change = torch.from_numpy(self.arrays[f"{where}/logp_after"] - self.arrays[f"{where}/logp_before"])
        ratio = getattr(torch, self.runner.action_aggregation)(torch.exp(change), dim=-1)
        factor = self.arrays[f"{where}/factor"]
        return factor * ratio.reshape(factor.shape).numpy()

    # -- what passes while HARL learns --------------------------------------------------------------

    def _watch(self) -> None:
        """Replaces methods of HARL's objects, not of its classes, by ones that show what passes."""
        for name, actor in self.world.actors.items():
            self._within(actor, "train", name)
            spy(actor, "evaluate_actions", functools.partial(self._evaluated, name))
        if self.runner.share_param:
            self._within(self.runner.actor[0], "share_param_train", "share")
        self._within(self.runner.critic, "train", "critic")
        for name, (network, optimizer) in self.world.learners.items():
            spy(optimizer, "step", functools.partial(self._stepping, name, network), before=True)
        spy(self.runner.critic_buffer, "compute_returns", lambda *args: self.keep(f"out/it{self.k}/next_value", args[1]))
        generators = ("feed_forward_generator_actor", "recurrent_generator_actor", "naive_recurrent_generator_actor")
        for i, buffer in enumerate(self.runner.actor_buffer):
            for generator in generators:
                spy(buffer, generator, functools.partial(self._drawing, i), before=True)

    def _within(self, owner: Any, method: str, name: str) -> None:
        """Remembers during ``method`` whose update is running."""
        original = getattr(owner, method)

        def watched(data: Any, *rest: Any) -> Any:
            self.inside = name
            if name != "critic":
                where = f"out/it{self.k}/{'actor0' if name == 'share' else name}"
                self.keep(f"{where}/adv_in", rest[0])
                if getattr(data, "factor", None) is not None:
                    self.keep(f"{where}/factor", data.factor)
            result = original(data, *rest)
            self.inside = None
            return result

        setattr(owner, method, watched)

    def _randperm(self, original: Callable) -> Callable:
        def randperm(size: int) -> torch.Tensor:
            drawn, name = original(size), self.inside or "order"
            if name == "share":  # the agents take turns
                name = f"actor{sum(len(rows) for rows in self._permutations.values()) % self.world.num_agents}"
            self._permutations.setdefault(name, []).append(array(drawn))
            return drawn

        return randperm

    def _evaluated(self, name: str, result: Any, *_: Any) -> None:
        if self.inside is None:  # by the runner, before and after the actor's update
            where = f"out/it{self.k}/{name}"
            if f"{where}/logp_before" in self.arrays:
                self.keep(f"{where}/logp_after", result[0])
            else:
                self.keep(where, {"logp_before": result[0], "entropy_before": result[1]})

    def _stepping(self, name: str, network: torch.nn.Module, *_: Any) -> None:
        gradients = {parameter: weight.grad for parameter, weight in network.named_parameters()}
        self.keep(f"out/it{self.k}/{name}/grad_first_update", gradients, once=True)

    def _drawing(self, i: int, advantages: np.ndarray, *_: Any) -> None:
        self.keep(f"out/it{self.k}/actor{i}/adv_used", advantages.reshape(STEPS, ENVS, 1), once=True)

    def _watch_trust_region(self, patches: contextlib.ExitStack) -> None:
        """HATRPO's helpers show their vectors; the other algorithms never call them."""
        from harl.algorithms.actors import hatrpo
        from harl.utils import trpo_util

        def where(name: str) -> str:
            return f"out/it{self.k}/{self.inside}/trpo/{name}"

        def multiplied(image: torch.Tensor, *args: Any) -> None:
            self.keep(where("fvp_of_step_dir"), image)
            self.keep(where("shs"), 0.5 * (args[-1] * image).sum())

        def directed(direction: torch.Tensor, *args: Any) -> None:
            self.keep(where("loss_grad"), args[7])
            self.keep(where("step_dir"), direction)

        def written(_: None, network: torch.nn.Module, weights: torch.Tensor) -> None:
            if network is self.world.actors[self.inside].actor:  # and not the copy of the old one
                self.keep(where("full_step"), array(weights) - self.arrays[where("params_before")], once=True)
                self.keep(where("n_actor_param_writes"), self.arrays.get(where("n_actor_param_writes"), 0) + 1)

        watched = {
            (trpo_util, "fisher_vector_product"): lambda image, *_: self.keep(where("fvp_of_loss_grad"), image, once=True),
            (hatrpo, "fisher_vector_product"): multiplied, (hatrpo, "conjugate_gradient"): directed,
            (hatrpo, "flat_params"): lambda weights, _: self.keep(where("params_before"), weights, once=True),
            (hatrpo, "update_model"): written,
        }
        for (module, name), show in watched.items():
            patches.enter_context(mock.patch.object(module, name, shown(getattr(module, name), show)))


def main() -> None:
    harl, out, *chosen = sys.argv[1:]
    sys.path.insert(0, harl)
    torch.set_num_threads(1)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        if chosen and name not in chosen:
            continue
        seed = zlib.crc32(name.encode()) + case.seed  # the same in whatever order cases are listed
        if isinstance(case, GaeCase):
            record = record_gae(case, seed)
        elif isinstance(case, ValueNormCase):
            record = record_valuenorm(case, seed)
        else:
            record = Run(case, seed, Path(harl))
            record.record()
        record.save(Path(out) / f"{name}.npz")
        print(name)


if __name__ == "__main__":
    main()
