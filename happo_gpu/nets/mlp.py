"""Multi-layer perceptrons as HARL builds them."""
from __future__ import annotations

from typing import Callable, Dict, List, Sequence

import torch
from torch import nn

_ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU, "selu": nn.SELU,
    "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU,
}


def linear(num_in: int, num_out: int, gain: float, method: str) -> nn.Linear:
    """A linear layer with weights from ``torch.nn.init.<method>`` and zero bias."""
    layer = nn.Linear(num_in, num_out)
    getattr(nn.init, method)(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(
    num_in: int, num_out: int, hidden_sizes: Sequence[int], activation_func: str,
    use_feature_normalization: bool, use_layer_norm: bool, initialization_method: str, gain: float,
) -> nn.Sequential:
    """[LayerNorm] -> (Linear -> activation [-> LayerNorm]) per hidden size -> Linear.

    HARL has both norms on; the order (norm after the activation) is its own. ``gain`` is the
    head's; hidden layers take the activation's (sqrt 2 for ReLU).
    """
    hidden_gain = 1.0 if activation_func in ("elu", "silu") else nn.init.calculate_gain(activation_func)
    layers: List[nn.Module] = [nn.LayerNorm(num_in)] if use_feature_normalization else []
    for size in hidden_sizes:
        layers += [linear(num_in, size, hidden_gain, initialization_method), _ACTIVATIONS[activation_func]()]
        if use_layer_norm:
            layers.append(nn.LayerNorm(size))
        num_in = size
    layers.append(linear(num_in, num_out, gain, initialization_method))
    return nn.Sequential(*layers)


@torch.no_grad()
def grad_norm(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Global 2-norm of the gradients, 0-d, on the device."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in parameters]))


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales gradients in place to a global norm of at most ``max_norm``; returns the norm before.

    Like ``torch.nn.utils.clip_grad_norm_`` (same 1e-6), but never asks the host anything.
    """
    norm = grad_norm(parameters)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for p in parameters:
        p.grad.mul_(scale)
    return norm
