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


def softmax_table(scale: float) -> Array:
    """Return int32 [256]: ``round(exp(-scale * d) * 2^20)``; ``d`` is the to the maximum."""
    return np.rint(np.exp(-scale * np.arange(256.0)) * 2.0**EXP_BITS).astype(np.int32)
