"""torch's Adam on a network whose weights, gradients and moments lie in one block each, as operations that compile to one loop, or become part of a graph.

It is a faster way to take the optimiser's steps, not another optimiser: rates, moments and counts are read from and left in it.
"""
from __future__ import annotations

import torch
from torch import Tensor

from happo_gpu.algo.gradients import FlatGradients


class FlatAdam:
    """Clips the gradients and takes a step (Kingma and Ba, 2015, algorithm 1), in two passes over them: the step needs their norm."""

    def __init__(self, buffer: FlatGradients, optimizer: torch.optim.Adam, max_norm: float) -> None:
        self.buffer, self._optimizer, self._max_norm = buffer, optimizer, max_norm
        self.first, self.second = torch.zeros_like(buffer.flat), torch.zeros_like(buffer.flat)  # (P,) moments
        group = optimizer.param_groups[0]
        self._betas, self._eps, self._weight_decay = group["betas"], group["eps"], group["weight_decay"]
        device = buffer.flat.device
        self._rate, self._scale, self._size, self._root = (torch.zeros((), device=device) for _ in range(4))
        self._decay = torch.ones(2, device=device)  # betas to the power of the steps taken
        self._counts = torch.zeros(len(buffer.parameters), device=device)  # the optimiser has one for each parameter
        own = (self._counts.unbind(), buffer.parts(self.first), buffer.parts(self.second))
        self._own = list(zip(buffer.parameters, *own))

    def begin(self) -> None:
        """Takes over where the optimiser stands."""
        for parameter, *own in self._own:
            state = self._optimizer.state[parameter]
            for name, part in zip(("step", "exp_avg", "exp_avg_sq"), own):
                if name not in state:  # not begun yet
                    part.zero_()
                elif state[name] is not part:  # loaded from a file
                    part.copy_(state[name])
                state[name] = part
        rate = self._optimizer.param_groups[0]["lr"]
        self._rate.copy_(rate) if isinstance(rate, Tensor) else self._rate.fill_(rate)
        for i, beta in enumerate(self._betas):
            self._decay[i] = torch.pow(beta, self._counts[0])  # torch 2.0 would make beta a tensor on the host
        self.buffer.zero()

    def end(self, steps: int) -> None:
        """Hands back: ``steps`` have been taken."""
        self._counts.add_(steps)

    def clip_and_step(self) -> None:
        """Along the buffer's gradients."""
        self.measure(self.buffer.flat)
        self.step(self.buffer.weights, self.buffer.flat, self.first, self.second)

    def measure(self, gradients: Tensor) -> None:
        """The norm of (P,), what clipping scales them by, and the size of the step that is due."""
        norm = (gradients * gradients).sum().sqrt()
        self.buffer.norms.add_(norm)
        self._scale.copy_((self._max_norm / (norm + 1e-6)).clamp(max=1.0))
        decay = [self._decay[i] * beta for i, beta in enumerate(self._betas)]
        self._decay.copy_(torch.stack(decay))
        self._size.copy_(self._rate / (1.0 - decay[0]))
        self._root.copy_((1.0 - decay[1]).sqrt())

    def step(self, weights: Tensor, gradients: Tensor, first: Tensor, second: Tensor) -> None:
        """Of all (P,); the gradients are zeroed for the next time."""
        gradient, (keep_first, keep_second) = gradients * self._scale, self._betas
        if self._weight_decay:
            gradient = gradient + self._weight_decay * weights
        first.mul_(keep_first).add_((1.0 - keep_first) * gradient)
        second.mul_(keep_second).add_((1.0 - keep_second) * gradient * gradient)
        weights.sub_(self._size * first / (second.sqrt() / self._root + self._eps))
        gradients.zero_()
