"""Limits in float64 that float32 values are compared with: the float32 that decides alike."""

from __future__ import annotations

import numpy as np


def below(limit: float) -> float:
    """Return the largest float32 that is not above ``limit``.

    For every float32 x, ``x <= limit`` and ``x > limit`` hold exactly if they do with this.
    """
    with np.errstate(over="ignore"):
        near = np.float32(limit)
        # As Python floats: NumPy would compare with the limit rounded to float32.
        if float(near) > limit:
            near = np.nextafter(near, np.float32(-np.inf))
    return float(near)


def above(limit: float) -> float:
    """Return the least float32 that is not below ``limit``, for ``<`` and ``>=``."""
    return -below(-limit)
