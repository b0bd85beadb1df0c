"""Packs the constants of 8-bit integer layers: weights as words, and how sums are requantised.

Pure arithmetic on arrays. A word is four weights that are multiplied by four neighbouring elements
of an activation; on both sides it is one int32, the first element in its lowest byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlopsc.lower.forms import Array
from mlopsc.words import WORD_BYTES

_HALF = 1 << 31  # of a step, before a shift by 32
_LIMIT = 1 << 31  # of int32


def padded(array: Array, axis: int, block: int) -> Array:
    """Return ``array`` with zeros at the end of ``axis``, up to a multiple of ``block``."""
    missing = -array.shape[axis] % block
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)])


def as_words(array: Array) -> Array:
    """Return int8 ``[..., 4]`` as int32 ``[...]``."""
    return np.ascontiguousarray(array).view("<i4")[..., 0]


def convolution_words(w: Array, block: int, inner: int) -> Array:
    """Pack ``[F, C, k...]`` as ``[F/(pB), C/b, k..., b/4, p, B]``; ``p`` blocks are one tile.

    Args:
        w: int8.
        block: Features of a block (B).
        inner: Channels of a block of the input (b).
    """
    kernel = w.shape[2:]
    rank = len(kernel)
    w = padded(padded(w, 0, block), 1, inner)
    blocks = w.shape[0] // block
    pair = 2 if blocks % 2 == 0 else 1
    split = w.reshape(blocks // pair, pair, block, -1, inner // WORD_BYTES, WORD_BYTES, *kernel)
    order = [0, 3, *range(6, 6 + rank), 4, 1, 2, 5]
    return as_words(split.transpose(order))


def depthwise_words(w: Array, block: int) -> Array:
    """Pack int8 ``[C, 1, k...]`` as ``[C/B, k..., g, B]``: a word is four taps of the last axis."""
    w = padded(padded(w, 0, block), w.ndim - 1, WORD_BYTES)
    rank = w.ndim - 2
    split = w.reshape(-1, block, *w.shape[2:-1], w.shape[-1] // WORD_BYTES, WORD_BYTES)
    return as_words(split.transpose([0, *range(2, 2 + rank), 1, 2 + rank]))


def depthwise_elements(w: Array, block: int) -> Array:
    """Pack int8 ``[C, 1, k...]`` as int8 ``[C/B, k..., B]``."""
    w = padded(w, 0, block)
    split = w.reshape(-1, block, *w.shape[2:])
    return split.transpose([0, *range(2, split.ndim), 1])


def panel_words(w: Array, width: int) -> Array:
    """Pack int8 ``[K, N]`` as ``[N/P, K/4, P]``; K is a multiple of 4."""
    panels = padded(w, 1, width).reshape(w.shape[0] // WORD_BYTES, WORD_BYTES, -1, width)
    return as_words(panels.transpose(2, 0, 3, 1))


@dataclass(frozen=True)
class Requantisation:
    """What makes results of sums: ``scale(sum, multiplier, constant)`` of ``mlopsc.words``.

    Attributes:
        multiplier: int32 ``[F]``.
        constant: int64 ``[F]``: zero points, half a step, and the bias unless that is apart.
        bias: int32 ``[F]``, where it must be added before a shift to the left; else None.
    """

    multiplier: Array
    constant: Array
    bias: Array | None

    @classmethod
    def of(cls, multiplier: Array, bias: Array, zero_out: int, left_shift: int) -> Requantisation:
        """Return it for sums without their ``bias``; ``zero_out`` is that of the result's form."""
        m, b = np.broadcast_arrays(multiplier.astype(np.int64), bias.astype(np.int64))
        constant = (0 if left_shift else b * m) + _HALF + (zero_out << 32)
        constant = np.broadcast_to(np.asarray(constant, np.int64), m.shape)
        return cls(m.astype(np.int32), constant, b.astype(np.int32) if left_shift else None)

    def packed(self, width: int) -> list[tuple[str, Array]]:
        """Return the arrays as ``[F/width, width]`` with their names, in the order of operands."""
        arrays = [("multiplier", self.multiplier), ("constant", self.constant)]
        if self.bias is not None:
            arrays.append(("bias", self.bias))
        return [(name, padded(array, 0, width).reshape(-1, width)) for name, array in arrays]


def fits(weight: Array, largest: int) -> bool:
    """Whether no sum of products leaves int32.

    Args:
        weight: int8 ``[F, ...]``, what is multiplied for each result.
        largest: Magnitude of an element of the activation.
    """
    magnitudes = np.abs(weight.reshape(weight.shape[0], -1).astype(np.int64)).sum(axis=1)
    return int(magnitudes.max(initial=0)) * largest < _LIMIT


def products_with(offset: int, weight: Array) -> Array:
    """Return what an ``offset`` of all elements adds to each sum, as int64 ``[F]``."""
    sums: Array = weight.reshape(weight.shape[0], -1).sum(axis=1, dtype=np.int64)
    return offset * sums


def wrapped(value: int) -> int:
    """Return ``value`` as int32 keeps it."""
    return (value + _LIMIT) % (2 * _LIMIT) - _LIMIT


def block_of(channels: int, sizes: Sequence[int]) -> int:
    """Return the least of ascending ``sizes`` that holds all channels, or the greatest."""
    return next((size for size in sizes if size >= channels), sizes[-1])
