"""Sums, means, choices and products: along columns within a row, and over all rows."""
from __future__ import annotations

import math
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
from torch import Tensor

from happo_gpu.lanes.expressions import Args, Named, as_kind, count_of, expressed, literal, map_cells
from happo_gpu.lanes.program import FLOAT, KINDS, ROWS, Cell, Outer, Region, Unsupported

_SUM = "{} + {}"


def reduction(text: str, finish: Optional[Callable[[Any, np.ndarray, int], np.ndarray]] = None, adds: bool = False) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> Optional[np.ndarray]:
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        cells, count = reduced(at, out, at.cells(args[0]), args[0], axes, text, adds)
        return finish(at, cells, count) if finish else cells

    return operation


def reduced(at: Any, out: Tensor, cells: np.ndarray, tensor: Tensor, axes: Any, text: str, adds: bool) -> Tuple[np.ndarray, int]:
    """The cells of a sum or choice along axes of ``tensor``, shaped as ``out``, and how many numbers went into each."""
    axes = [axes] if isinstance(axes, int) else list(axes or range(tensor.dim()))
    axes = sorted(axis % tensor.dim() for axis in axes)
    over_rows = [axis for axis in axes if tensor.shape[axis] == at.num_rows]
    over_columns = [axis for axis in axes if at.is_wide(tensor.shape[axis])]
    if over_rows and not (adds and at.samples):
        raise Unsupported("a sum or choice over rows")
    if over_columns and not adds:
        raise Unsupported("a choice over columns")
    kind = KINDS[out.dtype]
    if kind != FLOAT and (over_rows or over_columns):
        raise Unsupported("a sum of integers over rows or columns")
    kept = [axis for axis in range(tensor.dim()) if axis not in axes]
    rows = cells.transpose(kept + axes).reshape([cells.shape[axis] for axis in kept] + [-1])
    result = np.empty(rows.shape[:-1], object)
    for index in np.ndindex(*result.shape):
        parts = [_total(at, cell, tensor.shape[over_columns[0]]) if over_columns else cell for cell in rows[index]]
        while len(parts) > 1:  # in pairs: what follows waits for half as many
            halves = [_combined(at, kind, text, *parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
            parts = halves + parts[2 * len(halves) :]
        result[index] = at.program.computed(kind, lambda x: as_kind(at, kind, x), parts)  # of its own, where there was only one
    if over_rows and any(cell.side == ROWS for cell in result.flat):
        result = _over_rows(at, out, result)
    elif over_rows:  # what is one for all samples, as often as there are samples
        result = map_cells(at, kind, lambda x: at.program.value(kind, f"{as_kind(at, kind, x)} * {count_of(at, at.num_rows)}"), result)
    return result.reshape(at.shape(out)), math.prod(tensor.shape[axis] for axis in axes)


def _combined(at: Any, kind: str, text: str, *pair: Cell) -> Cell:
    return at.program.computed(kind, lambda x, y: at.program.value(kind, text.format(as_kind(at, kind, x), as_kind(at, kind, y))), pair)


def _total(at: Any, cell: Cell, width: int) -> Cell:
    if cell.width > 1:
        return at.program.total(cell)
    return at.program.computed(FLOAT, lambda x: at.program.value(FLOAT, f"{as_kind(at, FLOAT, x)} * {literal(FLOAT, width)}"), [cell])


def _over_rows(at: Any, out: Tensor, cells: np.ndarray) -> np.ndarray:
    """Cells of ``out``, which from now on stands for the room that they are summed up in."""
    widths = {cell.width for cell in cells.flat}
    if len(widths) > 1:
        raise Unsupported("one column and many, summed side by side")
    (width,) = widths
    into = at.summed((cells.size * width,))
    at.program.sum_over_rows(list(cells.flat), at.storage(into))
    at.follow(out, into.view(out.shape))
    return at.cells(out)


def averaged(at: Any, cells: np.ndarray, count: int) -> np.ndarray:
    return map_cells(at, FLOAT, lambda x: at.program.value(FLOAT, f"{as_kind(at, FLOAT, x)} / {count_of(at, count) if at.counts_rows(count) else literal(FLOAT, count)}"), cells)


def norm(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    order, axes = args[1] if len(args) > 1 else kwargs.get("ord", 2), args[2] if len(args) > 2 else kwargs.get("dim")
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    squares = expressed(at, FLOAT, "{0} * {0}", args[0])
    return expressed(at, FLOAT, "sqrt_({})", reduced(at, out, squares, args[0], axes, _SUM, True)[0])


def var_mean(at: Any, out: Sequence[Tensor], args: Args, kwargs: Named) -> List[np.ndarray]:
    tensor, axes = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
    if not kwargs.get("keepdim") or kwargs.get("correction", kwargs.get("unbiased", 1)):
        raise Unsupported("a variance that is not of all there are")
    total, count = reduced(at, out[1], at.cells(tensor), tensor, axes, _SUM, True)
    mean = averaged(at, total, count)
    squares = map_cells(at, FLOAT, lambda x, m: _squared(at, x, m), tensor, mean)
    total, count = reduced(at, out[0], squares, tensor, axes, _SUM, True)
    return [averaged(at, total, count), mean]


def _squared(at: Any, x: Cell, mean: Cell) -> str:
    deviation = at.program.value(FLOAT, f"{as_kind(at, FLOAT, x)} - {as_kind(at, FLOAT, mean)}")
    return at.program.value(FLOAT, f"{deviation} * {deviation}")


def product(at: Any, out: Tensor, left: Tensor, right: Tensor) -> Optional[np.ndarray]:
    """Rows times a matrix that is one for all, or outer products of rows with rows, summed."""
    if not at.samples:
        raise Unsupported("a matrix product of environments")
    if left.shape[0] == at.num_rows and at.real(right) is not None:
        if at.is_summed(right):
            raise Unsupported("what is summed over rows meets the rows once more")
        storage, offset, shape, steps = at.region(right)  # turned: it is columns that are multiplied
        spot = at.program.multiply(Region(storage, offset, shape[::-1], steps[::-1]), at.program.side_by_side(list(at.cells(left).flat), left.shape[1]))
        if at.is_wide(out.shape[1]):
            return np.array([[at.program.cell(FLOAT, width=out.shape[1], side=ROWS, spot=spot)]], object)
        columns = [at.program.cell(FLOAT, side=ROWS, spot=spot._replace(offset=spot.offset + i)) for i in range(out.shape[1])]
        return np.array(columns, object).reshape(1, -1)
    if left.shape[1] == at.num_rows and right.shape[0] == at.num_rows:
        spots = [at.program.side_by_side(list(at.cells(each).flat), size) for each, size in zip((left, right), out.shape)]
        into = at.summed(tuple(out.shape))
        at.program.multiply_over_rows(*spots, Outer(at.storage(into), tuple(out.shape)))
        at.follow(out, into)
        return None
    raise Unsupported("a product of matrices that are one for all rows")
