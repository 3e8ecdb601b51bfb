"""Runs a method once, without data, and writes down what becomes of one row's numbers.

A tensor is followed as an array of cells: of the tensor's shape, but of length one along the rows, and along axes of
many columns that are treated alike. Views share cells, so what is written through one of them is read through the other.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from happo_gpu import loops
from happo_gpu.lanes import memory, ops, views
from happo_gpu.lanes.program import COMMON, KINDS, ROWS, SUMMED, Cell, Place, Program, Region, Unsupported

_WIDE = 24  # columns of a network's layers that are worth a loop, in place of a statement each


def trace(method: Callable[..., None], num_rows: int, args: Sequence[Tensor] = (), samples: bool = False) -> Program:
    """The program of ``method``, which writes tensors in place and returns nothing.

    Every axis of ``num_rows`` is taken for that of the rows: it must be none of another length. Of ``samples`` there may
    be another number in each call, and they may be multiplied by matrices and summed.
    What is no tensor counts as it is now: numbers of Python, and what they decide.

    Raises:
        Unsupported: what the method does cannot be compiled.
    """
    program = Program(samples)
    interpreter = _Interpreter(program, num_rows, samples)
    stand_ins = [interpreter.stand_in(arg) for arg in args]
    for arg in args:
        interpreter.storage(arg)  # the first ones, in this order
    with loops.recorded(program.loop), _StandIns(interpreter.stand_in), interpreter:
        method(*stand_ins)
    program.close()
    memory.check(program, num_rows, len(args))
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

    def __init__(self, program: Program, num_rows: int, samples: bool) -> None:
        super().__init__()
        self.program, self.num_rows, self.samples = program, num_rows, samples
        self._met: Dict[int, Tuple[Tensor, Tensor]] = {}  # id -> a tensor with data, and its stand-in
        self._followed: Dict[int, Tensor] = {}  # id -> a tensor without data; held, its id stays its own
        self._cells: Dict[int, np.ndarray] = {}  # id -> its cells
        self._real: Dict[int, Tensor] = {}  # id -> the tensor with data, or the view of one, that it stands for
        self._places: Dict[Place, Cell] = {}
        self._storages: Dict[int, int] = {}  # address -> index
        self._summed: Dict[int, Tensor] = {}  # index -> a storage that is filled once all rows are through
        self._decompositions = ops.decompositions() if samples else {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Tuple = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._known, (args, kwargs or {}))
        if func in self._decompositions:
            with self:
                return self._decompositions[func](*args, **kwargs)
        if self.samples:  # a decomposition is made of operations that torch has yet to decompose
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if _makes(args):
            kwargs = {**kwargs, "device": torch.device("meta")}
        out, name = func(*args, **kwargs), func.overloadpacket.__name__
        if name in views.VIEWS:
            self._view(func, name, out, args, kwargs)
            return out
        cells = ops.apply(self, func, out, args, kwargs)
        for tensor, its in zip(out, cells) if isinstance(out, (list, tuple)) else [(out, cells)]:
            if its is not None:
                self._remember(tensor, its)
        return out

    # -- what ops ask ------------------------------------------------------------------------

    def shape(self, tensor: Tensor) -> Tuple[int, ...]:
        """Of its cells."""
        for what, axes in (("rows", [size for size in tensor.shape if size == self.num_rows]),
                           ("columns", [size for size in tensor.shape if self.is_wide(size)])):
            if len(axes) > 1:
                raise Unsupported(f"two axes of {what}: {tuple(tensor.shape)}")
        return tuple(1 if size == self.num_rows or self.is_wide(size) else size for size in tensor.shape)

    def is_wide(self, size: int) -> bool:
        """Whether an axis is one of many columns that are treated alike."""
        return self.samples and size >= _WIDE and size != self.num_rows

    def counts_rows(self, number: Any) -> bool:
        """Whether a number is a multiple of the number of rows, which another call may change."""
        return self.samples and isinstance(number, (int, float)) and number >= self.num_rows and number % self.num_rows == 0

    def cells(self, tensor: Tensor) -> np.ndarray:
        if id(tensor) not in self._cells:
            if id(tensor) not in self._real:
                raise Unsupported("a tensor made of numbers on the way")
            self._cells[id(tensor)] = self.placed(self._real[id(tensor)])
        return self._cells[id(tensor)]

    def real(self, tensor: Tensor) -> Optional[Tensor]:
        """What a stand-in, or a view of one, stands for, if it has no rows."""
        real = self._real.get(id(tensor))
        return None if real is None or self.num_rows in real.shape else real

    def constant(self, tensor: Tensor) -> Tensor:
        """The numbers of a tensor that belongs to no row, as they are and will be."""
        real = self.real(tensor)
        if real is None:
            raise Unsupported(f"indices that are computed, or an axis of {self.num_rows} that is not that of the rows")
        return real

    def indices(self, tensor: Tensor) -> np.ndarray:
        """Indices that are the same for all rows: part of the program."""
        self.program.constants.append(self.region(tensor))
        self.program.baked.append((self.constant(tensor), self.constant(tensor)._version))
        return self.constant(tensor).numpy()

    def region(self, tensor: Tensor) -> Region:
        """Where the numbers of a tensor without rows lie."""
        real = self.constant(tensor)
        return Region(self.storage(real), real.storage_offset(), tuple(real.shape), tuple(real.stride()))

    def table(self, tensor: Tensor) -> int:
        """The storage of a table of floats that belongs to no row."""
        real = self.constant(tensor)
        if real.dtype != torch.float32 or not real.is_contiguous() or real.storage_offset():
            raise Unsupported("a table that is not one block of floats")
        self.program.constants.append(self.region(tensor))
        return self.storage(real)

    def summed(self, shape: Tuple[int, ...]) -> Tensor:
        """Room for numbers that are known once all rows are through."""
        with _plainly():
            room = torch.zeros(shape)
        self._summed[self.storage(room)] = room
        return room

    def is_summed(self, tensor: Tensor) -> bool:
        """Whether a tensor is such a room, or a view of it."""
        real = self.real(tensor)
        return real is not None and self.storage(real) in self._summed

    def follow(self, tensor: Tensor, real: Tensor) -> None:
        """From now on ``tensor`` stands for ``real``."""
        self._followed[id(tensor)], self._real[id(tensor)] = tensor, real

    def stand_in(self, tensor: Tensor) -> Tensor:
        """A tensor without data of the same shape, whose cells lie in the tensor's memory."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._met:
            if tensor.dtype not in KINDS:
                raise Unsupported(str(tensor.dtype))
            bare = self._empty(tensor, "meta")
            bare.requires_grad_(tensor.requires_grad)
            self._met[id(tensor)] = (tensor, bare)
            with _plainly():
                self.follow(bare, tensor.detach())
        return self._met[id(tensor)][1]

    def drawn(self, like: Tensor, fill: Callable[[Tensor], Any]) -> np.ndarray:
        """Cells of random numbers, which ``fill`` draws before each run into a tensor laid out as ``like``: in torch's own order."""
        if self.program.in_loop or self.samples:
            raise Unsupported("random numbers within a loop")
        numbers = self._empty(like, "cpu")
        self.program.draws.append(lambda: fill(numbers))
        return self.placed(numbers)

    def placed(self, tensor: Tensor) -> np.ndarray:
        """Cells that lie in a tensor's memory."""
        cells = np.empty(self.shape(tensor), object)
        rows = [axis for axis, size in enumerate(tensor.shape) if size == self.num_rows]
        wide = [axis for axis, size in enumerate(tensor.shape) if self.is_wide(size)]
        stride, storage = tensor.stride(rows[0]) if rows else 0, self.storage(tensor)
        width, step = (tensor.shape[wide[0]], tensor.stride(wide[0])) if wide else (1, 0)
        for index in np.ndindex(*cells.shape):
            at = tensor.storage_offset() + sum(i * step for i, step in zip(index, tensor.stride()))
            before, offset = divmod(at, self.num_rows) if stride == 1 else (0, at)  # rows last, or first
            place = Place(storage, before, offset, stride, tensor.dtype, width, step)
            side = SUMMED if storage in self._summed else ROWS if stride else COMMON
            cells[index] = self._places.setdefault(place, Cell(KINDS[tensor.dtype], width=width, side=side, place=place))
        return cells

    def storage(self, tensor: Tensor) -> int:
        """Index of a tensor's memory."""
        with _plainly():
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
            if address not in self._storages:
                self._storages[address] = len(self.program.storages)
                size = storage.nbytes() // tensor.element_size()  # all of it: tensors are views of their storages
                self.program.storages.append(torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (size,), (1,)))
        return self._storages[address]

    # -- pieces ------------------------------------------------------------------------------

    def _known(self, value: Any) -> Any:
        """Before torch 2.1 subscripts pass _StandIns by."""
        if not isinstance(value, Tensor) or id(value) in self._followed:
            return value
        with torch._C.DisableTorchFunction():
            return self.stand_in(value)

    def _view(self, func: Any, name: str, out: Any, args: Tuple, kwargs: Dict[str, Any]) -> None:
        """A view of what lies in memory lies there, too; of anything else, it has some of the cells."""
        outs = list(out) if isinstance(out, (list, tuple)) else [out]
        real = self._real.get(id(args[0]))
        views.check_view(self, func, outs, args)
        if real is not None:
            if name in ("select", "slice", "unbind", "split", "split_with_sizes"):
                views.check_part(self, name, out, args, kwargs)
            with _plainly():
                parts = func(real, *args[1:], **kwargs)
            for tensor, part in zip(outs, parts if isinstance(parts, (list, tuple)) else [parts]):
                self.follow(tensor, part)
            return
        cells = views.view(self, name, out, args, kwargs)
        for tensor, its in zip(outs, cells if isinstance(cells, list) else [cells]):
            self._remember(tensor, its)

    def _remember(self, tensor: Tensor, cells: np.ndarray) -> None:
        self._followed[id(tensor)], self._cells[id(tensor)] = tensor, np.broadcast_to(cells, self.shape(tensor))

    def _empty(self, like: Tensor, device: str) -> Tensor:
        with _plainly():
            return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)


class _plainly:
    """Operations within are torch's own, on tensors with data."""

    def __enter__(self) -> None:
        self._off: List[Any] = []
        for kind in (torch._C._DisableTorchDispatch, torch._C.DisableTorchFunction, torch.no_grad):
            self._off.append(kind())
            if hasattr(kind, "__enter__"):  # before torch 2.1 the first is in force as long as it lives
                self._off[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        while self._off:
            each = self._off.pop()
            if hasattr(each, "__exit__"):
                each.__exit__(*error)
            del each


def _makes(args: Tuple) -> bool:
    """Whether an operation with these arguments makes a tensor of nothing."""
    return not any(isinstance(each, Tensor) or (isinstance(each, (list, tuple)) and any(isinstance(x, Tensor) for x in each)) for each in args)
