"""Norms, and batch normalisation that computes its statistics.

Requires: static shapes. Source: the schemas of LpNormalization 22, LpPool 22, GlobalLpPool 22,
LayerNormalization 17, MeanVarianceNormalization 13 and BatchNormalization 15. A norm of zero gives
zeros; 16-bit floats are summed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import HALVES, Builder, Expansion, Refusal, Tensor


def _wide_type(x: Tensor) -> ir.DataType:
    return ir.DataType.FLOAT if x.dtype in HALVES else x.dtype


def _wide(x: Tensor) -> Tensor:
    return x.cast(_wide_type(x))


def _powers(b: Builder, x: Tensor, p: int) -> Tensor:
    if p == 2:
        return x * x
    size = b.op("Abs", x)
    return size if p == 1 else b.op("Pow", size, p)


def _root(b: Builder, x: Tensor, p: int) -> Tensor:
    if p == 1:
        return x
    return b.op("Sqrt", x) if p == 2 else b.op("Pow", x, 1 / p)


def _lp_normalization(b: Builder) -> Tensor:
    x, p = b.required(0), int(b.attribute("p", 2))
    wide = _wide(x)
    norm = _root(b, b.reduce("Sum", _powers(b, wide, p), [b.attribute("axis", -1)]), p)
    return b.where(norm.equals(0), 0, wide / norm).cast(x.dtype)


def _global_lp_pool(b: Builder) -> Tensor:
    x, p = b.required(0), int(b.attribute("p", 2))
    powers = _powers(b, _wide(x), p)
    return _root(b, b.reduce("Sum", powers, range(2, x.rank)), p).cast(x.dtype)


def _window_pads(
    sizes: Sequence[int], kernel: Sequence[int], b: Builder
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return pads before and after each axis, strides and dilations, as attributes say."""
    rank = len(sizes)
    strides = b.attribute("strides") or [1] * rank
    dilations = b.attribute("dilations") or [1] * rank
    pads = b.attribute("pads") or [0] * (2 * rank)
    mode = b.attribute("auto_pad", "NOTSET")
    before, after = list(pads[:rank]), list(pads[rank:])
    for axis, (size, k, stride, dilation) in enumerate(
        zip(sizes, kernel, strides, dilations, strict=True)
    ):
        extent = (k - 1) * dilation + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            missing = max((-(-size // stride) - 1) * stride + extent - size, 0)
            small, large = missing // 2, missing - missing // 2
            before[axis], after[axis] = (small, large) if mode == "SAME_UPPER" else (large, small)
        elif mode == "VALID":
            before[axis] = after[axis] = 0
        if b.attribute("ceil_mode", 0):
            room = size + before[axis] + after[axis] - extent
            windows = -(-room // stride) + 1
            if (windows - 1) * stride >= size + before[axis]:
                windows -= 1  # it would start in the padding behind
            after[axis] += max((windows - 1) * stride - room, 0)
    return before, after, list(strides), list(dilations)


def _lp_pool(b: Builder) -> Tensor:
    """Sum the powers in each window by a convolution with ones; padding adds nothing."""
    x, p = b.required(0), int(b.attribute("p", 2))
    kernel = b.attribute("kernel_shape")
    if not kernel or x.rank != len(kernel) + 2:
        raise Refusal(f"kernel_shape is {kernel} for an input of rank {x.rank}")
    before, after, strides, dilations = _window_pads(x.shape[2:], kernel, b)
    wide = _wide(x)
    dtype = wide.dtype
    if dtype == ir.DataType.DOUBLE:
        raise Refusal("its elements are DOUBLE; expected at most 32 bits")
    ones = b.constant(np.ones((x.shape[1], 1, *kernel)), dtype)
    summed = b.op(
        "Conv",
        _powers(b, wide, p),
        ones,
        group=x.shape[1],
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations,
        pads=[*before, *after],
    )
    return _root(b, summed, p).cast(x.dtype)


def _distances(b: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean over ``axes``, the distances from it, and the mean of their squares.

    ONNX's own bodies take the difference of two means, which loses what a large mean leaves.
    """
    mean = b.reduce("Mean", x, axes)
    distance = x - mean
    return mean, distance, b.reduce("Mean", distance * distance, axes)


def _layer_normalization(b: Builder) -> list[Tensor]:
    x, scale, bias = b.required(0), b.required(1), b.input(2)
    axis = int(b.attribute("axis", -1)) % max(x.rank, 1)
    wide = _wide(x) if int(b.attribute("stash_type", 1)) == ir.DataType.FLOAT else x
    mean, distance, variance = _distances(b, wide, range(axis, x.rank))
    inverse = b.op("Reciprocal", b.op("Sqrt", variance + b.attribute("epsilon", 1e-5)))
    y = (distance * inverse).cast(x.dtype) * scale
    return [y if bias is None else y + bias, mean, inverse]


def _mean_variance_normalization(b: Builder) -> Tensor:
    x = b.required(0)
    axes = b.attribute("axes") or [0, 2, 3]
    _, distance, variance = _distances(b, _wide(x), axes)
    return (distance / (b.op("Sqrt", variance) + 1e-9)).cast(x.dtype)


def _batch_normalization(b: Builder) -> Tensor | list[Tensor] | None:
    """Write it out in training, or if its types differ; otherwise the operator is a core one."""
    if b.attribute("training_mode", 0):
        return _in_training(b)
    types = {_wide_type(t) for t in b.inputs()}
    return _of_several_types(b) if len(types) > 1 else None


def _of_several_types(b: Builder) -> Tensor:
    """Compute in float64, but each constant's own formula in its type, as ONNX's evaluator does."""
    x, scale, bias, mean, variance = (b.required(k) for k in range(5))
    channels = [x.shape[1] if a == 1 else 1 for a in range(x.rank)]
    deviation = b.op("Sqrt", _wide(variance) + b.attribute("epsilon", 1e-5))
    factor, shift, centre, divisor = (
        t.cast(ir.DataType.DOUBLE).reshape(*channels) for t in (scale, bias, mean, deviation)
    )
    y = factor * (x.cast(ir.DataType.DOUBLE) - centre) / divisor + shift
    return y.cast(x.dtype)


def _in_training(b: Builder) -> list[Tensor]:
    """With the statistics of the batch."""
    x, scale, bias, mean, variance = (b.required(k) for k in range(5))
    momentum, epsilon = b.attribute("momentum", 0.9), b.attribute("epsilon", 1e-5)
    axes = [a for a in range(x.rank) if a != 1]
    channels = [x.shape[1] if a == 1 else 1 for a in range(x.rank)]
    wide = _wide(x)
    batch_mean = b.reduce("Mean", wide, axes)
    centred = wide - batch_mean
    batch_variance = b.reduce("Mean", centred * centred, axes)
    deviation = b.op("Sqrt", batch_variance + epsilon)
    shaped = [_wide(t).cast(wide.dtype).reshape(*channels) for t in (scale, bias)]
    y = shaped[0] * (centred / deviation) + shaped[1]
    running = [
        (_wide(old) * momentum + new.reshape(-1).cast(_wide(old).dtype) * (1 - momentum)).cast(
            old.dtype
        )
        for old, new in ((mean, batch_mean), (variance, batch_variance))
    ]
    return [y.cast(x.dtype), *running]


EXPANSIONS: Final[dict[str, Expansion]] = {
    "BatchNormalization": _batch_normalization,
    "GlobalLpPool": _global_lp_pool,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "LpPool": _lp_pool,
    "MeanVarianceNormalization": _mean_variance_normalization,
}
