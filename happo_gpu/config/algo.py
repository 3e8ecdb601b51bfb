"""cfg/algo and cfg/train: how to learn, and for how long."""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Tuple

from happo_gpu.config.schema import between, choice, limit, non_negative, positive


@dataclass(frozen=True)
class ModelConfig:
    """Networks, with HARL's names."""

    hidden_sizes: Tuple[int, ...] = limit(low=1)
    activation_func: str = choice("relu", "tanh", "elu", "silu", "selu", "sigmoid", "leaky_relu")
    use_feature_normalization: bool = field()
    use_layer_norm: bool = field()
    initialization_method: str = choice("orthogonal_", "xavier_uniform_")
    gain: float = positive()
    std_x_coef: float = positive()
    std_y_coef: float = positive()
    share_param: bool = field()
    multi_discrete: str = choice("separate", "harl")
    normalize_input: bool = field()
    precision: str = choice("float32", "tf32", "bf16", "auto")
    recurrent: str = choice("none", "naive", "chunked")
    recurrent_n: int = between(1, 8)  # layers
    data_chunk_length: int = limit(low=1)  # steps of a training sequence, if chunked


@dataclass(frozen=True)
class TrustRegionConfig:
    """HATRPO's step, with HARL's names."""

    kl_threshold: float = positive()
    ls_step: int = limit(low=1)
    accept_ratio: float = non_negative()
    backtrack_coeff: float = between(0.0, 1.0)


@dataclass(frozen=True)
class AlgoConfig:
    """cfg/algo/*.yaml, with HARL's names."""

    name: str = choice("HAPPO", "MAPPO", "HAA2C", "HATRPO")
    actor_step: str = choice("ppo", "a2c", "trust_region")
    episode_length: int = limit(low=1)  # rollout steps (decisions) per iteration
    gamma: float = between(0.0, 1.0)
    gae_lambda: float = between(0.0, 1.0)
    time_limit: str = choice("bootstrap", "mask", "terminal")
    lr: float = positive()
    critic_lr: float = positive()
    use_linear_lr_decay: bool = field()
    adaptive_kl: float = non_negative()  # 0: off
    opti_eps: float = positive()
    weight_decay: float = non_negative()
    ppo_epoch: int = limit(low=1)
    critic_epoch: int = limit(low=1)
    actor_num_mini_batch: int = limit(low=1)
    critic_num_mini_batch: int = limit(low=1)
    clip_param: float = positive()
    entropy_coef: float = non_negative()
    value_loss_coef: float = positive()
    use_clipped_value_loss: bool = field()
    use_huber_loss: bool = field()
    huber_delta: float = positive()
    use_max_grad_norm: bool = field()
    max_grad_norm: float = positive()
    use_valuenorm: bool = field()
    valuenorm_beta: float = between(0.0, 1.0)
    valuenorm_update: str = choice("minibatch", "iteration")
    action_aggregation: str = choice("prod", "mean")
    compound_factor: bool = field()
    fixed_order: bool = field()
    use_policy_active_masks: bool = field()
    trust_region: TrustRegionConfig = field()
    model: ModelConfig = field()

    @property
    def gradient_limit(self) -> float:
        """Largest norm of a gradient that a step is taken along; inf: any."""
        return self.max_grad_norm if self.use_max_grad_norm else math.inf

    @property
    def chunk(self) -> int:
        """Steps of a training sequence; 0 for feed-forward networks."""
        return {"none": 0, "naive": self.episode_length, "chunked": self.model.data_chunk_length}[self.model.recurrent]


@dataclass(frozen=True)
class TrainConfig:
    """Length and cadence of a run; cfg/train/<Task><ALGO>.yaml tunes them together with algo."""

    max_iterations: int = limit(low=1)
    log_every: int = limit(low=1)
    eval_every: int = limit(low=0)
    save_every: int = limit(low=0)
    eval_envs: int = limit(low=1)
    keep_checkpoints: int = limit(low=2)
    max_rollbacks: int = limit(low=1)
