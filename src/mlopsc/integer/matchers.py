"""How each operator is taken apart: parameters of its integer form.

A matcher takes the region that ends in the operator's result; gives what writes the integer
operators. It raises ``Unfit`` where integers would not do. Those of products and of averages are in
``products`` and ``averages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.arithmetic import Unfit, weighted_sum
from mlopsc.integer.averages import average_pool, global_average_pool, reduce_mean, reduce_sum
from mlopsc.integer.match_parts import attribute, convert, output_range, window_of
from mlopsc.integer.products import biased, conv, gemm, matmul, multiply
from mlopsc.integer.quantisation import array_of
from mlopsc.integer.recipe import DOMAIN, Recipe
from mlopsc.integer.recognise import Emit, Matcher, Region
from mlopsc.integer.resize import moves, resize
from mlopsc.integer.tables import function_table, interpolation_table, softmax_table

# What compares elements; ONNX has these of 8 bits.
_CHOOSING: Final = frozenset({"ReduceMax", "ReduceMin"})


def add(region: Region, node: ir.Node) -> Emit:
    """Match a sum: of two activations, or a linear operator and its bias."""
    for index in (0, 1):
        bias, other = node.inputs[1 - index], node.inputs[index]
        inner = None if other is None else other.producer()
        if inner is not None and not inner.domain and inner.op_type in ("MatMul", "Conv"):
            return biased(region, other, bias)
    return _sum(region, node, 1.0)


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


def softmax(region: Region, node: ir.Node) -> Emit:
    """Match softmax over the last axis."""
    x, out = region.activation(node.inputs[0]), region.quantisation
    if int(attribute(node, "axis", -1)) % len(x.shape) != len(x.shape) - 1:
        raise Unfit("softmax runs along another axis than the last")
    scale = round(2.0**8 / out.scale)
    if not 1 <= scale <= 1 << 24:
        raise Unfit("the result's scale is too far from 1/256")
    table = softmax_table(x.quantisation.scale, out.bits)
    attributes = {"scale": scale, **output_range(region)}

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [inputs[0], recipe.constant(table, "table")]
        return recipe.node("Softmax", operands, out.dtype, region.shape, dict(attributes))

    return emit


def concat(region: Region, node: ir.Node) -> Emit:
    """Match a concatenation; each part gets the result's quantisation first."""
    parts = [region.activation(value) for value in node.inputs]
    axis = int(attribute(node, "axis", 0))

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        made = [
            convert(region, recipe, value, part.quantisation, part.shape, f"part{number}")
            for number, (part, value) in enumerate(zip(parts, inputs, strict=True))
        ]
        return recipe.node("Concat", made, region.quantisation.dtype, region.shape,
                           {"axis": axis}, domain="")  # fmt: skip

    return emit


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
        return convert(region, recipe, value, x.quantisation, region.shape, "moved")

    return emit_moves


def max_pool(region: Region, node: ir.Node) -> Emit:
    """Match a maximum over windows; of 16 bits, which ONNX has none of, by an operator of ours.

    A window as large as the image stands for ``GlobalMaxPool``, of which ONNX has none of integers.
    """
    windows = node.op_type == "MaxPool"
    if windows and region.quantisation.bits == 8:
        return moving(region, node)
    x = region.activation(node.inputs[0])
    if attribute(node, "ceil_mode", 0):
        raise Unfit("windows reach beyond the padding")
    kernel = attribute(node, "kernel_shape") if windows else x.shape[2:]
    window = window_of(node, kernel, x.shape[2:], region.shape[2:])
    domain = DOMAIN if region.quantisation.bits == 16 else ""

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        moved = recipe.node("MaxPool", [inputs[0]], x.quantisation.dtype, region.shape, window,
                            domain=domain)  # fmt: skip
        return convert(region, recipe, moved, x.quantisation, region.shape, "moved")

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
        return convert(region, recipe, moved, x.quantisation, region.shape, "moved")

    return emit


def padded(region: Region, node: ir.Node) -> Emit:
    """Match padding: what is filled in is one of the result's integers, however x is quantised."""
    if attribute(node, "mode", "constant") != "constant":
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
        inner = convert(region, recipe, inputs[0], x.quantisation, x.shape, "inner")
        operands = [inner, pads, recipe.constant(fill, "fill"), *axes]
        return recipe.node("Pad", operands, out.dtype, region.shape, {"mode": "constant"},
                           domain="")  # fmt: skip

    return emit


def elementwise(region: Region, node: ir.Node) -> Emit:
    """Match any function of the elements of one tensor: a table."""
    from mlopsc.integer.cones import cone_function

    if region.quantisation.bits != 8 and node.op_type == "DequantizeLinear":
        x = region.activation(node.outputs[0])
        return lambda recipe, inputs: convert(
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
