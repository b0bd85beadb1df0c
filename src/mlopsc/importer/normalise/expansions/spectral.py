"""Fourier transforms as products with tables of cosines and sines.

Requires: constant lengths, axes and frame steps. Source: the schemas of DFT 20 and STFT 17. Tables
are computed in float64 and rounded once; complex numbers are pairs on the last axis.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import (
    HALVES,
    Array,
    Builder,
    Expansion,
    Refusal,
    Tensor,
)

_MAX_TABLE = 1 << 24  # elements


def _table(given: int, parts: int, length: int, kind: str) -> Array:
    """Return the matrix from (place, part) to (frequency, part).

    Args:
        given: Places that are present; any beyond are zero.
        parts: 1 for real input, 2 for complex.
        length: Of the transform.
        kind: ``forward``, ``half`` (the non-negative frequencies), ``inverse``, or ``real`` (the
            inverse of ``half``, with real output).
    """
    results = length // 2 + 1 if kind == "half" else length
    angle = np.outer(np.arange(given), np.arange(results)) % length * (2 * np.pi / length)
    sign = -1 if kind in ("forward", "half") else 1
    cosine, sine = np.cos(angle), sign * np.sin(angle)
    if kind == "real":  # each frequency stands for its conjugate, too
        twice = np.full((given, 1), 2.0)
        twice[0] = 1
        if length % 2 == 0 and given > length // 2:
            twice[length // 2] = 1
        table = np.stack([cosine * twice, -sine * twice], 1)[:, :parts] / length
        return table.reshape(given * parts, length)
    if kind == "inverse":
        cosine, sine = cosine / length, sine / length
    table = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
    return table[:, :parts].reshape(given * parts, results * 2)


def _transform(b: Builder, x: Tensor, axis: int, length: int, kind: str) -> Tensor:
    """Transform ``axis`` of ``x``, whose last axis holds real and imaginary parts."""
    given = min(x.shape[axis], length // 2 + 1 if kind == "real" else length)
    parts = x.shape[-1]
    if parts not in (1, 2) or length < 1:
        raise Refusal(f"its last axis has {parts} elements and its length is {length}")
    outputs = 1 if kind == "real" else 2
    if given * parts * length * outputs > _MAX_TABLE:
        raise Refusal(f"its length is {length}; expected a table of at most {_MAX_TABLE} elements")
    order = [a for a in range(x.rank - 1) if a != axis] + [axis, x.rank - 1]
    dtype = ir.DataType.FLOAT if x.dtype in HALVES else x.dtype
    moved = x.cast(dtype).part(axis, 0, given).transpose(*order)
    rest = moved.shape[:-2]
    table = b.constant(_table(given, parts, length, kind), dtype)
    flat = b.op("MatMul", moved.reshape(*rest, given * parts), table)
    result = flat.reshape(*rest, -1, outputs)
    back = [order.index(a) for a in range(x.rank)]
    return result.transpose(*back).cast(x.dtype)


def _dft(b: Builder) -> Tensor:
    x, length, where = b.required(0), b.array(1, "the length"), b.array(2, "the axis")
    axis = (-2 if where is None else int(where.reshape(()))) % x.rank
    if axis == x.rank - 1:
        raise Refusal("its axis is the last, which holds real and imaginary parts")
    inverse, onesided = bool(b.attribute("inverse", 0)), bool(b.attribute("onesided", 0))
    kind = {
        (False, False): "forward",
        (False, True): "half",
        (True, False): "inverse",
        (True, True): "real",
    }[inverse, onesided]
    size = x.shape[axis]
    if length is not None:
        size = int(length.reshape(()))
    elif kind == "real":
        size = 2 * (size - 1)
    return _transform(b, x, axis, size, kind)


def _stft(b: Builder) -> Tensor:
    x, window = b.required(0), b.input(2)
    step, given = b.array(1, "the frame step"), b.array(3, "the frame length")
    if step is None or int(step.reshape(())) < 1:
        raise Refusal("the frame step is missing or not positive")
    hop = int(step.reshape(()))
    if x.rank == 2:
        x = x.reshape(*x.shape, 1)
    if given is not None:
        length = int(given.reshape(()))
    else:
        length = x.shape[1] if window is None else window.shape[0]
    count = 1 + (x.shape[1] - length) // hop
    if length < 1 or count < 1:
        raise Refusal(f"frames of {length} do not fit into a signal of {x.shape[1]}")
    places = np.arange(count)[:, None] * hop + np.arange(length)
    frames = x.gather(places.astype(np.int64), 1)
    if window is not None:
        frames = frames * window.reshape(length, 1)
    kind = "half" if b.attribute("onesided", 1) else "forward"
    return _transform(b, frames, 2, length, kind)


def _mel_weights(b: Builder) -> None:
    """Name the inputs that have to be constant; when they all are, the node is folded."""
    for index in range(5):
        b.array(index, f"input {index}")


EXPANSIONS: Final[dict[str, Expansion]] = {
    "DFT": _dft,
    "MelWeightMatrix": _mel_weights,
    "STFT": _stft,
}
