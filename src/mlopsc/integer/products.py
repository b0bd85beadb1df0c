"""Matchers of sums of products: convolutions, matrix products, and products of single elements.

Stage *integer*. Takes the region that ends in the operator's result; gives what writes the integer
operator. It raises ``Unfit`` where integers would not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.arithmetic import INT32_MAX, Unfit, factors
from mlopsc.integer.match_parts import WIDE_MAX, attribute, magnitude, output_range, window_of
from mlopsc.integer.quantisation import Array, Constant, array_of
from mlopsc.integer.recipe import Recipe, shape_of
from mlopsc.integer.recognise import Activation, Emit, Region

_MOST_LOST: Final = 0.25  # steps of the result
_SAME: Final = 1e-6  # relative; scales of a bias are products that were rounded to float32


def conv(region: Region, node: ir.Node) -> Emit:
    """Match a convolution with constant weights."""
    return _conv(region, node, node.inputs[2] if len(node.inputs) > 2 else None)


def _conv(region: Region, node: ir.Node, bias: ir.Value | None) -> Emit:
    x, weights = region.activation(node.inputs[0]), region.constant(node.inputs[1])
    if weights is None or weights.axis not in (None, 0):
        raise Unfit("the weights are not constant, or have scales along another axis")
    features, rank = weights.integers.shape[0], weights.integers.ndim - 2
    scales = np.broadcast_to(weights.scales, (features,)) * x.quantisation.scale
    steps = _bias(region, bias, scales, features)
    axes = tuple(range(1, rank + 2))
    weights, steps = _coarser(region, x, weights, steps, axes)
    total, multipliers, attributes = _linear(region, x, weights, steps, axes)
    attributes["zero_in"] = x.quantisation.zero
    window = window_of(node, weights.integers.shape[2:], x.shape[2:], region.shape[2:])
    window["group"] = int(attribute(node, "group", 1))
    arrays = (weights.integers, total, multipliers)
    return _weighted(region, "Conv", arrays, {**window, **attributes})


def matmul(region: Region, node: ir.Node) -> Emit:
    """Match a product: with constant weights, or of two activations."""
    if region.constant(node.inputs[1]) is None:
        return _product(region, node)
    return _dense(region, node, None, transposed=False)


def gemm(region: Region, node: ir.Node) -> Emit:
    """Match ``x w + b``."""
    plain = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) == (1.0, 1.0)
    if not plain or attribute(node, "transA", 0):
        raise Unfit("Gemm scales or transposes its input")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = None if bias is None else shape_of(bias)
    if shape and math.prod(shape) != 1 and shape[-1] != region.shape[-1]:
        raise Unfit("a bias is one number a row")
    return _dense(region, node, bias, transposed=bool(attribute(node, "transB", 0)))


def _dense(region: Region, node: ir.Node, bias: ir.Value | None, *, transposed: bool) -> Emit:
    x, weights = region.activation(node.inputs[0]), region.constant(node.inputs[1])
    if weights is None or weights.integers.ndim != 2 or len(x.shape) < 2:
        raise Unfit("the weights are no constant matrix")
    if transposed:
        axis = None if weights.axis is None else 1 - weights.axis
        weights = Constant(weights.integers.T, weights.scales, axis)
    if weights.axis not in (None, 1):
        raise Unfit("the weights have scales along another axis")
    columns = weights.integers.shape[1]
    scales = np.broadcast_to(weights.scales, (columns,)) * x.quantisation.scale
    steps = _bias(region, bias, scales, columns)
    weights, steps = _coarser(region, x, weights, steps, (0,))
    total, multipliers, attributes = _linear(region, x, weights, steps, (0,))
    return _weighted(region, "MatMul", (weights.integers, total, multipliers), attributes)


def _weighted(
    region: Region, op: str, arrays: tuple[Array, Array, Array], attributes: dict[str, Any]
) -> Emit:
    """Return what writes an operator with weights, bias and multipliers, in this order."""
    integers, bias, multipliers = arrays
    weights = np.ascontiguousarray(_narrow(integers))

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [
            inputs[0],
            recipe.constant(weights, "weights"),
            recipe.constant(bias, "bias"),
            recipe.constant(multipliers, "multipliers"),
        ]
        return recipe.node(op, operands, region.quantisation.dtype, region.shape, dict(attributes))

    return emit


def biased(region: Region, value: ir.Value | None, bias: ir.Value | None) -> Emit:
    """Match a linear operator, ``value``, behind which ``bias`` is added."""
    inner = region.main = region.enter(value)
    shape = None if bias is None else shape_of(bias)
    axis = -1 if inner.op_type == "MatMul" else 1 - len(region.shape)
    channels = region.shape[axis]
    if shape is None or (shape and math.prod(shape) not in (1, channels)):
        raise Unfit("what is added is not one number a channel")
    # One element along the channels' axis, counted from the right.
    if math.prod(shape) != 1 and (len(shape) < -axis or shape[axis] != channels):
        raise Unfit("what is added lies along another axis")
    if inner.op_type == "MatMul":
        return _dense(region, inner, bias, transposed=False)
    if len(inner.inputs) > 2 and inner.inputs[2] is not None:
        raise Unfit("a convolution has two biases")
    return _conv(region, inner, bias)


def _bias(region: Region, value: ir.Value | None, scales: Array, count: int) -> Array:
    """Return a bias in steps of ``scales``, int64 [count].

    Raises:
        Unfit: It is no constant with one element a channel.
    """
    if value is None:
        return np.zeros(count, np.int64)
    found = region.constant(value)
    if found is not None and found.integers.size == count and found.integers.ndim == 1:
        given = np.broadcast_to(found.scales, (count,))
        if np.allclose(given, scales, rtol=_SAME, atol=0.0):  # written as a float32
            return found.integers.astype(np.int64)
    numbers = found.values if found is not None else array_of(value)
    if numbers is None or numbers.size not in (1, count):
        raise Unfit("a bias is not constant, or not one number a channel")
    steps = np.broadcast_to(numbers.astype(np.float64).reshape(-1), (count,)) / scales
    if not np.isfinite(steps).all() or np.abs(steps).max() > WIDE_MAX:
        raise Unfit("a bias has too many bits")
    return np.rint(steps).astype(np.int64)


def _coarser(
    region: Region, x: Activation, weights: Constant, bias: Array, axes: tuple[int, ...]
) -> tuple[Constant, Array]:
    """Return weights and bias whose sums fit 32 bits, coarser in channels that are nearly a bias.

    The steps of a channel whose weights are tiny are so small that its bias takes all 32 bits. Such
    a channel gets steps that are a power of two larger, if what its weights lose cannot move the
    result by a quarter of a step.
    """
    reach = np.abs(weights.integers.astype(np.int64)).sum(axes) * magnitude(x.quantisation)
    bound = np.abs(bias - x.quantisation.zero * weights.integers.sum(axes, dtype=np.int64)) + reach
    if x.quantisation.bits == 16 or bound.max() <= INT32_MAX:
        return weights, bias
    shifts = np.where(bound > INT32_MAX, np.ceil(np.log2(bound / float(INT32_MAX >> 1))), 0)
    shape = [1 if axis in axes else -1 for axis in range(weights.integers.ndim)]
    factor = 2.0**shifts
    coarse = np.rint(weights.integers / factor.reshape(shape))
    lost = np.abs(weights.integers - coarse * factor.reshape(shape)).sum(axes)
    scales = np.broadcast_to(weights.scales, factor.shape)
    steps = lost * magnitude(x.quantisation) * 2 * x.quantisation.scale * scales
    if (steps / region.quantisation.scale).max() > _MOST_LOST:
        raise Unfit("sums have too many bits")
    axis = shape.index(-1)
    made = Constant(coarse.astype(np.int32), scales * factor, axis)
    return made, np.rint(bias / factor).astype(np.int64)


def _linear(
    region: Region, x: Activation, weights: Constant, bias: Array, axes: tuple[int, ...]
) -> tuple[Array, Array, dict[str, int]]:
    """Return bias, multipliers and attributes of sums of products over ``axes``."""
    total = bias - x.quantisation.zero * weights.integers.sum(axes, dtype=np.int64)
    reach = np.abs(weights.integers.astype(np.int64)).sum(axes) * magnitude(x.quantisation)
    bound = int((np.abs(total) + reach).max())
    wide = bound > INT32_MAX
    if bound > (WIDE_MAX if x.quantisation.bits == 16 else INT32_MAX):
        raise Unfit("sums have too many bits")
    scales = weights.scales * x.quantisation.scale / region.quantisation.scale
    made = factors(np.broadcast_to(scales, total.shape), bound)
    attributes = {"left_shift": made.left_shift, **output_range(region)}
    if wide:
        attributes["wide"] = 1
    return total.astype(np.int64 if wide else np.int32), made.multipliers, attributes


def _narrow(integers: Array) -> Array:
    """Return constant integers in the narrowest type that holds them."""
    for dtype in (np.int8, np.int16):
        info = np.iinfo(dtype)
        if integers.min() >= info.min and integers.max() <= info.max:
            return integers.astype(dtype)
    raise Unfit("weights have more than 16 bits")


def _product(region: Region, node: ir.Node) -> Emit:
    a, b = (region.activation(value) for value in node.inputs[:2])
    reach = 4 * magnitude(a.quantisation) * magnitude(b.quantisation) * a.shape[-1]
    return _scaled(region, "Product", (a, b), reach)


def multiply(region: Region, node: ir.Node) -> Emit:
    """Match an elementwise product of two activations."""
    a, b = region.pair(node)
    reach = 4 * magnitude(a.quantisation) * magnitude(b.quantisation)
    return _scaled(region, "Mul", (a, b), reach)


def _scaled(region: Region, op: str, operands: tuple[Activation, Activation], reach: int) -> Emit:
    """Return what writes a product of two activations, summed up or not."""
    a, b = (operand.quantisation for operand in operands)
    if reach > (WIDE_MAX if a.bits == 16 else INT32_MAX):
        raise Unfit("sums have too many bits")
    made = factors(np.array(a.scale * b.scale / region.quantisation.scale), reach)
    attributes = {
        "zero_a": a.zero, "zero_b": b.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **output_range(region),
    }  # fmt: skip
    if reach > INT32_MAX:
        attributes["wide"] = 1

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        return recipe.node(
            op, list(inputs), region.quantisation.dtype, region.shape, dict(attributes)
        )

    return emit
