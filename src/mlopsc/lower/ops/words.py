"""Words of four 8-bit integers: operators of the compiler that become calls of ``mlopsc.words``.

Until kernels are lowered they are pure and TVM cannot look into them; where it vectorises, they are
of vectors. A sum of products is written as such, ``acc + dot(x, w)``, so that every rule for
reductions holds; at last the sum becomes part of the call.
"""

from __future__ import annotations

from typing import Any, Final

import tvm
from tvm import tirx
from tvm_ffi.structural import structural_map, structural_walk

from mlopsc.lower.functions import map_functions
from mlopsc.words import OPERATIONS, Dot, function_name

_PURE: Final = 1  # tirx.CallEffectKind
_PREFIX: Final = "mlopsc.word_"
_DOT: Final = f"{_PREFIX}dot_"
# Where words are taken apart first, the parts of both operands, products and a mask.
_REGISTERS: Final = {"dot_madd": 5, "dot_plain": 8}
for _name in OPERATIONS:
    tvm.ir.register_op_attr(f"{_PREFIX}{_name}", "TCallEffectKind", _PURE)
    tvm.ir.register_op_attr(f"{_PREFIX}{_name}", "TVectorizable", True)


def dot(kind: Dot, x: Any, w: Any) -> Any:
    """Return the sum of the products of the elements of two words."""
    return tirx.call_intrin("int32", f"{_DOT}{kind}", x, w)


def is_dot(value: Any) -> bool:
    """Whether a value is a sum of products of two words."""
    return _operation(value).startswith("dot_")


def registers_of(body: Any) -> int:
    """Return how many registers the products in ``body`` take, beside operands and sums."""
    found = [0]
    structural_walk(body, (tvm.ir.Call, lambda c: found.append(_REGISTERS.get(_operation(c), 0))))
    return max(found)


def pack(*elements: Any) -> Any:
    """Return the word of four elements of 8 bits, the first in the lowest byte."""
    return tirx.call_intrin("int32", f"{_PREFIX}pack", *elements)


def scale(value: Any, multiplier: Any, constant: Any) -> Any:
    """Return ``(value * multiplier + constant) >> 32``; the constant has 64 bits."""
    return tirx.call_intrin("int32", f"{_PREFIX}scale", value, multiplier, constant)


def call_word_functions(module: Any) -> Any:
    """Return lowered kernels that call the functions of ``mlopsc.words``."""

    def add(node: Any) -> Any:
        for value, other in ((node.b, node.a), (node.a, node.b)):
            if is_dot(value) and len(value.args) == 2:
                return tirx.call_intrin(str(node.ty), value.op.name, other, *value.args)
        return node

    def replace(call: Any) -> Any:
        operation = _operation(call)
        if not operation:
            return call
        arguments = list(call.args)
        if operation.startswith("dot_") and len(arguments) == 2:
            arguments.insert(0, _zero(str(call.ty)))
        lanes = int(str(call.ty).partition("x")[2] or 1)
        return tirx.call_pure_extern(str(call.ty), function_name(operation, lanes), *arguments)

    def change(function: Any) -> Any:
        body = structural_map(function.body, [(tirx.Add, add)])
        return function.with_body(structural_map(body, [(tvm.ir.Call, replace)]))

    return map_functions(module, change)


def _zero(dtype: str) -> Any:
    lanes = int(dtype.partition("x")[2] or 1)
    zero = tirx.const(0, "int32")
    return tirx.Broadcast(zero, lanes) if lanes > 1 else zero


def _operation(value: Any) -> str:
    """Return which of the operators a value is a call of, or ""."""
    name = getattr(value.op, "name", "") if isinstance(value, tvm.ir.Call) else ""
    return str(name).removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""
