"""The gradients of one network: one buffer, which the parameters' ``.grad`` are views of, summed up piece by piece."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from happo_gpu import distributed


class FlatGradients:
    """Zeroing, averaging over processes, norm and clipping take one operation each, however many parameters there are."""

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.flat = torch.zeros(sum(p.numel() for p in self.parameters), device=self.parameters[0].device)  # (P,)
        for parameter, part in zip(self.parameters, self.flat.split([p.numel() for p in self.parameters])):
            # In the layout of the parameter: the fused optimiser walks through both memories alike.
            parameter.grad = part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
        self._parts = [parameter.grad for parameter in self.parameters]

    def zero(self) -> None:
        self.flat.zero_()

    def add(self, objective: Tensor) -> None:
        """Adds the gradients of ``objective`` (0-d, to be minimised)."""
        for part, gradient in zip(self._parts, torch.autograd.grad(objective, self.parameters)):
            part.add_(gradient)

    def average(self) -> None:
        """Of the mean objective over all processes: one reduction."""
        if distributed.SIZE > 1:
            self.flat.copy_(distributed.mean(self.flat))

    def norm(self) -> Tensor:
        """Global 2-norm, 0-d, on the device."""
        return torch.linalg.vector_norm(self.flat)

    def clip(self, max_norm: float) -> Tensor:
        """Scales to a norm of at most ``max_norm``; returns the norm before.

        Like ``torch.nn.utils.clip_grad_norm_`` (same 1e-6), but never asks the host anything.
        """
        norm = self.norm()
        self.flat.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm
