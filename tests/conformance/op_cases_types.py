"""Cases made from tables: casts between all types, and core operators in every type they take."""

from __future__ import annotations

import functools
from typing import Any, Final

import ml_dtypes
import numpy as np
import type_rows_elementwise
import type_rows_tensors
import type_rows_windows
from op_cases import Array, Case, Group
from op_cases_ml import TREES
from type_rows import NEWEST, OPSET, cases

from mlopsc.dtypes import DTYPES, NARROW_INTEGERS

# The reference has no Cast of these: it is ONNX's own evaluator that knows them.
NO_KERNEL: Final = ("float4_e2m1fn",)


def _patterns(dtype: str) -> Array:
    """Return all values of a type of 8 bits and less, and a sample of a wider one."""
    kind = DTYPES[dtype]
    if dtype == "bool":
        return np.array([False, True])
    if dtype in NARROW_INTEGERS:
        info: Any = ml_dtypes.iinfo(dtype)
        return np.arange(info.min, info.max + 1).astype(dtype)
    if not kind.is_float:
        bounds: Any = np.iinfo(dtype)
        numbers = [bounds.min, bounds.max, bounds.max - 1, 0, 1, 3, 100, bounds.max // 3]
        return np.array(numbers, dtype)
    if kind.itemsize == 1:
        return np.arange(256, dtype=np.uint8).view(dtype)
    if kind.itemsize == 2:
        return np.arange(0, 65536, 127, dtype=np.uint16).view(dtype)
    values = np.concatenate([_patterns("float16"), _patterns("float8_e4m3fn").astype(np.float16)])
    with np.errstate(all="ignore"):
        wide = values.astype(dtype)
        return np.concatenate([wide, np.nextafter(wide, np.array(1e30, dtype)), wide * 3])


def _fits(values: Array, dtype: str) -> Array:
    """Return the values that an integer type holds: for others ONNX defines no result."""
    info: Any = ml_dtypes.iinfo(dtype) if DTYPES[dtype].itemsize == 1 else np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        exact = values.astype(np.float64)
    kept = np.isfinite(exact) & (exact > float(info.min) - 1) & (exact < float(info.max) + 1)
    # The largest numbers of wide types round up to what does not fit.
    return values[kept & (np.abs(exact) < 2.0**31)]


def casts() -> list[Case]:
    """Casts between every two types that the reference casts as ONNX defines.

    It rounds floats to integers of 4 and 2 bits, which ONNX truncates, takes -0 in 8 bits as
    true, and the least power of two as false.
    """
    made = []
    types = [name for name in DTYPES if name not in NO_KERNEL]
    for source in types:
        for target in types:
            values = _patterns(source)
            if DTYPES[source].is_float and target in NARROW_INTEGERS:
                continue
            if (source, target) == ("float8_e8m0fnu", "bool"):
                continue
            if DTYPES[source].is_float and not DTYPES[target].is_float and target != "bool":
                values = _fits(values, target)
            if target == "bool" and DTYPES[source].itemsize == 1 and DTYPES[source].is_float:
                values = values[values.view(np.uint8) != 0x80]
            if target == "float8_e8m0fnu" and source != "bool":
                with np.errstate(invalid="ignore"):
                    values = values[values.astype(np.float64) > 0]  # others have no defined result
            if source != target and values.size:
                options = {"to": DTYPES[target].onnx}
                made.append(Case("Cast", f"{source}_{target}", (values,), attributes=options))
    return made


_REGIONS = "the reference has a kernel of MaxRoiPool for float32 alone, and ONNX's evaluator none"
# What the import or the build refuses, or the reference cannot judge.
LEFT_OUT: Final[dict[tuple[str, str], str]] = {
    ("MaxRoiPool", "float16"): _REGIONS,
    ("MaxRoiPool", "bfloat16"): _REGIONS,
    ("MaxRoiPool", "float64"): _REGIONS,
    ("RoiAlign", "float64"): "the compiler refuses it: its kernel is of float32",
    ("Tan", "float64"): "needs 'sincos', which is not of the C library's mathematics",
    (TREES, "float16"): "the reference passes float16 as float32, which its trees may not mix",
}

_TABLES: Final = {
    "unary": type_rows_elementwise.UNARY,
    "functions": type_rows_elementwise.FUNCTIONS,
    "functions of float64": (
        *type_rows_elementwise.FUNCTIONS_FLOAT64,
        *type_rows_windows.LRN_FLOAT64,
    ),
    "comparisons": type_rows_elementwise.COMPARISONS,
    "logic": type_rows_elementwise.LOGIC,
    "arithmetic": type_rows_elementwise.ARITHMETIC,
    # In halves: a function of WebAssembly has at most 1,000 parameters.
    "shapes": type_rows_tensors.SHAPES[::2],
    "more shapes": type_rows_tensors.SHAPES[1::2],
    "indices": type_rows_tensors.INDICES,
    "reductions": type_rows_tensors.REDUCTIONS,
    "products": type_rows_tensors.PRODUCTS,
    "windows": type_rows_windows.WINDOWS,
    "normalised": type_rows_windows.NORMALISED,
}
# Machines without an operating system have no such functions.
_HOSTED: Final = "functions of float64"


def groups() -> dict[str, Group]:
    """Every operator in every type."""
    tables = {name: functools.partial(cases, rows, LEFT_OUT) for name, rows in _TABLES.items()}
    found = {
        f"types: {name}": Group(make, OPSET, slow=True, hosted=name == _HOSTED)
        for name, make in tables.items()
    }
    newest = functools.partial(cases, type_rows_tensors.NEWEST, LEFT_OUT)
    found["types: newest"] = Group(newest, max(NEWEST.values()), slow=True)
    found["types: bodies"] = Group(type_rows_windows.bodies, OPSET, slow=True)
    found["types: trees"] = Group(lambda: type_rows_windows.trees(LEFT_OUT), OPSET, slow=True)
    return found
