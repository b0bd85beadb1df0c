"""Casts between all element types, and the identity on bits.

Ensures: a float becomes an integer by truncation; what an integer type cannot hold becomes its
nearest number and NaN becomes 0 (ONNX leaves both open; C would leave them undefined). Wider
integers lose their high bits. Source: the ONNX operator schemas "Cast" and "BitCast".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from tvm import tirx

from mlopsc.lower.ops.node import Lowering, Node, elementwise, is_float, literal
from mlopsc.lower.ops.small_floats import FORMATS, POWER_OF_TWO, SMALL_FLOATS, decode, encode

_NARROW: Final[dict[str, tuple[int, bool]]] = {  # bits, signed
    "INT4": (4, True), "UINT4": (4, False), "INT2": (2, True), "UINT2": (2, False),
}  # fmt: skip


def _cast(node: Node) -> Any:
    source, target = node.operand(0), node.result
    saturate = bool(node.attribute("saturate", 1))
    mode = node.attribute("round_mode", "up")
    if source.logical == target.logical:
        return elementwise(node, lambda x: x)
    return elementwise(
        node,
        lambda x: convert(
            x, source.logical, target.logical, target.dtype, saturate=saturate, round_mode=mode
        ),
    )


def convert(
    x: Any,
    source: ir.DataType,
    target: ir.DataType,
    dtype: str,
    *,
    saturate: bool = True,
    round_mode: Any = "up",
) -> Any:
    """Return ``x``, an element of ``source``, as an element of ``target`` stored as ``dtype``."""
    if source.name in _NARROW:  # whatever the high bits hold
        x = _low_bits(x.astype("int32"), *_NARROW[source.name])
    if source.name in SMALL_FLOATS:
        if target == ir.DataType.BOOL:
            return _is_not_zero(x, source.name)
        x = decode(x, source.name)
    if target == ir.DataType.BOOL:
        zero = literal(0, x)
        return tirx.any(x != zero, tirx.isnan(x)) if is_float(x) else x != zero
    if target.name in SMALL_FLOATS:
        if str(x.ty) != "float64":
            x = x.astype("float32")
        return encode(x, target.name, saturate=saturate, round_mode=round_mode)
    if dtype.startswith("float"):
        return x.astype(dtype)
    if target.name in _NARROW:
        bits, signed = _NARROW[target.name]
        return _low_bits(to_integer(x, "int32"), bits, signed).astype(dtype)
    return to_integer(x, dtype)


def _low_bits(x: Any, bits: int, signed: bool) -> Any:
    """Return the low bits of an int32, sign-extended if ``signed``."""
    half = tirx.const(1 << (bits - 1) if signed else 0, "int32")
    return ((x & tirx.const((1 << bits) - 1, "int32")) ^ half) - half


def _is_not_zero(x: Any, name: str) -> Any:
    if name == POWER_OF_TWO:
        return tirx.const(True, "bool")
    return tirx.Not(FORMATS[name].is_zero(x))


def to_integer(x: Any, dtype: str) -> Any:
    """Return ``x`` as an integer: truncated and saturated; NaN is 0."""
    if not is_float(x):
        return x.astype(dtype)
    kind = str(x.ty)
    info = np.iinfo(dtype)
    zero = tirx.const(0.0, kind)
    # Exact in every float type: a power of two, or (as below -1) rounded to one.
    above = x >= tirx.const(float(int(info.max) + 1), kind)
    below = x <= tirx.const(float(int(info.min) - 1), kind)
    outside = tirx.any(above, below, tirx.isnan(x))
    wide = dtype if info.bits >= 32 else "int32"
    inside = tirx.Select(outside, zero, x).astype(wide).astype(dtype)
    limit = tirx.Select(above, literal(info.max, dtype), literal(info.min, dtype))
    return tirx.Select(tirx.isnan(x), literal(0, dtype), tirx.Select(outside, limit, inside))


def _bit_cast(node: Node) -> Any:
    dtype = node.result.dtype

    def element(x: Any) -> Any:
        if dtype == "bool" or str(x.ty) == "bool":  # 0 or 1
            return x.astype(dtype)
        return x if str(x.ty) == dtype else tirx.reinterpret(dtype, x)

    return elementwise(node, element)


LOWERINGS: Final[dict[str, Lowering]] = {"BitCast": _bit_cast, "Cast": _cast}
