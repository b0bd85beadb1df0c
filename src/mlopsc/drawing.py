"""Draws arrays to try a model with: what a signature allows and kernels take."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mlopsc.dtypes import DTYPES

Array = np.ndarray[Any, Any]
SEED = 20260101


def draw_array(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...], *, last: bool = False
) -> Array:
    """Return a random array.

    Floats are standard normal, or uniform in [0, 1) if it is the ``last``; 8-bit integers span
    their range; wider integers are 0 or 1, which is in range for indices of any table.

    Args:
        rng: Where randomness comes from.
        dtype: A key of ``DTYPES``.
        shape: Sizes of the axes.
        last: Whether it is the last of several.
    """
    kind = np.dtype(dtype)
    if DTYPES[dtype].is_float:
        drawn = rng.random(shape) if last else rng.standard_normal(shape)
        unsigned = dtype == "float8_e8m0fnu"
        return np.asarray(np.abs(drawn) if unsigned else drawn).astype(kind)
    if kind.itemsize == 1 and dtype != "bool":
        info = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
        return rng.integers(info.min, info.max, shape, np.int16, endpoint=True).astype(kind)
    return rng.integers(0, 2, shape).astype(kind)
