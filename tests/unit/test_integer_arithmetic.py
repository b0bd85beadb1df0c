"""Requantisation and sums are what docs/integer-semantics.md says, for every number."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlopsc.integer.arithmetic import (
    INT32_MAX,
    WIDE_BITS,
    Unfit,
    factors,
    requantize,
    weighted_sum,
)

INT32 = st.integers(-INT32_MAX - 1, INT32_MAX)


def exact(total: int, multiplier: int, left_shift: int, bits: int) -> int:
    """The definition, with Python's unbounded integers."""
    limit = 1 << bits
    shifted = min(max(total << left_shift, -limit), limit - 1)
    return (shifted * multiplier + (1 << 31)) >> 32


@given(INT32, st.integers(0, INT32_MAX), st.integers(0, 31))
def test_requantize_of_32_bits(total: int, multiplier: int, left_shift: int) -> None:
    got = requantize(np.array([total], np.int32), np.array([multiplier], np.int32), left_shift)
    assert int(got[0]) == exact(total, multiplier, left_shift, 31)


@given(
    st.integers(-(1 << WIDE_BITS), (1 << WIDE_BITS) - 1),
    st.integers(0, INT32_MAX),
    st.integers(0, 31),
)
def test_requantize_of_64_bits(total: int, multiplier: int, left_shift: int) -> None:
    got = requantize(np.array([total], np.int64), np.array([multiplier], np.int32), left_shift)
    limit = (1 << WIDE_BITS) - 1
    inside = min(max(total, (-limit - 1) >> left_shift), limit >> left_shift)
    assert int(got[0]) == (inside * 2**left_shift * multiplier + (1 << 31)) >> 32


@given(st.lists(st.floats(1e-12, 1e8), min_size=1, max_size=5))
def test_factors_are_near(values: list[float]) -> None:
    made = factors(np.array(values), reach=1)
    for value, multiplier in zip(values, made.multipliers, strict=True):
        written = Fraction(int(multiplier)) * Fraction(2) ** (made.left_shift - 32)
        assert abs(written - Fraction(value)) <= Fraction(2) ** (made.left_shift - 33)
    if made.left_shift:
        assert math.floor(max(values) * 2.0 ** (33 - made.left_shift) + 0.5) > INT32_MAX


def test_factors_of_few_bits_are_for_small_sums() -> None:
    coarse = np.array([21.4 * 2.0**-32])
    assert factors(coarse, reach=1 << 30).multipliers[0] == 21
    with pytest.raises(Unfit):
        factors(coarse, reach=1 << 34)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_factors_that_are_none(value: float) -> None:
    with pytest.raises(Unfit):
        factors(np.array([0.5, value]))


@given(
    st.floats(1e-3, 50),
    st.floats(1e-3, 50),
    st.integers(-128, 127),
    st.integers(-128, 127),
    st.integers(-128, 127),
    st.booleans(),
)
def test_sums_stay_in_32_bits_and_are_near(
    left: float, right: float, zero_a: int, zero_b: int, zero: int, subtract: bool
) -> None:
    sign = -1 if subtract else 1
    ends = (-128, 127)
    made = weighted_sum((left, sign * right), (zero_a, zero_b), zero, (ends, ends), wide=False)
    for a in ends:
        for b in ends:
            parts = (a * made.multipliers[0], b * made.multipliers[1], made.constant)
            for total in (parts[0], parts[0] + parts[1], sum(parts), parts[1] + parts[2]):
                assert -INT32_MAX - 1 <= total <= INT32_MAX
            steps = sum(parts) >> made.shift
            number = left * (a - zero_a) + sign * right * (b - zero_b) + zero
            assert abs(steps - number) <= 0.5 + 512 * 2.0 ** (-made.shift - 1)
    assert made.shift >= 15  # so a sum is within a hundredth of a step


def test_scales_too_far_apart_are_refused() -> None:
    ends = (-128, 127)
    with pytest.raises(Unfit):
        weighted_sum((1e9, 1.0), (0, 0), 0, (ends, ends), wide=False)
