"""Data that boosted models are trained on, with fixed seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
ROWS = 300


class Data(NamedTuple):
    """Features and what may be learned of them.

    Attributes:
        plain: Five features, numbers.
        gaps: The same, one in seven missing.
        mixed: The first two are categories, 50 and 5; some are missing.
        number: Something real.
        count: A whole number, not negative.
        group: One of four.
    """

    plain: Array
    gaps: Array
    mixed: Array
    number: Array
    count: Array
    group: Array


def make_data() -> Data:
    """Return the data."""
    rng = np.random.default_rng(7)
    plain = rng.normal(size=(ROWS, 5)).astype(np.float32)
    gaps = np.where(rng.random(plain.shape) < 0.15, np.float32(np.nan), plain)
    mixed = gaps.copy()
    mixed[:, 0] = rng.integers(0, 50, ROWS)
    mixed[:, 1] = rng.integers(0, 5, ROWS)
    mixed[:20, 1] = np.nan
    number = 3 + 2 * plain[:, 0] + np.sin(3 * plain[:, 1])
    number += (mixed[:, 0] % 7 > 3) + np.nan_to_num(mixed[:, 1] % 2)
    return Data(plain, gaps, mixed, number, np.abs(number).round(), np.digitize(number, (2, 3, 4)))
