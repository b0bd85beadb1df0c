"""Choosing elements by a condition, and putting them back. Source: the ONNX operator schemas."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Tensor


def _compress(b: Builder) -> Tensor | None:
    """Gather the elements, or the slices along an axis, whose condition is true."""
    condition = b.array(1, "the condition")
    if condition is None:
        return None
    x, axis = b.required(0), b.attribute("axis")
    places = np.flatnonzero(condition).astype(np.int64)
    if axis is None:
        return b.op("Gather", x.reshape(-1), places, axis=0)
    return b.op("Gather", x, places, axis=int(axis))


def _max_unpool(b: Builder) -> Tensor | None:
    """Pad what it gives without a declared shape: its indices count in that, not in the padded."""
    shape = b.array(2, "the output shape")
    if shape is None:
        return None
    names = ("kernel_shape", "pads", "strides")
    attributes = {n: b.attribute(n) for n in names if b.attribute(n) is not None}
    plain = b.op("MaxUnpool", b.required(0), b.required(1), **attributes)
    after = shape - np.array(plain.shape, np.int64)
    return b.op("Pad", plain, np.concatenate([np.zeros_like(after), after]))


def _one_hot(b: Builder) -> Tensor | None:
    """Make its depth a scalar, as ONNX's evaluator takes it; then it is a core operator."""
    depth = b.required(1)
    if not depth.rank:
        return None
    axis = b.attribute("axis", -1)
    return b.op("OneHot", b.required(0), depth.reshape(), b.required(2), axis=axis)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "Compress": _compress,
    "MaxUnpool": _max_unpool,
    "OneHot": _one_hot,
}
