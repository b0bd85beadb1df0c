"""Gives kernels the arithmetic that ONNX defines, where TVM's differs or needs a library.

Mathematical functions become calls of ``kernels/runtime``: portable C without tables, so a library
needs no libm for them and computes the same bits on every target. What maps to one instruction
(square root, rounding) stays an intrinsic. Reductions by maximum or minimum start at an infinity,
not at the largest finite number; and a limit (``Relu``, ``Clip``) lets NaN through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tvm
from tvm import s_tir, tirx
from tvm_ffi.structural import structural_map

from mlopsc.lower.functions import map_functions, with_parts
from mlopsc.lower.vector_math import VECTOR_MATH

OWN_MATH: Final[dict[str, str]] = {
    "tirx.exp": "mlopsc_expf",
    "tirx.log": "mlopsc_logf",
    "tirx.tanh": "mlopsc_tanhf",
    "tirx.erf": "mlopsc_erff",
    "tirx.pow": "mlopsc_powf",
    "tirx.sin": "mlopsc_sinf",
    "tirx.cos": "mlopsc_cosf",
    "tirx.nearbyint": "mlopsc_rintf",
}

# Of float64, libm computes all but what the machines without an operating system lack.
OWN_MATH_DOUBLE: Final[dict[str, str]] = {"tirx.nearbyint": "mlopsc_rint"}


def use_own_math(module: Any) -> Any:
    """Return TIR functions with intrinsics of floats replaced, after loops became vectors."""

    def replace(call: Any) -> Any:
        if not isinstance(call.op, tvm.ir.Op):
            return call
        name, dtype = call.op.name, str(call.ty)
        if dtype.startswith("float32x"):
            if name in VECTOR_MATH:
                return VECTOR_MATH[name](*call.args)
            return _lane_by_lane(call) if name in OWN_MATH else call
        if dtype == "float64" and name in OWN_MATH_DOUBLE:
            return tirx.call_pure_extern(dtype, OWN_MATH_DOUBLE[name], *call.args)
        if dtype != "float32":
            return call
        if name == "tirx.sigmoid":
            return 1.0 / (1.0 + tirx.call_pure_extern(dtype, "mlopsc_expf", -call.args[0]))
        own = OWN_MATH.get(name)
        return call if own is None else tirx.call_pure_extern(dtype, own, *call.args)

    return _map_functions(module, (tvm.ir.Call, replace))


def _lane_by_lane(call: Any) -> Any:
    """Return the vector of what the runtime's function gives for each lane."""
    own = OWN_MATH[call.op.name]
    lanes = int(str(call.ty).removeprefix("float32x"))

    def lane(index: int) -> Any:
        arguments = [tirx.Shuffle([a], [index]) for a in call.args]
        return tirx.call_pure_extern("float32", own, *arguments)

    return tirx.Shuffle([lane(index) for index in range(lanes)], list(range(lanes)))


def use_own_starts(module: Any) -> Any:
    """Return the Relax module with reduction starts and ``log(1 + x)`` replaced."""

    def replace(call: Any) -> Any:
        if not isinstance(call.op, tvm.ir.Op) or str(call.ty) != "float32":
            return call
        if call.op.name == "tirx.log" and (small := _added_to_one(call.args[0])) is not None:
            return tirx.call_pure_extern("float32", "mlopsc_log1pf", small)
        return call

    def start(block: Any) -> Any:
        if block.init is None:
            return block
        return with_parts(block, init=structural_map(block.init, (tirx.FloatImm, _infinite)))

    return _map_functions(module, (tvm.ir.Call, replace), (s_tir.SBlock, start))


def let_nan_through(module: Any) -> Any:
    """Return bare kernels whose ``max(x, limit)`` and ``min(x, limit)`` give NaN for NaN.

    Both generators compute ``max(a, b)`` as ``a > b ? a : b``, one instruction on most machines,
    which gives ``b`` if either is NaN; so the constant goes first. Done last, because simplifying
    puts constants second.
    """

    def order(make: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        def swap(node: Any) -> Any:
            return make(node.b, node.a) if _is_limit(node.b) else node

        return swap

    return _map_functions(module, (tirx.Max, order(tirx.Max)), (tirx.Min, order(tirx.Min)))


def _added_to_one(value: Any) -> Any | None:
    """Return ``y`` if ``value`` is ``1 + y``: its logarithm is exact only without the sum."""
    if not isinstance(value, tirx.Add):
        return None
    for one, other in ((value.a, value.b), (value.b, value.a)):
        if isinstance(one, tirx.FloatImm) and one.value == 1.0:
            return other
    return None


def _is_limit(value: Any) -> bool:
    """Whether ``value`` is a constant: a literal, or a load from a tensor of one element."""
    if isinstance(value, tirx.Broadcast):
        value = value.value
    if isinstance(value, tvm.ir.TensorLoad):
        return math.prod(int(d) for d in value.source.ty.shape) == 1
    return isinstance(value, tirx.FloatImm)


def _infinite(literal: Any) -> Any:
    """Return an infinity for the largest finite number of a type."""
    dtype = str(literal.ty)
    if dtype not in ("float32", "float64") or abs(literal.value) != np.finfo(dtype).max:
        return literal
    return tirx.FloatImm(dtype, float(np.copysign(np.inf, literal.value)))


def _map_functions(module: Any, *callbacks: Any) -> Any:
    return map_functions(module, lambda f: f.with_body(structural_map(f.body, callbacks)))
