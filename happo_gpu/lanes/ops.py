"""What each torch operation means for the numbers of one environment."""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from happo_gpu.lanes.program import FLOAT, INT, KINDS, MASK, Cell, Unsupported

Operand = Union[Tensor, float, int, bool]

# Expressions of operands that have the result's kind.
_ARITHMETIC = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "neg": "-{}", "copysign": "copysign_({}, {})",
               "bitwise_and": "{} & {}", "bitwise_or": "{} | {}", "bitwise_xor": "{} ^ {}", "bitwise_not": "~{}",
               "logical_and": "{} & {}", "logical_or": "{} | {}", "logical_not": "~{}"}
_FUNCTIONS = {"sqrt": "sqrt_({})", "reciprocal": "f(1.0f) / {}", "sin": "sin_({})", "cos": "cos_({})", "floor": "floor_({})", "remainder": "remainder_({}, {})",
              "exp": "each_(expf, {})", "log": "each_(logf, {})", "tanh": "each_(tanhf, {})", "atan2": "each_(atan2f, {}, {})"}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_FILLED = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_MADE_ANEW = ("_to_copy", "clone")
_SAME = ("detach", "alias")
_VIEWS = ("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze")  # in which the cells keep their order


def apply(at: Any, func: Any, out: Any, args: Tuple, kwargs: Dict[str, Any]) -> Any:
    """The cells of ``out``, which ``func`` made of ``args``; a list for a list; None where it has written in place.

    ``at`` is the interpreter that knows the cells of tensors (happo_gpu.lanes.trace).

    Raises:
        Unsupported: the operation is not known here, or works across environments.
    """
    name = func.overloadpacket.__name__
    if "out" in kwargs:
        raise Unsupported(f"{func} with out=")
    if isinstance(out, Tensor) and out.dtype not in KINDS:
        raise Unsupported(str(out.dtype))
    if name == "copy_":
        return _assign(at, args[0], _converted(at, args[0], args[1]))
    if name in _IN_PLACE:
        return _assign(at, args[0], np.broadcast_to(_IN_PLACE[name](at, args[0], args, kwargs), at.shape(args[0])))
    known = _OPERATIONS.get(name)
    if known is None:
        raise Unsupported(str(func))
    return known(at, out, args, kwargs)


def literal(kind: str, value: Operand) -> str:
    """A number as C++ has it."""
    if kind == MASK:
        return "ALL" if value else "NONE"
    if kind == INT:
        return f"n({int(value)})"
    single = float(np.float32(value))
    return f"f({single!r}f)" if math.isfinite(single) else f"f({'-' if single < 0 else ''}INFINITY)" if math.isinf(single) else "f(NAN)"


# -- elementwise --------------------------------------------------------------------------------------


def _as(at: Any, kind: str, operand: Union[Cell, Operand]) -> str:
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


def _map(at: Any, kind: str, form: Callable[..., str], *operands: Operand) -> np.ndarray:
    """Cells of what ``form`` makes of operands, cell by cell."""
    arrays = [at.cells(each) if isinstance(each, Tensor) else _scalar(each) for each in operands]
    arrays = np.broadcast_arrays(*arrays)
    cells = np.empty(arrays[0].shape, object)
    for index in np.ndindex(*cells.shape):
        cells[index] = at.program.cell(kind, form(*(array[index] for array in arrays)))
    return cells


def _scalar(value: Operand) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


def _elementwise(text: str, among: str = "") -> Callable:
    """An operation on operands of one kind: ``among``, or the result's."""

    def operation(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
        if kwargs.get("rounding_mode") or kwargs.get("alpha", 1) != 1:
            raise Unsupported(f"{text} with {kwargs}")
        if among == FLOAT:
            _only_floats(out)
        kind = KINDS[out.dtype]
        return _map(at, kind, lambda *x: at.program.value(kind, text.format(*(_as(at, among or kind, each) for each in x))), *args)

    return operation


def _comparison(sign: str) -> Callable:
    def operation(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
        kinds = {KINDS[each.dtype] for each in args if isinstance(each, Tensor)}
        kind = FLOAT if FLOAT in kinds or any(isinstance(each, float) for each in args) else INT
        return _map(at, MASK, lambda x, y: at.program.value(MASK, f"{_as(at, kind, x)} {sign} {_as(at, kind, y)}"), *args)

    return operation


def _larger(at: Any, x: str, y: str) -> str:
    return at.program.value(FLOAT, f"(({x} > {y}) | ({x} != {x})) ? {x} : {y}")  # what is not a number stays


def _smaller(at: Any, x: str, y: str) -> str:
    return at.program.value(FLOAT, f"(({x} < {y}) | ({x} != {x})) ? {x} : {y}")


def _extreme(choose: Callable[[Any, str, str], str]) -> Callable:
    def operation(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
        _only_floats(out)
        return _map(at, FLOAT, lambda x, y: choose(at, _as(at, FLOAT, x), _as(at, FLOAT, y)), *args)

    return operation


def _only_floats(out: Tensor) -> None:
    if out.dtype != torch.float32:
        raise Unsupported(f"{out.dtype} where floats are expected")


def _clamp(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    values, low, high = (*args, None, None)[:3]
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    kind = KINDS[out.dtype]

    def form(value: Cell, *bounds: Union[Cell, Operand]) -> str:
        name = _as(at, kind, value)
        for bound, sign in zip(bounds, "<>"):
            if bound is not None:
                limit = _as(at, kind, bound)
                name = at.program.value(kind, f"({name} {sign} {limit}) ? {limit} : {name}")
        return name

    return _map(at, kind, form, values, low, high)


def _abs(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    _only_floats(out)
    return _map(at, FLOAT, lambda x: at.program.value(FLOAT, f"abs_({_as(at, FLOAT, x)})"), *args)


def _pow(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    if args[1] != 2 or not isinstance(args[0], Tensor):
        raise Unsupported(f"a power of {args[1]}")
    return _elementwise("{0} * {0}")(at, out, args[:1], {})


def _where(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    kind = KINDS[out.dtype]
    return _map(at, kind, lambda mask, x, y: at.program.value(kind, f"{_as(at, MASK, mask)} ? {_as(at, kind, x)} : {_as(at, kind, y)}"), *args)


def _masked_fill(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    values, mask, other = args
    return _where(at, out, (mask, other, values), {})


def _rsub(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    return _elementwise(_ARITHMETIC["sub"])(at, out, (args[1], args[0], *args[2:]), kwargs)


def _converted(at: Any, like: Tensor, values: Operand) -> np.ndarray:
    kind = KINDS[like.dtype]
    return np.broadcast_to(_map(at, kind, lambda x: _as(at, kind, x), values), at.shape(like))


def _filled(at: Any, out: Tensor, value: Operand) -> np.ndarray:
    kind = KINDS[out.dtype]
    cells = np.empty(at.shape(out), object)
    for index in np.ndindex(*cells.shape):
        cells[index] = Cell(kind, literal(kind, value))
    return cells


# -- views, joints and parts --------------------------------------------------------------------------


def _along(out: Tensor, axis: int, part: Any) -> Tuple:
    return (slice(None),) * (axis % out.dim()) + (part,)


def _check_not_environments(at: Any, tensor: Tensor, axis: int) -> None:
    if tensor.shape[axis] == at.num_envs:
        raise Unsupported("one of the environments picked out")


def _select(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    tensor, axis, index = args
    _check_not_environments(at, tensor, axis)
    return at.cells(tensor)[_along(tensor, axis, index)]


def _slice(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    tensor, axis, start, end, step = (*args, *(0, None, None, 1)[len(args) - 1 :])
    if tensor.shape[axis] == at.num_envs:
        if out.shape != tensor.shape:
            raise Unsupported("some of the environments picked out")
        return at.cells(tensor)
    return at.cells(tensor)[_along(tensor, axis, slice(start, end, step))]


def _unbind(at: Any, out: Sequence[Tensor], args: Tuple, kwargs: Dict[str, Any]) -> List[np.ndarray]:
    tensor, axis = args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0)
    _check_not_environments(at, tensor, axis)
    return [at.cells(tensor)[_along(tensor, axis, i)] for i in range(len(out))]


def _split(at: Any, out: Sequence[Tensor], args: Tuple, kwargs: Dict[str, Any]) -> List[np.ndarray]:
    tensor, axis = args[0], args[2] if len(args) > 2 else kwargs.get("dim", 0)
    _check_not_environments(at, tensor, axis)
    ends = np.cumsum([part.shape[axis] for part in out])
    return [at.cells(tensor)[_along(tensor, axis, slice(end - part.shape[axis], end))] for end, part in zip(ends, out)]


def _joined(join: Callable) -> Callable:
    def operation(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if out.shape[axis] == at.num_envs or any(part.shape[axis] == at.num_envs for part in args[0] if part.dim() == out.dim()):
            raise Unsupported("environments joined")
        kind = KINDS[out.dtype]
        return join([_map(at, kind, lambda x: _as(at, kind, x), part) for part in args[0]], axis)

    return operation


def _roll(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    tensor, shifts, axes = args
    for axis in axes:
        _check_not_environments(at, tensor, axis)
    return np.roll(_converted(at, out, tensor), shifts, axes)


def _index_select(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    tensor, axis, index = args
    _check_not_environments(at, tensor, axis)
    return np.take(_converted(at, tensor, tensor), at.constant(index).numpy(), axis)


def _gather(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    """Each environment its own of a few: a chain of choices."""
    tensor, axis, index = args[:3]
    _check_not_environments(at, tensor, axis)
    choices, chosen, kind = at.cells(tensor), at.cells(index), KINDS[out.dtype]
    cells = np.empty(chosen.shape, object)
    for place in np.ndindex(*chosen.shape):
        number = _as(at, INT, chosen[place])
        name = ""
        for i in range(choices.shape[axis]):
            choice = _as(at, kind, choices[place[:axis] + (i,) + place[axis + 1 :]])
            name = at.program.value(kind, f"({number} == {literal(INT, i)}) ? {choice} : {name}") if name else choice
        cells[place] = at.program.cell(kind, name)
    return cells


def _index(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    """Each environment its own row of a table that belongs to none."""
    table, indices = args
    if len(indices) != 1 or tuple(indices[0].shape) != (at.num_envs,):
        raise Unsupported("several indices at once")
    storage, sizes = at.table(table), table.shape[1:]
    (chosen,), width = at.cells(indices[0]), math.prod(sizes)
    cells = np.empty((1, *sizes), object)
    for i, place in enumerate(np.ndindex(*sizes)):
        name = at.program.value(FLOAT, f"pick_((float *)p[{storage}] + {i}, {width}, {_as(at, INT, chosen)})")
        cells[(0, *place)] = at.program.cell(FLOAT, name)
    return cells


# -- reductions ---------------------------------------------------------------------------------------


def _reduction(combine: Callable[[Any, str, str, str], str], finish: Optional[Callable[[Any, str, int], str]] = None) -> Callable:
    def operation(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
        tensor, axes = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
        axes = [axes] if isinstance(axes, int) else list(axes or range(tensor.dim()))
        return _reduced(at, out, at.cells(tensor), [axis % tensor.dim() for axis in axes], tensor, combine, finish)

    return operation


def _reduced(at: Any, out: Tensor, cells: np.ndarray, axes: List[int], tensor: Tensor, combine: Callable, finish: Optional[Callable]) -> np.ndarray:
    for axis in axes:
        if tensor.shape[axis] == at.num_envs:
            raise Unsupported("a sum or choice over environments")
    kind, kept = KINDS[out.dtype], [axis for axis in range(tensor.dim()) if axis not in axes]
    rows = cells.transpose(kept + axes).reshape([cells.shape[axis] for axis in kept] + [-1])
    reduced = np.empty(rows.shape[:-1], object)
    for index in np.ndindex(*reduced.shape):
        name, *others = [_as(at, kind, cell) for cell in rows[index]]
        for other in others:
            name = combine(at, kind, name, other)
        reduced[index] = at.program.cell(kind, finish(at, name, 1 + len(others)) if finish else name)
    return reduced.reshape(at.shape(out))


def _combined(text: str) -> Callable[[Any, str, str, str], str]:
    return lambda at, kind, x, y: at.program.value(kind, text.format(x, y))


def _norm(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    order, axes = args[1] if len(args) > 1 else kwargs.get("ord", 2), args[2] if len(args) > 2 else kwargs.get("dim")
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    tensor = args[0]
    squares = _map(at, FLOAT, lambda x: at.program.value(FLOAT, "{0} * {0}".format(_as(at, FLOAT, x))), tensor)
    axes = [axis % tensor.dim() for axis in axes or range(tensor.dim())]
    return _reduced(at, out, squares, axes, tensor, _combined(_ARITHMETIC["add"]), lambda at, name, _: at.program.value(FLOAT, f"sqrt_({name})"))


# -- random numbers -----------------------------------------------------------------------------------


def _drawn(fill: Callable[[Tensor], Tensor]) -> Callable:
    return lambda at, out, args, kwargs: at.drawn(out, fill)


def _randint(at: Any, out: Tensor, args: Tuple, kwargs: Dict[str, Any]) -> np.ndarray:
    low, high = (0, args[0]) if isinstance(args[1], (list, tuple)) else args[:2]
    return at.drawn(out, lambda numbers: numbers.random_(low, high))


# -- writing in place ---------------------------------------------------------------------------------


def _assign(at: Any, target: Tensor, values: np.ndarray) -> None:
    cells = at.cells(target)
    names = [at.program.read(values[index]) for index in np.ndindex(*cells.shape)]  # all of them before the first is written
    for index, name in zip(np.ndindex(*cells.shape), names):
        at.check_writable(cells[index])
        at.program.write(cells[index], name)


_OPERATIONS: Dict[str, Callable] = {
    **{name: _elementwise(text) for name, text in _ARITHMETIC.items()},
    **{name: _elementwise(text, FLOAT) for name, text in _FUNCTIONS.items()},
    **{name: _comparison(sign) for name, sign in _COMPARISONS.items()},
    **{name: lambda at, out, args, kwargs, value=value: _filled(at, out, value) for name, value in _FILLED.items()},
    **{name: lambda at, out, args, kwargs: _converted(at, out, args[0]) for name in _MADE_ANEW},
    **{name: lambda at, out, args, kwargs: at.cells(args[0]) for name in _SAME},
    **{name: lambda at, out, args, kwargs: at.cells(args[0]).reshape(at.shape(out)) for name in _VIEWS},
    "expand": lambda at, out, args, kwargs: np.broadcast_to(at.cells(args[0]), at.shape(out)),
    "permute": lambda at, out, args, kwargs: at.cells(args[0]).transpose(args[1]), "t": lambda at, out, args, kwargs: at.cells(args[0]).transpose(),
    "transpose": lambda at, out, args, kwargs: at.cells(args[0]).swapaxes(args[1], args[2]),
    "full": lambda at, out, args, kwargs: _filled(at, out, args[1]), "full_like": lambda at, out, args, kwargs: _filled(at, out, args[1]),
    "scalar_tensor": lambda at, out, args, kwargs: _filled(at, out, args[0]),
    "maximum": _extreme(_larger), "minimum": _extreme(_smaller), "clamp": _clamp, "abs": _abs, "pow": _pow, "where": _where,
    "masked_fill": _masked_fill, "rsub": _rsub, "select": _select, "slice": _slice, "unbind": _unbind, "split": _split,
    "split_with_sizes": _split, "stack": _joined(np.stack), "cat": _joined(np.concatenate), "roll": _roll, "index_select": _index_select,
    "gather": _gather, "sum": _reduction(_combined(_ARITHMETIC["add"])), "any": _reduction(_combined("{} | {}")),
    "mean": _reduction(_combined(_ARITHMETIC["add"]), lambda at, name, count: at.program.value(FLOAT, f"{name} / {literal(FLOAT, count)}")),
    "all": _reduction(_combined("{} & {}")), "amin": _reduction(lambda at, kind, x, y: _smaller(at, x, y)),
    "amax": _reduction(lambda at, kind, x, y: _larger(at, x, y)), "linalg_vector_norm": _norm,
    "rand": _drawn(Tensor.uniform_), "rand_like": _drawn(Tensor.uniform_), "randn": _drawn(Tensor.normal_), "randn_like": _drawn(Tensor.normal_),
    "randint": _randint, "index": _index,
}
_IN_PLACE: Dict[str, Callable] = {
    **{name + "_": operation for name, operation in _OPERATIONS.items() if name in (*_ARITHMETIC, *_FUNCTIONS, "clamp", "masked_fill")},
    "zero_": lambda at, target, args, kwargs: _filled(at, target, 0), "fill_": lambda at, target, args, kwargs: _converted(at, target, args[1]),
}
