"""sim.locomotion=<file>.onnx: other people's walking policies, made here as their exporters make them."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from happo_gpu.config import ConfigError  # noqa: E402
from happo_gpu.sim import locomotion  # noqa: E402
from happo_gpu.sim.onnx_graph import OnnxNetwork  # noqa: E402

CPU = torch.device("cpu")
N, A, HIDDEN = 5, 2, 7


def senses() -> locomotion.Senses:
    return locomotion.Senses(*(torch.randn(N, A, size) for size in (3, 3, 3, 12, 12)))


def write(path, nodes, weights, inputs=48, outputs=12, more_inputs=(), opset=11):
    """A graph obs -> action that says, as exports from TensorFlow do, that a batch is one row."""
    def port(name, size):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])

    graph = helper.make_graph([helper.make_node(op, given.replace("-", "").split(" ") if given else [], gives.split(), **named) for op, given, gives, named in nodes], "walker",
                              [port("obs", inputs)] + [port(name, 3) for name in more_inputs], [port("action", outputs)],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


def weights(inputs=48, outputs=12):
    draw = np.random.default_rng(3).normal
    sizes = {"mean": (inputs,), "rstd": (inputs,), "W0": (inputs, HIDDEN), "b0": (HIDDEN,), "W1": (HIDDEN, outputs), "b1": (outputs,)}
    return {name: draw(size=size).astype(np.float32) for name, size in sizes.items()}


SWISH = [("Sub", "obs mean", "offset", {}), ("Mul", "offset rstd", "x", {}), ("Gemm", "x W0 b0", "h", {}), ("Sigmoid", "h", "s", {}),
         ("Mul", "h s", "a", {}), ("Gemm", "a W1 b1", "both", {}), ("Split", "both", "loc scale", {"axis": -1}), ("Tanh", "loc", "action", {})]


def playground(path):
    """The operators of MuJoCo Playground's go1_policy.onnx, in their order; half of the last layer is thrown away."""
    return write(path, SWISH, weights(outputs=24))


def test_a_graph_for_one_row_drives_many_robots_as_onnxruntime_drives_each(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = playground(tmp_path / "go1.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(N, A, 48)
    rows = [session.run(["action"], {"obs": row.view(1, 48).numpy()})[0] for row in x.flatten(0, 1)]
    found = OnnxNetwork(path, CPU)(x)
    assert found.shape == (N, A, 12)
    torch.testing.assert_close(found.flatten(0, 1), torch.from_numpy(np.concatenate(rows)))


def test_operators_mean_what_onnx_says(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    numbers = {"low": -0.5, "high": 0.75, "below": -0.4, "above": 0.3}
    nodes = [("Gemm", "obs V c", "h", {"transB": 1, "alpha": 0.5, "beta": 2.0}), ("Elu", "h", "e", {"alpha": 0.7}),
             ("LeakyRelu", "e", "l", {"alpha": 0.2}), ("MatMul", "l W", "m", {}), ("Div", "m d", "n", {}), ("Add", "n d", "p", {}),
             ("Softplus", "p", "q", {}), ("Constant", "", "one", {"value": numpy_helper.from_array(np.ones(1, np.float32))}),
             ("Sub", "q one", "r", {}), ("Relu", "p", "s", {}), ("Sub", "r s", "i", {}), ("Max", "i low", "t", {}), ("Min", "t high", "u", {}),
             ("Clip", "u below", "v", {}), ("Clip", "v - above", "w", {}), ("Identity", "w", "action", {})]
    arrays = weights()
    extra = {"V": arrays["W0"].T.copy(), "c": arrays["b0"], "W": arrays["W1"], "d": 2.0 + np.abs(arrays["b1"]),
             **{name: np.array(value, np.float32) for name, value in numbers.items()}}
    path = write(tmp_path / "ops.onnx", nodes, extra)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(1, 48)
    torch.testing.assert_close(OnnxNetwork(path, CPU)(x), torch.from_numpy(session.run(["action"], {"obs": x.numpy()})[0]))


def test_since_operator_set_13_a_split_brings_its_sizes_as_a_tensor(tmp_path):
    arrays = {**weights(outputs=15), "sizes": np.array([12, 3])}
    nodes = [("Gemm", "obs W0 b0", "h", {}), ("Gemm", "h W1 b1", "both", {}), ("Split", "both sizes", "action rest", {"axis": 1})]
    found = OnnxNetwork(write(tmp_path / "split.onnx", nodes, arrays, opset=13), CPU)(torch.ones(1, 48))
    wanted = ((np.ones((1, 48), np.float32) @ arrays["W0"] + arrays["b0"]) @ arrays["W1"] + arrays["b1"])[:, :12]
    torch.testing.assert_close(found, torch.from_numpy(wanted), atol=1e-4, rtol=1e-4)


def test_a_playground_policy_acts_alike_from_either_kind_of_file(tmp_path):
    arrays = weights(outputs=24)
    np.savez(tmp_path / "go1.npz", **arrays)
    one = locomotion.load(playground(tmp_path / "go1.onnx"), (N, A), 0.02, CPU)
    other = locomotion.load(tmp_path / "go1.npz", (N, A), 0.02, CPU)
    for _ in range(3):  # what they see includes what they did
        felt, command = senses(), torch.randn(N, A, 3)
        torch.testing.assert_close(one.targets(felt, command), other.targets(felt, command))


@pytest.mark.parametrize("make, words", [
    (lambda path: path, "no readable .onnx"),
    (lambda path: path.write_text("walk this way") and path, "no readable .onnx"),
    (lambda path: write(path, SWISH, weights(inputs=47, outputs=24), inputs=47), "takes 47 inputs; known: 48"),
    (lambda path: write(path, SWISH, weights(outputs=26), outputs=13), "gives 13 outputs; 12 joints"),
    (lambda path: write(path, [("Gemm", "obs W0 b0", "h", {}), ("Softmax", "h", "action", {})], weights()), "the operator Softmax; known: Add, "),
    (lambda path: write(path, SWISH, weights(outputs=24), more_inputs=["memory"]), r"takes 2 inputs \(obs, memory\)"),
    (lambda path: write(path, [("Gemm", "obs W1 b1", "action", {})], weights()), "does not run on 48 numbers"),
    (lambda path: write(path, SWISH, weights(inputs=50, outputs=24), inputs=50), "card.json, which says how its gait goes"),
])
def test_a_graph_that_is_no_walker_is_refused_in_one_line(make, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as error:
        locomotion.load(make(tmp_path / "bad.onnx"), (1, 1), 0.02, CPU)
    assert "\n" not in str(error.value)


def test_a_card_of_another_task_is_refused(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"config": {"task": {"name": "Go1Push", "env": {}}}}))
    with pytest.raises(ConfigError, match="is missing or is not theirs"):
        locomotion.load(write(tmp_path / "bad.onnx", SWISH, weights(inputs=50, outputs=24), inputs=50), (1, 1), 0.02, CPU)


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"needs the package onnx; write pip install -e '\.\[export\]'"):
        locomotion.load(tmp_path / "go1.onnx", (1, 1), 0.02, CPU)
