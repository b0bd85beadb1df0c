"""What ``QuantizeLinear`` and ``DequantizeLinear`` nodes say: scale, zero point, type, axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

ACTIVATIONS: Final = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
}
WEIGHTS: Final = (
    ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16,
)  # fmt: skip


@dataclass(frozen=True)
class Quantisation:
    """How the integers of an activation stand for numbers, as the graph computes them.

    Attributes:
        scale: More than 0, a float32.
        zero: Zero point; of uint8, that of the int8 tensor which is computed instead.
        bits: 8 or 16.
        flipped: Whether the graph's own tensor is uint8.
    """

    scale: float
    zero: int
    bits: int
    flipped: bool

    @property
    def range(self) -> tuple[int, int]:
        """Least and greatest integer."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> ir.DataType:
        """Type of the tensor that is computed."""
        return ir.DataType.INT8 if self.bits == 8 else ir.DataType.INT16

    def same(self, other: Quantisation) -> bool:
        """Whether equal integers stand for equal numbers."""
        return (self.scale, self.zero, self.bits) == (other.scale, other.zero, other.bits)

    def quantize(self, value: float) -> int:
        """Return the nearest integer in range, halves to even."""
        low, high = self.range
        if not np.isfinite(value):
            return high if value > 0 else low
        return int(min(max(np.rint(value / self.scale) + self.zero, low), high))


@dataclass(frozen=True)
class Constant:
    """A constant behind a ``DequantizeLinear``.

    Attributes:
        integers: ``q - z`` as int32.
        scales: float64, one or one for each index along ``axis``.
        axis: Along which scales differ; None for one scale.
        values: The numbers, float64.
    """

    integers: Array
    scales: Array
    axis: int | None

    @property
    def values(self) -> Array:
        """The numbers it stands for, float64, in its shape."""
        return self.integers * self.spread(self.scales)

    def spread(self, parameter: Array) -> Array:
        """Return one number for each index along the axis in a shape that broadcasts."""
        if self.axis is None:
            return parameter.reshape(())
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return parameter.reshape(shape)


def array_of(value: ir.Value | None) -> Array | None:
    """Return the elements of a constant."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def activation(node: ir.Node, dtype: ir.DataType | None) -> Quantisation | None:
    """Return the quantisation that a Q or DQ node gives a tensor of ``dtype``, if it is one."""
    scale, zero = array_of(node.inputs[1]), _zero(node)
    if dtype not in ACTIVATIONS or scale is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    if zero is None or zero.size > 1 or not np.isfinite(scale).all() or scale.item() <= 0:
        return None
    if "block_size" in node.attributes and node.attributes["block_size"].as_int():
        return None
    offset = 128 if dtype == ir.DataType.UINT8 else 0
    point = int(zero.item()) if zero.size else 0
    return Quantisation(
        scale=float(scale.item()),
        zero=point - offset,
        bits=16 if dtype == ir.DataType.INT16 else 8,
        flipped=bool(offset),
    )


def constant(node: ir.Node) -> Constant | None:
    """Return what a DQ node of a constant stands for, if it is one of the forms of weights."""
    source = node.inputs[0]
    data, scale, zero = array_of(source), array_of(node.inputs[1]), _zero(node)
    if data is None or source is None or scale is None or zero is None:
        return None
    if source.dtype not in (*WEIGHTS, ir.DataType.INT32) or scale.dtype != np.float32:
        return None
    if not np.isfinite(scale).all() or (scale <= 0).any() or data.size == 0:
        return None
    integers = data.astype(np.int32)
    if scale.size == 1:
        axis = None
    else:
        number = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        if scale.ndim != 1 or not -data.ndim <= number < data.ndim:
            return None
        axis = number % data.ndim
        if scale.size != data.shape[axis]:
            return None
    found = Constant(integers, scale.astype(np.float64).reshape(-1), axis)
    if zero.size > 1:
        if axis is None or zero.size != scale.size:
            return None
        return Constant(integers - found.spread(zero.astype(np.int32)), found.scales, axis)
    return Constant(integers - np.int32(zero.item() if zero.size else 0), found.scales, axis)


def _zero(node: ir.Node) -> Array | None:
    """Return the zero point, an empty array where it is left out, None where it is computed."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(0, np.int32)
    return array_of(node.inputs[2])
