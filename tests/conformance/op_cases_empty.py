"""Cases of tensors without elements, as inputs, inside and as outputs: see ``op_cases``."""

from __future__ import annotations

import numpy as np
from op_cases import Array, Case, Const, f, ints


def _nothing(*shape: int, dtype: str = "float32") -> Array:
    return np.empty(shape, dtype)


def cases() -> list[Case]:
    """Return the cases."""
    x = f("empty", 2, 3)
    return [
        Case("Concat", "empty_first", (_nothing(2, 0), x), attributes={"axis": 1}),
        Case("Concat", "empty_between", (x, _nothing(0, 3), x), attributes={"axis": 0}),
        Case("Concat", "all_empty", (_nothing(2, 0), _nothing(2, 0)), attributes={"axis": 1}),
        Case("Relu", "empty", (_nothing(2, 0, 3),)),
        Case("Add", "empty_broadcast", (_nothing(2, 0, 3), f("e3", 3))),
        Case("Cast", "empty", (_nothing(0, dtype="int64"),), attributes={"to": 1}),
        Case("MatMul", "empty_sum", (_nothing(2, 0), _nothing(0, 3))),
        Case("ReduceSum", "empty_axis", (_nothing(2, 0, 3), ints(1))),
        Case("Reshape", "empty", (_nothing(2, 0, 3), ints(0, 6)), attributes={"allowzero": 1}),
        Case("Slice", "to_empty", (x, ints(2), ints(2), ints(1))),
        Case("Split", "empty_part", (x, ints(2, 0, 1)), outputs=3, attributes={"axis": 1}),
        Case("Where", "empty", (_nothing(0, dtype="bool"), _nothing(0), Const(np.float32(1)))),
    ]
