"""What record.py records: every combination of settings whose code paths differ."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple, Union

Settings = Dict[str, Any]  # by HARL's names, over its YAML
BOXES = (("box", 3), ("box", 2))
DISCRETE = (("disc", 5), ("disc", 4))
MULTI = (("multi", [3, 2]), ("multi", [4, 3]))
THREE = dict(obs=(8, 7, 5), acts=(("box", 3), ("box", 2), ("box", 1)))


@dataclass(frozen=True)
class Case:
    """Whole updates on a made-up rollout."""

    algo: str
    state_type: str = "EP"
    obs: Tuple[int, ...] = (8, 7)
    acts: Tuple[Tuple[str, Any], ...] = BOXES
    train: Settings = field(default_factory=dict)
    model: Settings = field(default_factory=dict)
    learn: Settings = field(default_factory=dict)  # HARL's algo section
    deaths: float = 0.0  # an agent's chance to die at a step
    dead: Tuple[int, ...] = ()  # agents that never live
    stale: float = 0.0  # noise on all weights between rollout and update
    vn_warm: int = 3  # updates that ValueNorm has behind it
    rand_head: float = 0.05  # noise on HARL's initial weights
    reward_scale: float = 1.0
    iterations: int = 1
    seed: int = 0  # added to the case's own


@dataclass(frozen=True)
class GaeCase:
    state_type: str
    valuenorm: str  # on, off or fresh
    proper: bool  # use_proper_time_limits
    use_gae: bool
    seed: int = 0


@dataclass(frozen=True)
class ValueNormCase:
    beta: float = 0.99999
    per_element: bool = False
    mean: float = 4.0
    std: float = 3.0
    updates: int = 8
    seed: int = 0


def _mb(actor: int, critic: int = 1) -> Settings:
    return {"actor_num_mini_batch": actor, "critic_num_mini_batch": critic}


def _same(space: Tuple[str, Any], count: int = 2) -> Settings:
    """Agents that may share an actor."""
    return dict(obs=(8,) * count, acts=(space,) * count)


LIVE = dict(deaths=0.04, stale=0.012)  # agents die, and the data are stale
DEAD_FIRST = dict(dead=(0,), deaths=0.04, stale=0.012)
CHUNK: Settings = {"use_recurrent_policy": True, "data_chunk_length": 4}
NAIVE: Settings = {"use_naive_recurrent_policy": True}
SEP: Settings = {"share_param": False}
DECAY: Settings = {"use_linear_lr_decay": True, "num_env_steps": 3 * 16 * 32}
UNMASKED: Settings = {"use_policy_active_masks": False}

_UPDATES: Dict[str, Case] = {
    "happo_prod_2agents_EP": Case("happo"),
    "happo_mean_2agents_EP": Case("happo", learn={"action_aggregation": "mean"}, stale=0.012),
    "happo_prod_3agents_EP": Case("happo", **THREE, learn=_mb(2, 2), **LIVE),
    "happo_prod_3agents_FP": Case("happo", "FP", **THREE, learn=_mb(2, 2), **LIVE),
    "happo_prod_2agents_FP": Case("happo", "FP", **LIVE),
    "happo_active_mb2_2agents_EP": Case("happo", learn=_mb(2, 2), **LIVE),
    "happo_active_mb2_2agents_FP": Case("happo", "FP", learn=_mb(2, 2), **LIVE),
    "happo_freshvn_defaultinit_2agents_EP": Case("happo", vn_warm=0, rand_head=0.0),
    "happo_freshvn_defaultinit_2agents_FP": Case("happo", "FP", vn_warm=0, rand_head=0.0, deaths=0.04),
    "happo_novn_huberlinear_gradclip_2agents_EP": Case(
        "happo", train={"use_valuenorm": False}, model={"lr": 1e-3, "critic_lr": 1e-3},
        learn={"max_grad_norm": 0.5, "value_loss_coef": 0.5, "entropy_coef": 0.05}, reward_scale=20.0, stale=0.015,
    ),
    "happo_altoptions_2agents_EP": Case(
        "happo", train={"use_proper_time_limits": False},
        model={"activation_func": "tanh", "use_feature_normalization": False, "initialization_method": "xavier_uniform_",
               "gain": 1, "weight_decay": 1e-3, "opti_eps": 1e-8, "std_x_coef": 2, "std_y_coef": 1},
        learn={"use_policy_active_masks": False, "use_huber_loss": False, "use_clipped_value_loss": False,
               "use_max_grad_norm": False, "ppo_epoch": 3, "critic_epoch": 4}, deaths=0.04, stale=0.03,
    ),
    "happo_mb3_remainder_2agents_EP": Case("happo", learn=_mb(3, 5)),
    "happo_chain3_lrdecay_2agents_EP": Case("happo", train=DECAY, vn_warm=0, iterations=3),
    "happo_chain3_lrdecay_rnn_2agents_FP": Case("happo", "FP", train=DECAY, model=CHUNK, deaths=0.04, iterations=3),
    "happo_fixedorder_deadagent_2agents_EP": Case("happo", learn={"fixed_order": True}, **DEAD_FIRST),
    "happo_deadagent_3agents_FP": Case("happo", "FP", **THREE, dead=(1,), **LIVE),
    "happo_deadagent_unmasked_2agents_EP": Case("happo", learn=UNMASKED, **DEAD_FIRST),
    "happo_discrete_2agents_EP": Case("happo", acts=DISCRETE, learn=_mb(2), deaths=0.04, stale=0.03),
    "happo_discrete_2agents_FP": Case("happo", "FP", acts=DISCRETE, deaths=0.04, stale=0.03),
    "happo_discrete_unmasked_2agents_EP": Case("happo", acts=DISCRETE, learn=UNMASKED, deaths=0.04, stale=0.03),
    "happo_discrete_and_box_2agents_EP": Case("happo", acts=(("disc", 5), ("box", 2)), **LIVE),
    "happo_box_and_discrete_2agents_FP": Case("happo", "FP", acts=(("box", 3), ("disc", 4)), **LIVE),
    "happo_multidiscrete_2agents_EP": Case("happo", acts=MULTI, **LIVE),
    "happo_multidiscrete_mean_2agents_FP": Case(
        "happo", "FP", acts=MULTI, learn={"action_aggregation": "mean", **_mb(2)}, **LIVE
    ),
    "happo_multidiscrete_unmasked_2agents_EP": Case("happo", acts=MULTI, learn=UNMASKED, **LIVE),
    "happo_multidiscrete_fresh_2agents_EP": Case("happo", acts=MULTI, deaths=0.04),
    "happo_multi_and_box_2agents_EP": Case("happo", acts=(("multi", [3, 2]), ("box", 2)), **LIVE),
    "happo_rnnchunk_2agents_EP": Case("happo", model=CHUNK, learn=_mb(2, 2), deaths=0.03),
    "happo_rnnchunk_2agents_FP": Case("happo", "FP", model=CHUNK, learn=_mb(2, 2), **LIVE),
    "happo_rnnchunk_mb3_remainder_2agents_EP": Case("happo", model=CHUNK, learn=_mb(3, 5), deaths=0.03),
    "happo_rnnchunk_len1_2agents_EP": Case("happo", model={**CHUNK, "data_chunk_length": 1}, **LIVE),
    "happo_rnnchunk_len16_2agents_EP": Case("happo", model={**CHUNK, "data_chunk_length": 16}, **LIVE),
    "happo_rnnchunk_discrete_2agents_FP": Case("happo", "FP", acts=DISCRETE, model=CHUNK, learn=_mb(2), **LIVE),
    "happo_rnnchunk_multidiscrete_2agents_EP": Case("happo", acts=MULTI, model=CHUNK, **LIVE),
    "happo_rnnchunk_unmasked_2agents_EP": Case("happo", model=CHUNK, learn=UNMASKED, **LIVE),
    "happo_rnnchunk_deadagent_2agents_EP": Case("happo", model=CHUNK, **DEAD_FIRST),
    "happo_rnnnaive_2agents_EP": Case("happo", model=NAIVE, learn=_mb(2, 2), deaths=0.03),
    "happo_rnnnaive_2agents_FP": Case("happo", "FP", model=NAIVE, learn=_mb(2, 2), **LIVE),
    "happo_rnnnaive_mb3_remainder_2agents_EP": Case("happo", model=NAIVE, learn=_mb(3, 5), deaths=0.03),
    "happo_rnnnaive_discrete_2agents_EP": Case("happo", acts=DISCRETE, model=NAIVE, learn=_mb(2), **LIVE),
    "happo_rnn_nofeaturenorm_2agents_FP": Case(
        "happo", "FP", **LIVE,
        model={**CHUNK, "use_feature_normalization": False, "activation_func": "tanh", "hidden_sizes": [40, 24]},
    ),
    "happo_rnn2layers_2agents_EP": Case("happo", model={**CHUNK, "recurrent_n": 2}, learn=_mb(2, 2), **LIVE),
    "happo_rnn2layers_naive_2agents_FP": Case("happo", "FP", model={**NAIVE, "recurrent_n": 2}, **LIVE),
    "happo_3layers_selu_2agents_EP": Case("happo", model={"activation_func": "selu", "hidden_sizes": [48, 32, 24]}, **LIVE),
    "happo_1layer_sigmoid_2agents_EP": Case("happo", model={"activation_func": "sigmoid", "hidden_sizes": [40]}, **LIVE),
    "happo_leakyrelu_2agents_FP": Case("happo", "FP", model={"activation_func": "leaky_relu"}, **LIVE),
    "happo_nstep_2agents_EP": Case("happo", learn={"use_gae": False}, **LIVE),
    "happo_nstep_notproper_2agents_FP": Case(
        "happo", "FP", train={"use_proper_time_limits": False}, learn={"use_gae": False}, **LIVE
    ),
    "happo_novn_2agents_FP": Case("happo", "FP", train={"use_valuenorm": False}, learn={"use_huber_loss": False}, **LIVE),
    "mappo_sep_2agents_EP": Case("mappo", learn=SEP, **LIVE),
    "mappo_sep_2agents_FP": Case("mappo", "FP", learn={**SEP, **_mb(2, 2)}, **LIVE),
    "mappo_sep_discrete_2agents_EP": Case("mappo", acts=DISCRETE, learn=SEP, deaths=0.04, stale=0.03),
    "mappo_sep_multidiscrete_2agents_EP": Case("mappo", acts=MULTI, learn=SEP, **LIVE),
    "mappo_sep_deadagent_2agents_EP": Case("mappo", learn=SEP, **DEAD_FIRST),
    "mappo_sep_rnnchunk_2agents_EP": Case("mappo", model=CHUNK, learn=SEP, **LIVE),
    "mappo_share_2agents_EP": Case("mappo", **_same(("box", 3)), learn=_mb(2), **LIVE),
    "mappo_share_2agents_FP": Case("mappo", "FP", **_same(("box", 3)), **LIVE),
    "mappo_share_mean_3agents_FP": Case(
        "mappo", "FP", **_same(("box", 3), 3), learn={"action_aggregation": "mean", **_mb(3, 5)}, **LIVE
    ),
    "mappo_share_deadagent_2agents_EP": Case("mappo", **_same(("box", 3)), **DEAD_FIRST),
    "mappo_share_discrete_2agents_EP": Case("mappo", **_same(("disc", 5)), learn=_mb(2), **LIVE),
    "mappo_share_multidiscrete_2agents_FP": Case("mappo", "FP", **_same(("multi", [3, 2])), **LIVE),
    "mappo_share_unmasked_3agents_EP": Case("mappo", **_same(("box", 3), 3), learn=UNMASKED, **LIVE),
    "mappo_share_rnnchunk_2agents_EP": Case("mappo", **_same(("box", 3)), model=CHUNK, learn=_mb(2), **LIVE),
    "mappo_share_rnnnaive_2agents_EP": Case("mappo", **_same(("box", 3)), model=NAIVE, learn=_mb(2), **LIVE),
    "mappo_share_rnnchunk_discrete_3agents_FP": Case("mappo", "FP", **_same(("disc", 5), 3), model=CHUNK, **LIVE),
    "mappo_chain3_lrdecay_2agents_EP": Case("mappo", **_same(("box", 3)), train=DECAY, iterations=3, deaths=0.04),
    "haa2c_prod_2agents_EP": Case("haa2c", **LIVE),
    "haa2c_mean_2agents_FP": Case("haa2c", "FP", learn={"action_aggregation": "mean", **_mb(2)}, **LIVE),
    "haa2c_discrete_2agents_EP": Case("haa2c", acts=DISCRETE, deaths=0.04, stale=0.03),
    "haa2c_multidiscrete_2agents_EP": Case("haa2c", acts=MULTI, **LIVE),
    "haa2c_rnnchunk_2agents_EP": Case("haa2c", model=CHUNK, learn=_mb(2, 2), **LIVE),
    "haa2c_deadagent_2agents_EP": Case("haa2c", **DEAD_FIRST),
    "hatrpo_prod_2agents_EP": Case("hatrpo", deaths=0.04),
    "hatrpo_stale_3agents_EP": Case("hatrpo", **THREE, stale=0.012),
    "hatrpo_mean_2agents_FP": Case("hatrpo", "FP", learn={"action_aggregation": "mean"}, stale=0.012),
    "hatrpo_discrete_2agents_EP": Case("hatrpo", acts=DISCRETE, deaths=0.04),
    "hatrpo_discrete_2agents_FP": Case("hatrpo", "FP", acts=DISCRETE, deaths=0.04, stale=0.012),
    "hatrpo_backtrack_2agents_EP": Case("hatrpo", learn={"kl_threshold": 0.08, "accept_ratio": 0.9}),
    "hatrpo_backtrack_few_2agents_EP": Case(
        "hatrpo", learn={"kl_threshold": 0.3, "accept_ratio": 0.8, "backtrack_coeff": 0.5, "ls_step": 4}
    ),
    "hatrpo_lsfail_2agents_EP": Case("hatrpo", learn={"accept_ratio": 5}),
    "hatrpo_deadagent_2agents_EP": Case("hatrpo", **DEAD_FIRST),
    "hatrpo_unmasked_2agents_EP": Case("hatrpo", learn=UNMASKED, **LIVE),
    "hatrpo_rnnchunk_2agents_EP": Case("hatrpo", model=CHUNK, **LIVE),
    "hatrpo_rnnnaive_2agents_FP": Case("hatrpo", "FP", model=NAIVE, **LIVE),
    "hatrpo_rnnchunk_discrete_2agents_EP": Case("hatrpo", acts=DISCRETE, model=CHUNK, deaths=0.04),
    "hatrpo_chain3_2agents_EP": Case("hatrpo", train=DECAY, iterations=3, deaths=0.04),
}

_GAE: Dict[str, GaeCase] = {
    f"gae_{state}_vn{norm}_ptl{int(proper)}_{'gae' if gae else 'nstep'}": GaeCase(state, norm, proper, gae)
    for state in ("EP", "FP") for norm in ("on", "off", "fresh") for proper in (False, True) for gae in (True, False)
}

_VALUENORM: Dict[str, ValueNormCase] = {
    "valuenorm_default": ValueNormCase(),
    "valuenorm_beta_0p9": ValueNormCase(beta=0.9),
    "valuenorm_per_element": ValueNormCase(per_element=True),
    "valuenorm_large_offset": ValueNormCase(mean=200.0, std=0.5),
    "valuenorm_tiny_variance_clamp": ValueNormCase(mean=1.0, std=1e-3),
}

CASES: Dict[str, Union[Case, GaeCase, ValueNormCase]] = {**_UPDATES, **_GAE, **_VALUENORM}
