"""Pooling over windows and over whole feature maps. Source: the ONNX operator schemas.

A largest element is a number wherever there is one, as in ONNX Runtime: NaN is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.extrema import least
from mlopsc.lower.ops.node import Lowering, Node
from mlopsc.lower.ops.pooling_indices import max_pool_with_indices
from mlopsc.lower.ops.window import Window

_LARGEST_NUMBER: Any = te.comm_reducer(
    lambda a, b: tirx.Select(b > a, b, a), lambda dtype: least(str(dtype)), name="largest_number"
)


def _axes(window: Window) -> list[Any]:
    return [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(window.kernel)]


def _spatial(shape: tuple[int, ...], trailing: int) -> tuple[int, ...]:
    return shape[2 : len(shape) - trailing]


def _pool(node: Node, trailing: int, fill: Any, reduce: Callable[..., Any], name: str) -> Any:
    """Reduce every window; ``trailing`` axes after the spatial ones are carried along."""
    x = node.operand(0)
    sizes, out = _spatial(x.shape, trailing), _spatial(node.result.shape, trailing)
    window = Window.of(node, node.attribute("kernel_shape"), sizes, out)
    padded = window.padded(x.tensor, fill, sizes, out, trailing)
    inner = _axes(window)
    count = len(sizes)

    def element(n: Any, c: Any, *i: Any) -> Any:
        return reduce(padded(n, c, *window.place(i[:count], inner), *i[count:]), axis=inner)

    return te.compute(node.result.shape, element, name=name)


def _max_pool(trailing: int) -> Lowering:
    def lowering(node: Node) -> Any:
        if len(node.outputs) > 1 and node.outputs[1] is not None:
            return max_pool_with_indices(node)
        return _pool(node, trailing, least(node.operand(0).dtype), _LARGEST_NUMBER, "max_pool")

    return lowering


def _average_pool(trailing: int) -> Lowering:
    """Sums divided by the number of elements: those of the input, or with padding those padded."""

    def lowering(node: Node) -> Any:
        x = node.operand(0)
        total = _pool(node, trailing, tirx.const(0.0, x.dtype), te.sum, "pool_sum")
        sizes, out = _spatial(x.shape, trailing), _spatial(node.result.shape, trailing)
        window = Window.of(node, node.attribute("kernel_shape"), sizes, out)
        with_padding = bool(node.attribute("count_include_pad", 0))
        counts = [
            _counts(window, axis, sizes[axis], out[axis], with_padding)
            for axis in range(len(sizes))
        ]

        def element(n: Any, c: Any, *index: Any) -> Any:
            same = math.prod(v[0] for v in counts if len(set(v)) == 1)
            count: Any = tirx.const(same, "int32")
            for axis, values in enumerate(counts):
                if len(set(values)) > 1:
                    count = count * _count(window, axis, sizes[axis], index[axis], with_padding)
            return total(n, c, *index) / count.astype(x.dtype)

        return te.compute(node.result.shape, element, name="average_pool")

    return lowering


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


def _global(reduce: Callable[..., Any], trailing: int, *, mean: bool) -> Lowering:
    def lowering(node: Node) -> Any:
        x = node.operand(0)
        sizes = _spatial(x.shape, trailing)
        inner = [te.reduce_axis((0, s), name=f"k{i}") for i, s in enumerate(sizes)]
        rest = len(sizes)
        result = te.compute(
            node.result.shape,
            lambda n, c, *i: reduce(x.tensor(n, c, *inner, *i[rest:]), axis=inner),
            name="global_pool",
        )
        if not mean:
            return result
        count = tirx.const(float(math.prod(sizes)), x.dtype)
        return te.compute(node.result.shape, lambda *i: result(*i) / count, name="mean")

    return lowering


def pooling_lowerings(trailing: int) -> dict[str, Lowering]:
    """Return the pooling operators over tensors with ``trailing`` axes after the spatial ones."""
    return {
        "AveragePool": _average_pool(trailing),
        "GlobalAveragePool": _global(te.sum, trailing, mean=True),
        "GlobalMaxPool": _global(_LARGEST_NUMBER, trailing, mean=False),
        "MaxPool": _max_pool(trailing),
    }


LOWERINGS: Final[dict[str, Lowering]] = pooling_lowerings(0)
