"""Arrays of test vectors as C, exact to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlopsc.dtypes import DTYPES, SMALL


def array(name: str, dtype: str, values: np.ndarray[Any, Any]) -> str:
    """Return ``static const <type> <name>[n] = {...};``, one zero if there are no values."""
    flat = values.ravel()
    if dtype in SMALL:  # its representation
        flat = flat.view(f"u{flat.itemsize}") if DTYPES[dtype].is_float else flat.astype(np.int16)
    words = [_literal(v, "f" if dtype == "float32" else "") for v in flat.tolist()] or ["0"]
    rows = [", ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
    body = ",\n  ".join(rows)
    return f"static const {DTYPES[dtype].c} {name}[{len(words)}] = {{\n  {body}\n}};"


def _literal(value: float | int | bool, suffix: str) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        if value == -(1 << 63):
            return "(-9223372036854775807ll - 1)"
        return (
            f"{value}"
            if abs(value) < 1 << 31
            else f"{value}ll"
            if value < 1 << 63
            else f"{value}ull"
        )
    zero, one = f"0.0{suffix}", f"1.0{suffix}"
    if value != value:
        return f"({zero} / {zero})"
    if value in (float("inf"), float("-inf")):
        return f"({'' if value > 0 else '-'}{one} / {zero})"
    return value.hex() + suffix
