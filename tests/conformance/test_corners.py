"""Corners where ONNX Runtime's answer is no guide, or which its own test data miss."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from mlopsc.backend import prepare

NAN, INF = np.nan, np.inf


def test_nan_infinities_and_cropping_pads() -> None:
    rows = np.array([[5, NAN, 1], [NAN, 5, 1], [-INF, -INF, -INF], [1, 5, NAN]], np.float32)
    line = np.array([[[4, NAN, 5, 1, -INF, -INF]]], np.float32)
    ramp = np.arange(10, dtype=np.float32)
    pads = np.array([-2, 7])
    cases = {
        "argmax": ("ArgMax", "rows", {"axis": 1, "keepdims": 0}, [1, 0, 0, 2]),
        "argmin": ("ArgMin", "rows", {"axis": 1, "keepdims": 0}, [1, 0, 0, 2]),
        "hardmax": ("Hardmax", "rows", {}, [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]),
        "pool": ("MaxPool", "line", {"kernel_shape": [2], "pads": [0, 1]},
                 [[[4, 5, 5, 1, -INF, -INF]]]),
        "wrap": ("Pad", "ramp", {"mode": "wrap"}, np.pad(ramp[2:], (0, 7), mode="wrap")),
        "reflect": ("Pad", "ramp", {"mode": "reflect"}, np.pad(ramp[2:], (0, 7), mode="reflect")),
        "edge": ("Pad", "ramp", {"mode": "edge"}, np.pad(ramp[2:], (0, 7), mode="edge")),
    }  # fmt: skip
    nodes = [
        helper.make_node(op, [x, "pads"] if op == "Pad" else [x], [name], **attributes)
        for name, (op, x, attributes, _) in cases.items()
    ]
    wanted = {
        name: np.array(want, np.int64 if name.startswith("arg") else np.float32)
        for name, (*_, want) in cases.items()
    }
    inputs = {"rows": rows, "line": line, "ramp": ramp}
    graph = helper.make_graph(
        nodes,
        "corners",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in inputs.items()],
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in wanted.items()
        ],
        [numpy_helper.from_array(pads, "pads")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    for got, (name, want) in zip(prepare(model).run(inputs), wanted.items(), strict=True):
        assert_array_equal(got, want, err_msg=name)


def test_powers_and_shrinking_of_integers() -> None:
    base = np.array([16777217, -3, 2, 7], np.int32)
    exponent = np.array([1.0, 3.0, 0.5, 40.0], np.float32)
    negative = np.array([-1, -1, 2], np.float32)
    large = np.array([16777217, 16777218, 3], np.int64)
    small = np.array([-3, 0, 3], np.int32)
    inputs = {"base": base, "exponent": exponent, "negative": negative, "large": large,
              "small": small}  # fmt: skip
    wrapped = pow(7, 40, 1 << 32)
    wanted = {
        "exact": np.array([16777217, -27, 1, wrapped - (wrapped >> 31 << 32)], np.int32),
        "parity": np.array([-1, 1, 8], np.float32),
        "shrunk": np.array([-1, 0, 1], np.int32),
    }
    nodes = [
        helper.make_node("Pow", ["base", "exponent"], ["exact"]),
        helper.make_node("Pow", ["negative", "large"], ["parity"]),
        helper.make_node("Shrink", ["small"], ["shrunk"], lambd=1.5, bias=1.5),
    ]

    def infos(arrays: dict[str, np.ndarray]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in arrays.items()
        ]

    graph = helper.make_graph(nodes, "integers", infos(inputs), infos(wanted))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    for got, (name, want) in zip(prepare(model).run(inputs), wanted.items(), strict=True):
        assert_array_equal(got, want, err_msg=name)
