"""Convolutions with any number of spatial axes. Source: the ONNX operator schemas."""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.node import Lowering, Node, literal
from mlopsc.lower.ops.window import Window


def _conv(node: Node) -> Any:
    x, w, bias = node.operand(0), node.operand(1), node.optional(2)
    groups = int(node.attribute("group", 1))
    features, depth, *kernel = w.shape
    out = node.result.shape[2:]
    window = Window.of(node, kernel, x.shape[2:], out)
    zero = literal(0, x.dtype)
    padded = window.padded(x.tensor, zero, x.shape[2:], out)
    c = te.reduce_axis((0, depth), name="c")
    inner = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]
    per_group = features // groups

    def element(n: Any, f: Any, *index: Any) -> Any:
        channel = c if groups == 1 else tirx.indexdiv(f, per_group) * depth + c
        value = padded(n, channel, *window.place(index, inner)) * w.tensor(f, c, *inner)
        return te.sum(value, axis=[c, *inner])

    result = te.compute(node.result.shape, element, name="conv")
    return result if bias is None else _add_bias(node, result, bias.tensor)


def _add_bias(node: Node, result: Any, bias: Any) -> Any:
    return te.compute(
        node.result.shape, lambda n, f, *i: result(n, f, *i) + bias(f), name="conv_bias"
    )


def _conv_transpose(node: Node) -> Any:
    """The gradient of a convolution: each output gathers the inputs whose window covers it.

    The input is spread out with zeros between its elements and convolved with the flipped kernel.
    """
    x, w, bias = node.operand(0), node.operand(1), node.optional(2)
    groups = int(node.attribute("group", 1))
    depth, per_group, *kernel = w.shape
    rank = len(kernel)
    strides = list(node.attribute("strides") or [1] * rank)
    dilations = list(node.attribute("dilations") or [1] * rank)
    extra = list(node.attribute("output_padding") or [0] * rank)
    sizes, out = x.shape[2:], node.result.shape[2:]
    before = _transposed_pads(node, sizes, out, kernel, strides, dilations, extra)
    zero = literal(0, x.dtype)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]

    def spread(n: Any, c: Any, *index: Any) -> Any:
        own, inside = [], []
        for i, size, s, r, b in zip(index, sizes, strides, reach, before, strict=True):
            at = i - (r - b)
            own.append(tirx.floordiv(at, s) if s != 1 else at)
            inside += [at >= 0, at <= (size - 1) * s]
            if s != 1:
                inside.append(tirx.floormod(at, s) == 0)
        return tirx.if_then_else(tirx.all(*inside), x.tensor(n, c, *own), zero)

    shape = [x.shape[0], x.shape[1], *(o + r for o, r in zip(out, reach, strict=True))]
    dilated = te.compute(shape, spread, name="spread")
    in_group = depth // groups
    c = te.reduce_axis((0, in_group), name="c")
    inner = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]

    def element(n: Any, f: Any, *index: Any) -> Any:
        channel, feature = c, f
        if groups != 1:
            channel = tirx.indexdiv(f, per_group) * in_group + c
            feature = tirx.indexmod(f, per_group)
        at = [i + r * d for i, r, d in zip(index, inner, dilations, strict=True)]
        flipped = [k - 1 - r for k, r in zip(kernel, inner, strict=True)]
        return te.sum(
            dilated(n, channel, *at) * w.tensor(channel, feature, *flipped), axis=[c, *inner]
        )

    result = te.compute(node.result.shape, element, name="conv_transpose")
    return result if bias is None else _add_bias(node, result, bias.tensor)


def _transposed_pads(
    node: Node,
    sizes: Any,
    out: Any,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    extra: list[int],
) -> list[int]:
    """Return the padding in front of each axis."""
    rank = len(kernel)
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID" or (mode == "NOTSET" and node.attribute("output_shape") is None):
        return (
            list(node.attribute("pads") or [0] * (2 * rank))[:rank]
            if mode == "NOTSET"
            else ([0] * rank)
        )
    totals = [
        s * (n - 1) + e + (k - 1) * d + 1 - o
        for s, n, e, k, d, o in zip(strides, sizes, extra, kernel, dilations, out, strict=True)
    ]
    if mode == "SAME_UPPER":
        return [t // 2 for t in totals]
    return [t - t // 2 for t in totals]


LOWERINGS: Final[dict[str, Lowering]] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
