"""HARL's settings and parameter names as this project's."""
from __future__ import annotations

import re
from typing import Any, Dict, List

import yaml

from happo_gpu.config.files import CFG_DIR
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.config.schema import typed
from happo_gpu.types import ActionSpace, AgentSpec, box, discrete

_MODEL = ("hidden_sizes", "activation_func", "use_feature_normalization", "initialization_method", "gain",
          "std_x_coef", "std_y_coef", "recurrent_n", "data_chunk_length")
_ALGO = ("lr", "critic_lr", "opti_eps", "weight_decay", "critic_epoch", "use_clipped_value_loss", "clip_param",
         "actor_num_mini_batch", "critic_num_mini_batch", "entropy_coef", "value_loss_coef", "use_max_grad_norm",
         "max_grad_norm", "gamma", "gae_lambda", "use_huber_loss", "use_policy_active_masks", "huber_delta",
         "action_aggregation", "fixed_order", "ppo_epoch", "use_valuenorm", "use_linear_lr_decay", "episode_length")
_TRUST_REGION = ("kl_threshold", "ls_step", "accept_ratio", "backtrack_coeff")


def algo_config(name: str, harl: Dict[str, Dict[str, Any]]) -> AlgoConfig:
    """This project's settings for HARL's ``name`` with the recorded train, model and algo sections."""
    raw = yaml.safe_load((CFG_DIR / "algo" / f"{name.upper()}.yaml").read_text())
    given = {**harl["train"], **harl["model"], **harl["algo"]}
    raw.update({key: given[key] for key in _ALGO if key in given})
    raw["model"].update({key: given[key] for key in _MODEL if key in given})
    raw["model"].update(
        share_param=given["share_param"], multi_discrete="harl",
        recurrent="chunked" if given["use_recurrent_policy"] else "naive" if given["use_naive_recurrent_policy"] else "none",
    )
    raw["trust_region"].update({key: given[key] for key in _TRUST_REGION if key in given})
    if "a2c_epoch" in given:
        raw["ppo_epoch"] = given["a2c_epoch"]
    raw["time_limit"] = "mask" if given["use_proper_time_limits"] else "terminal"
    if not given["use_gae"]:
        raw["gae_lambda"] = 1.0  # discounted returns are GAE's with lambda 1
    return typed(AlgoConfig, raw, "algo")


def agent_specs(config: Dict[str, Any]) -> List[AgentSpec]:
    return [
        AgentSpec(f"agent_{i}", num_obs, _space(*space))
        for i, (num_obs, space) in enumerate(zip(config["obs_dims"], config["act_spaces"]))
    ]


def _space(kind: str, size: Any) -> ActionSpace:
    if kind == "box":
        return box(size)
    return discrete(*size) if isinstance(size, list) else discrete(size)


def our_name(name: str, has_input_norm: bool) -> str:
    """A parameter of HARL's policy or value network under this project's name."""
    name = re.sub(r"^base\.feature_norm\.", "base.0.", name)
    name = re.sub(r"^base\.mlp\.fc\.(\d+)\.", lambda m: f"base.{int(m.group(1)) + has_input_norm}.", name)
    name = re.sub(r"^rnn\.rnn\.(weight|bias)_(ih|hh)_l(\d+)$", r"rnn.cells.\3.\1_\2", name)
    name = re.sub(r"^act\.action_out\.fc_mean\.", "head.mean.", name)
    name = name.replace("act.action_out.log_std", "head.log_std")
    name = re.sub(r"^act\.action_out\.linear\.", "head.logits.0.", name)
    name = re.sub(r"^act\.action_outs\.(\d+)\.linear\.", r"head.logits.\1.", name)
    return re.sub(r"^v_out\.", "head.", name)
