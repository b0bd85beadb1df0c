"""Replaces mathematical intrinsics by functions of ``kernels/runtime``.

The functions are portable C without tables, so a library needs no libm for them and computes the
same bits on every target. What maps to one instruction (square root, rounding) stays an intrinsic.
"""

from __future__ import annotations

from typing import Any, Final

import tvm
from tvm import tirx
from tvm_ffi.structural import structural_map

OWN_MATH: Final[dict[str, str]] = {
    "tirx.exp": "mlopsc_expf",
    "tirx.log": "mlopsc_logf",
    "tirx.tanh": "mlopsc_tanhf",
    "tirx.erf": "mlopsc_erff",
    "tirx.pow": "mlopsc_powf",
    "tirx.sin": "mlopsc_sinf",
    "tirx.cos": "mlopsc_cosf",
}


def use_own_math(module: Any) -> Any:
    """Return ``module`` with float32 intrinsics of every TIR function replaced."""

    def replace(call: Any) -> Any:
        if not isinstance(call.op, tvm.ir.Op) or str(call.ty) != "float32":
            return call
        if call.op.name == "tirx.sigmoid":
            return 1.0 / (1.0 + tirx.call_pure_extern("float32", "mlopsc_expf", -call.args[0]))
        own = OWN_MATH.get(call.op.name)
        return call if own is None else tirx.call_pure_extern("float32", own, *call.args)

    functions = {}
    for var, function in module.functions.items():
        if isinstance(function, tirx.PrimFunc):
            function = function.with_body(structural_map(function.body, (tvm.ir.Call, replace)))
        functions[var] = function
    return tvm.IRModule(functions, attrs=module.attrs)
