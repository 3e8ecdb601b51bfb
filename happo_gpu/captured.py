"""A method recorded once as a CUDA graph and replayed: launching its kernels one by one takes longer than they do.

Not run yet: no GPU was at hand when it was written. What fails in it leads to the eager method and a warning.
"""
from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

_WARM_UPS = 3  # torch's advice: libraries set themselves up in the first calls, which a graph must not record


class Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: List[Tensor]  # what it reads in place of the arguments
    written: List[int]  # those of them that it also writes


class Captured:
    """Stands for a method that is one fixed sequence of operations, writes tensors in place and returns nothing.

    Arguments are copied to where the graph reads them, and back where it has written them. Every combination of their shapes is a
    graph of its own.
    """

    def __init__(self, method: Callable[..., None], owner: Any) -> None:
        self._method, self._owner = method, owner
        self._recordings: Dict[Tuple, Recording] = {}

    def __call__(self, *args: Tensor) -> None:
        shapes = tuple(arg.shape for arg in args)
        if shapes not in self._recordings:
            self._recordings[shapes] = self._record(args)
        graph, inputs, written = self._recordings[shapes]
        for place, arg in zip(inputs, args):
            place.copy_(arg)
        graph.replay()
        for i in written:
            args[i].copy_(inputs[i])

    def _record(self, args: Sequence[Tensor]) -> Recording:
        """Leaves the owner's tensors, the random state and the current stream as they were: warming up changes them, and a failure would."""
        inputs, state = [arg.clone() for arg in args], list(tensors_of(self._owner))
        versions = [each._version for each in inputs]
        before = [tensor.detach().clone() for tensor in state]
        graph, (pool, stream), current = torch.cuda.CUDAGraph(), _recorder(), torch.cuda.current_stream()
        stream.wait_stream(current)
        try:
            with torch.random.fork_rng(devices={tensor.device for tensor in (*state, *inputs) if tensor.is_cuda}):
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UPS - 1):
                        self._method(*inputs)
                    with _without_waiting():
                        self._method(*inputs)
                current.wait_stream(stream)
                with torch.cuda.graph(graph, pool=pool, stream=stream):
                    self._method(*inputs)
        finally:  # also where recording fails, and the method runs without a graph from now on
            torch.cuda.set_stream(current)
            with torch.no_grad():
                for tensor, value in zip(state, before):
                    tensor.copy_(value)
        return Recording(graph, inputs, [i for i, (each, version) in enumerate(zip(inputs, versions)) if each._version != version])


@functools.lru_cache(maxsize=None)
def _recorder() -> Tuple[Any, Any]:
    """Memory and stream of all recordings: no tensor that a graph makes is read after its replay, so that the next may have its place."""
    return torch.cuda.graph_pool_handle(), torch.cuda.Stream()


@contextlib.contextmanager
def _without_waiting() -> Iterator[None]:
    """Where what would wait for the host fails. A recording fails at it, too, but leaves CUDA's random numbers unusable in some versions of torch."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def tensors_of(owner: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors that an object of this package holds, itself or in what it is made of."""
    if isinstance(owner, Tensor):
        yield owner
    elif depth:
        if isinstance(owner, dict):
            inside = owner.values()
        elif isinstance(owner, (list, tuple)):
            inside = owner
        else:
            inside = vars(owner).values() if type(owner).__module__.startswith("happo_gpu") else ()
        for value in inside:
            yield from tensors_of(value, depth - 1)
