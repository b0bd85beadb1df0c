"""The larger and the smaller of two values, as ``Max``, ``ReduceMax`` and scatters choose it."""

from __future__ import annotations

import math
from typing import Any

from tvm import te, tirx

from mlopsc.lower.ops.node import is_float


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two values of one type; NaN if either is."""
    return tirx.Select(_or_nan(a > b, a), a, b)


def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two values of one type; NaN if either is."""
    return tirx.Select(_or_nan(a < b, a), a, b)


def _or_nan(chosen: Any, a: Any) -> Any:
    # Where b is NaN no comparison holds, and b is taken.
    return tirx.any(chosen, tirx.isnan(a)) if is_float(a) else chosen


def least(dtype: str) -> Any:
    """Return what no number of a type is less than: of floats minus infinity."""
    return tirx.const(-math.inf, dtype) if "float" in dtype else te.min_value(dtype)
