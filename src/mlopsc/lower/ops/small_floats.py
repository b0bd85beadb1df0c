"""Floats of 16 bits and less, held as unsigned integers: decoded to float32 and encoded from it.

Requires: float32 as IEEE 754 binary32. Ensures: decoding is exact; encoding rounds once, to
nearest with ties to even. Everything is integer arithmetic on bits, so that every target computes
the same. Source: the ONNX operator schema "Cast"; IEEE 754; OCP 8-bit floating point 1.0; OCP
microscaling formats 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from tvm import tirx

_SIGN, _MAGNITUDE, _INFINITY = 0x80000000, 0x7FFFFFFF, 0x7F800000
_HIDDEN, _FRACTION = 0x00800000, 0x007FFFFF


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with a sign bit in front.

    Attributes:
        bits: All of them.
        fraction: Bits after the binary point.
        bias: Of the exponent.
        largest: Pattern of the largest finite number.
        infinity: Pattern of infinity, or None.
        nan: Pattern of NaN, or None where there is none.
        signed_zero: Whether there is -0; if not, its pattern is NaN.
        saturates: Whether ``Cast`` may be asked to saturate.
    """

    bits: int
    fraction: int
    bias: int
    largest: int
    infinity: int | None
    nan: int | None
    signed_zero: bool = True
    saturates: bool = True

    @property
    def sign(self) -> int:
        """The pattern of the sign bit."""
        return 1 << (self.bits - 1)

    @property
    def storage(self) -> str:
        """NumPy's name of the integers that hold it."""
        return "uint16" if self.bits == 16 else "uint8"


FORMATS: Final[dict[str, Format]] = {
    "FLOAT16": Format(16, 10, 15, 0x7BFF, 0x7C00, 0x7E00, saturates=False),
    "BFLOAT16": Format(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, saturates=False),
    "FLOAT8E4M3FN": Format(8, 3, 7, 0x7E, None, 0x7F),
    "FLOAT8E4M3FNUZ": Format(8, 3, 8, 0x7F, None, 0x80, signed_zero=False),
    "FLOAT8E5M2": Format(8, 2, 15, 0x7B, 0x7C, 0x7F),
    "FLOAT8E5M2FNUZ": Format(8, 2, 16, 0x7F, None, 0x80, signed_zero=False),
    "FLOAT4E2M1": Format(4, 1, 1, 0x7, None, None),
}
POWER_OF_TWO: Final = "FLOAT8E8M0"  # 2 ** (pattern - 127), 255 is NaN: no sign, no fraction
SMALL_FLOATS: Final[frozenset[str]] = frozenset({*FORMATS, POWER_OF_TWO})


def decode(x: Any, name: str) -> Any:
    """Return the float32 whose value the pattern ``x`` of the format ``name`` is."""
    bits = x.astype("uint32")
    if name == POWER_OF_TWO:
        exact = tirx.Select(bits == _u(0), _u(0x00400000), bits << _u(23))
        return _float(tirx.Select(bits == _u(0xFF), _u(0x7FC00000), exact))
    form = FORMATS[name]
    magnitude = bits & _u(form.sign - 1)
    sign = (bits & _u(form.sign)) << _u(32 - form.bits)
    if form.bias == 127:
        return _float(bits << _u(16))
    shift = 23 - form.fraction
    normal = (magnitude << _u(shift)) + _u((127 - form.bias) << 23)
    # A subnormal number is its fraction times the unit in the last place: exact in float32.
    unit = tirx.const(2.0 ** (1 - form.bias - form.fraction), "float32")
    tiny = tirx.reinterpret("uint32", magnitude.astype("float32") * unit)
    value = tirx.Select(magnitude < _u(1 << form.fraction), tiny, normal)
    if form.infinity is not None:
        special = _u(_INFINITY) | (magnitude << _u(shift))
        value = tirx.Select(magnitude >= _u(form.infinity), special, value)
    elif form.nan is not None and form.signed_zero:
        value = tirx.Select(magnitude == _u(form.nan), _u(0x7FC00000), value)
    value = value | sign
    if form.nan is not None and not form.signed_zero:
        value = tirx.Select(bits == _u(form.nan), _u(0x7FC00000), value)
    return _float(value)


def encode(
    x: Any, name: str, *, saturate: bool = True, round_mode: Literal["up", "down", "nearest"] = "up"
) -> Any:
    """Return the pattern of the format ``name`` nearest to the float32 ``x``.

    Args:
        x: float32, or float64, which is rounded only once.
        name: ONNX's name of the format.
        saturate: Whether what is too large becomes the largest number; else it becomes infinity,
            or NaN where there is none.
        round_mode: Of powers of two.
    """
    bits = _odd(x) if str(x.ty) == "float64" else tirx.reinterpret("uint32", x)
    if name == POWER_OF_TWO:
        return _power_of_two(bits, saturate, round_mode).astype("uint8")
    form = FORMATS[name]
    magnitude = bits & _u(_MAGNITUDE)
    sign = (bits >> _u(32 - form.bits)) & _u(form.sign)
    shift, least = 23 - form.fraction, 128 - form.bias  # field of float32 for its least exponent
    field = magnitude >> _u(23)
    hidden = tirx.Select(field == _u(0), _u(0), _u(_HIDDEN))
    mantissa = (magnitude & _u(_FRACTION)) | hidden
    field = tirx.max(field, _u(1))
    # Below the least exponent the last place stays where it is: more bits are rounded away.
    low = tirx.min(tirx.Select(field < _u(least), _u(least) - field, _u(0)) + _u(shift), _u(25))
    rounded = _nearest(mantissa, low)
    above = tirx.Select(field > _u(least), field - _u(least), _u(0))
    pattern = rounded + (above << _u(form.fraction))
    too_large = form.largest
    if not saturate or not form.saturates:
        too_large = form.infinity if form.infinity is not None else (form.nan or form.largest)
    infinite = magnitude >= _u(_INFINITY)
    over = tirx.any(pattern > _u(form.largest), infinite)
    pattern = tirx.Select(over, _u(too_large), pattern)
    is_nan = magnitude > _u(_INFINITY)
    if not form.signed_zero:  # -0 becomes 0; NaN has no sign
        sign = tirx.Select(tirx.any(pattern == _u(0), pattern == _u(0x80)), _u(0), sign)
        pattern = tirx.Select(is_nan, _u(0x80), pattern | sign)
    else:
        # A format without NaN gives -0 for it, as ml_dtypes does, which ONNX takes as reference.
        nan = _u(form.nan) | sign if form.nan is not None else _u(form.sign)
        pattern = tirx.Select(is_nan, nan, pattern | sign)
    return pattern.astype(form.storage)


def _nearest(value: Any, low: Any) -> Any:
    """Return ``value`` shifted right by ``low`` (1 to 25), ties to even."""
    half = _u(1) << (low - _u(1))
    rest = value & ((half << _u(1)) - _u(1))
    kept = value >> low
    up = tirx.any(rest > half, tirx.all(rest == half, (kept & _u(1)) != _u(0)))
    return kept + tirx.Select(up, _u(1), _u(0))


def _power_of_two(bits: Any, saturate: bool, round_mode: str) -> Any:
    """Return the exponent field of ``x`` rounded to a power of two; 255 is NaN.

    What is below the least power, zero and negative numbers too, becomes that if saturating.
    """
    magnitude = bits & _u(_MAGNITUDE)
    fraction = magnitude & _u(_FRACTION)
    field = magnitude >> _u(23)
    if round_mode == "up":
        up = fraction > tirx.Select(field == _u(0), _u(0x400000), _u(0))
    elif round_mode == "nearest":  # ties go up
        up = fraction >= tirx.Select(field == _u(0), _u(0x600000), _u(0x400000))
    else:
        up = tirx.const(False, "bool")
    pattern = field + tirx.Select(up, _u(1), _u(0))
    least, largest = (_u(0), _u(0xFE)) if saturate else (_u(0xFF), _u(0xFF))
    low = tirx.any(bits > _u(_MAGNITUDE), magnitude < _u(0x00400000))
    pattern = tirx.Select(low, least, tirx.Select(pattern > _u(0xFE), largest, pattern))
    return tirx.Select(magnitude > _u(_INFINITY), _u(0xFF), pattern)


def _odd(x: Any) -> Any:
    """Return the bits of the float32 that a float64 rounds to if ties and all else go to odd.

    Rounding that again to a format with at most 22 bits of precision gives what rounding once does.
    """
    bits = tirx.reinterpret("uint64", x)
    sign = ((bits >> _u64(32)) & _u64(_SIGN)).astype("uint32")
    magnitude = bits & _u64(0x7FFFFFFFFFFFFFFF)
    field = (magnitude >> _u64(52)).astype("int32")
    mantissa = (magnitude & _u64(0x000FFFFFFFFFFFFF)) | _u64(1 << 52)
    # Float32's least exponent has the field 897 here; below it more bits go.
    low = tirx.min(tirx.max(897 - field, 0), 30).astype("uint64") + _u64(29)
    lost = (mantissa & ((_u64(1) << low) - _u64(1))) != _u64(0)
    kept = (mantissa >> low).astype("uint32") | tirx.Select(lost, _u(1), _u(0))
    above = tirx.max(field - 897, 0).astype("uint32")
    value = kept + (above << _u(23))
    value = tirx.Select(field > 1150, _u(0x7F7FFFFF), value)
    value = tirx.Select(field == 0, tirx.Select(magnitude == _u64(0), _u(0), _u(1)), value)
    value = tirx.Select(field == 2047, _u(_INFINITY), value)
    value = tirx.Select(magnitude > _u64(0x7FF0000000000000), _u(0x7FC00000), value)
    return value | sign


def _u(value: int) -> Any:
    return tirx.const(value, "uint32")


def _u64(value: int) -> Any:
    return tirx.const(value, "uint64")


def _float(bits: Any) -> Any:
    return tirx.reinterpret("float32", bits)
