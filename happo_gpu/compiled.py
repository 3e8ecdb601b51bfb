"""A method compiled once and kept on disk: a later start loads it without tracing it, most of what a start takes.

The method must be one fixed sequence of operations, gradients among them, that writes tensors in place and returns nothing.
The tensors that it reads of its object become inputs, so what is kept serves every object of the same layout, with any
number of samples.
"""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from happo_gpu import kept

# Traced with as many, whatever the run has: neither the loops that are shared among threads nor a chance
# divisor depend on who compiled first.
TYPICAL_ROWS = 4099

Method = Callable[..., None]
Size = Union[int, Tuple[int, str]]  # (k, "N"): k times the number of rows


def supported(device: torch.device) -> bool:
    import torch._inductor

    return device.type == "cpu" and hasattr(torch._inductor, "standalone_compile")  # torch >= 2.8


def load_or_compile(method: Method, args: Sequence[Tensor], folder: Path) -> Method:
    """The compiled method, for arguments like ``args`` but with any length of their first axis; its object must never rebind a
    tensor. Calls nothing yet.
    """
    inputs = _inputs_of(method, args)
    storages = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    if len(storages) < len(inputs):
        raise RuntimeError(f"{method.__qualname__} sees one tensor under two names")
    layout = [_Layout.of(tensor, i < len(args)) for i, tensor in enumerate(inputs)]
    path = folder / f"{method.__qualname__}_{hashlib.sha256(repr(layout).encode()).hexdigest()[:16]}"
    run = _load(path)
    if run is None:
        kept.remove(kept.torn_libraries(_libraries()))
        run = _compile(method, inputs, len(args), layout)
        folder.mkdir(parents=True, exist_ok=True)
        run.save(path=str(path))
        kept.remember(path, kept.loaded_libraries(_libraries()))
    state = inputs[len(args):]

    def call(*args: Tensor) -> None:
        run(*args, *state)

    return call


def _load(path: Path) -> Any:
    """What was kept, with libraries that are damaged built anew; None where it is to be compiled."""
    from torch._inductor.standalone_compile import CompiledArtifact

    damaged = kept.damaged(path)
    kept.remove(damaged)
    if path in damaged:
        return None
    try:
        run = CompiledArtifact.load(path=str(path))
    except Exception:  # what was written cannot be loaded here: what loading then raises is not documented
        kept.remove([path])
        return None
    if damaged:
        kept.remember(path, kept.loaded_libraries(_libraries()))
    return run


def _libraries() -> Path:
    """Where torch keeps what its compilers build."""
    from torch._inductor.codecache import cache_dir

    return Path(cache_dir())


class _Layout(NamedTuple):
    """What an input looks like; "N" stands for the number of rows."""

    dtype: str
    shape: Tuple[Size, ...]
    stride: Tuple[Size, ...]
    learns: bool  # takes part in gradients

    @staticmethod
    def of(tensor: Tensor, varies: bool) -> "_Layout":
        shape: Tuple[Size, ...] = tuple(tensor.shape)
        if varies and shape:
            shape = ((1, "N"), *shape[1:])
        return _Layout(str(tensor.dtype), shape, tuple(tensor.stride()), tensor.requires_grad)

    def typical(self, tensor: Tensor) -> Tensor:
        """An empty one, with the typical number of rows."""
        shape, stride = ([size if isinstance(size, int) else size[0] * TYPICAL_ROWS for size in sizes]
                         for sizes in (self.shape, self.stride))
        return torch.empty_strided(shape, stride, dtype=tensor.dtype, device=tensor.device)


class _StandIns(TorchFunctionMode):
    """Hands every torch function the stand-in of a tensor, made when it is first met, in place of the tensor itself."""

    def __init__(self, stand_in: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stand_in = stand_in

    def __torch_function__(self, func: Callable, types: Any, args: Tuple = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda x: self.stand_in(x) if isinstance(x, Tensor) else x, (args, kwargs or {}))
        return func(*args, **kwargs)


def _inputs_of(method: Method, args: Sequence[Tensor]) -> List[Tensor]:
    """``args``, then every other tensor that the method touches. It runs without data and so changes nothing."""
    found: Dict[int, Tuple[Tensor, Tensor]] = {}  # with the tensor itself: its id stays taken

    def without_data(tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return tensor
        if id(tensor) not in found:
            found[id(tensor)] = (tensor, torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad))
        return found[id(tensor)][1]

    for tensor in args:
        without_data(tensor)
    with torch.no_grad(), _StandIns(without_data):
        method(*args)
    return [tensor for tensor, _ in found.values()]


def _compile(method: Method, inputs: List[Tensor], num_args: int, layout: List[_Layout]) -> Any:
    import torch._inductor
    from torch._dynamo.source import ConstantSource
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    mode = FakeTensorMode(shape_env=ShapeEnv())

    def symbolic(index: int) -> Tensor:
        kinds = [DimDynamic.STATIC if isinstance(size, int) else DimDynamic.DUCK for size in layout[index].shape]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        return mode.from_tensor(layout[index].typical(inputs[index]), symbolic_context=context, source=ConstantSource(f"input_{index}"))

    def traced(*stand_ins: Tensor) -> List[Tensor]:
        stand_ins = tuple(s.detach().requires_grad_() if of.learns else s for s, of in zip(stand_ins, layout))
        by_id = {id(tensor): stand_in for tensor, stand_in in zip(inputs, stand_ins)}
        with _StandIns(lambda tensor: by_id.get(id(tensor), tensor)):
            method(*stand_ins[:num_args])
        return []

    examples = [symbolic(index) for index in range(len(inputs))]
    with torch.no_grad(), mode, tracing(TracingContext(mode)):
        graph = make_fx(traced, decomposition_table={torch.ops.aten.mm.default: _thin_product, torch.ops.aten.addmm.default: _affine})(*examples)
        return torch._inductor.standalone_compile(graph, examples, dynamic_shapes="from_tracing_context")


def _thin_product(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product over three numbers or fewer, written out: a library takes longer over it than to write the result."""
    inner = a.shape[1]
    if not isinstance(inner, int) or inner > 3:
        return NotImplemented
    return sum(a[:, k : k + 1] * b[k : k + 1] for k in range(inner))


def _affine(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A product and a bias, which the compiler then adds in the loop of what follows; addmm would fill the result with it first.

    Subtracted from what it would be joined to addmm again.
    """
    return torch.mm(a, b) - (-bias)
