"""How each operator is taken apart: parameters of its integer form.

A matcher takes the region that ends in the operator's result; gives what writes the integer
operators. It raises ``Unfit`` where integers would not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.arithmetic import INT32_MAX, Unfit, factors, weighted_sum
from mlopsc.integer.quantisation import Array, Constant, Quantisation, array_of
from mlopsc.integer.recipe import DOMAIN, Recipe, shape_of
from mlopsc.integer.recognise import Activation, Emit, Matcher, Region
from mlopsc.integer.resize import moves, resize
from mlopsc.integer.tables import function_table, interpolation_table, softmax_table

# What compares elements; ONNX has these of 8 bits.
_CHOOSING: Final = frozenset({"ReduceMax", "ReduceMin"})
_SAME: Final = 1e-6
_WIDE_MAX: Final = (1 << 46) - 1  # of sums of 16-bit activations


def _attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    found = node.attributes.get(name)
    if found is None or found.value is None:
        return default
    return list(found.value) if isinstance(found.value, tuple) else found.value


def _range(region: Region) -> dict[str, int]:
    return {"zero_out": region.quantisation.zero, "low": region.low, "high": region.high}


def _narrow(integers: Array) -> Array:
    """Return constant integers in the narrowest type that holds them."""
    for dtype in (np.int8, np.int16):
        info = np.iinfo(dtype)
        if integers.min() >= info.min and integers.max() <= info.max:
            return integers.astype(dtype)
    raise Unfit("weights have more than 16 bits")


def _magnitude(quantisation: Quantisation) -> int:
    low, high = quantisation.range
    return max(-low, high)


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
    if not np.isfinite(steps).all() or np.abs(steps).max() > INT32_MAX:
        raise Unfit("a bias has more than 32 bits")
    return np.rint(steps).astype(np.int64)


def _linear(
    region: Region, x: Activation, weights: Constant, bias: Array, axes: tuple[int, ...]
) -> tuple[Array, Array, dict[str, int]]:
    """Return bias, multipliers and attributes of sums of products over ``axes``."""
    total = bias - x.quantisation.zero * weights.integers.sum(axes, dtype=np.int64)
    reach = np.abs(weights.integers.astype(np.int64)).sum(axes) * _magnitude(x.quantisation)
    bound = int((np.abs(total) + reach).max())
    wide = bound > INT32_MAX
    if bound > (_WIDE_MAX if x.quantisation.bits == 16 else INT32_MAX):
        raise Unfit("sums have too many bits")
    scales = weights.scales * x.quantisation.scale / region.quantisation.scale
    made = factors(np.broadcast_to(scales, total.shape), bound)
    attributes = {"left_shift": made.left_shift, **_range(region)}
    if wide:
        attributes["wide"] = 1
    return total.astype(np.int64 if wide else np.int32), made.multipliers, attributes


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
    total, multipliers, attributes = _linear(region, x, weights, steps, axes)
    attributes["zero_in"] = x.quantisation.zero
    window = window_of(node, weights.integers.shape[2:], x.shape[2:], region.shape[2:])
    window["group"] = int(_attribute(node, "group", 1))
    w = _narrow(weights.integers)

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [
            inputs[0],
            recipe.constant(w, "weights"),
            recipe.constant(total, "bias"),
            recipe.constant(multipliers, "multipliers"),
        ]
        dtype = region.quantisation.dtype
        return recipe.node("Conv", operands, dtype, region.shape, {**window, **attributes})

    return emit


def window_of(
    node: ir.Node, kernel: Sequence[int], sizes: Sequence[int], out: Sequence[int]
) -> dict[str, Any]:
    """Return kernel, strides, dilations and explicit pads of a convolution or pooling."""
    rank = len(kernel)
    strides = [int(v) for v in _attribute(node, "strides") or [1] * rank]
    dilations = [int(v) for v in _attribute(node, "dilations") or [1] * rank]
    mode = _attribute(node, "auto_pad", "NOTSET")
    pads = [int(v) for v in _attribute(node, "pads") or [0] * (2 * rank)]
    if mode == "VALID":
        pads = [0] * (2 * rank)
    elif mode != "NOTSET":
        total = [
            max(0, (o - 1) * s + (k - 1) * d + 1 - n)
            for o, s, k, d, n in zip(out, strides, kernel, dilations, sizes, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    return {
        "kernel_shape": [int(k) for k in kernel],
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
    }


def matmul(region: Region, node: ir.Node) -> Emit:
    """Match a product: with constant weights, or of two activations."""
    if region.constant(node.inputs[1]) is None:
        return _product(region, node)
    return _dense(region, node, None, transposed=False)


def gemm(region: Region, node: ir.Node) -> Emit:
    """Match ``x w + b``."""
    plain = (_attribute(node, "alpha", 1.0), _attribute(node, "beta", 1.0)) == (1.0, 1.0)
    if not plain or _attribute(node, "transA", 0):
        raise Unfit("Gemm scales or transposes its input")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = None if bias is None else shape_of(bias)
    if shape and math.prod(shape) != 1 and shape[-1] != region.shape[-1]:
        raise Unfit("a bias is one number a row")
    return _dense(region, node, bias, transposed=bool(_attribute(node, "transB", 0)))


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
    total, multipliers, attributes = _linear(region, x, weights, steps, (0,))
    w = np.ascontiguousarray(_narrow(weights.integers))

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [
            inputs[0],
            recipe.constant(w, "weights"),
            recipe.constant(total, "bias"),
            recipe.constant(multipliers, "multipliers"),
        ]
        return recipe.node(
            "MatMul", operands, region.quantisation.dtype, region.shape, dict(attributes)
        )

    return emit


def _product(region: Region, node: ir.Node) -> Emit:
    a, b = (region.activation(value) for value in node.inputs[:2])
    reach = 4 * _magnitude(a.quantisation) * _magnitude(b.quantisation) * a.shape[-1]
    return _scaled(region, "Product", (a, b), reach)


def _scaled(region: Region, op: str, operands: tuple[Activation, Activation], reach: int) -> Emit:
    """Return what writes a product of two activations, summed up or not."""
    a, b = (operand.quantisation for operand in operands)
    if reach > (_WIDE_MAX if a.bits == 16 else INT32_MAX):
        raise Unfit("sums have too many bits")
    made = factors(np.array(a.scale * b.scale / region.quantisation.scale), reach)
    attributes = {
        "zero_a": a.zero, "zero_b": b.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **_range(region),
    }  # fmt: skip
    if reach > INT32_MAX:
        attributes["wide"] = 1

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        return recipe.node(
            op, list(inputs), region.quantisation.dtype, region.shape, dict(attributes)
        )

    return emit


def multiply(region: Region, node: ir.Node) -> Emit:
    """Match an elementwise product of two activations."""
    a, b = region.pair(node)
    reach = 4 * _magnitude(a.quantisation) * _magnitude(b.quantisation)
    return _scaled(region, "Mul", (a, b), reach)


def add(region: Region, node: ir.Node) -> Emit:
    """Match a sum: of two activations, or a linear operator and its bias."""
    for index in (0, 1):
        bias, other = node.inputs[1 - index], node.inputs[index]
        inner = None if other is None else other.producer()
        if inner is not None and not inner.domain and inner.op_type in ("MatMul", "Conv"):
            return _biased(region, other, bias)
    return _sum(region, node, 1.0)


def _biased(region: Region, value: ir.Value | None, bias: ir.Value | None) -> Emit:
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


def subtract(region: Region, node: ir.Node) -> Emit:
    """Match a difference of two activations."""
    return _sum(region, node, -1.0)


def _sum(region: Region, node: ir.Node, sign: float) -> Emit:
    a, b = region.pair(node)
    out = region.quantisation
    made = weighted_sum(
        (a.quantisation.scale / out.scale, sign * b.quantisation.scale / out.scale),
        (a.quantisation.zero, b.quantisation.zero),
        out.zero,
        (a.quantisation.range, b.quantisation.range),
        wide=out.bits == 16,
    )
    attributes = {
        "multiplier_a": made.multipliers[0], "multiplier_b": made.multipliers[1],
        "constant": made.constant, "shift": made.shift, "low": region.low, "high": region.high,
    }  # fmt: skip
    if out.bits == 16:
        attributes["wide"] = 1

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        return recipe.node("Add", list(inputs), out.dtype, region.shape, dict(attributes))

    return emit


def average_pool(region: Region, node: ir.Node) -> Emit:
    """Match an average over windows: elements that count, and a factor for each count."""
    x = region.activation(node.inputs[0])
    if _attribute(node, "ceil_mode", 0):
        raise Unfit("windows reach beyond the padding")
    sizes, out = x.shape[2:], region.shape[2:]
    window = window_of(node, _attribute(node, "kernel_shape"), sizes, out)
    if set(out) == {1} and window["kernel_shape"] == list(sizes) and not any(window["pads"]):
        return _mean(region, x, tuple(range(2, len(x.shape))), divide=True)
    padded = bool(_attribute(node, "count_include_pad", 0))
    counts = np.ones((), np.int64)
    for axis in range(len(sizes)):
        counts = np.multiply.outer(counts, _counts(window, axis, sizes[axis], out[axis], padded))
    if counts.min() < 1:
        raise Unfit("a window holds no element")
    ratio = x.quantisation.scale / region.quantisation.scale
    made = factors(ratio / counts.astype(np.float64).reshape(-1))
    multipliers = made.multipliers.reshape(counts.shape)
    same = bool((multipliers == multipliers.flat[0]).all())
    attributes = {
        **window, "zero_in": x.quantisation.zero, "left_shift": made.left_shift, **_range(region),
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
        if _attribute(node, "noop_with_empty_axes", 0):
            raise Unfit("it reduces nothing")
        axes = np.arange(rank)
    return _mean(region, x, tuple(sorted({int(a) % rank for a in axes})), divide=divide)


def _mean(region: Region, x: Activation, axes: tuple[int, ...], *, divide: bool) -> Emit:
    count = math.prod(x.shape[a] for a in axes)
    if 2 * count * _magnitude(x.quantisation) > INT32_MAX:
        raise Unfit("sums have too many bits")
    ratio = x.quantisation.scale / region.quantisation.scale
    made = factors(np.array(ratio / count if divide else ratio))
    attributes = {
        "axes": list(axes), "zero_in": x.quantisation.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **_range(region),
    }  # fmt: skip

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        return recipe.node("Mean", [inputs[0]], region.quantisation.dtype, region.shape, attributes)

    return emit


def softmax(region: Region, node: ir.Node) -> Emit:
    """Match softmax over the last axis."""
    x, out = region.activation(node.inputs[0]), region.quantisation
    if int(_attribute(node, "axis", -1)) % len(x.shape) != len(x.shape) - 1:
        raise Unfit("softmax runs along another axis than the last")
    if out.bits != 8:
        raise Unfit("softmax of 16 bits has no integer form")
    scale = round(2.0**8 / out.scale)
    if not 1 <= scale <= 1 << 24:
        raise Unfit("the result's scale is too far from 1/256")
    table = softmax_table(x.quantisation.scale)
    attributes = {"scale": scale, **_range(region)}

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [inputs[0], recipe.constant(table, "table")]
        return recipe.node("Softmax", operands, out.dtype, region.shape, dict(attributes))

    return emit


def concat(region: Region, node: ir.Node) -> Emit:
    """Match a concatenation; each part gets the result's quantisation first."""
    parts = [region.activation(value) for value in node.inputs]
    axis = int(_attribute(node, "axis", 0))

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        made = [
            _convert(region, recipe, value, part.quantisation, part.shape, f"part{number}")
            for number, (part, value) in enumerate(zip(parts, inputs, strict=True))
        ]
        return recipe.node("Concat", made, region.quantisation.dtype, region.shape,
                           {"axis": axis}, domain="")  # fmt: skip

    return emit


def _convert(
    region: Region, recipe: Recipe, value: ir.Value, source: Quantisation,
    shape: Sequence[int], role: str,
) -> ir.Value:  # fmt: skip
    """Return ``value`` in the quantisation and range of the result."""
    out = region.quantisation
    if source.same(out) and not region.clamped:
        return value
    if out.bits == 8:
        table = recipe.constant(
            function_table(lambda x: x, source, out, region.low, region.high), f"{role}_table"
        )
        return recipe.node("Table", [value, table], out.dtype, shape)
    made = factors(np.array(source.scale / out.scale))
    attributes = {
        "zero_in": source.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, **_range(region),
    }  # fmt: skip
    return recipe.node("Requantize", [value], out.dtype, shape, attributes)


def resized(region: Region, node: ir.Node) -> Emit:
    """Match a resize: elements that move, or weighted sums of them."""
    x = region.activation(node.inputs[0])
    emit = resize(region, node, x)
    if emit is not None:
        return emit
    places = moves(node, x.shape, region.shape)

    def emit_moves(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        value, shape = inputs[0], list(x.shape)
        for axis, indices in places.items():
            shape[axis] = len(indices)
            operands = [value, recipe.constant(indices, f"places{axis}")]
            value = recipe.node(
                "Gather", operands, x.quantisation.dtype, shape, {"axis": axis}, domain=""
            )
        return _convert(region, recipe, value, x.quantisation, region.shape, "moved")

    return emit_moves


def max_pool(region: Region, node: ir.Node) -> Emit:
    """Match a maximum over windows; of 16 bits, which ONNX has none of, by an operator of ours.

    A window as large as the image stands for ``GlobalMaxPool``, of which ONNX has none of integers.
    """
    windows = node.op_type == "MaxPool"
    if windows and region.quantisation.bits == 8:
        return moving(region, node)
    x = region.activation(node.inputs[0])
    if _attribute(node, "ceil_mode", 0):
        raise Unfit("windows reach beyond the padding")
    kernel = _attribute(node, "kernel_shape") if windows else x.shape[2:]
    window = window_of(node, kernel, x.shape[2:], region.shape[2:])
    domain = DOMAIN if region.quantisation.bits == 16 else ""

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        moved = recipe.node("MaxPool", [inputs[0]], x.quantisation.dtype, region.shape, window,
                            domain=domain)  # fmt: skip
        return _convert(region, recipe, moved, x.quantisation, region.shape, "moved")

    return emit


def moving(region: Region, node: ir.Node) -> Emit:
    """Match what only moves elements, or chooses the greatest: on the integers as they are."""
    x = region.activation(node.inputs[0])
    if x.quantisation.bits == 16 and node.op_type in _CHOOSING:
        raise Unfit(f"there is no {node.op_type} of 16 bits")
    others = list(node.inputs[1:])
    if any(v is not None and v.const_value is None for v in others):
        raise Unfit("where elements go is computed at run time")
    if len(node.outputs) > 1 and any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        raise Unfit("it has another result")
    attributes = {name: a.value for name, a in node.attributes.items() if a.value is not None}

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        moved = recipe.node(node.op_type, [inputs[0], *others], x.quantisation.dtype, region.shape,
                            attributes, domain="")  # fmt: skip
        return _convert(region, recipe, moved, x.quantisation, region.shape, "moved")

    return emit


def padded(region: Region, node: ir.Node) -> Emit:
    """Match padding: what is filled in is one of the result's integers, however x is quantised."""
    if _attribute(node, "mode", "constant") != "constant":
        return moving(region, node)
    x = region.activation(node.inputs[0])
    pads, number, *axes = [*node.inputs[1:], None, None][:3]
    if any(v is not None and v.const_value is None for v in (pads, number, *axes)):
        raise Unfit("what is filled in is computed at run time")
    given = array_of(number)
    value = float(given.item()) if given is not None and given.size == 1 else 0.0
    out = region.quantisation
    filled = min(max(out.quantize(value), region.low), region.high)
    fill = np.array(filled, np.int8 if out.bits == 8 else np.int16)

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        inner = _convert(region, recipe, inputs[0], x.quantisation, x.shape, "inner")
        operands = [inner, pads, recipe.constant(fill, "fill"), *axes]
        return recipe.node("Pad", operands, out.dtype, region.shape, {"mode": "constant"},
                           domain="")  # fmt: skip

    return emit


def elementwise(region: Region, node: ir.Node) -> Emit:
    """Match any function of the elements of one tensor: a table."""
    from mlopsc.integer.cones import cone_function

    if region.quantisation.bits != 8 and node.op_type == "DequantizeLinear":
        x = region.activation(node.outputs[0])
        return lambda recipe, inputs: _convert(
            region, recipe, inputs[0], x.quantisation, region.shape, "scaled"
        )
    function, x = cone_function(region, node)
    if x.shape != region.shape:
        raise Unfit("its operand is broadcast")
    if region.quantisation.bits != 8:
        points = interpolation_table(
            function, x.quantisation, region.quantisation, region.low, region.high
        )

        def interpolate(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
            operands = [inputs[0], recipe.constant(points, "table")]
            return recipe.node("Interpolate", operands, region.quantisation.dtype, region.shape)

        return interpolate
    table = function_table(function, x.quantisation, region.quantisation, region.low, region.high)

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        identity = np.arange(-128, 128, dtype=np.int8)
        if np.array_equal(table, identity):
            return inputs[0]
        operands = [inputs[0], recipe.constant(table, "table")]
        return recipe.node("Table", operands, region.quantisation.dtype, region.shape)

    return emit


MATCHERS: Final[dict[str, Matcher]] = {
    "Add": add,
    "AveragePool": average_pool,
    "Concat": concat,
    "Conv": conv,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": max_pool,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Mul": multiply,
    "Pad": padded,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_sum,
    "Resize": resized,
    "Softmax": softmax,
    "Sub": subtract,
    **dict.fromkeys(
        (
            "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "ReduceMax", "ReduceMin",
            "Reshape", "Slice", "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze",
        ),
        moving,
    ),
}  # fmt: skip
