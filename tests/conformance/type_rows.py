"""What rows of a table are: an operator with its inputs, tried in every type that it takes.

A type is tried where ONNX's schema allows it; what it computes in is the normaliser's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper
from op_cases import Array, Case, Const

from mlopsc.dtypes import DTYPES

PLAIN: Final = (
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
FLOATS: Final = PLAIN[:4]
SINGLE: Final = ("float32", "float16", "bfloat16")  # computed in float32
INTEGERS: Final = PLAIN[4:12]
OPSET: Final = 22
# Operators that are younger, or take more types since.
NEWEST: Final = {"BitCast": 26, "CumProd": 26, "TopK": 24}
ML_OPSET: Final = 5
# The type parameter that is tried, where it is not that of the first input.
PARAMETERS: Final = {"Where": "T", "OneHot": "T3", "If": "V", "Loop": "V"}

_SPECIAL = (0.0, -0.0, 1.0, -1.5, 2.5, 7.25, -3.0, 6.5, np.nan, np.inf, -np.inf, 1e-3)
# Sums of products of these are exact in every type, so no order of adding them shows.
_SMALL = (0.5, -1.0, 2.0, 1.0, -0.5, 1.5, -2.0, 0.0, -1.5, 0.5, 1.0)


@dataclass(frozen=True)
class Typed:
    """An input of the type that is tried.

    Attributes:
        shape: Of the input.
        values: ``special``: NaN, infinities, signed zeros and the ends of integers' ranges;
            ``finite``: those without NaN and infinities; ``small``: between -3 and 3;
            ``positive``: small and larger than 0; or the numbers themselves.
        constant: Whether it is an initializer.
    """

    shape: tuple[int, ...]
    values: str | tuple[float, ...] = "special"
    constant: bool = False


@dataclass(frozen=True)
class Row:
    """Operators that are tried with the same inputs.

    Attributes:
        ops: Names, separated by blanks.
        inputs: ``Typed``; arrays and constants of other types; None for an input left out.
        attributes: Of the node.
        label: Unique within the operator.
        outputs: Number of outputs.
        types: Those that are tried of the ones that the schema allows.
    """

    ops: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    outputs: int = 1
    types: tuple[str, ...] = PLAIN


def x(*shape: int) -> Typed:
    return Typed(shape)


def finite(*shape: int) -> Typed:
    return Typed(shape, "finite")


def small(*shape: int) -> Typed:
    return Typed(shape, "small")


def positive(*shape: int) -> Typed:
    return Typed(shape, "positive")


def weights(*shape: int, values: str | tuple[float, ...] = "small") -> Typed:
    return Typed(shape, values, constant=True)


def whole(*numbers: Any) -> Array:
    """Return indices or counts that a program is given."""
    return np.array(numbers[0] if len(numbers) == 1 else numbers, np.int64)


def values(dtype: str, shape: tuple[int, ...], kind: str | tuple[float, ...] = "special") -> Array:
    """Return an array of a type; ``kind`` as in ``Typed``."""
    is_float = DTYPES[dtype].is_float
    flat: Any
    if not isinstance(kind, str):
        flat = kind
    elif dtype == "bool":
        flat = [True, False, False, True]
    elif kind == "small" and is_float:
        flat = _SMALL
    elif kind == "small":
        flat = [0, 3, 1, 2, 5, 1, 4] if dtype.startswith("u") else [1, -3, 2, 0, 3, -1, 2]
    elif kind == "positive":
        flat = [0.5, 1.0, 2.5, 1.5, 3.0] if is_float else [1, 3, 2, 7, 5]
    elif is_float:
        flat = [v for v in _SPECIAL if kind == "special" or np.isfinite(v)]
    else:
        info = np.iinfo(dtype)
        flat = np.array([info.min, info.max, 0, 1, 5, 2, 3, 7], dtype)
    return np.resize(np.array(flat), shape).astype(dtype)


def _schema(op: str) -> tuple[onnx.defs.OpSchema, str]:
    """Return an operator's schema and the type parameter that is tried."""
    domain, _, name = op.rpartition("::")
    schema = onnx.defs.get_schema(name, ML_OPSET if domain else NEWEST.get(op, OPSET), domain)
    return schema, PARAMETERS.get(op) or schema.inputs[0].type_str


def allowed(op: str) -> list[str]:
    """Return the plain types that ONNX's schema allows an operator."""
    schema, parameter = _schema(op)
    found = [c for c in schema.type_constraints if c.type_param_str == parameter]
    names = {t for c in found for t in c.allowed_type_strs} or {parameter}
    spelled = {"float32": "float", "float64": "double"}
    return [n for n in PLAIN if f"tensor({spelled.get(n, n)})" in names]


def types_of(case: Case) -> set[str]:
    """Return the types in which a case tries a core operator."""
    schema, parameter = _schema(case.op)
    if case.op == "If":
        graph = case.attributes["then_branch"]
        codes = {value.type.tensor_type.elem_type for value in graph.output}
        return {helper.tensor_dtype_to_np_dtype(code).name for code in codes}
    last = len(schema.inputs) - 1  # the one that may be repeated
    return {
        (value.value if isinstance(value, Const) else value).dtype.name
        for number, value in enumerate(case.inputs)
        if value is not None and schema.inputs[min(number, last)].type_str == parameter
    }


def cases(rows: Iterable[Row], without: Iterable[tuple[str, str]] = ()) -> list[Case]:
    """Return the cases of all rows but those of the operators and types in ``without``."""
    return [case for row in rows for case in _cases(row, set(without))]


def _cases(row: Row, without: set[tuple[str, str]]) -> Iterator[Case]:
    for op in row.ops.split():
        for dtype in allowed(op):
            if dtype not in row.types or (op, dtype) in without:
                continue
            inputs = tuple(_input(given, dtype) for given in row.inputs)
            label = f"{dtype}_{row.label}" if row.label else dtype
            yield Case(op, label, inputs, row.outputs, row.attributes)


def _input(given: Any, dtype: str) -> Any:
    if not isinstance(given, Typed):
        return given
    array = values(dtype, given.shape, given.values)
    return Const(array) if given.constant else array
