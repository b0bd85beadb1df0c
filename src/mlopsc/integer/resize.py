"""``Resize`` of integers: what it reads, and with which weights, found by asking the runtime.

Resizing is linear and works axis by axis, so an axis is what it makes of the unit vectors. Where
every element comes from one other, elements move; else they are weighted sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from mlopsc.errors import SourceError
from mlopsc.integer.arithmetic import INT32_MAX, Unfit, factors
from mlopsc.integer.quantisation import Array, array_of
from mlopsc.integer.recipe import Recipe
from mlopsc.integer.recognise import Activation, Emit, Region
from mlopsc.reference import run_graph

WEIGHT_BITS: Final = 11
_OPSET: Final = 19
_MOST: Final = 4096  # elements of an axis


def resize(region: Region, node: ir.Node, x: Activation) -> Emit | None:
    """Match a resize by constant scales or sizes.

    Returns:
        What writes the sums, or None if the matrix of every axis only moves elements; then
        ``moves`` gives where from.

    Raises:
        Unfit: It is computed at run time, crops, or has other than 8 or 16 bits.
    """
    matrices = axis_matrices(node, x.shape, region.shape)
    if all(_is_choice(matrix) for matrix in matrices.values()):
        return None
    axes = sorted(matrices)
    taps = [_taps(matrices[axis]) for axis in axes]
    out = region.quantisation
    reach = max(int(np.abs(w).sum(1).max()) for _, w in taps) ** len(axes) << out.bits
    wide = reach > INT32_MAX
    if wide and out.bits == 8:
        raise Unfit("sums have too many bits")
    # Sums of 64 bits lose all but the bits of one axis, so that multipliers keep theirs.
    drop = WEIGHT_BITS * (len(axes) - 1) if wide else 0
    ratio = x.quantisation.scale / out.scale / 2.0 ** (WEIGHT_BITS * len(axes) - drop)
    made = factors(np.array(ratio), reach >> drop)
    attributes: dict[str, Any] = {
        "axes": axes, "zero_in": x.quantisation.zero, "multiplier": int(made.multipliers[0]),
        "left_shift": made.left_shift, "zero_out": out.zero, "low": region.low,
        "high": region.high, "drop": drop, **({"wide": 1} if wide else {}),
    }  # fmt: skip

    def emit(recipe: Recipe, inputs: Sequence[ir.Value]) -> ir.Value:
        operands = [inputs[0]]
        for axis, (places, weights) in zip(axes, taps, strict=True):
            operands += [
                recipe.constant(places, f"places{axis}"), recipe.constant(weights, f"weights{axis}")
            ]  # fmt: skip
        return recipe.node("Resample", operands, out.dtype, region.shape, attributes)

    return emit


def moves(node: ir.Node, x: Sequence[int], out: Sequence[int]) -> dict[int, Array]:
    """Return, by axis that is resized, which element each element of the result is."""
    found = axis_matrices(node, x, out)
    return {axis: matrix.argmax(1).astype(np.int64) for axis, matrix in found.items()}


def axis_matrices(node: ir.Node, x: Sequence[int], out: Sequence[int]) -> dict[int, Array]:
    """Return float64 [elements of the result, of the operand] by axis that is resized.

    Raises:
        Unfit: Scales or sizes are no constants, or the runtime does not know them.
    """
    given = [array_of(v) for v in node.inputs[1:4]]
    given += [None] * (3 - len(given))
    _, scales, sizes = (None if a is None or a.size == 0 else a for a in given)
    if (scales is None) == (sizes is None):
        raise Unfit("scales or sizes are computed at run time")
    chosen = node.attributes.get("axes")
    axes = [a % len(x) for a in chosen.as_ints()] if chosen else list(range(len(x)))
    if node.attributes.get("coordinate_transformation_mode") is not None:
        mode = node.attributes["coordinate_transformation_mode"].as_string()
        if mode == "tf_crop_and_resize":
            raise Unfit("it crops")
    found = {}
    for number, axis in enumerate(axes):
        scale = float(out[axis] / x[axis]) if scales is None else float(scales[number])
        if out[axis] == x[axis] and scale == 1.0:
            continue
        if max(x[axis], out[axis]) > _MOST:
            raise Unfit("an axis is too long")
        found[axis] = _matrix(node, x[axis], out[axis], None if scales is None else scale)
    return found


def _matrix(node: ir.Node, size: int, out: int, scale: float | None) -> Array:
    """Ask the runtime what it makes of the unit vectors."""
    kept = (
        "mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a",
        "exclude_outside", "antialias",
    )  # fmt: skip
    attributes = {
        name: a.value for name, a in node.attributes.items() if name in kept and a.value is not None
    }
    constants = [
        numpy_helper.from_array(np.array([1, scale or 1.0], np.float32), "scales"),
        numpy_helper.from_array(np.array([size, out], np.int64), "sizes"),
    ]
    operands = ["x", "", "scales"] if scale is not None else ["x", "", "", "sizes"]
    made = helper.make_node("Resize", operands, ["y"], **attributes)
    graph = helper.make_graph(
        [made],
        "axis",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        constants[:1] if scale is not None else constants[1:],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    try:
        matrix = run_graph(model.SerializeToString(), {"x": np.eye(size, dtype=np.float32)})["y"]
    except SourceError as error:
        raise Unfit(f"the runtime cannot resize: {error.message}") from error
    if matrix.shape != (size, out):
        raise Unfit("its sizes contradict its scales")
    return matrix.T.astype(np.float64)


def _is_choice(matrix: Array) -> bool:
    return bool(((matrix == 0) | (matrix == 1)).all() and (matrix.sum(1) == 1).all())


def _taps(matrix: Array) -> tuple[Array, Array]:
    """Return places and weights, int32 [elements, most taps]; each row adds up to 2^11."""
    count = max(1, int((matrix != 0).sum(1).max()))
    places = np.argsort(-np.abs(matrix), axis=1, kind="stable")[:, :count]
    weights = np.take_along_axis(matrix, places, 1)
    integers = np.floor(weights * (1 << WEIGHT_BITS) + 0.5).astype(np.int64)
    integers[:, 0] += (1 << WEIGHT_BITS) - integers.sum(1)  # the largest takes what is left
    return places.astype(np.int32), integers.astype(np.int32)
