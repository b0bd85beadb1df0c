"""Requantisation: factors as integers, and what they do to accumulators.

Source: docs/integer-semantics.md. All of it is exact integer arithmetic in NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

INT32_MAX: Final = (1 << 31) - 1
MAX_LEFT_SHIFT: Final = 31
_MOST_INEXACT: Final = 0.5  # steps of the result, before rounding
WIDE_BITS: Final = 46  # saturation of accumulators of 64 bits: times 31 bits more they still fit


class Unfit(Exception):  # noqa: N818 - it is an answer, not a failure
    """Why numbers cannot be computed in integers."""


@dataclass(frozen=True)
class Factors:
    """Positive factors of one layer: ``M_n = multipliers[n] * 2^(left_shift - 32)``."""

    multipliers: Array
    left_shift: int


def factors(values: Array, reach: int = INT32_MAX) -> Factors:
    """Return float64 factors, one for each channel, as multipliers with one left shift.

    Args:
        values: The factors.
        reach: Largest absolute value of an accumulator.

    Raises:
        Unfit: A factor is not positive, too large, or has too few bits for ``reach``.
    """
    values = np.atleast_1d(np.asarray(values, np.float64))
    if not np.isfinite(values).all() or (values <= 0).any():
        raise Unfit("a scale is not a positive number")
    for shift in range(MAX_LEFT_SHIFT + 1):
        with np.errstate(over="ignore"):  # infinity is too large for any shift
            multipliers = np.floor(np.ldexp(values, 32 - shift) + 0.5)
        if multipliers.max() <= INT32_MAX:
            # Of accumulators of 64 bits; beyond 2^16 steps every result is the end of its type.
            errors = np.abs(np.ldexp(multipliers, shift - 32) - values)
            if (errors * np.minimum(reach, 2.0**16 / values)).max() > _MOST_INEXACT:
                raise Unfit("a factor has too few bits for sums as large")
            return Factors(multipliers.astype(np.int32), shift)
    raise Unfit(f"a factor of {values.max():g} between scales is too large")


def requantize(total: Array, multipliers: Array, left_shift: int) -> Array:
    """Return ``(sat(total * 2^left_shift) * multipliers + 2^31) >> 32`` as int64.

    Args:
        total: Accumulators: int32, or int64 (then saturated to 47 bits).
        multipliers: int32, broadcast to ``total``.
        left_shift: 0 to 31.
    """
    wide = total.dtype == np.int64
    limit = (1 << WIDE_BITS) - 1 if wide else INT32_MAX
    low, high = (-limit - 1) >> left_shift, limit >> left_shift
    shifted = np.clip(total.astype(np.int64), low, high) << left_shift
    if not wide:  # what saturates is the end of the type itself
        shifted = np.where(total > high, INT32_MAX, shifted)
        shifted = np.where(total < low, -INT32_MAX - 1, shifted)
    factor = multipliers.astype(np.int64)
    if not wide:
        return (shifted * factor + (1 << 31)) >> 32
    # The product has up to 78 bits: the high part first, then the low one with its carry.
    top, bottom = shifted >> 32, shifted & 0xFFFFFFFF
    return top * factor + ((bottom * factor + (1 << 31)) >> 32)


@dataclass(frozen=True)
class Sum:
    """``(a * multipliers[0] + b * multipliers[1] + constant) >> shift``."""

    multipliers: tuple[int, int]
    constant: int
    shift: int


def weighted_sum(
    ratios: tuple[float, float],
    zeros: tuple[int, int],
    zero_out: int,
    ranges: tuple[tuple[int, int], tuple[int, int]],
    *,
    wide: bool,
) -> Sum:
    """Return the integers that add two operands.

    Args:
        ratios: Scale of each operand over the result's, negative for what is subtracted.
        zeros: Zero points of the operands.
        zero_out: Zero point of the result.
        ranges: Least and greatest integer of each operand.
        wide: Whether operands have 16 bits: int64 and always 30 bits of fraction.

    Raises:
        Unfit: The ratios are too large.
    """
    limit = (1 << 62) if wide else INT32_MAX
    for shift in (30,) if wide else range(24, 0, -1):
        first, second = (math.floor(r * 2.0**shift + 0.5) for r in ratios)
        constant = (1 << (shift - 1)) - zeros[0] * first - zeros[1] * second + (zero_out << shift)
        parts = [
            [first * v for v in ranges[0]],
            [second * v for v in ranges[1]],
        ]
        # Every partial sum, in either order, must stay inside.
        sums = [
            abs(v)
            for a in parts[0]
            for b in parts[1]
            for v in (a, b, a + b, a + constant, b + constant, a + b + constant, constant)
        ]
        if max(sums) <= limit:
            return Sum((first, second), constant, shift)
    raise Unfit("the scales of the operands are too far from the result's")
