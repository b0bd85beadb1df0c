"""Operators on channel-blocked tensors ``[N, C/B, ..., B]``; ``lower.layout`` makes them.

Convolutions take packed weights: ``[F/(pB), C/b, k..., b, p, B]``, or ``[F/(pB), k..., C, p, B]``
over a plain input, ``p`` blocks of features beside each other; or ``[C/B, k..., B]`` depthwise. The
last block of channels may hold some that do not exist: ``Block`` and convolutions make them 0,
``Unblock`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.node import Lowering, Node, compute, literal
from mlopsc.lower.ops.pooling import pooling_lowerings
from mlopsc.lower.ops.window import Window
from mlopsc.lower.ops.winograd import winograd


def _block(node: Node) -> Any:
    x = node.operand(0)
    block = node.result.shape[-1]
    channels = x.shape[1]
    zero = literal(0, x.dtype)

    def element(n: Any, c: Any, *i: Any) -> Any:
        channel = c * block + i[-1]
        value = x.tensor(n, channel, *i[:-1])
        return (
            value if channels % block == 0 else tirx.if_then_else(channel < channels, value, zero)
        )

    return compute(node, element)


def _unblock(node: Node) -> Any:
    x = node.operand(0)
    block = x.shape[-1]
    return compute(
        node,
        lambda n, c, *i: x.tensor(n, tirx.indexdiv(c, block), *i, tirx.indexmod(c, block)),
    )


def _conv(node: Node) -> Any:
    zero = literal(0, node.operand(0).dtype)
    return _with_bias(node, window_sum(node, zero, lambda x, w: x * w))


def window_sum(node: Node, border: Any, multiply: Callable[[Any, Any], Any]) -> Any:
    """Return the sums of a convolution with packed weights.

    Args:
        node: Its inputs are a blocked tensor (a plain one if ``inner`` is 0) and packed weights.
        border: What lies around the input.
        multiply: Takes an element of the input and of the weights.
    """
    x, w = node.operand(0), node.operand(1)
    inner = int(node.attribute("inner"))
    out = node.result.shape[2:-1]
    rank = len(out)
    if inner:
        kernel, sizes = w.shape[2 : 2 + rank], x.shape[2:-1]
        window = Window.of(node, kernel, sizes, out)
        padded = window.padded(x.tensor, border, sizes, out, trailing=1)
        outer = te.reduce_axis((0, x.shape[1]), name="c")
    else:
        kernel, sizes = w.shape[1 : 1 + rank], x.shape[2:]
        window = Window.of(node, kernel, sizes, out)
        padded = window.padded(x.tensor, border, sizes, out)
    pair = w.shape[-2]
    c = te.reduce_axis((0, w.shape[-3]), name="ci")
    taps = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]

    def element(n: Any, f: Any, *index: Any) -> Any:
        *place, lane = index
        at = window.place(place, taps)
        of = (c, tirx.indexmod(f, pair), lane)
        panel = tirx.indexdiv(f, pair)
        if inner:
            value = multiply(padded(n, outer, *at, c), w.tensor(panel, outer, *taps, *of))
            return te.sum(value, axis=[outer, *taps, c])
        value = multiply(padded(n, c, *at), w.tensor(panel, *taps, *of))
        return te.sum(value, axis=[*taps, c])

    return te.compute(node.result.shape, element, name="conv")


def _depthwise(node: Node) -> Any:
    x, w = node.operand(0), node.operand(1)
    kernel, sizes, out = w.shape[1:-1], x.shape[2:-1], node.result.shape[2:-1]
    window = Window.of(node, kernel, sizes, out)
    padded = window.padded(x.tensor, literal(0, x.dtype), sizes, out, trailing=1)
    taps = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]

    def element(n: Any, f: Any, *index: Any) -> Any:
        *place, lane = index
        value = padded(n, f, *window.place(place, taps), lane) * w.tensor(f, *taps, lane)
        return te.sum(value, axis=taps)

    return _with_bias(node, te.compute(node.result.shape, element, name="conv"))


def _depth_to_space(node: Node) -> Any:
    x, size = node.operand(0), int(node.attribute("blocksize"))
    blocks = node.result.shape[1]

    def element(n: Any, f: Any, y: Any, x_: Any, lane: Any) -> Any:
        phase = tirx.indexmod(y, size) * size + tirx.indexmod(x_, size)
        place = tirx.indexdiv(y, size), tirx.indexdiv(x_, size)
        return x.tensor(n, phase * blocks + f, *place, lane)

    return compute(node, element)


def _matmul(node: Node) -> Any:
    """``[..., M, K] x [N/P, K, P]`` and a bias ``[N/P, P]`` → ``[..., M, N/P, P]``.

    Of the left operand, columns are used from number ``first`` on.
    """
    x, w, bias = node.operand(0), node.operand(1), node.optional(2)
    first = int(node.attribute("first"))
    k = te.reduce_axis((0, w.shape[1]), name="k")

    def element(*index: Any) -> Any:
        *rows, panel, column = index
        return te.sum(x.tensor(*rows, first + k) * w.tensor(panel, k, column), axis=k)

    result = te.compute(node.result.shape, element, name="matmul")
    if bias is None:
        return result
    return te.compute(
        node.result.shape, lambda *i: result(*i) + bias.tensor(*i[-2:]), name="matmul_bias"
    )


def _with_bias(node: Node, result: Any) -> Any:
    """Add the bias, and make channels that do not exist 0, whatever the input holds."""
    bias, features = node.optional(2), int(node.attribute("features"))
    block = node.result.shape[-1]
    if bias is None and features % block == 0:
        return result

    def element(n: Any, f: Any, *i: Any) -> Any:
        channel = f * block + i[-1]
        value = result(n, f, *i)
        if bias is not None:
            value = value + bias.tensor(channel)
        if features % block == 0:
            return value
        return tirx.Select(channel < features, value, literal(0, value))

    return te.compute(node.result.shape, element, name="conv_bias")


LOWERINGS: Final[dict[str, Lowering]] = {
    f"mlopsc.blocked::{name}": lowering
    for name, lowering in {
        "Block": _block,
        "Unblock": _unblock,
        "Conv": _conv,
        "DepthToSpace": _depth_to_space,
        "DepthwiseConv": _depthwise,
        "MatMul": _matmul,
        "WinogradConv": lambda node: _with_bias(node, winograd(node)),
        **pooling_lowerings(trailing=1),
    }.items()
}
