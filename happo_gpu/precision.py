"""The number format of matrix products: what can be had on a device, and what is faster there."""
from __future__ import annotations

import dataclasses
import statistics
import time

import torch
from torch import Tensor

from happo_gpu import accelerate
from happo_gpu.algo.batch import PIECE_ROWS
from happo_gpu.config import ConfigError
from happo_gpu.config.algo import ModelConfig
from happo_gpu.nets.mlp import mlp

_WORTH_IT = 1.1  # times as fast: rounding is no gift, and a probe is noisy
_ROUNDS = 7


def settle(cfg: ModelConfig, device: torch.device) -> str:
    """The precision to run with: cfg's, or for ``auto`` bf16 where a pass through the layers is really faster with it.

    Raises:
        ConfigError: the device has no such format.
    """
    if cfg.precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision=tf32 is a format of GPUs and the device is {device}; write precision=float32, bf16 or auto")
    if cfg.precision != "auto":
        return cfg.precision
    return "bf16" if _seconds(cfg, "float32", device) > _WORTH_IT * _seconds(cfg, "bf16", device) else "float32"


def allow(precision: str) -> None:
    """Lets torch's float32 products on a GPU be TF32, or forbids it."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


class _Pass:
    """Forward and backward through the hidden layers."""

    def __init__(self, cfg: ModelConfig, device: torch.device) -> None:
        self._layers = mlp(cfg.hidden_sizes[0], cfg).to(device)
        self._parameters = list(self._layers.parameters())
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        self.run = self._run

    def _run(self, values: Tensor) -> None:
        for total, gradient in zip(self._gradients, torch.autograd.grad(self._layers(values).sum(), self._parameters)):
            total.add_(gradient)


def _seconds(cfg: ModelConfig, precision: str, device: torch.device) -> float:
    """Median duration of a pass on a minibatch; on a CPU float32 is compiled, as training does, and bf16 is torch's."""
    through = _Pass(dataclasses.replace(cfg, precision=precision), device)
    if precision == "float32" and device.type == "cpu":
        accelerate.compile_networks([(through, "run", "_run")])
    values = torch.ones(min(PIECE_ROWS[device.type], 65536), cfg.hidden_sizes[0], device=device)
    seconds = []
    for _ in range(_ROUNDS):
        started = _now(device)
        through.run(values)
        seconds.append(_now(device) - started)
    return statistics.median(seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
