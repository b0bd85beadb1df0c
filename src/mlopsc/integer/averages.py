"""Matchers of averages and sums: over windows, over all places of a channel, over axes.

Stage *integer*. Takes the region that ends in the operator's result; gives what writes the integer
operator. It raises ``Unfit`` where integers would not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mlopsc.integer.arithmetic import INT32_MAX, Unfit, factors
from mlopsc.integer.match_parts import attribute, magnitude, output_range, window_of
from mlopsc.integer.quantisation import Array, array_of
from mlopsc.integer.recipe import Recipe
from mlopsc.integer.recognise import Activation, Emit, Region


def average_pool(region: Region, node: ir.Node) -> Emit:
    """Match an average over windows: elements that count, and a factor for each count."""
    x = region.activation(node.inputs[0])
    if attribute(node, "ceil_mode", 0):
        raise Unfit("windows reach beyond the padding")
    sizes, out = x.shape[2:], region.shape[2:]
    window = window_of(node, attribute(node, "kernel_shape"), sizes, out)
    if set(out) == {1} and window["kernel_shape"] == list(sizes) and not any(window["pads"]):
        return _mean(region, x, tuple(range(2, len(x.shape))), divide=True)
    padded = bool(attribute(node, "count_include_pad", 0))
    counts = np.ones((), np.int64)
    for axis in range(len(sizes)):
        counts = np.multiply.outer(counts, _counts(window, axis, sizes[axis], out[axis], padded))
    if counts.min() < 1:
        raise Unfit("a window holds no element")
    if 2 * int(counts.max()) * magnitude(x.quantisation) > INT32_MAX:
        raise Unfit("sums have too many bits")
    ratio = x.quantisation.scale / region.quantisation.scale
    made = factors(ratio / counts.astype(np.float64).reshape(-1))
    multipliers = made.multipliers.reshape(counts.shape)
    same = bool((multipliers == multipliers.flat[0]).all())
    attributes = {
        **window, "zero_in": x.quantisation.zero, "left_shift": made.left_shift,
        **output_range(region),
    }  # fmt: skip

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        shape = (1,) * counts.ndim if same else counts.shape
        table = np.ascontiguousarray(np.resize(multipliers, shape))
        operands = [inputs[0], recipe.constant(table, "multipliers")]
        return recipe.node("AveragePool", operands, region.quantisation.dtype, region.shape,
                           attributes)  # fmt: skip

    return emit


def _counts(window: dict[str, Any], axis: int, size: int, out: int, padded: bool) -> Array:
    rank = len(window["strides"])
    before, after = window["pads"][axis], window["pads"][axis + rank]
    low, high = (-before, size + after) if padded else (0, size)
    return np.array(
        [
            sum(
                low <= i * window["strides"][axis] - before + k * window["dilations"][axis] < high
                for k in range(window["kernel_shape"][axis])
            )
            for i in range(out)
        ],
        np.int64,
    )


def global_average_pool(region: Region, node: ir.Node) -> Emit:
    """Match an average over all places of a channel."""
    x = region.activation(node.inputs[0])
    return _mean(region, x, tuple(range(2, len(x.shape))), divide=True)


def reduce_mean(region: Region, node: ir.Node) -> Emit:
    """Match a mean over constant axes."""
    return _reduce(region, node, divide=True)


def reduce_sum(region: Region, node: ir.Node) -> Emit:
    """Match a sum over constant axes."""
    return _reduce(region, node, divide=False)


def _reduce(region: Region, node: ir.Node, *, divide: bool) -> Emit:
    x = region.activation(node.inputs[0])
    axes = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = len(x.shape)
    if axes is None or axes.size == 0:
        if attribute(node, "noop_with_empty_axes", 0):
            raise Unfit("it reduces nothing")
        axes = np.arange(rank)
    return _mean(region, x, tuple(sorted({int(a) % rank for a in axes})), divide=divide)


def _mean(region: Region, x: Activation, axes: tuple[int, ...], *, divide: bool) -> Emit:
    count = math.prod(x.shape[a] for a in axes)
    if 2 * count * magnitude(x.quantisation) > INT32_MAX:
        raise Unfit("sums have too many bits")
    ratio = x.quantisation.scale / region.quantisation.scale
    made = factors(np.array(ratio / count if divide else ratio))
    attributes = {
        "axes": list(axes), "zero_in": x.quantisation.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **output_range(region),
    }  # fmt: skip

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        return recipe.node("Mean", [inputs[0]], region.quantisation.dtype, region.shape, attributes)

    return emit
