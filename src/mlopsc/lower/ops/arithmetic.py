"""Arithmetic on elements: floats as TVM computes them, integers by functions that wrap.

See ``mlopsc.integers``.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from mlopsc.integers import Operation, function_name
from mlopsc.lower.ops.node import is_float, literal


def add(a: Any, b: Any) -> Any:
    """Return ``a + b``."""
    return a + b if is_float(a) else _call("add", a, b)


def subtract(a: Any, b: Any) -> Any:
    """Return ``a - b``."""
    # TVM takes x - x for 0, also where x is NaN or infinite.
    return a + -b if is_float(a) else _call("sub", a, b)


def multiply(a: Any, b: Any) -> Any:
    """Return ``a * b``."""
    return a * b if is_float(a) else _call("mul", a, b)


def divide(a: Any, b: Any) -> Any:
    """Return ``a / b``; of integers truncated, and 0 where ``b`` is."""
    return a / b if is_float(a) else _call("div", a, b)


def remainder(a: Any, b: Any, *, truncate: bool) -> Any:
    """Return what is left of the integer ``a``, with the sign of ``b`` unless ``truncate``."""
    return _call("rem" if truncate else "mod", a, b)


def negate(x: Any) -> Any:
    """Return ``-x``."""
    return -x if is_float(x) else subtract(literal(0, x), x)


def complement(x: Any) -> Any:
    """Return the integer ``~x``, which C does not keep in 8 or 16 bits: ``-x - 1``."""
    return subtract(negate(x), literal(1, x))


def shift_left(a: Any, b: Any) -> Any:
    """Return ``a << b`` of integers, where ``b`` is less than the width."""
    return _call("shl", a, b)


def _call(operation: Operation, a: Any, b: Any) -> Any:
    dtype = str(a.ty)
    return tirx.call_pure_extern(dtype, function_name(operation, dtype), a, b)
