"""What each torch operation means for the numbers of one row."""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from happo_gpu.lanes.program import FLOAT, INT, KINDS, MASK, ROWS, Cell, Outer, Region, Unsupported

Operand = Union[Tensor, float, int, bool, None]
Args = Tuple[Any, ...]
Named = Dict[str, Any]

# Expressions of operands that have the result's kind.
_ARITHMETIC = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "neg": "-{}", "copysign": "copysign_({}, {})",
               "bitwise_and": "{} & {}", "bitwise_or": "{} | {}", "bitwise_xor": "{} ^ {}", "bitwise_not": "~{}",
               "logical_and": "{} & {}", "logical_or": "{} | {}", "logical_not": "~{}"}
_OF_MASKS = {"add": "{} | {}", "mul": "{} & {}"}  # what torch makes of truth values
_FUNCTIONS = {"sqrt": "sqrt_({})", "rsqrt": "f(1.0f) / sqrt_({})", "reciprocal": "f(1.0f) / {}", "abs": "abs_({})", "sgn": "sign_({})",
              "sign": "sign_({})", "relu": "larger_({}, f(0.0f))", "sin": "sin_({})", "cos": "cos_({})", "floor": "floor_({})",
              "remainder": "remainder_({}, {})", "exp": "exp_({})", "expm1": "exp_({}) - f(1.0f)", "tanh": "tanh_({})",
              "sigmoid": "f(1.0f) / (f(1.0f) + exp_(-{}))", "maximum": "larger_({}, {})", "minimum": "smaller_({}, {})",
              "log": "log_({})", "atan2": "each_(atan2f, {}, {})", "sigmoid_backward": "{0} * ({1} * (f(1.0f) - {1}))",
              "tanh_backward": "{0} * (f(1.0f) - {1} * {1})", "threshold_backward": "{1} > {2} ? {0} : f(0.0f)"}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_FILLED = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_MADE_ANEW = ("_to_copy", "clone")
_VIEWS = ("t", "transpose", "permute", "select", "slice", "unbind", "split", "split_with_sizes", "view", "_unsafe_view", "reshape",
          "squeeze", "unsqueeze", "expand", "detach", "alias")
_DECOMPOSED = ("native_layer_norm", "native_layer_norm_backward", "elu", "elu_backward", "silu", "silu_backward", "leaky_relu",
               "leaky_relu_backward", "addmm", "logsumexp")


def apply(at: Any, func: Any, out: Any, args: Args, kwargs: Named) -> Any:
    """The cells of ``out``, which ``func`` made of ``args``; a list for a list; None where there are none to be remembered.

    ``at`` is the interpreter that knows the cells of tensors (happo_gpu.lanes.trace).

    Raises:
        Unsupported: the operation is not known here, or works across rows.
    """
    name = func.overloadpacket.__name__
    if "out" in kwargs:
        raise Unsupported(f"{func} with out=")
    for each in out if isinstance(out, (list, tuple)) else [out]:
        if isinstance(each, Tensor) and each.dtype not in KINDS:
            raise Unsupported(str(each.dtype))
    if name == "copy_":
        return _assign(at, args[0], _converted(at, args[0], args[1]))
    if name in _IN_PLACE:
        return _changed(at, name, args, kwargs)
    if name == "mm":
        return _product(at, out, *args)
    known = _OPERATIONS.get(name)
    if known is None:
        raise Unsupported(str(func))
    return known(at, out, args, kwargs)


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


def decompositions() -> Dict[Any, Callable]:
    """torch's own, of what is not known here."""
    from torch._decomp import get_decompositions

    return get_decompositions([getattr(torch.ops.aten, name) for name in _DECOMPOSED])


# -- elementwise --------------------------------------------------------------------------------------


def _as(at: Any, kind: str, operand: Any) -> str:
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


def _map(at: Any, kind: str, form: Callable[..., str], *operands: Any) -> np.ndarray:
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


def _expressed(at: Any, kind: str, text: str, *operands: Any) -> np.ndarray:
    """Cells of an expression of floats, or of whatever ``kind`` is."""
    return _map(at, kind, lambda *x: at.program.value(kind, text.format(*(_as(at, kind, each) for each in x))), *operands)


def _elementwise(text: str, among: str = "", of_masks: str = "") -> Callable:
    """An operation on operands of one kind: ``among``, or the result's; ``of_masks`` is what it is for truth values, if it is another."""

    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        if kwargs.get("rounding_mode") or kwargs.get("alpha", 1) != 1:
            raise Unsupported(f"{text} with {kwargs}")
        kind = KINDS[out.dtype]
        if kind == MASK and of_masks:
            return _expressed(at, kind, of_masks, *args)
        if among and kind != among:
            raise Unsupported(f"{out.dtype} where floats are expected")
        return _expressed(at, kind, text, *args)

    return operation


def _div(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """By a number of rows, as the gradient of a mean is, by however many there will be."""
    if at.counts_rows(args[1]):
        return _map(at, FLOAT, lambda x: at.program.value(FLOAT, f"{_as(at, FLOAT, x)} / {_count(at, args[1])}"), args[0])
    return _elementwise(_ARITHMETIC["div"])(at, out, args, kwargs)


def _count(at: Any, count: int) -> str:
    """A multiple of the number of samples."""
    return f"f({count // at.num_rows}.0f * (float)n_)"


def _comparison(sign: str) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        kinds = {KINDS[each.dtype] for each in args if isinstance(each, Tensor)}
        kind = FLOAT if FLOAT in kinds or any(isinstance(each, float) for each in args) else INT
        return _map(at, MASK, lambda x, y: at.program.value(MASK, f"{_as(at, kind, x)} {sign} {_as(at, kind, y)}"), *args)

    return operation


def _clamp(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    values, low, high = (*args, None, None)[:3]
    low, high, kind = kwargs.get("min", low), kwargs.get("max", high), KINDS[out.dtype]

    def form(value: Cell, *bounds: Any) -> str:
        name = _as(at, kind, value)
        for bound, sign in zip(bounds, "<>"):
            if bound is not None:
                limit = _as(at, kind, bound)
                name = at.program.value(kind, f"({name} {sign} {limit}) ? {limit} : {name}")
        return name

    return _map(at, kind, form, values, low, high)


def _pow(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    if args[1] != 2 or not isinstance(args[0], Tensor):
        raise Unsupported(f"a power of {args[1]}")
    return _elementwise("{0} * {0}")(at, out, args[:1], {})


def _where(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    kind = KINDS[out.dtype]
    return _map(at, kind, lambda mask, x, y: at.program.value(kind, f"{_as(at, MASK, mask)} ? {_as(at, kind, x)} : {_as(at, kind, y)}"), *args)


def _masked_fill(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    values, mask, other = args
    return _where(at, out, (mask, other, values), {})


def _rsub(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    return _elementwise(_ARITHMETIC["sub"])(at, out, (args[1], args[0], *args[2:]), kwargs)


def _converted(at: Any, like: Tensor, values: Any) -> np.ndarray:
    kind = KINDS[like.dtype]
    return np.broadcast_to(_map(at, kind, lambda x: _as(at, kind, x), values), at.shape(like))


def _filled(at: Any, out: Tensor, value: Union[float, int, bool]) -> np.ndarray:
    kind = KINDS[out.dtype]
    cells = np.empty(at.shape(out), object)
    for index in np.ndindex(*cells.shape):
        cells[index] = at.program.cell(kind, name=literal(kind, value))
    return cells


# -- views, joints and parts --------------------------------------------------------------------------


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


def _joined(join: Callable) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if at.is_wide(out.shape[axis]) or any(each.shape[axis] == at.num_rows for each in (out, *args[0]) if each.dim() == out.dim()):
            raise Unsupported("rows or columns joined")
        kind = KINDS[out.dtype]
        return join([_map(at, kind, lambda x: _as(at, kind, x), part) for part in args[0]], axis)

    return operation


def _check_explicit(at: Any, tensor: Tensor, axis: int) -> None:
    if tensor.shape[axis] == at.num_rows or at.is_wide(tensor.shape[axis]):
        raise Unsupported("rows or columns rearranged")


def _roll(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    tensor, shifts, axes = args
    for axis in axes:
        _check_explicit(at, tensor, axis)
    return np.roll(_converted(at, out, tensor), shifts, axes)


def _index_select(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    tensor, axis, index = args
    _check_explicit(at, tensor, axis)
    return _converted(at, out, np.take(at.cells(tensor), at.indices(index), axis))  # cells of their own: one may be taken twice


def _gather(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """Each row its own of a few: a chain of choices."""
    tensor, axis, index = args[:3]
    _check_explicit(at, tensor, axis)
    axis, choices, chosen, kind = axis % tensor.dim(), at.cells(tensor), at.cells(index), KINDS[out.dtype]

    def form(number: Cell, *options: Cell) -> str:
        wanted, name = _as(at, INT, number), _as(at, kind, options[0])
        for i, option in enumerate(options[1:], 1):
            name = at.program.value(kind, f"({wanted} == {literal(INT, i)}) ? {_as(at, kind, option)} : {name}")
        return name

    cells = np.empty(chosen.shape, object)
    for place in np.ndindex(*chosen.shape):
        options = [choices[place[:axis] + (i,) + place[axis + 1 :]] for i in range(choices.shape[axis])]
        cells[place] = at.program.computed(kind, form, [chosen[place], *options])
    return cells


def _scatter_add(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
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
        FLOAT, f"{_as(at, FLOAT, x)} + (({_as(at, INT, chosen)} == {literal(INT, column)}) ? {_as(at, FLOAT, what)} : f(0.0f))")


def _index(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """Each row its own row of a table that belongs to none."""
    table, indices = args
    if len(indices) != 1 or tuple(indices[0].shape) != (at.num_rows,):
        raise Unsupported("several indices at once")
    storage, sizes = at.table(table), table.shape[1:]
    (chosen,), width = at.cells(indices[0]), math.prod(sizes)
    cells = np.empty((1, *sizes), object)
    for i, place in enumerate(np.ndindex(*sizes)):
        text = f"pick_((float *)p[{storage}] + {i}, {width}, {table.shape[0]}, {{}})"
        cells[(0, *place)] = at.program.computed(FLOAT, lambda x, text=text: at.program.value(FLOAT, text.format(_as(at, INT, x))), [chosen])
    return cells


# -- sums, products and choices -----------------------------------------------------------------------


def _reduction(text: str, finish: Optional[Callable[[Any, np.ndarray, int], np.ndarray]] = None, adds: bool = False) -> Callable:
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
        result[index] = at.program.computed(kind, lambda x: _as(at, kind, x), parts)  # of its own, where there was only one
    if over_rows and any(cell.side == ROWS for cell in result.flat):
        result = _over_rows(at, out, result)
    elif over_rows:  # what is one for all samples, as often as there are samples
        result = _map(at, kind, lambda x: at.program.value(kind, f"{_as(at, kind, x)} * {_count(at, at.num_rows)}"), result)
    return result.reshape(at.shape(out)), math.prod(tensor.shape[axis] for axis in axes)


def _combined(at: Any, kind: str, text: str, *pair: Cell) -> Cell:
    return at.program.computed(kind, lambda x, y: at.program.value(kind, text.format(_as(at, kind, x), _as(at, kind, y))), pair)


def _total(at: Any, cell: Cell, width: int) -> Cell:
    if cell.width > 1:
        return at.program.total(cell)
    return at.program.computed(FLOAT, lambda x: at.program.value(FLOAT, f"{_as(at, FLOAT, x)} * {literal(FLOAT, width)}"), [cell])


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


def _mean(at: Any, cells: np.ndarray, count: int) -> np.ndarray:
    return _map(at, FLOAT, lambda x: at.program.value(FLOAT, f"{_as(at, FLOAT, x)} / {_count(at, count) if at.counts_rows(count) else literal(FLOAT, count)}"), cells)


def _norm(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    order, axes = args[1] if len(args) > 1 else kwargs.get("ord", 2), args[2] if len(args) > 2 else kwargs.get("dim")
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    squares = _expressed(at, FLOAT, "{0} * {0}", args[0])
    return _expressed(at, FLOAT, "sqrt_({})", reduced(at, out, squares, args[0], axes, _ARITHMETIC["add"], True)[0])


def _var_mean(at: Any, out: Sequence[Tensor], args: Args, kwargs: Named) -> List[np.ndarray]:
    tensor, axes = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
    if not kwargs.get("keepdim") or kwargs.get("correction", kwargs.get("unbiased", 1)):
        raise Unsupported("a variance that is not of all there are")
    total, count = reduced(at, out[1], at.cells(tensor), tensor, axes, _ARITHMETIC["add"], True)
    mean = _mean(at, total, count)
    squares = _map(at, FLOAT, lambda x, m: _squared(at, x, m), tensor, mean)
    total, count = reduced(at, out[0], squares, tensor, axes, _ARITHMETIC["add"], True)
    return [_mean(at, total, count), mean]


def _squared(at: Any, x: Cell, mean: Cell) -> str:
    deviation = at.program.value(FLOAT, f"{_as(at, FLOAT, x)} - {_as(at, FLOAT, mean)}")
    return at.program.value(FLOAT, f"{deviation} * {deviation}")


def _product(at: Any, out: Tensor, left: Tensor, right: Tensor) -> Optional[np.ndarray]:
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


# -- random numbers -----------------------------------------------------------------------------------


def _drawn(fill: Callable[[Tensor], Tensor]) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        if kwargs.get("generator") is not None:
            raise Unsupported("a generator of random numbers other than torch's own")
        return at.drawn(out, fill)

    return operation


def _randint(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    low, high = (0, args[0]) if isinstance(args[1], (list, tuple)) else args[:2]
    return _drawn(lambda numbers: numbers.random_(low, high))(at, out, args, kwargs)


# -- writing in place ---------------------------------------------------------------------------------


def _changed(at: Any, name: str, args: Args, kwargs: Named) -> None:
    """The tensor that an operation whose name ends in _ changes."""
    target = args[0]
    if name == "add_" and not kwargs and isinstance(args[1], Tensor) and at.is_summed(args[1]) and any(map(at.is_wide, target.shape)):
        if target.shape != args[1].shape or target.dtype != torch.float32:
            raise Unsupported(f"sums {tuple(args[1].shape)} added to {tuple(target.shape)} of {target.dtype}")
        at.program.transfers.append((at.region(target), at.region(args[1])))
    else:
        _assign(at, target, np.broadcast_to(_IN_PLACE[name](at, target, args, kwargs), at.shape(target)))


def _assign(at: Any, target: Tensor, values: np.ndarray) -> None:
    cells = at.cells(target)
    # All of them are read before the first is written: they may be the same.
    values = _map(at, KINDS[target.dtype], lambda x: _as(at, KINDS[target.dtype], x), values)
    for index in np.ndindex(*cells.shape):
        at.program.write(cells[index], values[index])


_OPERATIONS: Dict[str, Callable] = {
    **{name: _elementwise(text, of_masks=_OF_MASKS.get(name, "")) for name, text in _ARITHMETIC.items()},
    **{name: _elementwise(text, FLOAT) for name, text in _FUNCTIONS.items()},
    **{name: _comparison(sign) for name, sign in _COMPARISONS.items()},
    **{name: lambda at, out, args, kwargs, value=value: _filled(at, out, value) for name, value in _FILLED.items()},
    **{name: lambda at, out, args, kwargs: _converted(at, out, args[0]) for name in _MADE_ANEW},
    "full": lambda at, out, args, kwargs: _filled(at, out, args[1]), "full_like": lambda at, out, args, kwargs: _filled(at, out, args[1]),
    "scalar_tensor": lambda at, out, args, kwargs: _filled(at, out, args[0]),
    "div": _div, "clamp": _clamp, "pow": _pow, "where": _where, "masked_fill": _masked_fill, "rsub": _rsub, "stack": _joined(np.stack),
    "cat": _joined(np.concatenate), "roll": _roll, "index_select": _index_select, "gather": _gather, "scatter_add": _scatter_add,
    "index": _index,
    "sum": _reduction(_ARITHMETIC["add"], adds=True), "mean": _reduction(_ARITHMETIC["add"], _mean, adds=True),
    "any": _reduction("{} | {}"), "all": _reduction("{} & {}"), "amin": _reduction("smaller_({}, {})"), "amax": _reduction("larger_({}, {})"),
    "linalg_vector_norm": _norm, "var_mean": _var_mean,
    "rand": _drawn(Tensor.uniform_), "rand_like": _drawn(Tensor.uniform_), "randn": _drawn(Tensor.normal_), "randn_like": _drawn(Tensor.normal_),
    "randint": _randint,
}
_IN_PLACE: Dict[str, Callable] = {
    **{name + "_": operation for name, operation in _OPERATIONS.items() if name in (*_ARITHMETIC, *_FUNCTIONS, "clamp", "masked_fill")},
    "zero_": lambda at, target, args, kwargs: _filled(at, target, 0), "fill_": lambda at, target, args, kwargs: _converted(at, target, args[1]),
}
VIEWS = frozenset(_VIEWS)
