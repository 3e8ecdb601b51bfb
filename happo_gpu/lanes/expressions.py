"""Numbers as C++ has them, and cells of expressions of cells."""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, Tuple, Union

import numpy as np
from torch import Tensor

from happo_gpu.lanes.program import FLOAT, INT, KINDS, MASK, Cell, Unsupported

Args = Tuple[Any, ...]
Named = Dict[str, Any]


def literal(kind: str, value: Union[float, int, bool]) -> str:
    """A number as C++ has it."""
    if kind == MASK:
        return "ALL" if value else "NONE"
    if kind == INT:
        if not -(2**31) <= value < 2**31:
            raise Unsupported(f"{value}, which takes more than 32 bits")
        return f"n({int(value)})"
    single = float(np.float32(value))
    return f"f({single!r}f)" if math.isfinite(single) else f"f({'-' if single < 0 else ''}INFINITY)" if math.isinf(single) else "f(NAN)"


def as_kind(at: Any, kind: str, operand: Any) -> str:
    """The name of a number, converted."""
    if not isinstance(operand, Cell):
        return literal(kind, operand)
    name, own = at.program.read(operand), operand.kind
    if own == kind:
        return name
    if kind == FLOAT:
        return at.program.value(FLOAT, f"{name} ? f(1.0f) : f(0.0f)" if own == MASK else f"__builtin_convertvector({name}, F)")
    if kind == INT:
        return at.program.value(INT, f"{name} & 1" if own == MASK else f"__builtin_convertvector({name}, I)")
    return at.program.value(MASK, f"{name} != {literal(own, 0)}")


def map_cells(at: Any, kind: str, form: Callable[..., str], *operands: Any) -> np.ndarray:
    """Cells of what ``form`` makes of operands, tensors, arrays of cells or numbers, cell by cell."""
    arrays = np.broadcast_arrays(*(at.cells(each) if isinstance(each, Tensor) else _array(each) for each in operands))
    cells = np.empty(arrays[0].shape, object)
    for index in np.ndindex(*cells.shape):
        cells[index] = at.program.computed(kind, form, [array[index] for array in arrays])
    return cells


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), object)
    array[()] = value
    return array


def expressed(at: Any, kind: str, text: str, *operands: Any) -> np.ndarray:
    """Cells of an expression of floats, or of whatever ``kind`` is."""
    return map_cells(at, kind, lambda *x: at.program.value(kind, text.format(*(as_kind(at, kind, each) for each in x))), *operands)


def converted(at: Any, like: Tensor, values: Any) -> np.ndarray:
    kind = KINDS[like.dtype]
    return np.broadcast_to(map_cells(at, kind, lambda x: as_kind(at, kind, x), values), at.shape(like))


def count_of(at: Any, count: int) -> str:
    """A multiple of the number of samples."""
    return f"f({count // at.num_rows}.0f * (float)n_)"
