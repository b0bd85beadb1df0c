"""Compares arrays with reference arrays: absolute, relative and ULP error, first difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlopsc.dtypes import DTYPES, SMALL
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.conformance import OutputError

Array = np.ndarray[Any, Any]
_LARGEST = float(np.finfo(np.float64).max)  # JSON has no infinity
_BITS = {2: "int16", 4: "int32", 8: "int64"}


def compare(
    spec: TensorSpec, got: Sequence[Array], expected: Sequence[Array], tolerance: float
) -> OutputError:
    """Return the worst differences of one output over all vectors.

    An element fails if it differs by more than ``tolerance`` times the largest finite reference
    value of its vector; NaN must meet NaN and an infinity the same infinity. With a tolerance of 0
    all bits must be equal, except those of NaN: -0 is not +0.

    Args:
        spec: The output.
        got: What the package computed, one array per vector.
        expected: What the reference computed.
        tolerance: Relative to the largest value.
    """
    worst: dict[str, Any] = {"absolute": 0.0, "relative": 0.0, "scaled": 0.0, "ulp": 0}
    differing: tuple[int, int] | None = None
    inexact: tuple[int, int] | None = None
    for number, (mine, reference) in enumerate(zip(got, expected, strict=True)):
        a, b = mine.ravel(), reference.ravel()
        if a.size == 0:
            continue
        wrong, same = _judge(a, b, tolerance, worst)
        if differing is None and wrong.any():
            differing = (number, int(np.flatnonzero(wrong)[0]))
        if inexact is None and not same.all():
            inexact = (number, int(np.flatnonzero(~same)[0]))
    return OutputError(
        name=spec.name,
        dtype=spec.dtype,
        max_absolute=min(worst["absolute"], _LARGEST),
        max_relative=min(worst["relative"], _LARGEST),
        relative_to_max=min(worst["scaled"], _LARGEST),
        max_ulp=worst["ulp"],
        tolerance=tolerance,
        first_differing=differing,
        first_inexact=inexact,
    )


def _judge(a: Array, b: Array, tolerance: float, worst: dict[str, Any]) -> tuple[Array, Array]:
    """Update the worst errors; return which elements fail and which are equal."""
    a, b = _plain(a), _plain(b)
    if a.dtype.kind != "f":
        steps = np.abs(a.astype(object) - b.astype(object)) if a.dtype.kind != "b" else (a != b)
        largest = int(max(steps))
        worst["absolute"] = max(worst["absolute"], float(largest))
        worst["ulp"] = max(worst["ulp"], largest)
        same = a == b
        scale = float(max(abs(int(v)) for v in b))
        if scale > 0:
            worst["scaled"] = max(worst["scaled"], largest / scale)
        limit = tolerance * scale
        return np.asarray([float(s) > limit for s in steps]), same
    both_nan = np.isnan(a) & np.isnan(b)
    bits = _BITS[a.dtype.itemsize]
    same = (np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)) | both_nan
    finite = np.isfinite(a) & np.isfinite(b)
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    with np.errstate(over="ignore"):
        difference = np.abs(x - y)
    scale = float(np.abs(y).max()) if y.size else 0.0
    if difference.size:
        nonzero = difference > 0
        with np.errstate(over="ignore"):
            least = np.finfo(a.dtype).tiny
            relative = difference[nonzero] / np.maximum(np.abs(y[nonzero]), least)
        worst["absolute"] = max(worst["absolute"], float(difference.max()))
        worst["relative"] = max(worst["relative"], float(relative.max(initial=0.0)))
        if scale > 0:
            worst["scaled"] = max(worst["scaled"], float(difference.max()) / scale)
        worst["ulp"] = max(worst["ulp"], _ulps(a[finite], b[finite]))
    wrong = ~same
    wrong[finite] &= (difference > tolerance * scale) | (tolerance == 0)
    return wrong, same


def _plain(array: Array) -> Array:
    """Return ``array`` in a type of NumPy's own that holds its values."""
    if array.dtype.name not in SMALL or array.dtype.name == "float16":
        return array
    return array.astype(np.float32 if DTYPES[array.dtype.name].is_float else np.int16)


def _ulps(a: Array, b: Array) -> int:
    """Return the largest distance in units in the last place: ordered integers of the bits."""
    kind = _BITS[a.dtype.itemsize]
    lowest = int(np.iinfo(np.dtype(kind)).min)

    def ordered(v: Array) -> Array:
        bits = np.ascontiguousarray(v).view(kind)
        return np.where(bits < 0, lowest - bits, bits)

    p, q = ordered(a), ordered(b)
    return max((abs(int(i) - int(j)) for i, j in zip(p[p != q], q[p != q], strict=True)), default=0)
