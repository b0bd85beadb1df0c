"""Operators that tf2onnx does not know, in terms of ONNX's: its *custom op handlers*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx

BICUBIC_TOLERANCE: Final = 4e-3


def _erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """``1 - erf(x)``, which TensorFlow 2.21 makes of ``gelu``."""
    del name, args
    kind = ctx.get_dtype(node.output[0])
    one = ctx.make_const(f"{node.name}_one", np.asarray(1, _numpy(kind))).output[0]
    erf = ctx.make_node("Erf", [node.input[0]], dtypes=[kind])
    _replace(ctx, node, "Sub", [one, erf.output[0]])


def _bucketize(ctx: Any, node: Any, name: str, args: Any) -> None:
    """How many of the boundaries a number has reached; Keras's ``Discretization``."""
    del name, args
    value = node.input[0]
    float32, int32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    if ctx.get_dtype(value) != float32:
        value = ctx.make_node("Cast", [value], attr={"to": float32}, dtypes=[float32]).output[0]
    bounds = np.asarray(node.get_attr_value("boundaries"), np.float32)
    bounds_name = ctx.make_const(f"{node.name}_boundaries", bounds).output[0]
    axis = ctx.make_const(f"{node.name}_axis", np.asarray([-1], np.int64)).output[0]
    wide = ctx.make_node("Unsqueeze", [value, axis]).output[0]
    reached = ctx.make_node("GreaterOrEqual", [wide, bounds_name]).output[0]
    ones = ctx.make_node("Cast", [reached], attr={"to": int32}, dtypes=[int32]).output[0]
    _replace(ctx, node, "ReduceSum", [ones, axis], keepdims=0)


def _replace(ctx: Any, node: Any, kind: str, inputs: list[str], **attributes: Any) -> None:
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(node.name)
    ctx.make_node(
        kind,
        inputs,
        attr=attributes,
        name=node.name,
        outputs=node.output,
        shapes=shapes,
        dtypes=dtypes,
    )


def _numpy(code: int) -> Any:
    return onnx.helper.tensor_dtype_to_np_dtype(code)


def mend(model: onnx.ModelProto) -> None:
    """Correct what tf2onnx 1.17 gets wrong: bicubic resizes at the border.

    From the centres of pixels TensorFlow leaves out what lies beyond. Source:
    ``resize_bicubic_op.cc``.
    """
    for node in model.graph.node:
        known = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        centred = known.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
        if is_bicubic(node) and centred and "exclude_outside" not in known:
            node.attribute.append(onnx.helper.make_attribute("exclude_outside", 1))


def is_bicubic(node: onnx.NodeProto) -> bool:
    """Whether a node is a bicubic resize, whose weights TensorFlow rounds to 1/1024 of a pixel."""
    return node.op_type == "Resize" and any(
        a.name == "mode" and a.s == b"cubic" for a in node.attribute
    )


HANDLERS: Final[Mapping[str, tuple[Callable[..., None], list[Any]]]] = {
    "Bucketize": (_bucketize, []),
    "Erfc": (_erfc, []),
}
