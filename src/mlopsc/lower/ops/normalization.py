"""Softmax and its kin, and normalisation layers. Source: the ONNX operator schemas."""

from __future__ import annotations

import math
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.node import Lowering, Node, axis_of, compute
from mlopsc.lower.ops.reduction import place_reducer


def _softmax(*, logarithm: bool) -> Lowering:
    """``exp(x - max) / sum``; before opset 13 over all axes from ``axis`` on.

    Each row is divided by multiplying with one reciprocal, as the reference does.
    """

    def lowering(node: Node) -> Any:
        x = node.operand(0)
        old = node.version < 13
        axis = axis_of(int(node.attribute("axis", 1 if old else -1)), max(x.rank, 1))
        axes = list(range(axis, x.rank)) if old else [axis] if x.rank else []
        if not axes:
            return compute(node, lambda *i: tirx.const(0.0 if logarithm else 1.0, x.dtype))
        kept = [size for a, size in enumerate(x.shape) if a not in axes]

        def reduce(combine: Any, source: Any, name: str) -> Any:
            inner = {a: te.reduce_axis((0, x.shape[a]), name=f"k{a}") for a in axes}

            def element(*index: Any) -> Any:
                rest = iter(index)
                own = [inner[a] if a in inner else next(rest) for a in range(x.rank)]
                return combine(source(own), axis=list(inner.values()))

            return te.compute(kept or [1], element, name=name)

        def of_row(tensor: Any, index: Any) -> Any:
            own = [i for a, i in enumerate(index) if a not in axes]
            return tensor(*own) if kept else tensor(0)

        peak = reduce(te.max, lambda own: x.tensor(*own), "row_max")
        if logarithm:
            total = reduce(
                te.sum,
                lambda own: tirx.exp(x.tensor(*own) - of_row(peak, own)),
                "row_sum",
            )
            return compute(
                node,
                lambda *i: x.tensor(*i) - of_row(peak, i) - tirx.log(of_row(total, i)),
            )
        power = te.compute(
            x.shape, lambda *i: tirx.exp(x.tensor(*i) - of_row(peak, i)), name="powers"
        )
        total = reduce(te.sum, lambda own: power(*own), "row_sum")
        share = te.compute(total.shape, lambda *i: tirx.const(1, x.dtype) / total(*i), name="share")
        return compute(node, lambda *i: power(*i) * of_row(share, i))

    return lowering


def _hardmax(node: Node) -> Any:
    """1 at the first largest element of each row, or its first NaN; 0 elsewhere."""
    x = node.operand(0)
    old = node.version < 13
    axis = axis_of(int(node.attribute("axis", 1 if old else -1)), max(x.rank, 1))
    rows = x.shape[:axis] if old else (*x.shape[:axis], *x.shape[axis + 1 :])
    width = math.prod(x.shape[axis:]) if old else x.shape[axis]
    inner = x.shape[axis:] if old else (x.shape[axis],)

    def at(row: Any, place: Any) -> Any:
        if not old:
            return x.tensor(*row[:axis], place, *row[axis:])
        own, rest = [], place
        for size in reversed(inner):
            own.append(tirx.indexmod(rest, size))
            rest = tirx.indexdiv(rest, size)
        return x.tensor(*row[:axis], *reversed(own))

    reducer = place_reducer(x.dtype)
    k = te.reduce_axis((0, width), name="k")

    def best_of(*row: Any) -> Any:
        return reducer((k.astype("int32"), at(row if rows else (), k)), axis=k)

    best = te.compute(rows or (1,), best_of, name="best")[0]

    def element(*index: Any) -> Any:
        if old:
            row, place = index[:axis], tirx.const(0, "int64")
            for i, size in zip(index[axis:], inner, strict=True):
                place = place * size + i
        else:
            row, place = (*index[:axis], *index[axis + 1 :]), index[axis]
        chosen = best(*row) if rows else best(0)
        return tirx.Select(
            chosen == place.astype("int32"), tirx.const(1, x.dtype), tirx.const(0, x.dtype)
        )

    return compute(node, element)


def _batch_normalization(node: Node) -> Any:
    x, scale, bias, mean, variance = (node.operand(i) for i in range(5))
    epsilon = tirx.const(node.number("epsilon", 1e-5), x.dtype)
    factor = te.compute(
        scale.shape,
        lambda c: scale.tensor(c) / tirx.sqrt(variance.tensor(c) + epsilon),
        name="factor",
    )

    def element(*index: Any) -> Any:
        c = index[1] if x.rank > 1 else 0
        return (x.tensor(*index) - mean.tensor(c)) * factor(c) + bias.tensor(c)

    return compute(node, element)


def _instance_normalization(node: Node) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` over the spatial axes."""
    x, scale, bias = (node.operand(i) for i in range(3))
    epsilon = tirx.const(node.number("epsilon", 1e-5), x.dtype)
    count = tirx.const(float(math.prod(x.shape[2:])), x.dtype)

    def average(source: Any, name: str) -> Any:
        inner = [te.reduce_axis((0, s), name=f"k{i}") for i, s in enumerate(x.shape[2:])]
        total = te.compute(
            x.shape[:2], lambda n, c: te.sum(source(n, c, inner), axis=inner), name=f"{name}_sum"
        )
        return te.compute(x.shape[:2], lambda n, c: total(n, c) / count, name=name)

    mean = average(lambda n, c, i: x.tensor(n, c, *i), "mean")

    def squared(n: Any, c: Any, i: Any) -> Any:
        distance = x.tensor(n, c, *i) - mean(n, c)
        return distance * distance

    variance = average(squared, "variance")
    factor = te.compute(
        x.shape[:2],
        lambda n, c: scale.tensor(c) / tirx.sqrt(variance(n, c) + epsilon),
        name="factor",
    )
    return compute(
        node,
        lambda n, c, *i: (x.tensor(n, c, *i) - mean(n, c)) * factor(n, c) + bias.tensor(c),
    )


def _lrn(node: Node) -> Any:
    """``x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta``."""
    x = node.operand(0)
    size = int(node.attribute("size"))
    alpha, beta = node.number("alpha", 1e-4), node.number("beta", 0.75)
    bias = node.number("bias", 1.0)
    before = (size - 1) // 2
    k = te.reduce_axis((0, size), name="k")
    channels = x.shape[1]

    def squares(n: Any, c: Any, *i: Any) -> Any:
        at = c + k - before
        value = tirx.if_then_else(
            tirx.all(at >= 0, at < channels), x.tensor(n, at, *i), tirx.const(0.0, x.dtype)
        )
        return te.sum(value * value, axis=k)

    total = te.compute(x.shape, squares, name="squares")
    scale, start = tirx.const(alpha / size, x.dtype), tirx.const(bias, x.dtype)

    def power(value: Any) -> Any:
        if beta == 0.75:  # what networks have: three roundings, and vectors have square roots
            root = tirx.sqrt(value)
            return root * tirx.sqrt(root)
        return tirx.pow(value, tirx.const(beta, x.dtype))

    return compute(node, lambda *i: x.tensor(*i) / power(start + scale * total(*i)))


LOWERINGS: Final[dict[str, Lowering]] = {
    "BatchNormalization": _batch_normalization,
    "Hardmax": _hardmax,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LogSoftmax": _softmax(logarithm=True),
    "Softmax": _softmax(logarithm=False),
}
