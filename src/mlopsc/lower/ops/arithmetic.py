"""Arithmetic on elements: floats as TVM computes them, integers by functions that wrap.

See ``mlopsc.integers``. Until kernels are lowered, the functions are operators of the compiler:
pure, and of vectors where it vectorises.
"""

from __future__ import annotations

from typing import Any, Final

import tvm
from tvm import tirx
from tvm_ffi.structural import structural_map

from mlopsc.integers import OPERATIONS, Operation, function_name
from mlopsc.lower.functions import map_functions
from mlopsc.lower.ops.node import is_float, literal

_PURE = 1  # tirx.CallEffectKind
_OPERATORS: Final[dict[str, Operation]] = {f"mlopsc.wrap_{o}": o for o in OPERATIONS}
# Of integers, as operators of the compiler.
ADDITION: Final = "mlopsc.wrap_add"
MULTIPLICATION: Final = "mlopsc.wrap_mul"
for _name in _OPERATORS:
    tvm.ir.register_op_attr(_name, "TCallEffectKind", _PURE)
    tvm.ir.register_op_attr(_name, "TVectorizable", True)


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


def call_functions(module: Any) -> Any:
    """Return lowered kernels that call the functions of ``mlopsc.integers``."""

    def replace(call: Any) -> Any:
        operation = _OPERATORS.get(getattr(call.op, "name", ""))
        if operation is None:
            return call
        dtype = str(call.ty)
        return tirx.call_pure_extern(dtype, function_name(operation, dtype), *call.args)

    callback = (tvm.ir.Call, replace)
    return map_functions(module, lambda f: f.with_body(structural_map(f.body, (callback,))))


def _call(operation: Operation, a: Any, b: Any) -> Any:
    return tirx.call_intrin(str(a.ty), f"mlopsc.wrap_{operation}", a, b)
