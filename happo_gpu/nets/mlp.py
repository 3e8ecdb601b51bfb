"""Multi-layer perceptrons as HARL builds them."""
from __future__ import annotations

from typing import Callable, Dict, List

import torch
from torch import Tensor, nn

from happo_gpu.config.algo import ModelConfig

_ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU, "selu": nn.SELU,
    "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU,
}


def linear(num_in: int, num_out: int, gain: float, method: str) -> nn.Linear:
    """A linear layer with weights from ``torch.nn.init.<method>`` and zero bias.

    The weight is (num_out, num_in) as everywhere, but the longer axis is the contiguous one. Autograd
    gives the gradient its parameter's layout, and a product whose rows are 8 or 10 numbers long is up
    to eight times slower in a CPU's library than the same product transposed.
    """
    layer = nn.Linear(num_in, num_out)
    getattr(nn.init, method)(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    if num_in < num_out:
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    return layer


class Bfloat16(nn.Sequential):
    """Layers whose matrix products are in bfloat16; their weights, inputs, outputs and gradients stay float32."""

    def forward(self, values: Tensor) -> Tensor:
        device = next(self.parameters()).device.type  # while it is traced, the input's is another
        with torch.autocast(device, torch.bfloat16):
            return super().forward(values).float()


def mlp(num_in: int, cfg: ModelConfig) -> nn.Sequential:
    """[LayerNorm] -> (Linear -> activation [-> LayerNorm]) per hidden size; no head, which is small and wants every digit.

    HARL has both norms on; the order (norm after the activation) is its own. Weights take the
    activation's gain (sqrt 2 for ReLU).
    """
    gain = 1.0 if cfg.activation_func in ("elu", "silu") else nn.init.calculate_gain(cfg.activation_func)
    layers: List[nn.Module] = [nn.LayerNorm(num_in)] if cfg.use_feature_normalization else []
    for size in cfg.hidden_sizes:
        layers += [linear(num_in, size, gain, cfg.initialization_method), _ACTIVATIONS[cfg.activation_func]()]
        if cfg.use_layer_norm:
            layers.append(nn.LayerNorm(size))
        num_in = size
    return (Bfloat16 if cfg.precision == "bf16" else nn.Sequential)(*layers)
