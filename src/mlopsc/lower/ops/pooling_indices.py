"""Maxima of windows with the places they lie at. Source: the ONNX operator schema "MaxPool"."""

from __future__ import annotations

import itertools
import math
from typing import Any

from tvm import te, tirx

from mlopsc.lower.ops.extrema import least
from mlopsc.lower.ops.node import Node
from mlopsc.lower.ops.window import Window


def max_pool_with_indices(node: Node) -> Any:
    """Reduce pairs (index, value): the first of equal elements wins, and any over padding.

    Padding has index -1. Where the first element of a window is NaN it is the result, and other
    NaN are passed over, as in ONNX Runtime. An index counts in the whole input; with
    ``storage_order`` 1 the first spatial axis is fastest.
    """
    x = node.operand(0)
    sizes = x.shape[2:]
    window = Window.of(node, node.attribute("kernel_shape"), sizes, node.result.shape[2:])
    inner = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(window.kernel)]
    order = range(len(sizes))
    fastest_first = list(order) if node.attribute("storage_order", 0) else list(reversed(order))
    strides = dict.fromkeys(order, 1)
    for before, axis in itertools.pairwise(fastest_first):
        strides[axis] = strides[before] * sizes[before]

    def pair(n: Any, c: Any, *index: Any) -> tuple[Any, Any]:
        at = [
            (i * s + k * d - b).astype("int64")
            for i, s, k, d, b in zip(
                index, window.strides, inner, window.dilations, window.before, strict=True
            )
        ]
        inside = tirx.all(
            *(t for p, size in zip(at, sizes, strict=True) for t in (p >= 0, p < size))
        )
        safe = [tirx.max(tirx.min(p, size - 1), 0) for p, size in zip(at, sizes, strict=True)]
        place = (n * x.shape[1] + c) * math.prod(sizes)
        for axis, p in enumerate(at):
            place = place + p * strides[axis]
        missing = tirx.const(-1, "int64")
        value = tirx.Select(inside, x.tensor(n, c, *safe), least(x.dtype))
        return tirx.Select(inside, place.astype("int64"), missing), value

    def better(a: Any, b: Any) -> Any:
        zero = tirx.const(0, "int64")
        takes = tirx.all(b[0] >= zero, tirx.any(a[0] < zero, b[1] > a[1]))
        return tirx.Select(takes, b[0], a[0]), tirx.Select(takes, b[1], a[1])

    reducer: Any = te.comm_reducer(
        better, lambda i, v: (tirx.const(-1, i), least(str(v))), name="max_pool"
    )
    indices, values = te.compute(
        node.result.shape, lambda *i: reducer(pair(*i), axis=inner), name="max_pool"
    )
    return [values, indices]
