"""What fusing and TVM's simplifying must not change: NaN, infinities, the sign of zero, and the
last digits of float64. The expected values are written down, or NumPy's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import helper, numpy_helper

from mlopsc.backend import prepare
from mlopsc.errors import UnsupportedOpError
from mlopsc.schema.target import Generator

Array = np.ndarray[Any, Any]
GENERATORS: list[Generator] = ["llvm", "c"]
COMPARE = {
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
JOIN = {
    "Or": np.logical_or,
    "And": np.logical_and,
    "Xor": np.logical_xor,
    "Equal": np.equal,
}


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    constants: dict[str, Array],
) -> onnx.ModelProto:
    def declare(arrays: dict[str, Array]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in arrays.items()
        ]

    fixed = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "fused", declare(inputs), declare(outputs), fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("generator", GENERATORS)
def test_joined_comparisons_with_nan(generator: Generator) -> None:
    x = np.array([np.nan, 0, 1, 2, np.inf, -np.inf], np.float32)
    y = np.array([1, np.nan, 1, 1, np.nan, 0], np.float32)
    nodes, inputs, wanted = [], {}, {}
    for first, second, join, limit in itertools.product(COMPARE, COMPARE, JOIN, ("one", "tensor")):
        name = f"{join}_{first}_{second}_{limit}"
        a, b, out = f"x_{name}", f"y_{name}" if limit == "tensor" else "one", f"z_{name}"
        inputs[a] = x  # of its own, so that every pair is fused
        if limit == "tensor":
            inputs[b] = y
        nodes += [
            helper.make_node(first, [a, b], [f"p_{name}"]),
            helper.make_node(second, [a, b], [f"q_{name}"]),
            helper.make_node(join, [f"p_{name}", f"q_{name}"], [out]),
        ]
        other = y if limit == "tensor" else np.float32(1)
        wanted[out] = JOIN[join](COMPARE[first](x, other), COMPARE[second](x, other))
    made = prepare(
        model(nodes, inputs, wanted, {"one": np.array(1, np.float32)}), generator=generator
    )
    for got, (name, want) in zip(made.run(inputs), wanted.items(), strict=True):
        assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sign_of_zero(generator: Generator, dtype: str) -> None:
    x = np.array([0.0, -0.0, 1.0, -np.inf, np.nan], dtype)
    zeros = {"plus": np.array(0.0, dtype), "minus": np.array([-0.0], dtype)}
    cases = {
        f"{op}_{sign}_{'left' if left else 'right'}": (op, sign, left)
        for op in ("Add", "Sub")
        for sign in zeros
        for left in (True, False)
    }
    functions = {"Add": np.add, "Sub": np.subtract}
    nodes, wanted = [], {}
    for name, (op, sign, left) in cases.items():
        nodes.append(helper.make_node(op, [sign, "x"] if left else ["x", sign], [name]))
        zero = zeros[sign]
        wanted[name] = functions[op](zero, x) if left else functions[op](x, zero)
    made = prepare(model(nodes, {"x": x}, wanted, zeros), generator=generator)
    for got, (name, want) in zip(made.run({"x": x}), wanted.items(), strict=True):
        assert_array_equal(got, want, err_msg=name)
        number = ~np.isnan(want)
        assert_array_equal(np.signbit(got)[number], np.signbit(want)[number], err_msg=name)


@pytest.mark.parametrize("generator", GENERATORS)
def test_functions_of_float64(generator: Generator) -> None:
    x = np.array([1e-10, 1e-5, -0.0, 0.3, -0.7])
    functions = {
        "Tan": np.tan, "Tanh": np.tanh, "Atan": np.arctan, "Atanh": np.arctanh, "Sinh": np.sinh,
        "Asinh": np.arcsinh, "Asin": np.arcsin, "Acos": np.arccos, "Cosh": np.cosh,
    }  # fmt: skip
    nodes = [helper.make_node(op, ["x"], [op]) for op in functions]
    nodes += [
        helper.make_node("Sin", ["x"], ["sin"]),
        helper.make_node("Cos", ["x"], ["cos"]),
        helper.make_node("Add", ["sin", "cos"], ["sum"]),
    ]
    wanted = {op: function(x) for op, function in functions.items()}
    wanted["sum"] = np.sin(x) + np.cos(x)
    made = prepare(model(nodes, {"x": x}, wanted, {}), generator=generator)
    for got, (name, want) in zip(made.run({"x": x}), wanted.items(), strict=True):
        assert_allclose(got, want, rtol=4e-15, atol=0, err_msg=name)
        assert_array_equal(np.signbit(got), np.signbit(want), err_msg=name)


@pytest.mark.parametrize("generator", GENERATORS)
def test_attributes_of_float64_operators_are_float32(generator: Generator) -> None:
    x = np.array([-1.0, 2.0])
    alpha, beta = (float(np.float32(v)) for v in (0.2, 0.5))
    leaky = np.where(x < 0, float(np.float32(0.01)) * x, x)
    wanted = {"LeakyRelu": leaky, "HardSigmoid": np.clip(alpha * x + beta, 0, 1)}
    nodes = [helper.make_node(op, ["x"], [op]) for op in wanted]
    made = prepare(model(nodes, {"x": x}, wanted, {}), generator=generator)
    for got, (name, want) in zip(made.run({"x": x}), wanted.items(), strict=True):
        assert_allclose(got, want, rtol=4e-15, atol=0, err_msg=name)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_one_hot_of_depth_one_axis(generator: Generator, dtype: str) -> None:
    x, values = np.array([0, -1, 5], np.int64), np.array([2, 3], dtype)
    want = np.array([[3, 2, 2], [2, 2, 3], [2, 2, 2]], dtype)
    nodes = [helper.make_node("OneHot", ["x", "depth", "values"], ["y"])]
    inputs = {"x": x, "values": values}
    made = prepare(model(nodes, inputs, {"y": want}, {"depth": np.array([3])}), generator=generator)
    assert_array_equal(made.run(inputs)[0], want)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("how", ["max", "min"])
def test_scatters_order_booleans(generator: Generator, how: str) -> None:
    x, new = np.array([True, False, True]), np.array([False, True])
    places = np.array([0, 1])
    want = np.array([how == "max", how == "max", True])
    constants = {"places": places, "rows": places[:, None]}
    nodes = [
        helper.make_node("ScatterElements", ["x", "places", "new"], ["a"], reduction=how),
        helper.make_node("ScatterND", ["x", "rows", "new"], ["b"], reduction=how),
    ]
    inputs = {"x": x, "new": new}
    made = prepare(model(nodes, inputs, {"a": want, "b": want}, constants), generator=generator)
    for got in made.run(inputs):
        assert_array_equal(got, want)


def test_regions_of_float64_are_refused_at_import() -> None:
    inputs = {"x": np.ones((1, 1, 4, 4)), "rois": np.array([[0.0, 0, 2, 2]])}
    nodes = [helper.make_node("RoiAlign", [*inputs, "batch"], ["y"], name="align")]
    made = model(nodes, inputs, {"y": np.ones((1, 1, 1, 1))}, {"batch": np.array([0])})
    with pytest.raises(UnsupportedOpError, match=r"'align' .RoiAlign. works on DOUBLE") as caught:
        prepare(made)
    assert "cast its inputs to FLOAT" in str(caught.value.hint)
