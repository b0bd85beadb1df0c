"""Tables that stand for functions of 8-bit tensors. Computed in float64, at compile time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mlopsc.integer.arithmetic import Unfit
from mlopsc.integer.quantisation import Quantisation

Array = np.ndarray[Any, Any]

EXP_BITS: Final = 20  # exp(0) is 2^20


def function_table(
    function: Callable[[Array], Array], source: Quantisation, out: Quantisation, low: int, high: int
) -> Array:
    """Return int8 [256]: the result for each integer from -128 on.

    Args:
        function: Takes and gives float64 [256].
        source: Of the operand.
        out: Of the result.
        low: Least integer of the result.
        high: Greatest integer of the result.

    Raises:
        Unfit: The function gives NaN.
    """
    integers = np.arange(-128, 128, dtype=np.float64)
    with np.errstate(all="ignore"):
        values = np.asarray(function(source.scale * (integers - source.zero)), np.float64)
        steps = np.rint(values / out.scale) + out.zero
    if np.isnan(steps).any() or steps.shape != integers.shape:
        raise Unfit("a function of the operand is not a number everywhere")
    return np.asarray(np.clip(steps, low, high).astype(np.int8))


def interpolation_table(
    function: Callable[[Array], Array], source: Quantisation, out: Quantisation, low: int, high: int
) -> Array:
    """Return int16 [513]: the result for every 128th integer from -32768 to 32768.

    Args:
        function: Takes and gives float64 of any length.
        source: Of the operand.
        out: Of the result.
        low: Least integer of the result.
        high: Greatest integer of the result.

    Raises:
        Unfit: The function is not a number somewhere, or a line between two points is further than
            one step from it.
    """
    integers = np.arange(-32768, 32769, dtype=np.float64)
    with np.errstate(all="ignore"):
        values = np.asarray(function(source.scale * (integers - source.zero)), np.float64)
        exact = np.clip(np.rint(values / out.scale) + out.zero, low, high)
    if np.isnan(exact).any() or exact.shape != integers.shape:
        raise Unfit("a function of the operand is not a number everywhere")
    table = exact[::128].astype(np.int64)
    between = interpolate(np.arange(-32768, 32768), table)
    if np.abs(between - exact[:-1]).max() > 1:
        raise Unfit("a function bends too much for lines between 513 points")
    return np.asarray(table.astype(np.int16))


def interpolate(x: Array, table: Array) -> Array:
    """Return int64: ``t[i] + (((t[i+1] - t[i]) * (u & 127) + 64) >> 7)``, ``u = x + 32768``."""
    wide, offset = table.astype(np.int64), x.astype(np.int64) + 32768
    index, part = offset >> 7, offset & 127
    return np.asarray(wide[index] + (((wide[index + 1] - wide[index]) * part + 64) >> 7))


def softmax_table(scale: float, bits: int) -> Array:
    """Return what gives ``exp(-scale * d) * 2^20`` for the distance ``d`` to the maximum.

    Returns:
        int32 [256], by ``d``, of 8 bits; of 16 bits int32 [512], by ``d >> 8`` and, from 256 on, by
        ``d & 255``: the exponential is the product of both.
    """
    steps = np.arange(256.0)
    parts = [steps] if bits == 8 else [256.0 * steps, steps]
    exponents = -scale * np.concatenate(parts)
    return np.asarray(np.rint(np.exp(exponents) * 2.0**EXP_BITS).astype(np.int32))
