"""The orders in which the hand-written kernels (``kernels/micro``) read their weights.

Takes weights as the model has them, int8 with a zero point of 0: [channels_out, channels_in or 1,
height, width] of a convolution, [columns_out, columns_in] of a product. Gives int8 arrays of one
axis. Functions with ``s4`` in their name put two weights, from -8 to 7, into each byte. The
comments of the C files say why each order is as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def as_is(weights: Array) -> Array:
    """The order of the model."""
    return np.ascontiguousarray(weights).reshape(-1)


def _fill_up(weights: Array, multiple: int) -> Array:
    """Fill the last axis up with zeros to a multiple."""
    width = -weights.shape[-1] % multiple
    return np.pad(weights, [*[(0, 0)] * (weights.ndim - 1), (0, width)])


def _taps_first(weights: Array) -> Array:
    """[channels_out, channels_in, height, width] -> [channels_out, all taps * channels_in]."""
    return weights.transpose(0, 2, 3, 1).reshape(weights.shape[0], -1)


def pack_dense_portable(weights: Array) -> Array:
    """[columns_out, depth] -> each four columns together, depth first; the rest as it is."""
    whole = weights.shape[0] // 4 * 4
    fours = weights[:whole].reshape(-1, 4, weights.shape[1]).transpose(0, 2, 1)
    return np.concatenate([as_is(fours), as_is(weights[whole:])])


def pack_conv_portable(weights: Array) -> Array:
    """Channels in fours; taps first."""
    return pack_dense_portable(_taps_first(weights))


def pack_conv_mve(weights: Array) -> Array:
    """[channels_out][taps][channels_in]."""
    return as_is(_taps_first(weights))


def _rows_dsp(weights: Array, multiple: int) -> Array:
    """[channels_out, channels_in, height, width] -> fours of k in the order that is widened."""
    odd = weights.shape[1] % 2 != 0
    rows = weights.reshape(weights.shape[0], -1) if odd else _taps_first(weights)
    return _fill_up(rows, multiple).reshape(-1, 4)[:, [0, 2, 1, 3]]


def pack_conv_dsp(weights: Array) -> Array:
    """Each four k in the order 0, 2, 1, 3, rows filled up to fours."""
    return as_is(_rows_dsp(weights, 4))


def _words_in_fours(weights: Array, word: int) -> Array:
    """[columns_out, depth] -> words [all, word], those of each four columns in turn."""
    filled = _fill_up(weights, word)
    outputs, depth = filled.shape
    whole = outputs // 4 * 4
    fours = filled[:whole].reshape(whole // 4, 4, depth // word, word).transpose(0, 2, 1, 3)
    return np.concatenate([fours.reshape(-1, word), filled[whole:].reshape(-1, word)])


def pack_dense_dsp(weights: Array) -> Array:
    """Words of four k, those of each four columns in turn."""
    return as_is(_words_in_fours(weights, 4))


def _halves(lower: Array, upper: Array) -> Array:
    """Two weights of 4 bits in each byte."""
    return as_is(((upper << 4) | (lower & 15)).astype(np.int8))


def _pairs(weights: Array) -> Array:
    """Neighbours of the last axis share a byte, the first one in its lower half."""
    even = _fill_up(weights, 2)
    return _halves(even[..., 0::2], even[..., 1::2])


def pack_dense_s4_portable(weights: Array) -> Array:
    """The same in pairs; a column that is left over starts at a byte of its own."""
    whole = weights.shape[0] // 4 * 4
    fours = _pairs(pack_dense_portable(weights[:whole]))
    return np.concatenate([fours, _pairs(weights[whole:])])


def pack_conv_s4_portable(weights: Array) -> Array:
    """The same in pairs."""
    return pack_dense_s4_portable(_taps_first(weights))


def pack_depthwise_s4(weights: Array) -> Array:
    """The order of the model, in pairs."""
    return _pairs(as_is(weights))


def pack_conv_s4_dsp(weights: Array) -> Array:
    """Each eight k: the first four in the upper halves, the second four in the lower ones."""
    eights = _rows_dsp(weights, 8).reshape(-1, 2, 4)
    return _halves(eights[:, 1], eights[:, 0])


def pack_dense_s4_dsp(weights: Array) -> Array:
    """Words of eight k in the order 0, 1, 4, 5, 2, 3, 6, 7, each with 8 added."""
    eights = _words_in_fours(weights, 8)[:, [0, 1, 4, 5, 2, 3, 6, 7]]
    return _pairs(eights + np.int8(8))


def pack_dense_s4_mve(weights: Array) -> Array:
    """The first half of the depth lies in the upper halves of the bytes of a row."""
    even = _fill_up(weights, 2)
    half = even.shape[1] // 2
    return _halves(even[:, half:], even[:, :half])


def pack_conv_s4_mve(weights: Array) -> Array:
    """The first half of the k lies in the upper halves of the bytes of a row."""
    return pack_dense_s4_mve(_taps_first(weights))
