"""Quantised operators in terms of integer and float32 arithmetic.

Requires: nothing. Ensures: the same integers as the reference runtime gives. Source: the schemas
of QuantizeLinear 25, DequantizeLinear 25, QLinearConv, QLinearMatMul, ConvInteger and
MatMulInteger 10. Halves are rounded to even; what is out of range, saturates; NaN becomes the
smallest integer. These come last of all expansions, so that whatever wants to see quantised
operators as they are leaves out this file's table.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor

_FLOAT_INTEGERS = 1 << 24  # float32 holds every integer up to here
_FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32
_RANGES: Final = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    ir.DataType.UINT16: (0, (1 << 16) - 1),
}


def _spread(b: Builder, parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return a scale or zero point in a shape that broadcasts to ``x``.

    One element is for all of ``x``, a vector is along ``axis``, and a tensor of the rank of ``x``
    holds one element for each block along ``axis``.
    """
    if parameter.rank == 0 or (parameter.shape == (1,) and x.rank == 0):
        return parameter.reshape()
    axis = axis % x.rank
    if parameter.rank == 1 and (x.rank != 1 or parameter.shape in ((1,), x.shape)):
        if parameter.shape[0] not in (1, x.shape[axis]):
            raise Refusal(
                f"'{parameter.value.name}' has {parameter.shape[0]} elements; expected "
                f"{x.shape[axis]}, the size of axis {axis}"
            )
        return parameter.reshape(*(-1 if a == axis else 1 for a in range(x.rank)))
    block = int(b.attribute("block_size", 0))
    blocks = parameter.shape[axis] if parameter.rank == x.rank else 0
    block = block or -(-x.shape[axis] // max(blocks, 1))
    if not blocks or blocks != -(-x.shape[axis] // block):
        raise Refusal(f"'{parameter.value.name}' has shape {list(parameter.shape)}, which fits no "
                      f"blocks of {block} along axis {axis} of {list(x.shape)}")  # fmt: skip
    return parameter.gather(np.arange(x.shape[axis], dtype=np.int64) // block, axis)


def _saturate(b: Builder, rounded: Tensor, zero: Tensor | None, dtype: ir.DataType) -> Tensor:
    """Return rounded float32 numbers plus a zero point as integers of ``dtype``."""
    low, high = _RANGES[dtype]
    if zero is not None:
        rounded = rounded + zero.cast(_FLOAT)
    above = b.where(rounded > float(low), rounded, float(low))
    return b.where(above < float(high), above, float(high)).cast(dtype)


def _quantize(b: Builder) -> Tensor:
    x, scale, zero = b.required(0), b.required(1), b.input(2)
    dtype = ir.DataType(b.attribute("output_dtype", 0))
    if dtype == ir.DataType.UNDEFINED:
        dtype = zero.dtype if zero is not None else ir.DataType.UINT8
    axis = b.attribute("axis", 1)
    scaled = x.cast(_FLOAT) / _spread(b, scale.cast(_FLOAT), x, axis)
    if dtype not in _RANGES:
        if zero is not None and dtype == ir.DataType.FLOAT4E2M1:  # of 8 bits, it has to be zero
            scaled = scaled + _spread(b, zero.cast(_FLOAT), x, axis)
        return b.op("Cast", scaled, to=int(dtype), saturate=b.attribute("saturate", 1))
    zero = None if zero is None else _spread(b, zero.cast(_INT32), x, axis)
    return _saturate(b, b.op("Round", scaled), zero, dtype)


def _dequantize(b: Builder) -> Tensor:
    x, scale, zero = b.required(0), b.required(1), b.input(2)
    dtype = ir.DataType(b.attribute("output_dtype", 0)) or scale.dtype
    axis = b.attribute("axis", 1)
    if x.dtype in _RANGES or x.dtype == _INT32:
        value = x.cast(_INT32)
        if zero is not None:
            value = value - _spread(b, zero.cast(_INT32), x, axis)
        value = value.cast(_FLOAT)
    else:
        value = x.cast(_FLOAT)  # the zero point of a floating-point type is zero
    return (value * _spread(b, scale.cast(_FLOAT), x, axis)).cast(dtype)


def _offset(x: Tensor, zero: Tensor | None, *shape: int) -> Tensor:
    """Return ``x - zero`` in int32; a zero point with several elements gets ``shape``."""
    value = x.cast(_INT32)
    if zero is None:
        return value
    wide = zero.cast(_INT32)
    return value - (wide.reshape() if zero.shape in ((), (1,)) else wide.reshape(*shape))


def _rows(parameter: Tensor | None) -> tuple[int, ...]:
    """Return the shape in which a parameter of the left matrix has one element a row."""
    if parameter is None or parameter.rank != 1:
        return () if parameter is None else parameter.shape
    return (-1, 1)


def _matmul_integer(b: Builder) -> Tensor:
    x, y, x_zero, y_zero = b.required(0), b.required(1), b.input(2), b.input(3)
    right = () if y_zero is None else y_zero.shape
    return b.op("MatMul", _offset(x, x_zero, *_rows(x_zero)), _offset(y, y_zero, *right))


def _requantize(
    b: Builder, total: Tensor, scale: Tensor, zero: Tensor | None, dtype: ir.DataType
) -> Tensor:
    rounded = b.op("Round", total.cast(_FLOAT) * scale)
    return _saturate(b, rounded, None if zero is None else zero.reshape(), dtype)


def _qlinear_matmul(b: Builder) -> Tensor:
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = (b.required(k) for k in range(8))
    total = b.op("MatMul", _offset(x, x_zero, *_rows(x_zero)), _offset(y, y_zero, *y_zero.shape))
    left = x_scale.cast(_FLOAT)
    left = left.reshape() if x_scale.shape == (1,) else left.reshape(*_rows(x_scale))
    right = y_scale.cast(_FLOAT)
    right = right.reshape() if y_scale.shape == (1,) else right
    factor = left * right / scale.cast(_FLOAT).reshape()
    return _requantize(b, total, factor, zero, zero.dtype)


def _convolve(b: Builder, x: Tensor, w: Tensor) -> Tensor:
    """Return the convolution of int32 tensors that hold at most nine bits, exactly.

    The weights are cut into parts of so few bits that every sum of products is an integer that
    float32 holds; so the order of additions does not matter.
    """
    count = int(np.prod(w.shape[1:]))
    bits = 9
    while count * 255 * (1 << bits) >= _FLOAT_INTEGERS:
        bits -= 1
        if bits == 0:
            raise Refusal(f"it sums {count} products; expected fewer")
    attributes = {
        name: b.attribute(name)
        for name in ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
        if b.attribute(name) is not None
    }
    wide = x.cast(_FLOAT)
    unit = 1 << bits
    result: Tensor | None = None
    rest = w
    for shift in range(0, 9, bits):
        last = shift + bits >= 9
        part = rest if last else b.op("Mod", rest, unit)
        rest = rest if last else (rest - part) / unit
        piece = b.op("Conv", wide, part.cast(_FLOAT), **attributes).cast(_INT32)
        piece = piece * (1 << shift) if shift else piece
        result = piece if result is None else result + piece
    if result is None:
        raise Refusal("it has no weights")
    return result


def _per_channel(parameter: Tensor, rank: int) -> tuple[int, ...]:
    return (-1, *[1] * (rank - 1)) if parameter.shape not in ((), (1,)) else ()


def _conv_integer(b: Builder) -> Tensor:
    x, w, x_zero, w_zero = b.required(0), b.required(1), b.input(2), b.input(3)
    shape = () if w_zero is None else _per_channel(w_zero, w.rank)
    return _convolve(b, _offset(x, x_zero), _offset(w, w_zero, *shape))


def _qlinear_conv(b: Builder) -> Tensor:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = (b.required(k) for k in range(8))
    bias = b.input(8)
    weights = _offset(w, w_zero, *_per_channel(w_zero, w.rank))
    total = _convolve(b, _offset(x, x_zero), weights)
    channels = [-1, *[1] * (x.rank - 2)]
    if bias is not None:
        total = total + bias.reshape(*channels)
    factor = x_scale.reshape() * (
        w_scale.reshape() if w_scale.shape in ((), (1,)) else w_scale.reshape(*channels)
    )
    return _requantize(b, total, factor / scale.reshape(), zero, zero.dtype)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}
