"""Runs a method once, without data, and writes down what becomes of one environment's numbers.

A tensor is followed as an array of cells: of the tensor's shape, but of length one along the environments. Views
share cells, so what is written through one of them is read through the other.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from happo_gpu import loops
from happo_gpu.lanes import ops
from happo_gpu.lanes.program import KINDS, Cell, Place, Program, Unsupported


def trace(method: Callable[..., None], num_envs: int, args: Sequence[Tensor] = ()) -> Program:
    """The program of ``method``, which writes tensors in place and returns nothing; it reads its arguments and never writes them.

    Every axis of ``num_envs`` is taken for that of the environments: it must be none of another length.

    Raises:
        Unsupported: what the method does cannot be compiled.
    """
    program = Program()
    interpreter = _Interpreter(program, num_envs)
    stand_ins = [interpreter.stand_in(arg) for arg in args]
    interpreter.frozen = set(range(len(program.storages)))
    with torch.no_grad(), loops.recorded(program.loop), _StandIns(interpreter.stand_in), interpreter:
        method(*stand_ins)
    program.end()
    return program


class _StandIns(TorchFunctionMode):
    """Hands every torch function the stand-in of a tensor in place of the tensor itself."""

    def __init__(self, stand_in: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._stand_in = stand_in

    def __torch_function__(self, func: Callable, types: Any, args: Tuple = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda x: self._stand_in(x) if isinstance(x, Tensor) else x, (args, kwargs or {}))
        return func(*args, **kwargs)


class _Interpreter(TorchDispatchMode):
    """Runs operations on tensors without data, and by happo_gpu.lanes.ops on their cells."""

    def __init__(self, program: Program, num_envs: int) -> None:
        super().__init__()
        self.program, self.num_envs = program, num_envs
        self.frozen: Set[int] = set()  # storages that nothing may write
        self._cells: Dict[int, Tuple[Tensor, np.ndarray]] = {}  # id -> the tensor, which keeps its id, and its cells
        self._met: Dict[int, Tuple[Tensor, Tensor]] = {}  # id -> a tensor with data, and its stand-in
        self._places: Dict[Place, Cell] = {}
        self._storages: Dict[int, int] = {}  # address -> index

    def __torch_dispatch__(self, func: Any, types: Any, args: Tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _makes(args):
            kwargs = {**kwargs, "device": torch.device("meta")}
        out = func(*args, **kwargs)
        cells = ops.apply(self, func, out, args, kwargs)
        if isinstance(out, (list, tuple)):
            for tensor, its in zip(out, cells):
                self._follow(tensor, its)
        elif cells is not None:
            self._follow(out, cells)
        return out

    def shape(self, tensor: Tensor) -> Tuple[int, ...]:
        """Of its cells."""
        return tuple(1 if size == self.num_envs else size for size in tensor.shape)

    def cells(self, tensor: Tensor) -> np.ndarray:
        if id(tensor) not in self._cells:
            raise Unsupported("a tensor made of numbers on the way")
        return self._cells[id(tensor)][1]

    def constant(self, tensor: Tensor) -> Tensor:
        """The numbers of a tensor that belongs to no environment, as they are and will be."""
        found = [real for real, stand_in in self._met.values() if stand_in is tensor]
        if not found or self.num_envs in found[0].shape:
            raise Unsupported("indices that are computed")
        return found[0]

    def table(self, tensor: Tensor) -> int:
        """The storage of a table of floats that belongs to no environment."""
        real = self.constant(tensor)
        if real.dtype != torch.float32 or not real.is_contiguous() or real.storage_offset():
            raise Unsupported("a table that is not one block of floats")
        return self._storage(real)

    def stand_in(self, tensor: Tensor) -> Tensor:
        """A tensor without data of the same shape, whose cells lie in the tensor's memory."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._met:
            bare = self._empty(tensor, "meta")
            self._met[id(tensor)] = (tensor, bare)
            self._follow(bare, self._placed(tensor))
        return self._met[id(tensor)][1]

    def drawn(self, like: Tensor, fill: Callable[[Tensor], Any]) -> np.ndarray:
        """Cells of random numbers, which ``fill`` draws before each run into a tensor laid out as ``like``: in torch's own order."""
        if self.program.in_loop:
            raise Unsupported("random numbers within a loop")
        numbers = self._empty(like, "cpu")
        self.program.draws.append(lambda: fill(numbers))
        return self._placed(numbers)

    def check_writable(self, cell: Cell) -> None:
        if cell.place and cell.place.storage in self.frozen:
            raise Unsupported("an argument that is written")

    def _empty(self, like: Tensor, device: str) -> Tensor:
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunctionSubclass():
            return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)

    def _follow(self, tensor: Tensor, cells: np.ndarray) -> None:
        self._cells[id(tensor)] = (tensor, np.broadcast_to(cells, self.shape(tensor)))

    def _placed(self, tensor: Tensor) -> np.ndarray:
        if tensor.dtype not in KINDS:
            raise Unsupported(str(tensor.dtype))
        axes = [axis for axis, size in enumerate(tensor.shape) if size == self.num_envs]
        if len(axes) > 1:
            raise Unsupported(f"two axes of {self.num_envs}")
        stride, storage = tensor.stride(axes[0]) if axes else 0, self._storage(tensor)
        cells = np.empty(self.shape(tensor), object)
        for index in np.ndindex(*cells.shape):
            at = tensor.storage_offset() + sum(i * step for i, step in zip(index, tensor.stride()))
            rows, offset = divmod(at, self.num_envs) if stride == 1 else (0, at)  # environments last, or first
            place = Place(storage, rows, offset, stride, tensor.dtype)
            cells[index] = self._places.setdefault(place, Cell(KINDS[tensor.dtype], place=place))
        return cells

    def _storage(self, tensor: Tensor) -> int:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._storages:
            self._storages[address] = len(self.program.storages)
            self.program.storages.append(tensor)
        return self._storages[address]


def _makes(args: Tuple) -> bool:
    """Whether an operation with these arguments makes a tensor of nothing."""
    return not any(isinstance(each, Tensor) or (isinstance(each, (list, tuple)) and any(isinstance(x, Tensor) for x in each)) for each in args)
