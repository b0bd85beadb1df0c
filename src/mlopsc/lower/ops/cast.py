"""Casts between all element types, and the identity on bits.

16-bit and smaller floats are decoded and encoded with integer arithmetic, so that no target needs
them. Source: the ONNX operator schemas, "Cast" and "BitCast"; IEEE 754; OCP 8-bit floating point.
"""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir
from tvm import tirx

from mlopsc.lower.ops.node import Lowering, Node, elementwise


def _cast(node: Node) -> Any:
    source, target = node.operand(0), node.result
    if source.logical == target.logical:
        return elementwise(node, lambda x: x)
    return elementwise(node, lambda x: convert(x, source.logical, target.logical, target.dtype))


def convert(x: Any, source: ir.DataType, target: ir.DataType, dtype: str) -> Any:
    """Return ``x``, an element of ``source``, as an element of ``target`` stored as ``dtype``."""
    if target == ir.DataType.BOOL:
        return x != tirx.const(0, str(x.ty))
    return x.astype(dtype)


LOWERINGS: Final[dict[str, Lowering]] = {"Cast": _cast}
