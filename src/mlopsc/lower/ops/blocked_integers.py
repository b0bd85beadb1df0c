"""Operators on 8-bit integers in the forms that ``lower.integer_layout`` makes.

Elements are int8, or uint8 that are 128 larger: the form's *offset*, which the constants of every
operator know already. Channels are blocked, ``[N, C/b, ..., b]``; what is multiplied is read as
words of four channels, ``[N, C/b, ..., b/4]``. Packed weights are words too:
``[F/(pB), C/b, k..., b/4, p, B]`` for convolutions, ``[C/B, k..., g, B]`` depthwise, where a word
is one of ``g`` times four neighbouring taps of the last axis, and ``[N/P, K/4, P]`` for products.

Results are ``scale(sum, multiplier, constant)`` (``mlopsc.words``) within limits. Source of what is
computed: docs/integer-semantics.md.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.arithmetic import add, multiply
from mlopsc.lower.ops.blocked import window_sum
from mlopsc.lower.ops.node import Lowering, Node, compute
from mlopsc.lower.ops.pooling import pooling_lowerings
from mlopsc.lower.ops.window import Window
from mlopsc.lower.ops.words import dot, pack, scale
from mlopsc.words import WORD_BYTES

_LEAST, _MOST = -(2**31), 2**31 - 1


def word_of(element: int) -> int:
    """Return the word, as int32, of four elements of this value."""
    word = (element & 0xFF) * 0x01010101
    return word - (1 << 32) if word >> 31 else word


def _words(node: Node) -> Any:
    """Plain int8 ``[N, C, ...]`` (``[N, ..., C]`` if ``last``) → words of channels, blocked."""
    x, last = node.operand(0), bool(node.attribute("last"))
    block = node.result.shape[-1] * WORD_BYTES
    channels = x.shape[-1 if last else 1]
    mask = word_of(node.attribute("offset"))
    zero = tirx.const(0, "int8")

    def element(n: Any, c: Any, *index: Any) -> Any:
        *place, word = index

        def load(k: int) -> Any:
            if channels <= WORD_BYTES:  # the only word of a pixel
                return at(n, k, place) if k < channels else zero
            channel = c * block + word * WORD_BYTES + k
            value = at(n, channel, place)
            whole = channels % block == 0
            return value if whole else tirx.if_then_else(channel < channels, value, zero)

        return tirx.bitwise_xor(pack(*map(load, range(WORD_BYTES))), tirx.const(mask, "int32"))

    def at(n: Any, channel: Any, place: list[Any]) -> Any:
        return x.tensor(n, *place, channel) if last else x.tensor(n, channel, *place)

    return compute(node, element)


def _rows(node: Node) -> Any:
    """Plain int8 → the same elements, in the same order, with the offset."""
    x, offset = node.operand(0), int(node.attribute("offset"))
    return compute(
        node, lambda *i: (x.tensor(*i).astype("int32") + offset).astype(node.result.dtype)
    )


def _plain(node: Node) -> Any:
    """Blocked or panelled elements → plain int8 ``[N, C, ...]``, ``C`` from block and lane."""
    x, axis = node.operand(0), int(node.attribute("axis"))
    block = x.shape[-1]

    def element(*index: Any) -> Any:
        if axis < 0:
            return _shifted(node, x.tensor(*index))
        channel = index[axis]
        own = list(index)
        own[axis] = tirx.indexdiv(channel, block)
        return _shifted(node, x.tensor(*own, tirx.indexmod(channel, block)))

    return compute(node, element)


def _shifted(node: Node, value: Any) -> Any:
    """Return an element without the offset of its form."""
    offset = int(node.attribute("offset"))
    return (value.astype("int32") - offset).astype("int8") if offset else value


def _conv(node: Node) -> Any:
    kind = node.attribute("dot")
    border = tirx.const(word_of(node.attribute("border")), "int32")
    total = window_sum(node, border, lambda x, w: dot(kind, x, w))
    return _scaled(node, total, 2)


def _depthwise(node: Node) -> Any:
    """Four neighbouring elements of a row at a time; weights of taps that do not exist are 0."""
    x, w = node.operand(0), node.operand(1)
    kind = node.attribute("dot")
    *outer, groups = w.shape[1:-1]
    kernel, sizes, out = [*outer, groups * WORD_BYTES], x.shape[2:-1], node.result.shape[2:-1]
    window = Window.of(node, kernel, sizes, out)
    border = tirx.const(int(node.attribute("border")), x.dtype)
    padded = window.padded(x.tensor, border, sizes, out, trailing=1)
    taps = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate([*outer, groups])]

    def element(n: Any, f: Any, *index: Any) -> Any:
        *place, lane = index
        elements = [
            padded(n, f, *window.place(place, [*taps[:-1], taps[-1] * WORD_BYTES + k]), lane)
            for k in range(WORD_BYTES)
        ]
        return te.sum(dot(kind, pack(*elements), w.tensor(f, *taps, lane)), axis=taps)

    return _scaled(node, te.compute(node.result.shape, element, name="conv"), 2)


def _depthwise_products(node: Node) -> Any:
    """The same by one product after the other, with weights ``[C/B, k..., B]`` of 32 bits."""
    x, w = node.operand(0), node.operand(1)
    kernel, sizes, out = w.shape[1:-1], x.shape[2:-1], node.result.shape[2:-1]
    window = Window.of(node, kernel, sizes, out)
    border = tirx.const(int(node.attribute("border")), x.dtype)
    padded = window.padded(x.tensor, border, sizes, out, trailing=1)
    taps = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]

    def element(n: Any, f: Any, *index: Any) -> Any:
        *place, lane = index
        value = padded(n, f, *window.place(place, taps), lane).astype("int32")
        return te.sum(value * w.tensor(f, *taps, lane).astype("int32"), axis=taps)

    return _scaled(node, te.compute(node.result.shape, element, name="conv"), 2)


def _matmul(node: Node) -> Any:
    """Words ``[..., M, K/4] x [N/P, K/4, P]`` → elements ``[..., M, N/P, P]``."""
    x, w = node.operand(0), node.operand(1)
    kind = node.attribute("dot")
    k = te.reduce_axis((0, w.shape[1]), name="k")

    def element(*index: Any) -> Any:
        *rows, panel, column = index
        return te.sum(dot(kind, x.tensor(*rows, k), w.tensor(panel, k, column)), axis=k)

    total = te.compute(node.result.shape, element, name="matmul")
    return _scaled(node, total, 2, lambda index: index[-2:])


def _scaled(node: Node, total: Any, first: int, place: Any = None) -> Any:
    """Requantise sums; multiplier, constant and perhaps a bias are inputs from ``first`` on."""
    multiplier, constant = node.operand(first), node.operand(first + 1)
    bias, left = node.optional(first + 2), int(node.attribute("left_shift"))
    place = place or (lambda index: (index[1], index[-1]))

    def element(*index: Any) -> Any:
        at = place(index)
        value = total(*index)
        if bias is not None:
            value = _saturated(value + bias.tensor(*at), left)
        return _limited(node, scale(value, multiplier.tensor(*at), constant.tensor(*at)))

    return te.compute(node.result.shape, element, name="scaled")


def _saturated(value: Any, left: int) -> Any:
    """Return ``value * 2 ** left``, or the end of int32 that is nearest to it."""
    if not left:
        return value
    most, least = _MOST >> left, _LEAST >> left
    kept = tirx.max(tirx.min(value, most), least)
    shifted = tirx.shift_left(kept, tirx.const(left, "int32"))
    low = tirx.const((1 << left) - 1, "int32")
    return tirx.Select(value > most, tirx.bitwise_or(shifted, low), shifted)


def _limited(node: Node, value: Any) -> Any:
    low, high = (tirx.const(int(node.attribute(name)), "int32") for name in ("low", "high"))
    return tirx.max(tirx.min(value, high), low).astype(node.result.dtype)


def _add(node: Node) -> Any:
    a, b = node.operand(0), node.operand(1)
    first, second, constant, shift = (
        tirx.const(int(node.attribute(name)), "int32")
        for name in ("multiplier_a", "multiplier_b", "constant", "shift")
    )

    def element(*index: Any) -> Any:
        x, y = (o.tensor(*index).astype("int32") for o in (a, b))
        # Of elements with an offset, sums may wrap on the way.
        total = add(add(multiply(x, first), multiply(y, second)), constant)
        return _limited(node, tirx.shift_right(total, shift) + int(node.attribute("offset")))

    return compute(node, element)


def _mean(node: Node) -> Any:
    """The mean over the spatial axes, of which the result keeps those of size 1."""
    x = node.operand(0)
    inner = [te.reduce_axis((0, s), name=f"k{i}") for i, s in enumerate(x.shape[2:-1])]
    ones = len(inner)

    def element(n: Any, c: Any, *index: Any) -> Any:
        return te.sum(x.tensor(n, c, *inner, *index[ones:]).astype("int32"), axis=inner)

    total = te.compute(node.result.shape, element, name="global_sum")
    return _scaled(node, total, 1, lambda index: (0, 0))


def _table(node: Node) -> Any:
    x, table = node.operand(0), node.operand(1)
    first = int(node.attribute("first"))
    return compute(node, lambda *index: table.tensor(x.tensor(*index).astype("int32") + first))


LOWERINGS: Final[dict[str, Lowering]] = {
    f"mlopsc.bytes::{name}": lowering
    for name, lowering in {
        "Add": _add,
        "Conv": _conv,
        "DepthwiseConv": _depthwise,
        "DepthwiseProducts": _depthwise_products,
        "MatMul": _matmul,
        "MaxPool": pooling_lowerings(trailing=1)["MaxPool"],
        "Mean": _mean,
        "Plain": _plain,
        "Rows": _rows,
        "Table": _table,
        "Words": _words,
    }.items()
}
