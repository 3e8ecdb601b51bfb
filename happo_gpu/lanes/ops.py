"""What each torch operation means for the numbers of one row."""
from __future__ import annotations

from typing import Any, Callable, Dict, Union

import numpy as np
import torch
from torch import Tensor

from happo_gpu.lanes import sums, views
from happo_gpu.lanes.expressions import Args, Named, as_kind, converted, count_of, expressed, literal, map_cells
from happo_gpu.lanes.program import FLOAT, INT, KINDS, MASK, Cell, Unsupported

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
        return _assign(at, args[0], converted(at, args[0], args[1]))
    if name in _IN_PLACE:
        return _changed(at, name, args, kwargs)
    if name == "mm":
        return sums.product(at, out, *args)
    known = _OPERATIONS.get(name)
    if known is None:
        raise Unsupported(str(func))
    return known(at, out, args, kwargs)


def decompositions() -> Dict[Any, Callable]:
    """torch's own, of what is not known here."""
    from torch._decomp import get_decompositions

    return get_decompositions([getattr(torch.ops.aten, name) for name in _DECOMPOSED])


# -- elementwise --------------------------------------------------------------------------------------


def _elementwise(text: str, among: str = "", of_masks: str = "") -> Callable:
    """An operation on operands of one kind: ``among``, or the result's; ``of_masks`` is what it is for truth values, if it is another."""

    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        if kwargs.get("rounding_mode") or kwargs.get("alpha", 1) != 1:
            raise Unsupported(f"{text} with {kwargs}")
        kind = KINDS[out.dtype]
        if kind == MASK and of_masks:
            return expressed(at, kind, of_masks, *args)
        if among and kind != among:
            raise Unsupported(f"{out.dtype} where floats are expected")
        return expressed(at, kind, text, *args)

    return operation


def _div(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    """By a number of rows, as the gradient of a mean is, by however many there will be."""
    if at.counts_rows(args[1]):
        return map_cells(at, FLOAT, lambda x: at.program.value(FLOAT, f"{as_kind(at, FLOAT, x)} / {count_of(at, args[1])}"), args[0])
    return _elementwise(_ARITHMETIC["div"])(at, out, args, kwargs)


def _comparison(sign: str) -> Callable:
    def operation(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
        kinds = {KINDS[each.dtype] for each in args if isinstance(each, Tensor)}
        kind = FLOAT if FLOAT in kinds or any(isinstance(each, float) for each in args) else INT
        return map_cells(at, MASK, lambda x, y: at.program.value(MASK, f"{as_kind(at, kind, x)} {sign} {as_kind(at, kind, y)}"), *args)

    return operation


def _clamp(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    values, low, high = (*args, None, None)[:3]
    low, high, kind = kwargs.get("min", low), kwargs.get("max", high), KINDS[out.dtype]

    def form(value: Cell, *bounds: Any) -> str:
        name = as_kind(at, kind, value)
        for bound, sign in zip(bounds, "<>"):
            if bound is not None:
                limit = as_kind(at, kind, bound)
                name = at.program.value(kind, f"({name} {sign} {limit}) ? {limit} : {name}")
        return name

    return map_cells(at, kind, form, values, low, high)


def _pow(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    if args[1] != 2 or not isinstance(args[0], Tensor):
        raise Unsupported(f"a power of {args[1]}")
    return _elementwise("{0} * {0}")(at, out, args[:1], {})


def _where(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    kind = KINDS[out.dtype]
    return map_cells(at, kind, lambda mask, x, y: at.program.value(kind, f"{as_kind(at, MASK, mask)} ? {as_kind(at, kind, x)} : {as_kind(at, kind, y)}"), *args)


def _masked_fill(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    values, mask, other = args
    return _where(at, out, (mask, other, values), {})


def _rsub(at: Any, out: Tensor, args: Args, kwargs: Named) -> np.ndarray:
    return _elementwise(_ARITHMETIC["sub"])(at, out, (args[1], args[0], *args[2:]), kwargs)


def _filled(at: Any, out: Tensor, value: Union[float, int, bool]) -> np.ndarray:
    kind = KINDS[out.dtype]
    cells = np.empty(at.shape(out), object)
    for index in np.ndindex(*cells.shape):
        cells[index] = at.program.cell(kind, name=literal(kind, value))
    return cells


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
    values = map_cells(at, KINDS[target.dtype], lambda x: as_kind(at, KINDS[target.dtype], x), values)
    for index in np.ndindex(*cells.shape):
        at.program.write(cells[index], values[index])


_OPERATIONS: Dict[str, Callable] = {
    **{name: _elementwise(text, of_masks=_OF_MASKS.get(name, "")) for name, text in _ARITHMETIC.items()},
    **{name: _elementwise(text, FLOAT) for name, text in _FUNCTIONS.items()},
    **{name: _comparison(sign) for name, sign in _COMPARISONS.items()},
    **{name: lambda at, out, args, kwargs, value=value: _filled(at, out, value) for name, value in _FILLED.items()},
    **{name: lambda at, out, args, kwargs: converted(at, out, args[0]) for name in _MADE_ANEW},
    "full": lambda at, out, args, kwargs: _filled(at, out, args[1]), "full_like": lambda at, out, args, kwargs: _filled(at, out, args[1]),
    "scalar_tensor": lambda at, out, args, kwargs: _filled(at, out, args[0]),
    "div": _div, "clamp": _clamp, "pow": _pow, "where": _where, "masked_fill": _masked_fill, "rsub": _rsub, "stack": views.joined(np.stack),
    "cat": views.joined(np.concatenate), "roll": views.roll, "index_select": views.index_select, "gather": views.gather, "scatter_add": views.scatter_add,
    "index": views.index,
    "sum": sums.reduction(_ARITHMETIC["add"], adds=True), "mean": sums.reduction(_ARITHMETIC["add"], sums.averaged, adds=True),
    "any": sums.reduction("{} | {}"), "all": sums.reduction("{} & {}"), "amin": sums.reduction("smaller_({}, {})"), "amax": sums.reduction("larger_({}, {})"),
    "linalg_vector_norm": sums.norm, "var_mean": sums.var_mean,
    "rand": _drawn(Tensor.uniform_), "rand_like": _drawn(Tensor.uniform_), "randn": _drawn(Tensor.normal_), "randn_like": _drawn(Tensor.normal_),
    "randint": _randint,
}
_IN_PLACE: Dict[str, Callable] = {
    **{name + "_": operation for name, operation in _OPERATIONS.items() if name in (*_ARITHMETIC, *_FUNCTIONS, "clamp", "masked_fill")},
    "zero_": lambda at, target, args, kwargs: _filled(at, target, 0), "fill_": lambda at, target, args, kwargs: converted(at, target, args[1]),
}
