"""Pooling over windows and over whole feature maps. Source: the ONNX operator schemas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.node import Lowering, Node
from mlopsc.lower.ops.window import Window


def _axes(window: Window) -> list[Any]:
    return [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(window.kernel)]


def _window(node: Node) -> Window:
    sizes, out = node.operand(0).shape[2:], node.result.shape[2:]
    return Window.of(node, node.attribute("kernel_shape"), sizes, out)


def _max_pool(node: Node) -> Any:
    x = node.operand(0)
    window = _window(node)
    sizes, out = x.shape[2:], node.result.shape[2:]
    padded = window.padded(x.tensor, te.min_value(x.dtype), sizes, out)
    inner = _axes(window)
    return te.compute(
        node.result.shape,
        lambda n, c, *i: te.max(padded(n, c, *window.place(i, inner)), axis=inner),
        name="max_pool",
    )


def _average_pool(node: Node) -> Any:
    """Sums divided by the number of elements: those of the input, or with padding those padded."""
    x = node.operand(0)
    window = _window(node)
    sizes, out = x.shape[2:], node.result.shape[2:]
    padded = window.padded(x.tensor, tirx.const(0.0, x.dtype), sizes, out)
    inner = _axes(window)
    total = te.compute(
        node.result.shape,
        lambda n, c, *i: te.sum(padded(n, c, *window.place(i, inner)), axis=inner),
        name="pool_sum",
    )
    with_padding = bool(node.attribute("count_include_pad", 0))
    counts = [
        _counts(window, axis, sizes[axis], out[axis], with_padding) for axis in range(len(sizes))
    ]

    def element(n: Any, c: Any, *index: Any) -> Any:
        count: Any = tirx.const(math.prod(v[0] for v in counts if len(set(v)) == 1), "int32")
        for axis, (values, i) in enumerate(zip(counts, index, strict=True)):
            if len(set(values)) > 1:
                count = count * _count(window, axis, sizes[axis], i, with_padding)
        return total(n, c, *index) / count.astype(x.dtype)

    return te.compute(node.result.shape, element, name="average_pool")


def _counts(window: Window, axis: int, size: int, out: int, with_padding: bool) -> list[int]:
    """Return how many elements of one axis each window counts."""
    low, high = _bounds(window, axis, size, with_padding)
    stride, dilation, kernel = window.strides[axis], window.dilations[axis], window.kernel[axis]
    before = window.before[axis]
    return [
        sum(low <= i * stride - before + k * dilation < high for k in range(kernel))
        for i in range(out)
    ]


def _bounds(window: Window, axis: int, size: int, with_padding: bool) -> tuple[int, int]:
    if with_padding:
        return -window.before[axis], size + window.after[axis]
    return 0, size


def _count(window: Window, axis: int, size: int, index: Any, with_padding: bool) -> Any:
    """The same as an expression: how many ``k`` have ``low <= start + k * dilation < high``."""
    low, high = _bounds(window, axis, size, with_padding)
    dilation, kernel = window.dilations[axis], window.kernel[axis]
    start = index.astype("int32") * window.strides[axis] - window.before[axis]
    first = tirx.max(tirx.floordiv(low - start + dilation - 1, dilation), 0)
    last = tirx.min(tirx.floordiv(high - 1 - start, dilation), kernel - 1)
    return tirx.max(last - first + 1, 0)


def _global(reduce: Callable[..., Any], *, mean: bool) -> Lowering:
    def lowering(node: Node) -> Any:
        x = node.operand(0)
        inner = [te.reduce_axis((0, s), name=f"k{i}") for i, s in enumerate(x.shape[2:])]
        result = te.compute(
            node.result.shape,
            lambda n, c, *_: reduce(x.tensor(n, c, *inner), axis=inner),
            name=node.op.lower(),
        )
        if not mean:
            return result
        count = tirx.const(float(math.prod(x.shape[2:])), x.dtype)
        return te.compute(node.result.shape, lambda *i: result(*i) / count, name="mean")

    return lowering


LOWERINGS: Final[dict[str, Lowering]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(te.sum, mean=True),
    "GlobalMaxPool": _global(te.max, mean=False),
    "MaxPool": _max_pool,
}
