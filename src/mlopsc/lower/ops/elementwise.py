"""Elementwise operators with NumPy's broadcasting. Source: the ONNX operator schemas.

Integers wrap; see ``arithmetic``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from tvm import tirx

from mlopsc.lower.ops.arithmetic import (
    add,
    complement,
    divide,
    multiply,
    negate,
    remainder,
    shift_left,
    subtract,
)
from mlopsc.lower.ops.cast import to_integer
from mlopsc.lower.ops.extrema import larger, smaller
from mlopsc.lower.ops.node import Lowering, Node, compute, elementwise, is_float, literal
from mlopsc.lower.vector_math import VECTOR_MATH


def _plain(function: Callable[..., Any]) -> Lowering:
    return lambda node: elementwise(node, function)


def _with_zeros(function: Callable[..., Any]) -> Lowering:
    """A product with 0 is not 0 where the other factor is NaN or infinite; a sum keeps signs."""
    return lambda node: elementwise(
        node, function, load_zeros=node.result.dtype.startswith("float")
    )


def _mod(node: Node) -> Any:
    fmod = bool(node.attribute("fmod", 0))

    def element(a: Any, b: Any) -> Any:
        if is_float(a):
            name = "fmodf" if str(a.ty) == "float32" else "fmod"
            rest = tirx.call_pure_extern(str(a.ty), name, a, b)
            if fmod:
                return rest
            zero = literal(0, a)
            wrong = tirx.any(tirx.all(rest > zero, b < zero), tirx.all(rest < zero, b > zero))
            return tirx.Select(wrong, rest + b, rest)
        return remainder(a, b, truncate=fmod)

    return elementwise(node, element)


def _shift(node: Node) -> Any:
    """Shift; by less than 0 or by the width and more, only the sign is left."""
    left = node.attribute("direction") in ("LEFT", b"LEFT")
    dtype = node.result.dtype
    signed = not dtype.startswith("uint")
    bits = int(dtype.removeprefix("u").removeprefix("int"))

    def element(a: Any, b: Any) -> Any:
        outside = b >= literal(bits, b)
        if signed:
            outside = tirx.any(outside, b < literal(0, b))
        within = tirx.Select(outside, literal(0, b), b)
        sign = a >> literal(bits - 1, a) if signed and not left else literal(0, a)
        return tirx.Select(outside, sign, shift_left(a, within) if left else a >> within)

    return elementwise(node, element)


def _of_all(choose: Callable[[Any, Any], Any]) -> Lowering:
    return _plain(lambda *values: functools.reduce(choose, values))


def _sign(x: Any) -> Any:
    zero, one = literal(0, x), literal(1, x)
    if str(x.ty).startswith("uint"):
        return tirx.Select(x > zero, one, zero)
    signed = tirx.Select(x > zero, one, tirx.Select(x < zero, literal(-1, x), zero))
    return tirx.Select(tirx.isnan(x), x, signed) if is_float(x) else signed


def _abs(x: Any) -> Any:
    if str(x.ty).startswith("uint"):
        return x
    return tirx.abs(x) if is_float(x) else tirx.Select(x < literal(0, x), negate(x), x)


def _relu(x: Any) -> Any:
    return tirx.max(x, literal(0, x))


def _clip(node: Node) -> Any:
    low, high = (node.optional(i) for i in (1, 2))

    def element(*index: Any) -> Any:
        value = node.operand(0).tensor(*index)
        if low is not None:
            value = tirx.max(value, low.at((0,) * low.rank))
        if high is not None:
            value = tirx.min(value, high.at((0,) * high.rank))
        return value

    return compute(node, element)


def _softplus(x: Any) -> Any:
    """``log(1 + exp(x))`` as ``max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow."""
    zero, one = literal(0, x), literal(1, x)
    return tirx.max(x, zero) + tirx.log(one + tirx.exp(-tirx.abs(x)))


def _scaled(function: Callable[..., Any], **defaults: float) -> Lowering:
    """An activation with float attributes; ``function`` takes the element and the attributes.

    An attribute that is 0 is loaded, as ``elementwise`` does with ``load_zeros``.
    """

    def lowering(node: Node) -> Any:
        dtype = node.operand(0).dtype
        numbers = {name: node.number(name, default) for name, default in defaults.items()}
        values = {
            name: literal(number, dtype) if number else node.table(np.zeros(1, dtype))(0)
            for name, number in numbers.items()
        }
        return elementwise(node, lambda x: function(x, **values))

    return lowering


def _elu(x: Any, alpha: Any) -> Any:
    return tirx.Select(x < literal(0, x), alpha * (tirx.exp(x) - literal(1, x)), x)


def _leaky(x: Any, alpha: Any) -> Any:
    return tirx.Select(x < literal(0, x), alpha * x, x)


def _selu(x: Any, alpha: Any, gamma: Any) -> Any:
    zero = literal(0, x)
    return tirx.Select(x <= zero, gamma * (alpha * tirx.exp(x) - alpha), gamma * x)


def _hard_sigmoid(x: Any, alpha: Any, beta: Any) -> Any:
    return tirx.max(tirx.min(alpha * x + beta, literal(1, x)), literal(0, x))


def _hard_swish(x: Any) -> Any:
    return x * _hard_sigmoid(x, literal(1 / 6, x), literal(0.5, x))


def _shrink(node: Node) -> Any:
    """Integers are shrunk as float64. NaN, which is not outside the limits, gives 0."""
    bias, lambd = node.number("bias", 0.0), node.number("lambd", 0.5)

    def element(x: Any) -> Any:
        value = x if is_float(x) else x.astype("float64")
        low, high, shift = (literal(v, value) for v in (-lambd, lambd, bias))
        inside = tirx.Select(value > high, value - shift, literal(0, value))
        shrunk = tirx.Select(value < low, value + shift, inside)
        return shrunk if is_float(x) else to_integer(shrunk, str(x.ty))

    return elementwise(node, element)


def _prelu(x: Any, slope: Any) -> Any:
    return tirx.Select(x < literal(0, x), slope * x, x)


def _is_inf(node: Node) -> Any:
    positive = bool(node.attribute("detect_positive", 1))
    negative = bool(node.attribute("detect_negative", 1))

    def element(x: Any) -> Any:
        infinite = np.inf
        tests = [x == literal(infinite, x)] if positive else []
        tests += [x == literal(-infinite, x)] if negative else []
        return tirx.any(*tests) if tests else tirx.const(False, "bool")

    return elementwise(node, element)


def _pow(a: Any, b: Any) -> Any:
    """Integers to integral powers are exact and wrap; a power that is no integer saturates.

    Squares and cubes are products, as in the reference: the first is rounded exactly.
    """
    dtype = str(a.ty)
    if is_float(a):
        if isinstance(b, tirx.IntImm | tirx.FloatImm) and b.value in (2, 3):
            return a * a if b.value == 2 else a * a * a
        power = tirx.pow(a, b.astype(dtype))
        return power if is_float(b) else _keep_sign(power, a, b)
    if not is_float(b):
        return _integer_power(a, b.astype("int64"))
    exact = _integer_power(a, to_integer(b, "int64"))
    rounded = to_integer(tirx.pow(a.astype(str(b.ty)), b), dtype)
    return tirx.Select(tirx.nearbyint(b) == b, exact, rounded)


def _integer_power(a: Any, b: Any) -> Any:
    power = tirx.call_pure_extern("int64", "mlopsc_powi64", a.astype("int64"), b)
    return power.astype(str(a.ty))


def _keep_sign(power: Any, a: Any, b: Any) -> Any:
    """Return the power of a negative number to an exponent whose parity a float cannot hold."""
    if int(str(b.ty).removeprefix("u").removeprefix("int")) <= 16:
        return power
    limit, one = tirx.const(1 << 24, str(b.ty)), tirx.const(1, str(b.ty))
    odd = tirx.all(b > limit, (b & one) == one, a < literal(0, a))
    return tirx.Select(odd, literal(0, a) - tirx.abs(power), power)


def _equal(a: Any, b: Any) -> Any:
    if str(a.ty) == "bool":  # the code generator compares no booleans
        return _negation(_exclusive_or(a, b))
    if is_float(a):  # TVM takes x == x for true, also where x is NaN
        return tirx.all(a <= b, b <= a)
    return a == b


def _negation(x: Any) -> Any:
    # TVM takes the negation of a > b for a <= b, also where one is NaN.
    return (tirx.const(1, "uint8") - x.astype("uint8")).astype("bool")


def _on_bits(combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """TVM takes ``a < b or a >= b`` for true, also where one is NaN; of bits it knows nothing."""
    return lambda a, b: combine(a.astype("uint8"), b.astype("uint8")).astype("bool")


_exclusive_or = _on_bits(lambda a, b: a ^ b)


def _own(name: str) -> Lowering:
    """A function that the runtime has for float32, and libm for float64.

    TVM writes some of float64 as formulas that lose digits near 0. Of those that exist for whole
    vectors of float32 (``lower.vector_math``), which of the two is called is decided later.
    """

    def element(x: Any) -> Any:
        dtype = str(x.ty)
        if dtype == "float32" and f"tirx.{name}" in VECTOR_MATH:
            return getattr(tirx, name)(x)
        own = f"mlopsc_{name}f" if dtype == "float32" else name
        return tirx.call_pure_extern(dtype, own, x)

    return _plain(element)


LOWERINGS: Final[dict[str, Lowering]] = {
    "Abs": _plain(_abs),
    "Acos": _own("acos"),
    "Acosh": _own("acosh"),
    "Add": _with_zeros(add),
    "And": _plain(_on_bits(lambda a, b: a & b)),
    "Asin": _own("asin"),
    "Asinh": _own("asinh"),
    "Atan": _own("atan"),
    "Atanh": _own("atanh"),
    "BitShift": _shift,
    "BitwiseAnd": _plain(lambda a, b: a & b),
    "BitwiseNot": _plain(complement),
    "BitwiseOr": _plain(lambda a, b: a | b),
    "BitwiseXor": _plain(lambda a, b: a ^ b),
    "Ceil": _plain(tirx.ceil),
    "Clip": _clip,
    "Cos": _plain(tirx.cos),
    "Cosh": _own("cosh"),
    "Div": _with_zeros(divide),
    "Elu": _scaled(_elu, alpha=1.0),
    "Equal": _plain(_equal),
    "Erf": _own("erf"),
    "Exp": _plain(tirx.exp),
    "Floor": _plain(tirx.floor),
    "Greater": _plain(lambda a, b: a > b),
    "GreaterOrEqual": _plain(lambda a, b: a >= b),
    "HardSigmoid": _scaled(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _plain(_hard_swish),
    "Identity": _plain(lambda x: x),
    "IsInf": _is_inf,
    "IsNaN": _plain(tirx.isnan),
    "LeakyRelu": _scaled(_leaky, alpha=0.01),
    "Less": _plain(lambda a, b: a < b),
    "LessOrEqual": _plain(lambda a, b: a <= b),
    "Log": _plain(tirx.log),
    "Max": _of_all(larger),
    "Min": _of_all(smaller),
    "Mod": _mod,
    "Mul": _with_zeros(multiply),
    "Neg": _plain(negate),
    "Not": _plain(lambda x: _negation(x)),
    "Or": _plain(_on_bits(lambda a, b: a | b)),
    "PRelu": _with_zeros(_prelu),
    "Pow": _plain(_pow),
    "Reciprocal": _plain(lambda x: literal(1, x) / x),
    "Relu": _plain(_relu),
    "Round": _plain(tirx.nearbyint),
    "Selu": _scaled(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Shrink": _shrink,
    "Sigmoid": _plain(tirx.sigmoid),
    "Sign": _plain(_sign),
    "Sin": _plain(tirx.sin),
    "Sinh": _own("sinh"),
    "Softplus": _plain(_softplus),
    "Sqrt": _plain(tirx.sqrt),
    "Sub": _with_zeros(subtract),
    "Tan": _own("tan"),
    "Tanh": _own("tanh"),
    "Where": _plain(tirx.Select),
    "Xor": _plain(_exclusive_or),
}
