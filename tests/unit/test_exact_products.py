"""Products of unsigned and signed bytes are exact in the reference, whatever the processor."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import onnx
import pytest
from models import node
from numpy.lib.stride_tricks import sliding_window_view

from mlopsc.exact_products import make_products_exact
from mlopsc.reference import run_graph

ZERO = 3  # of the weights


def extremes(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    """Return an array whose products would saturate in 16 bits."""
    info = np.iinfo(dtype)
    made = rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    made.ravel()[: made.size // 2] = info.max
    return made


def expected(x: Any, w: Any, zero: int, convolution: bool) -> Any:
    wide = w.astype(np.int64) - ZERO
    x = x.astype(np.int64) - zero
    if not convolution:
        return x @ wide
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, wide)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"])
def test_products_are_exact(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    convolution = "Conv" in op
    zero = 100 if dtype is np.uint8 else -5
    x = extremes(rng, dtype, *((1, 8, 6, 6) if convolution else (5, 40)))
    w = extremes(rng, np.int8, *((6, 8, 3, 3) if convolution else (40, 6)))
    zeros = {"x_zero": np.array(zero, dtype), "w_zero": np.array(ZERO, np.int8)}
    scales = {name: np.array(s, np.float32) for name, s in (("one", 1), ("many", 1 << 12))}
    names = (
        ["x", "w", "x_zero", "w_zero"]
        if op.endswith("Integer")
        else ["x", "one", "x_zero", "w", "one", "w_zero", "many", "x_zero"]
    )
    made = models.model(
        [node(op, names, ["y"])],
        [models.value("x", x.shape, x.dtype.name)],
        [models.value("y", None, "int32" if op.endswith("Integer") else x.dtype.name)],
        {"w": w, **zeros, **scales},
    )
    exact = expected(x, w, zero, convolution)
    if not op.endswith("Integer"):
        info = np.iinfo(dtype)
        exact = np.clip(np.rint(exact / (1 << 12)) + zero, info.min, info.max)
    np.testing.assert_array_equal(run_graph(made.SerializeToString(), {"x": x})["y"], exact)


def test_signed_weights_of_unsigned_inputs_are_moved_once() -> None:
    made = models.model(
        [node("MatMulInteger", ["x", "w"], ["a"]), node("MatMulInteger", ["x", "w"], ["b"])],
        [models.value("x", [2, 3], "uint8")],
        [models.value("a", [2, 4], "int32"), models.value("b", [2, 4], "int32")],
        {"w": np.ones((3, 4), np.int8)},
    )
    graph = onnx.load_model_from_string(make_products_exact(made.SerializeToString())).graph
    assert [n.op_type for n in graph.node] == ["Cast", "Add", "Cast", *["MatMulInteger"] * 2]
    assert {tuple(n.input) for n in graph.node if n.op_type == "MatMulInteger"} == {
        ("x", "w__uint8", "", "exact_products__128_u8")
    }


def test_others_stay_as_they_are() -> None:
    made = models.one_op("Relu", [2, 3]).SerializeToString()
    assert make_products_exact(made) is made
    signed = models.model(
        [node("MatMulInteger", ["x", "w"], ["a"])],
        [models.value("x", [2, 3], "int8")],
        [models.value("a", [2, 4], "int32")],
        {"w": np.ones((3, 4), np.int8)},
    ).SerializeToString()
    assert make_products_exact(signed) is signed
