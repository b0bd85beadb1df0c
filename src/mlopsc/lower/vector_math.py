"""The float32 mathematics of ``kernels/runtime`` for whole vectors, as expressions.

A vectorised loop cannot call a function that takes one number. Here are the same algorithms with
the same coefficients, branches as selections, for any number of lanes; LLVM keeps all of it in
registers. Largest errors are those of the scalar functions (``mlopsc_math.h``); the last bit can
differ from theirs, because a target may fuse multiply and add here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tvm import tirx

_EXP = (1.989299176e-04, 1.393545184e-03, 8.333309087e-03, 4.166644837e-02, 1.666666668e-01, 0.5)
_TANH = (
    2.269501684e-03, -8.323187058e-03, 2.176250291e-02, -5.395846163e-02, 1.333330015e-01,
    -3.333333315e-01,
)  # fmt: skip
_ERF_SMALL = (
    -9.667044571e-06, 1.126595903e-04, -8.484080406e-04, 5.221031808e-03, -2.686543073e-02,
    1.128378250e-01, -3.761263847e-01, 1.283791671e-01,
)  # fmt: skip
_ERF_LARGE = (
    7.582681970e-08, -3.321684591e-06, 6.229835325e-05, -6.858366830e-04, 5.064946920e-03,
    -2.709952329e-02, 1.110550174e-01, 6.309530298e-01, 1.130675144e+00, -4.163292177e-04,
)  # fmt: skip
_LOG = (
    6.971611471e-02, -1.147973385e-01, 1.168541992e-01, -1.242568733e-01, 1.424905765e-01,
    -1.666780232e-01, 2.000071575e-01, -2.499999696e-01, 3.333333118e-01,
)  # fmt: skip
_INFINITY: Final = 0x7F800000
_NAN: Final = 0x7FC00000
_SIGN: Final = -0x80000000


def _let(value: Any, body: Callable[[Any], Any]) -> Any:
    """Return ``body`` of ``value``, which is computed once."""
    variable = tirx.Var("t", str(value.ty))
    return tirx.Let(variable, value, body(variable))


def _like(value: float, x: Any) -> Any:
    return tirx.const(value, str(x.ty))


def _bits_of(x: Any) -> Any:
    return tirx.reinterpret(str(x.ty).replace("float", "int"), x)


def _floats_of(bits: Any) -> Any:
    return tirx.reinterpret(str(bits.ty).replace("int", "float"), bits)


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    value = _like(coefficients[0], x)
    for coefficient in coefficients[1:]:
        value = value * x + _like(coefficient, x)
    return value


def _magnitude(x: Any) -> Any:
    return _floats_of(_bits_of(x) & tirx.const(0x7FFFFFFF, str(_bits_of(x).ty)))


def _with_sign_of(magnitude: Any, x: Any) -> Any:
    sign = tirx.const(_SIGN, str(_bits_of(x).ty))
    return _floats_of(_bits_of(magnitude) | (_bits_of(x) & sign))


def _unless_nan(x: Any, value: Any) -> Any:
    """Return ``value``, but ``x`` where that is NaN (TVM takes ``x == x`` for true)."""
    bits = _bits_of(_magnitude(x))
    return tirx.Select(bits > tirx.const(_INFINITY, str(bits.ty)), x, value)


def _limited_exp(x: Any, *, normal: bool = False) -> Any:
    """``exp`` of numbers in [-104, 88.8]; rounds once where the result is subnormal.

    Args:
        x: The numbers.
        normal: Whether they are in [-87, 88], where no result is.
    """

    def with_exponent(n: Any) -> Any:
        def with_rest(r: Any) -> Any:
            value = _like(1.0, r) + (r + r * r * _polynomial(r, _EXP))

            def scaled(bits: Any) -> Any:
                if normal:
                    return value * _power_of_two(bits)
                one = tirx.const(1, str(bits.ty))
                half = tirx.shift_right(bits, one)
                return value * _power_of_two(half) * _power_of_two(bits - half)

            return _let(n.astype(str(_bits_of(n).ty)), scaled)

        rest = (x - n * _like(0.693359375, x)) + n * _like(2.12194440e-4, x)
        return _let(rest, with_rest)

    return _let(tirx.nearbyint(x * _like(1.44269504, x)), with_exponent)


def _power_of_two(n: Any) -> Any:
    dtype = str(n.ty)
    return _floats_of(tirx.shift_left(n + tirx.const(127, dtype), tirx.const(23, dtype)))


def exp(x: Any) -> Any:
    """Return ``e ** x``."""

    def of(x: Any) -> Any:
        low, high = _like(-104.0, x), _like(88.8, x)
        # NaN ends as either limit here and is put back below.
        limited = tirx.Select(x > low, tirx.Select(x < high, x, high), low)
        return tirx.Select(x <= high, _let(limited, _limited_exp), x + _infinity(x))

    return _let(x, of)


def _infinity(x: Any) -> Any:
    return _floats_of(tirx.const(_INFINITY, str(_bits_of(x).ty)))


def _not_a_number(x: Any) -> Any:
    return _floats_of(tirx.const(_NAN, str(_bits_of(x).ty)))


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent."""

    def of(x: Any) -> Any:
        square = _let(x * x, lambda z: x + x * z * _polynomial(z, _TANH))

        def large(a: Any) -> Any:
            limited = tirx.Select(a < _like(9.2, a), a, _like(9.2, a))
            power = _let(_like(2.0, a) * limited, lambda q: _limited_exp(q, normal=True))
            far = _like(1.0, a) - _like(2.0, a) / (power + _like(1.0, a))
            return _unless_nan(x, _with_sign_of(tirx.Select(a < _like(0.625, a), square, far), x))

        return _let(_magnitude(x), large)

    return _let(x, of)


def erf(x: Any) -> Any:
    """Return the error function."""

    def of(x: Any) -> Any:
        near = _let(x * x, lambda z: x + x * _polynomial(z, _ERF_SMALL))

        def large(a: Any) -> Any:
            limited = tirx.Select(a < _like(4.0, a), a, _like(4.0, a))
            power = _let(
                _let(limited, lambda q: _like(0.0, q) - _polynomial(q, _ERF_LARGE)),
                lambda q: _limited_exp(q, normal=True),
            )
            far = _like(1.0, a) - power
            return _unless_nan(x, _with_sign_of(tirx.Select(a < _like(1.0, a), near, far), x))

        return _let(_magnitude(x), large)

    return _let(x, of)


def sigmoid(x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))``; 0 below -87, where it is less than 2e-38."""

    def of(x: Any) -> Any:
        low, high = _like(-87.0, x), _like(87.0, x)
        limited = tirx.Select(x > low, tirx.Select(x < high, x, high), low)
        power = _let(_like(0.0, x) - limited, lambda q: _limited_exp(q, normal=True))
        value = _let(power, lambda e: _like(1.0, e) / (_like(1.0, e) + e))
        return _unless_nan(x, tirx.Select(x > low, value, _like(0.0, x)))

    return _let(x, of)


def log(x: Any) -> Any:
    """Return the natural logarithm."""

    def of(x: Any) -> Any:
        small = x < _floats_of(tirx.const(0x00800000, str(_bits_of(x).ty)))  # subnormal

        def with_bits(bits: Any) -> Any:
            dtype = str(bits.ty)
            shifted = bits - tirx.const(0x3F3504F3, dtype)
            exponent = tirx.shift_right(shifted, tirx.const(23, dtype)).astype(str(x.ty))
            exponent = exponent - tirx.Select(small, _like(23.0, x), _like(0.0, x))
            fraction = _floats_of(
                (shifted & tirx.const(0x007FFFFF, dtype)) + tirx.const(0x3F3504F3, dtype)
            )

            def with_parts(n: Any) -> Any:
                def value(f: Any) -> Any:
                    y = f * f * f * _polynomial(f, _LOG) - n * _like(2.12194440e-4, f)
                    return (y - _like(0.5, f) * f * f + f) + n * _like(0.693359375, f)

                return _let(fraction - _like(1.0, x), value)

            return _let(exponent, with_parts)

        scaled = tirx.Select(small, x * _like(8388608.0, x), x)
        inside = _let(_bits_of(scaled), with_bits)
        zero, infinity = _like(0.0, x), _infinity(x)
        below = tirx.Select(x < zero, _not_a_number(x), zero - infinity)
        above = tirx.Select(x < infinity, inside, x)
        return _unless_nan(x, tirx.Select(x > zero, above, below))

    return _let(x, of)


VECTOR_MATH: Final[dict[str, Callable[[Any], Any]]] = {
    "tirx.exp": exp,
    "tirx.log": log,
    "tirx.tanh": tanh,
    "tirx.erf": erf,
    "tirx.sigmoid": sigmoid,
    "tirx.nearbyint": tirx.nearbyint,  # an instruction where there are vectors
}
