"""Cases made from tables: casts between all types, and core operators in every type they take.

A type is tried where ONNX's schema allows it; what it computes in is the normaliser's choice. The
values hold NaN, infinities and signed zeros where the type has them; shapes are scalars, matrices
that broadcast, and empty.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from op_cases import OPSET, Array, Case, Const

from mlopsc.dtypes import DTYPES, NARROW_INTEGERS

PLAIN: Final = (
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
# The reference has no Cast of these: it is ONNX's own evaluator that knows them.
NO_KERNEL: Final = ("float4_e2m1fn",)
_SPECIAL = (0.0, -0.0, 1.0, -1.5, 2.5, 7.25, -3.0, 6.5, np.nan, np.inf, -np.inf, 1e-3)


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


# Operator -> shapes of its inputs and attributes. Types come from the schema's first parameter.
_TABLE: Final[dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]]] = {
    "Abs": (((2, 6),), {}),
    "Add": (((3, 1), (4,)), {}),
    "And": (((3, 1), (4,)), {}),
    "ArgMax": (((3, 4),), {"axis": -1}),
    "BitwiseAnd": (((3, 1), (4,)), {}),
    "BitwiseNot": (((3, 4),), {}),
    "Ceil": (((2, 6),), {}),
    "Concat": (((2, 3), (2, 1)), {"axis": -1}),
    "DepthToSpace": (((1, 4, 2, 2),), {"blocksize": 2}),
    "Equal": (((3, 1), (4,)), {}),
    "Exp": (((2, 6),), {}),
    "Flatten": (((2, 3, 2),), {}),
    "Floor": (((2, 6),), {}),
    "Greater": (((3, 1), (4,)), {}),
    "Identity": (((),), {}),
    "IsInf": (((2, 6),), {}),
    "IsNaN": (((2, 6),), {}),
    "LessOrEqual": (((), (5,)), {}),
    "MatMul": (((2, 3), (3, 2)), {}),
    "Max": (((3, 1), (4,)), {}),
    "Min": (((3, 1), (4,)), {}),
    "Mul": (((3, 1), (4,)), {}),
    "Neg": (((),), {}),
    "Not": (((3, 4),), {}),
    "ReduceMax": (((3, 4),), {}),
    "ReduceSum": (((3, 4),), {"keepdims": 0}),
    "Relu": (((2, 6),), {}),
    "Round": (((2, 6),), {}),
    "Sign": (((2, 6),), {}),
    "Sqrt": (((2, 6),), {}),
    "Sub": (((3, 1), (4,)), {}),
    "Tanh": (((2, 6),), {}),
    "Transpose": (((2, 3),), {}),
    "Trilu": (((3, 4),), {}),
}


def _values(dtype: str, shape: tuple[int, ...], *, finite: bool) -> Array:
    if dtype == "bool":
        flat: Array = np.array([True, False, False, True])
    elif DTYPES[dtype].is_float:
        numbers = [v for v in _SPECIAL if np.isfinite(v)] if finite else list(_SPECIAL)
        flat = np.array(numbers).astype(dtype)
    else:
        info = np.iinfo(dtype)
        flat = np.array([info.min, info.max, 0, 1, 5, 2, 3, 7], dtype)
    return np.resize(flat, shape).astype(dtype)


def _allowed(op: str) -> list[str]:
    schema = onnx.defs.get_schema(op, OPSET)
    parameter = schema.inputs[0].type_str
    found = [c for c in schema.type_constraints if c.type_param_str == parameter]
    names = {t for c in found for t in c.allowed_type_strs}
    spelled = {"float32": "float", "float64": "double"}
    return [n for n in PLAIN if f"tensor({spelled.get(n, n)})" in names]


def matrix() -> list[Case]:
    """Every operator of the table in every type."""
    made = []
    for op, (shapes, attributes) in _TABLE.items():
        for dtype in _allowed(op):
            if (op, dtype) == ("Tanh", "float64"):
                continue  # bare targets have no such function
            # The reference's order of NaN is its own in searches and reductions.
            finite = op in ("ArgMax", "MatMul", "ReduceMax", "ReduceSum")
            inputs = tuple(_values(dtype, shape, finite=finite) for shape in shapes)
            made.append(Case(op, dtype, inputs, attributes=attributes))
    for dtype in PLAIN:
        x = _values(dtype, (3, 4), finite=False)
        where = np.array([[True], [False], [True]])
        places = Const(np.array([2, -1], np.int64))
        made += [
            Case("Where", dtype, (where, x, x[:1])),
            Case("Gather", dtype, (x, places), attributes={"axis": 1}),
            Case("Slice", dtype, (x, *(Const(np.array([v], np.int64)) for v in (-1, -9, 1, -2)))),
            Case("Concat", f"empty_{dtype}", (x[:0], x), attributes={"axis": 0}),
        ]
    return made
