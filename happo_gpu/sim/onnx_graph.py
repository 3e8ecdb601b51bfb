"""Feed-forward ONNX networks in torch: any batch, any device, no runtime of its own.

Exported policies often fix the batch at 1, which a runtime insists on; dense layers and pointwise functions do not care.
"""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional

from happo_gpu.config import ConfigError

Node = Tuple[str, List[str], List[str], Dict[str, Any]]  # operator, names that go in and come out, attributes


def _gemm(given: Sequence[Tensor], named: Dict[str, Any]) -> Tensor:
    x, weight = given[0], given[1].t() if named.get("transB") else given[1]
    bias = named.get("beta", 1.0) * given[2] if len(given) > 2 else 0.0
    return named.get("alpha", 1.0) * (x @ weight) + bias


def _clip(given: Sequence[Tensor], named: Dict[str, Any]) -> Tensor:
    low, high = (list(given[1:]) + [None, None])[:2]  # before operator set 11 they were attributes
    low, high = named.get("min", low), named.get("max", high)
    return given[0] if low is None and high is None else given[0].clamp(low, high)


def _split(given: Sequence[Tensor], named: Dict[str, Any]) -> Tuple[Tensor, ...]:
    """Along the columns, whatever the axis: there is only the batch besides."""
    x = given[0]
    sizes = [int(size) for size in given[1]] if len(given) > 1 else named.get("split") or x.shape[-1] // named["outputs"]
    return x.split(sizes, -1)


OPERATORS: Dict[str, Callable[[Sequence[Tensor], Dict[str, Any]], Any]] = {
    "Gemm": _gemm, "Clip": _clip, "Split": _split,
    "MatMul": lambda given, _: given[0] @ given[1],
    "Add": lambda given, _: given[0] + given[1],
    "Sub": lambda given, _: given[0] - given[1],
    "Mul": lambda given, _: given[0] * given[1],
    "Max": lambda given, _: functools.reduce(torch.maximum, given),
    "Min": lambda given, _: functools.reduce(torch.minimum, given),
    "Div": lambda given, _: given[0] / given[1],
    "Identity": lambda given, _: given[0],
    "Relu": lambda given, _: torch.relu(given[0]),
    "Elu": lambda given, named: functional.elu(given[0], named.get("alpha", 1.0)),
    "LeakyRelu": lambda given, named: functional.leaky_relu(given[0], named.get("alpha", 0.01)),
    "Sigmoid": lambda given, _: torch.sigmoid(given[0]),
    "Softplus": lambda given, _: functional.softplus(given[0]),
    "Tanh": lambda given, _: torch.tanh(given[0]),
    "LayerNormalization": lambda given, named: functional.layer_norm(
        given[0], given[1].shape, given[1], given[2] if len(given) > 2 else None, named.get("epsilon", 1e-5)),
}


class OnnxNetwork:
    """The first output of a graph with one input: (..., num_inputs) to (..., num_outputs). Raises ConfigError."""

    def __init__(self, path: Path, device: torch.device) -> None:
        model = _read(path)
        self._values = {each.name: _tensor(each, device) for each in model.graph.initializer}
        self._nodes = _nodes(model, self._values, device, path)
        inputs = [each for each in model.graph.input if each.name not in self._values]
        if len(inputs) != 1:
            raise ConfigError(f"sim.locomotion={path} takes {len(inputs)} inputs ({', '.join(each.name for each in inputs)}); "
                              "one row of numbers is given: write a policy without memory")
        self._input, self._output = inputs[0].name, model.graph.output[0].name
        self.num_inputs = inputs[0].type.tensor_type.shape.dim[-1].dim_value  # 0 where the file leaves it open
        try:
            self.num_outputs = self(torch.zeros(1, self.num_inputs, device=device)).shape[-1]
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"sim.locomotion={path}: its graph does not run on {self.num_inputs} numbers ({reason})") from error

    def __call__(self, x: Tensor) -> Tensor:
        values = {**self._values, "": None, self._input: x.flatten(0, -2)}  # an input left out has no name
        for operator, names, results, attributes in self._nodes:
            result = OPERATORS[operator]([values[name] for name in names], attributes)
            values.update(zip(results, result if isinstance(result, tuple) else (result,)))
        return values[self._output].unflatten(0, x.shape[:-1])


def _read(path: Path):
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"sim.locomotion={path} needs the package onnx; write pip install -e '.[export]'") from error
    from google.protobuf.message import DecodeError  # comes with onnx

    try:
        return onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise ConfigError(f"sim.locomotion={path}: no readable .onnx file of a walking policy ({error})") from error


def _nodes(model, values: Dict[str, Tensor], device: torch.device, path: Path) -> List[Node]:
    """What is to be done in order; constants go to ``values``."""
    from onnx import helper

    nodes: List[Node] = []
    for each in model.graph.node:
        named = {attribute.name: helper.get_attribute_value(attribute) for attribute in each.attribute}
        if each.op_type == "Constant" and "value" in named:
            values[each.output[0]] = _tensor(named["value"], device)
        elif each.op_type in OPERATORS:
            nodes.append((each.op_type, list(each.input), list(each.output), {**named, "outputs": len(each.output)}))
        else:
            raise ConfigError(f"sim.locomotion={path} uses the operator {each.op_type}; known: {', '.join(sorted(OPERATORS))}")
    return nodes


def _tensor(proto, device: torch.device) -> Tensor:
    from onnx import numpy_helper

    value = torch.from_numpy(numpy_helper.to_array(proto).copy())
    return value.to(device, torch.float32) if value.is_floating_point() else value  # sizes stay on the host, where they are read
