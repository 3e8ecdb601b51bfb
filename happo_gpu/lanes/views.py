"""Views, joints and parts of tensors: cells in another order, or chosen for each row."""
from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import numpy as np
from torch import Tensor

from happo_gpu.lanes.expressions import Args, Named, as_kind, converted, literal, map_cells
from happo_gpu.lanes.program import FLOAT, INT, KINDS, Cell, Unsupported

VIEWS = frozenset(("t", "transpose", "permute", "select", "slice", "unbind", "split", "split_with_sizes", "view", "_unsafe_view", "reshape",
                   "squeeze", "unsqueeze", "expand", "detach", "alias"))


def view(at: Any, name: str, out: Any, args: Args, kwargs: Named) -> Any:
    """Cells of a view of a tensor; a list for a list."""
    tensor, cells = args[0], at.cells(args[0])
    if name in ("detach", "alias"):
        return cells
    if name == "expand":
        return np.broadcast_to(cells, at.shape(out))
    if name in ("t", "transpose", "permute"):
        axes = list(range(tensor.dim()))
        if name == "permute":
            axes = [axis % tensor.dim() for axis in args[1]]
        else:
            first, second = args[1:] if name == "transpose" else (0, tensor.dim() - 1)
            axes[first], axes[second] = axes[second], axes[first]
        return cells.transpose(axes)
    if name in ("select", "slice", "unbind", "split", "split_with_sizes"):
        return _part(at, name, out, args, kwargs)
    return cells.reshape(at.shape(out))  # the cells keep their order


def check_view(at: Any, func: Any, outs: Sequence[Tensor], args: Args) -> None:
    """A view keeps rows and columns as such: with as many numbers before them along the axes."""
    if func._overloadname == "dtype":
        raise Unsupported("the bits of numbers as another type's")
    if func.overloadpacket.__name__ not in ("view", "_unsafe_view", "reshape"):
        return
    for is_such in (lambda size: size == at.num_rows, at.is_wide):
        before, after = ([math.prod(tensor.shape[:axis]) for axis, size in enumerate(tensor.shape) if is_such(size)] for tensor in (args[0], outs[0]))
        if before != after:
            raise Unsupported(f"{tuple(args[0].shape)} seen as {tuple(outs[0].shape)}, which takes rows or columns apart")


def check_part(at: Any, name: str, out: Any, args: Args, kwargs: Named) -> int:
    """The axis along which parts of a tensor are picked out, which is not that of the rows."""
    tensor = args[0]
    where = {"select": 1, "slice": 1, "unbind": 1, "split": 2, "split_with_sizes": 2}[name]
    axis = (args[where] if len(args) > where else kwargs.get("dim", 0)) % tensor.dim()
    if tensor.shape[axis] == at.num_rows and not (name == "slice" and out.shape == tensor.shape):
        raise Unsupported("some of the rows picked out")
    return axis


def _part(at: Any, name: str, out: Any, args: Args, kwargs: Named) -> Any:
    axis, cells, tensor = check_part(at, name, out, args, kwargs), at.cells(args[0]), args[0]
    if name == "slice" and out.shape == tensor.shape:
        return cells
    if at.is_wide(tensor.shape[axis]):
        raise Unsupported("some of the columns picked out")

    def along(part: Any) -> np.ndarray:
        return cells[(slice(None),) * axis + (part,)]

    if name == "select":
        return along(args[2])
    if name == "slice":
        return along(slice(*args[2:]) if len(args) > 2 else slice(None))
    if name == "unbind":
        return [along(i) for i in range(len(out))]
    ends = np.cumsum([part.shape[axis] for part in out])
    return [along(slice(end - part.shape[axis], end)) for end, part in zip(ends, out)]


def joined(join: Callable) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if at.is_wide(out.shape[axis]) or any(each.shape[axis] == at.num_rows for each in (out, *args[0]) if each.dim() == out.dim()):
            raise Unsupported("rows or columns joined")
        kind = KINDS[out.dtype]
        return join([map_cells(at, kind, lambda x: as_kind(at, kind, x), part) for part in args[0]], axis)

    return operation


def _check_explicit(at: Any, tensor: Tensor, axis: int) -> None:
    if tensor.shape[axis] == at.num_rows or at.is_wide(tensor.shape[axis]):
        raise Unsupported("rows or columns rearranged")


def roll(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    tensor, shifts, axes = args
    for axis in axes:
        _check_explicit(at, tensor, axis)
    return np.roll(converted(at, out, tensor), shifts, axes)


def index_select(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    tensor, axis, index = args
    _check_explicit(at, tensor, axis)
    return converted(at, out, np.take(at.cells(tensor), at.indices(index), axis))  # cells of their own: one may be taken twice


def gather(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """Each row its own of a few: a chain of choices."""
    tensor, axis, index = args[:3]
    _check_explicit(at, tensor, axis)
    axis, choices, chosen, kind = axis % tensor.dim(), at.cells(tensor), at.cells(index), KINDS[out.dtype]

    def form(number: Cell, *options: Cell) -> str:
        wanted, name = as_kind(at, INT, number), as_kind(at, kind, options[0])
        for i, option in enumerate(options[1:], 1):
            name = at.program.value(kind, f"({wanted} == {literal(INT, i)}) ? {as_kind(at, kind, option)} : {name}")
        return name

    cells = np.empty(chosen.shape, object)
    for place in np.ndindex(*chosen.shape):
        options = [choices[place[:axis] + (i,) + place[axis + 1 :]] for i in range(choices.shape[axis])]
        cells[place] = at.program.computed(kind, form, [chosen[place], *options])
    return cells


def scatter_add(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """What each row adds to one of a few columns of its own."""
    tensor, axis, index, source = args
    _check_explicit(at, tensor, axis)
    if index.shape[axis] != 1:
        raise Unsupported("several columns chosen at once")
    axis = axis % tensor.dim()
    cells = at.cells(tensor).copy()
    for place in np.ndindex(*cells.shape):
        chosen, what = (at.cells(each)[place[:axis] + (0,) + place[axis + 1 :]] for each in (index, source))
        form = _added_where(at, place[axis])
        cells[place] = at.program.computed(FLOAT, form, [cells[place], chosen, what])
    return cells


def _added_where(at: Any, column: int) -> Callable[..., str]:
    return lambda x, chosen, what: at.program.value(
        FLOAT, f"{as_kind(at, FLOAT, x)} + (({as_kind(at, INT, chosen)} == {literal(INT, column)}) ? {as_kind(at, FLOAT, what)} : f(0.0f))")


def index(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """Each row its own row of a table that belongs to none."""
    table, indices = args
    if len(indices) != 1 or tuple(indices[0].shape) != (at.num_rows,):
        raise Unsupported("several indices at once")
    storage, sizes = at.table(table), table.shape[1:]
    (chosen,), width = at.cells(indices[0]), math.prod(sizes)
    cells = np.empty((1, *sizes), object)
    for i, place in enumerate(np.ndindex(*sizes)):
        text = f"pick_((float *)p[{storage}] + {i}, {width}, {table.shape[0]}, {{}})"
        cells[(0, *place)] = at.program.computed(FLOAT, lambda x, text=text: at.program.value(FLOAT, text.format(as_kind(at, INT, x))), [chosen])
    return cells
