"""The integer operators in NumPy: docs/integer-semantics.md as code.

Each function takes the arrays of a node's inputs and its attributes, and gives the array of its
output. Activations are int8 or int16, accumulators int64 here, so that nothing can wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.integer.arithmetic import requantize
from mlopsc.integer.tables import EXP_BITS, interpolate

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Array], Attributes], Array]


def _finish(total: Array, multipliers: Array, a: Attributes, dtype: Any) -> Array:
    accumulators = total if a.get("wide") else total.astype(np.int32)
    steps = requantize(accumulators, multipliers, int(a["left_shift"])) + int(a["zero_out"])
    return np.asarray(np.clip(steps, a["low"], a["high"]).astype(dtype))


def _columns(x: Array, a: Attributes, fill: int) -> Array:
    """Return the windows of ``x``: [C, *out, *kernel] of ``x`` [1, C, ...], as int64."""
    rank = x.ndim - 2
    pads, kernel = a["pads"], a["kernel_shape"]
    widths = [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))]
    padded = np.pad(x, widths, constant_values=fill)[0]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, a["dilations"], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(1, rank + 1)))
    steps = [slice(None), *(slice(None, None, s) for s in a["strides"])]
    inner = [slice(None, None, d) for d in a["dilations"]]
    return windows[(*steps, *inner)]


def _conv(inputs: Sequence[Array], a: Attributes) -> Array:
    x, w, bias, multipliers = inputs
    rank, groups, features = x.ndim - 2, int(a["group"]), w.shape[0]
    results = []
    for n in range(x.shape[0]):
        columns = _columns(x[n : n + 1], a, int(a["zero_in"]))
        out = columns.shape[1 : 1 + rank]
        # [groups, places, products] times [groups, products, features of a group]; float64 holds
        # these integers exactly.
        parts = np.moveaxis(columns, 0, rank).reshape(int(np.prod(out)), groups, -1)
        left = parts.transpose(1, 0, 2).astype(np.float64)
        right = w.reshape(groups, features // groups, -1).transpose(0, 2, 1).astype(np.float64)
        total = np.rint(left @ right).astype(np.int64)
        total = total.transpose(0, 2, 1).reshape(features, *out)
        channel = (-1, *[1] * rank)
        total = total + bias.astype(np.int64).reshape(channel)
        results.append(_finish(total, multipliers.reshape(channel), a, x.dtype))
    return np.stack(results)


def _matmul(inputs: Sequence[Array], a: Attributes) -> Array:
    x, w, bias, multipliers = inputs
    total = np.rint(x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    return _finish(total + bias.astype(np.int64), multipliers, a, x.dtype)


def _product(inputs: Sequence[Array], a: Attributes) -> Array:
    x, y = (v.astype(np.float64) - a[z] for v, z in zip(inputs, ("zero_a", "zero_b"), strict=True))
    total = np.rint(x @ y).astype(np.int64)
    return _finish(total, np.asarray(a["multiplier"], np.int32), a, inputs[0].dtype)


def _mul(inputs: Sequence[Array], a: Attributes) -> Array:
    x, y = (v.astype(np.int64) - a[z] for v, z in zip(inputs, ("zero_a", "zero_b"), strict=True))
    return _finish(x * y, np.asarray(a["multiplier"], np.int32), a, inputs[0].dtype)


def _add(inputs: Sequence[Array], a: Attributes) -> Array:
    x, y = (v.astype(np.int64) for v in inputs)
    total = x * int(a["multiplier_a"]) + y * int(a["multiplier_b"]) + int(a["constant"])
    steps = total >> int(a["shift"])
    return np.asarray(np.clip(steps, a["low"], a["high"]).astype(inputs[0].dtype))


def _average_pool(inputs: Sequence[Array], a: Attributes) -> Array:
    x, multipliers = inputs
    results = []
    for n in range(x.shape[0]):
        rank = x.ndim - 2
        columns = _columns(x[n : n + 1], a, int(a["zero_in"])).astype(np.int64)
        total = (columns - int(a["zero_in"])).sum(tuple(range(-rank, 0)))
        results.append(_finish(total, multipliers, a, x.dtype))
    return np.stack(results)


def _mean(inputs: Sequence[Array], a: Attributes) -> Array:
    x = inputs[0].astype(np.int64) - int(a["zero_in"])
    total = x.sum(tuple(a["axes"]), keepdims=True)
    return _finish(total, np.asarray(a["multiplier"], np.int32), a, inputs[0].dtype)


def _requantize(inputs: Sequence[Array], a: Attributes) -> Array:
    total = inputs[0].astype(np.int64) - int(a["zero_in"])
    return _finish(total, np.asarray(a["multiplier"], np.int32), a, inputs[0].dtype)


def _table(inputs: Sequence[Array], a: Attributes) -> Array:
    x, table = inputs
    return np.asarray(table[x.astype(np.int64) + 128])


def _interpolate(inputs: Sequence[Array], _: Attributes) -> Array:
    return interpolate(*inputs).astype(np.int16)


def _resample(inputs: Sequence[Array], a: Attributes) -> Array:
    total = inputs[0].astype(np.int64) - int(a["zero_in"])
    for number, axis in enumerate(a["axes"]):
        places, weights = inputs[1 + 2 * number], inputs[2 + 2 * number].astype(np.int64)
        taken = np.take(total, places, axis)  # [..., elements, taps, ...]
        shape = [1] * taken.ndim
        shape[axis : axis + 2] = weights.shape
        total = (taken * weights.reshape(shape)).sum(axis + 1)
    if drop := int(a["drop"]):
        total = (total + (1 << (drop - 1))) >> drop
    return _finish(total, np.asarray(a["multiplier"], np.int32), a, inputs[0].dtype)


def _flip(inputs: Sequence[Array], _: Attributes) -> Array:
    x = inputs[0]
    other = np.int8 if x.dtype == np.uint8 else np.uint8
    return np.asarray(x.view(np.uint8) ^ np.uint8(0x80)).view(other)


def _max_pool(inputs: Sequence[Array], a: Attributes) -> Array:
    x = inputs[0]
    least, rank = int(np.iinfo(x.dtype).min), x.ndim - 2
    inner = tuple(range(-rank, 0))
    return np.stack([_columns(x[n : n + 1], a, least).max(inner) for n in range(len(x))])


def _softmax(inputs: Sequence[Array], a: Attributes) -> Array:
    x, table = inputs
    wide = x.astype(np.int64)
    distance, values = wide.max(-1, keepdims=True) - wide, table.astype(np.int64)
    if x.dtype == np.int8:
        e = values[distance]
    else:
        product = values[distance >> 8] * values[256 + (distance & 255)]
        e = (product + (1 << (EXP_BITS - 1))) >> EXP_BITS
    total = e.sum(-1, keepdims=True)
    steps = (2 * e * int(a["scale"]) + (total << 8)) // (total << 9) + int(a["zero_out"])
    return np.asarray(np.clip(steps, a["low"], a["high"]).astype(x.dtype))


def _bit_cast(inputs: Sequence[Array], a: Attributes) -> Array:
    return inputs[0].view(BY_ONNX_CODE[int(a["to"])].name)


OPERATORS: Final[dict[str, Operator]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BitCast": _bit_cast,
    "Conv": _conv,
    "Flip": _flip,
    "Interpolate": _interpolate,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Mul": _mul,
    "Product": _product,
    "Requantize": _requantize,
    "Resample": _resample,
    "Softmax": _softmax,
    "Table": _table,
}
