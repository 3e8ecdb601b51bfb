"""A method compiled once and kept on disk: a later start loads it without tracing it, most of what a start takes.

The method must be one fixed sequence of operations that writes tensors in place and returns nothing. The tensors that it
reads of its object become inputs, so what is kept serves every object of the same layout, with any number of environments.
"""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from happo_gpu import kept

# Traced with as many, whatever the run has: neither the loops that are shared among threads nor a chance
# divisor depend on who compiled first.
_TYPICAL_ENVS = 4099
_AMBIGUOUS = 16  # that few environments could be another axis

Method = Callable[..., None]


def supported(num_envs: int, device: torch.device) -> bool:
    import torch._inductor

    return device.type == "cpu" and num_envs > _AMBIGUOUS and hasattr(torch._inductor, "standalone_compile")  # torch >= 2.8


def load_or_compile(method: Method, args: Sequence[Tensor], num_envs: int, folder: Path) -> Method:
    """The compiled method, for arguments like ``args``; its object must never rebind a tensor. Calls nothing yet."""
    inputs = _inputs_of(method, args)
    storages = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    if len(storages) < len(inputs):
        raise RuntimeError(f"{method.__qualname__} sees one tensor under two names")
    layout = [(str(t.dtype), _in_envs(t.shape, num_envs), _in_envs(t.stride(), num_envs)) for t in inputs]
    path = folder / f"{method.__qualname__}_{hashlib.sha256(repr(layout).encode()).hexdigest()[:16]}"
    run = _load(path)
    if run is None:
        kept.remove(kept.torn_libraries(_libraries()))
        run = _compile(method, inputs, len(args), num_envs)
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
        return found.setdefault(id(tensor), (tensor, torch.empty_like(tensor, device="meta")))[1]

    for tensor in args:
        without_data(tensor)
    with torch.no_grad(), _StandIns(without_data):
        method(*args)
    return [tensor for tensor, _ in found.values()]


def _in_envs(sizes: Sequence[int], num_envs: int, per_env: Any = "N") -> List[Any]:
    """Sizes or strides; those that grow with the number of environments in terms of it."""
    return [size // num_envs * per_env if size >= num_envs and size % num_envs == 0 else size for size in sizes]


def _compile(method: Method, inputs: List[Tensor], num_args: int, num_envs: int) -> Any:
    import torch._inductor
    from torch._dynamo.source import ConstantSource
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    mode = FakeTensorMode(shape_env=ShapeEnv())

    def symbolic(index: int) -> Tensor:
        shape, stride = (_in_envs(sizes, num_envs, _TYPICAL_ENVS) for sizes in (inputs[index].shape, inputs[index].stride()))
        typical = torch.empty_strided(shape, stride, dtype=inputs[index].dtype, device=inputs[index].device)
        kinds = [DimDynamic.DUCK if size == _TYPICAL_ENVS else DimDynamic.STATIC for size in shape]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        return mode.from_tensor(typical, symbolic_context=context, source=ConstantSource(f"input_{index}"))

    def traced(*stand_ins: Tensor) -> List[Tensor]:
        by_id = {id(tensor): stand_in for tensor, stand_in in zip(inputs, stand_ins)}
        with _StandIns(lambda tensor: by_id.get(id(tensor), tensor)):
            method(*stand_ins[:num_args])
        return []

    examples = [symbolic(index) for index in range(len(inputs))]
    with torch.no_grad(), mode, tracing(TracingContext(mode)):
        graph = make_fx(traced)(*examples)
        return torch._inductor.standalone_compile(graph, examples, dynamic_shapes="from_tracing_context")
