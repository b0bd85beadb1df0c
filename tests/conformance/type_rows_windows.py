"""Convolutions, pooling, normalisation, regions, trees and control flow in every type."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from op_cases import Array, Case, Const
from op_cases_ml import TREES, ensemble, features
from type_rows import SINGLE, Row, Typed, allowed, finite, small, values, weights

_NORM = tuple(weights(3, values=kind) for kind in ("small", "small", "small", "positive"))
_ROI = {"output_height": 2, "output_width": 2, "spatial_scale": 0.5}
_BATCHES = Const(np.array([0, 1], np.int64))
_BOXES = Typed((2, 4), (1, 2, 10, 12, 3, 0, 4, 6))
_TWO = {"kernel_shape": [2, 2], "strides": [2, 2]}

WINDOWS: Final = (
    Row("Conv", (small(1, 4, 5, 6), weights(6, 2, 3, 2), weights(6)),
        {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    Row("Conv", (small(2, 3, 7), small(2, 3, 3)), {"auto_pad": "SAME_LOWER"}, "lines"),
    Row("Conv", (small(0, 3, 5, 5), weights(2, 3, 3, 3)), label="empty"),
    Row("ConvTranspose", (small(1, 2, 3, 4), weights(2, 3, 3, 2), weights(3)),
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}),
    Row("ConvTranspose", (small(2, 3, 5), small(3, 2, 3)), {"strides": [2]}, "lines"),
    Row("DeformConv", (small(1, 2, 4, 4), weights(2, 2, 3, 3), small(1, 18, 4, 4)),
        {"pads": [1, 1, 1, 1]}),
    Row("AveragePool", (small(1, 2, 6, 7),),
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    Row("AveragePool", (small(1, 2, 7),), {"kernel_shape": [2], "ceil_mode": 1}, "lines"),
    Row("MaxPool", (finite(1, 2, 6, 7),),
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}, outputs=2),
    Row("MaxPool", (finite(1, 2, 9),), {"kernel_shape": [3], "dilations": [2]}, "lines"),
    Row("GlobalAveragePool GlobalMaxPool", (small(2, 3, 4, 5),)),
    Row("MaxUnpool", (small(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]], np.int64)), _TWO),
)  # fmt: skip

# ONNX's evaluator takes the number of images for that of channels, which are equal here, and
# divides alpha by the size in float32, which is exact here.
_LRN = Row("LRN", (small(3, 3, 3, 2),),
           {"size": 3, "alpha": 0.75, "beta": 0.5, "bias": 1.5}, types=SINGLE)  # fmt: skip
LRN_FLOAT64: Final = (replace(_LRN, types=("float64",)),)

NORMALISED: Final = (
    Row("BatchNormalization", (small(2, 3, 4), *_NORM), {"epsilon": 2.0**-10}),
    Row("BatchNormalization", (small(2, 3), *_NORM), label="lines"),
    Row("BatchNormalization", (small(0, 3, 4), *_NORM), label="empty"),
    Row("InstanceNormalization", (small(2, 3, 4, 3), *_NORM[:2]), {"epsilon": 2.0**-6}),
    _LRN,
    *(
        Row("RoiAlign", (small(2, 3, 9, 8), _BOXES, _BATCHES),
            {"mode": mode, "sampling_ratio": 2, **_ROI}, mode)
        for mode in ("avg", "max")
    ),
)  # fmt: skip


def _value(name: str, dtype: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _code(dtype), shape)


def _code(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _branch(
    name: str, dtype: str, shape: tuple[int, ...], *nodes: onnx.NodeProto
) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [_value(f"{name}_y", dtype, *shape)])


def _constant(name: str, array: Array) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(array, f"{name}_value")
    return helper.make_node("Constant", [], [name], value=tensor)


def _choice(dtype: str, shape: tuple[int, ...], condition: bool) -> Case:
    """An ``If`` whose branches are constants."""
    label = "_".join((dtype, *map(str, shape), str(condition).lower()))
    one = values(dtype, (*shape, 2))
    branches = {
        f"{which}_branch": _branch(
            f"If_{label}_{which}",
            dtype,
            shape,
            _constant(f"If_{label}_{which}_y", one[..., number].copy()),
        )
        for number, which in enumerate(("then", "else"))
    }
    return Case("If", label, (np.array(condition),), attributes=branches)


def _loop(dtype: str, shape: tuple[int, ...]) -> Case:
    """A ``Loop`` that carries two values, swaps them where an ``If`` says so, and stacks one."""
    label = "_".join((dtype, *map(str, shape)))
    names = ("i", "c", "a", "b", "odd", "more", "p", "q", "s")
    i, c, a, b, odd, more, p, q, s = (f"Loop_{label}_{n}" for n in names)
    nodes = [
        helper.make_node("Identity", [c], [more]),
        helper.make_node("Cast", [i], [odd], to=_code("bool")),
        helper.make_node("Identity", [b], [q]),
        helper.make_node("Identity", [a], [s]),
    ]
    branches = {
        f"{which}_branch": _branch(
            f"{p}_{which}",
            dtype,
            shape,
            helper.make_node("Identity", [source], [f"{p}_{which}_y"]),
        )
        for which, source in (("then", b), ("else", a))
    }
    nodes.append(helper.make_node("If", [odd], [p], **branches))
    body = helper.make_graph(
        nodes,
        f"Loop_{label}_body",
        [_value(i, "int64"), _value(c, "bool"), *(_value(n, dtype, *shape) for n in (a, b))],
        [_value(more, "bool"), *(_value(n, dtype, *shape) for n in (p, q, s))],
    )
    both = values(dtype, (*shape, 2))
    inputs = (Const(np.array(3, np.int64)), None, *(both[..., k].copy() for k in (0, 1)))
    return Case("Loop", label, inputs, 3, {"body": body})


def bodies() -> list[Case]:
    """Control flow in every type: tensors and scalars."""
    found = []
    for dtype in allowed("If"):
        found += [_choice(dtype, (2, 3), True), _choice(dtype, (), False)]
        found += [_loop(dtype, (2, 3)), _loop(dtype, ())]
    return found


def trees(without: Container[tuple[str, str]]) -> list[Case]:
    """Trees of every type, with features that are missing."""
    found = []
    for dtype in allowed(TREES):
        if (TREES, dtype) in without:
            continue
        options = ensemble("typed", 9, 3, modes=tuple(range(6)), targets=2, dtype=dtype)
        rows = features("typed", 5, dtype)
        found.append(Case(TREES, f"typed_{dtype}", (rows,), attributes=options))
    return found
