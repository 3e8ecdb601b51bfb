"""The weights of one network and their gradients, each in one block of memory, which ``.data`` and ``.grad`` of its parameters are views of."""
from __future__ import annotations

import math
from typing import Callable, List, Sequence

import torch
from torch import Tensor, nn

from happo_gpu import distributed
from happo_gpu.algo.batch import fetch, piece_sizes
from happo_gpu.config.algo import AlgoConfig


class FlatGradients:
    """Zeroing, averaging over processes, norm and clipping take one operation each, however many parameters there are.

    Attributes:
        weights, flat: (P,) weights and gradients.
        norms: 0-d sum of the norms that were found since it was last zeroed.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.weights, self.flat = (torch.zeros(sum(p.numel() for p in self.parameters), device=self.parameters[0].device) for _ in range(2))
        self.norms = torch.zeros((), device=self.flat.device)
        with torch.no_grad():
            for parameter, weights, gradients in zip(self.parameters, self.parts(self.weights), self.parts(self.flat)):
                weights.copy_(parameter)
                parameter.data, parameter.grad = weights, gradients
        self._gradients = [parameter.grad for parameter in self.parameters]

    def parts(self, flat: Tensor) -> List[Tensor]:
        """Views of (P,), each with the shape and layout of a parameter: the fused optimiser walks through its memories alike."""
        sizes = [p.numel() for p in self.parameters]
        return [part.as_strided(p.shape, p.stride(), part.storage_offset()) for p, part in zip(self.parameters, flat.split(sizes))]

    def zero(self) -> None:
        self.flat.zero_()

    def add(self, objective: Tensor) -> None:
        """Adds the gradients of ``objective`` (0-d, to be minimised)."""
        for part, gradient in zip(self._gradients, torch.autograd.grad(objective, self.parameters)):
            part.add_(gradient)

    def average(self) -> None:
        """Of the mean objective over all processes: one reduction."""
        if distributed.SIZE > 1:
            self.flat.copy_(distributed.mean(self.flat))

    def clip(self, max_norm: float) -> None:
        """Scales to a global 2-norm of at most ``max_norm``, inf for any; the norm before is added to ``norms``.

        Like ``torch.nn.utils.clip_grad_norm_`` (same 1e-6), but never asks the host anything.
        """
        norm = torch.linalg.vector_norm(self.flat)
        self.norms.add_(norm)
        if max_norm < math.inf:
            self.flat.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))


class Gradients:
    """A network's gradients on a minibatch, worked off in pieces that fit a cache, and steps along them.

    Plain samples, (B, ...) each field, are those without memory, menus and deaths. From outside ``add_plain``, ``steps_plain`` and
    ``fetch`` may be replaced by faster versions of themselves.
    """

    def __init__(self, network: nn.Module, cfg: AlgoConfig) -> None:
        self.cfg, self.buffer = cfg, FlatGradients(network)
        self.device = self.buffer.flat.device
        self.add_plain: Callable[..., None] = self._add_plain
        self.steps_plain: Callable[..., None] = self._steps_plain
        self.fetch = fetch

    def _add_plain(self, *args: Tensor) -> None:
        """Adds the gradients of plain samples; the last argument is their weight in the minibatch, 0-d."""
        raise NotImplementedError

    def _steps_plain(self, *args) -> None:
        """Steps on equal parts of plain samples, one after the other; after the fields come the number of parts and the optimiser."""
        *fields, num_parts, optimizer = args
        for part in zip(*(field.chunk(num_parts) for field in fields)):
            self.accumulate_plain(part)
            self.apply(optimizer)

    def accumulate_plain(self, fields: Sequence[Tensor]) -> None:
        """Gradients of one minibatch."""
        self.buffer.zero()
        sizes = piece_sizes(len(fields[0]), 1, self.device)
        for piece in zip(*(field.split(sizes) for field in fields)) if len(sizes) > 1 else [fields]:
            self.add_plain(*piece, torch.full((), len(piece[0]) / len(fields[0]), device=self.device))

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """A step along what has accumulated."""
        self.buffer.average()
        self.buffer.clip(self.cfg.gradient_limit)
        optimizer.step()
