"""Comparisons of integers that their types decide, whatever the values: compilers warn of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm_ffi.structural import structural_equal

_SWAPPED = {tirx.GT: tirx.LT, tirx.GE: tirx.LE}


def decided(node: Any) -> Any:
    """Return a comparison of scalars, or the constant that it always is."""
    low, high = _bounds(node.a), _bounds(node.b)
    if low is None or high is None:
        return node
    kind = type(node)
    if kind in _SWAPPED:
        kind, low, high = _SWAPPED[kind], high, low
    same = structural_equal(node.a, node.b)
    if kind is tirx.LT:
        always, never = low[1] < high[0], low[0] >= high[1] or same
    elif kind is tirx.LE:
        always, never = low[1] <= high[0] or same, low[0] > high[1]
    else:
        apart = low[1] < high[0] or high[1] < low[0]
        equal = same or low == high == (low[0], low[0])
        always, never = (equal, apart) if kind is tirx.EQ else (apart, equal)
    return tirx.const(bool(always), "bool") if always or never else node


def _bounds(value: Any) -> tuple[int, int] | None:
    """Return the least and the largest value that the type of an integer allows, or None."""
    while isinstance(value, tirx.Cast) and _is_integer(value.value) and _is_integer(value):
        inner, outer = np.iinfo(str(value.value.ty)), np.iinfo(str(value.ty))
        if inner.min < outer.min or inner.max > outer.max:
            break
        value = value.value
    if not _is_integer(value):
        return None
    if isinstance(value, tirx.IntImm):
        return int(value.value), int(value.value)
    info = np.iinfo(str(value.ty))
    return int(info.min), int(info.max)


def _is_integer(value: Any) -> bool:
    name = str(value.ty)
    return name.startswith(("int", "uint")) and name.lstrip("uint").isdigit()
