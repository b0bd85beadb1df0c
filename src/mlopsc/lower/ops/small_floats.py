"""Floats of 16 bits and less, held as unsigned integers: decoded to float32 and encoded from it.

The arithmetic on bits is ``kernels/runtime/mlopsc_minifloat.c``: written as expressions it would
grow exponentially where several casts are fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from tvm import tirx

RoundMode = Literal["up", "down", "nearest"]
_MODES: Final[tuple[RoundMode, ...]] = ("up", "down", "nearest")


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with a sign bit in front.

    Attributes:
        code: ONNX's.
        bits: All of them.
        largest: Pattern of the largest finite number.
        beyond: Pattern of infinity, or of NaN where there is none; None where there is neither.
        signed_zero: Whether there is -0; if not, its pattern is NaN.
        saturates: Whether ``Cast`` may be asked to saturate.
    """

    code: int
    bits: int
    largest: int
    beyond: int | None
    signed_zero: bool = True
    saturates: bool = True

    @property
    def storage(self) -> str:
        """NumPy's name of the integers that hold it."""
        return "uint16" if self.bits == 16 else "uint8"

    def is_zero(self, x: Any) -> Any:
        """Whether the pattern ``x`` is a zero."""
        ignored = 1 << (self.bits - 1) if self.signed_zero else 0
        kept = tirx.const((1 << self.bits) - 1 - ignored, self.storage)
        return (x & kept) == tirx.const(0, self.storage)


FORMATS: Final[dict[str, Format]] = {
    "FLOAT16": Format(10, 16, 0x7BFF, 0x7C00, saturates=False),
    "BFLOAT16": Format(16, 16, 0x7F7F, 0x7F80, saturates=False),
    "FLOAT8E4M3FN": Format(17, 8, 0x7E, 0x7F),
    "FLOAT8E4M3FNUZ": Format(18, 8, 0x7F, 0x80, signed_zero=False),
    "FLOAT8E5M2": Format(19, 8, 0x7B, 0x7C),
    "FLOAT8E5M2FNUZ": Format(20, 8, 0x7F, 0x80, signed_zero=False),
    "FLOAT4E2M1": Format(23, 4, 0x7, None),
}
POWER_OF_TWO: Final = "FLOAT8E8M0"
SMALL_FLOATS: Final[frozenset[str]] = frozenset({*FORMATS, POWER_OF_TWO})


def decode(x: Any, name: str) -> Any:
    """Return the float32 whose value the pattern ``x`` of the format ``name`` is."""
    bits = x.astype("uint32")
    if name == "BFLOAT16":
        return tirx.reinterpret("float32", bits << tirx.const(16, "uint32"))
    if name == POWER_OF_TWO:
        return tirx.call_pure_extern("float32", "mlopsc_power_decode", bits)
    return tirx.call_pure_extern(
        "float32", "mlopsc_minifloat_decode", bits, tirx.const(FORMATS[name].code, "int32")
    )


def encode(x: Any, name: str, *, saturate: bool = True, round_mode: RoundMode = "up") -> Any:
    """Return the pattern of the format ``name`` nearest to ``x``.

    Args:
        x: float32 or float64; either is rounded only once.
        name: ONNX's name of the format.
        saturate: Whether what is too large becomes the largest number; else it becomes infinity,
            or NaN where there is none.
        round_mode: Of powers of two.
    """
    suffix = "_double" if str(x.ty) == "float64" else ""
    if name == POWER_OF_TWO:
        options = (
            tirx.const(int(saturate), "int32"),
            tirx.const(_MODES.index(round_mode), "int32"),
        )
        function = f"mlopsc_power_encode{suffix}"
        return tirx.call_pure_extern("uint32", function, x, *options).astype("uint8")
    form = FORMATS[name]
    stays = form.beyond is None or (saturate and form.saturates)
    over = form.largest if stays or form.beyond is None else form.beyond
    pattern = tirx.call_pure_extern(
        "uint32",
        f"mlopsc_minifloat_encode{suffix}",
        x,
        tirx.const(form.code, "int32"),
        tirx.const(over, "uint32"),
    )
    return pattern.astype(form.storage)
