"""Operators that move, choose and reduce elements, in every type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from onnx import helper
from op_cases import Const, ints
from type_rows import FLOATS, INTEGERS, Row, Typed, finite, small, weights, whole, x

_NUMBERS = (*FLOATS, *INTEGERS)
_NOTHING = Const(np.array([], np.int64))

SHAPES: Final = (
    Row("Concat", (x(2, 3), x(2, 1), x(2, 0)), {"axis": -1}),
    Row("Concat", (x(0, 3), x(0, 3)), {"axis": 0}, "empty"),
    Row("DepthToSpace", (x(1, 8, 2, 1),), {"blocksize": 2, "mode": "CRD"}),
    Row("DepthToSpace", (x(0, 8, 2, 1),), {"blocksize": 2}, "empty"),
    Row("SpaceToDepth", (x(1, 2, 4, 2),), {"blocksize": 2}),
    Row("SpaceToDepth", (x(0, 2, 4, 2),), {"blocksize": 2}, "empty"),
    Row("Expand", (x(3, 1), ints(2, 1, 4))),
    Row("Expand", (x(), ints(2, 3)), label="scalar"),
    Row("Expand", (x(3, 1), ints(3, 0)), label="empty"),
    Row("Flatten", (x(2, 3, 2),), {"axis": -1}),
    Row("Flatten", (x(),), {"axis": 0}, "scalar"),
    Row("Flatten", (x(2, 0, 2),), {"axis": -1}, "empty"),
    Row("Pad", (x(3, 4), ints(1, 2), x(), ints(-1))),
    Row("Pad", (x(3, 4), ints(0, 1, 2, 1)), {"mode": "edge"}, "edge"),
    Row("Pad", (x(2, 0), ints(0, 0, 1, 0)), label="empty"),
    Row("Reshape", (x(2, 3, 2), ints(0, -1))),
    Row("Reshape", (x(), ints(1, 1)), label="scalar"),
    Row("Reshape", (x(2, 0, 3), ints(0, 6)), {"allowzero": 1}, "empty"),
    Row("Slice", (x(3, 4), ints(-1), ints(-9), ints(-1), ints(-2))),
    Row("Slice", (x(3, 4), ints(2), ints(2), ints(0)), label="empty"),
    Row("Split", (x(3, 5), ints(1, 0, 4)), {"axis": -1}, outputs=3),
    Row("Squeeze", (x(1, 3, 1), ints(-1))),
    Row("Squeeze", (x(1, 1),), label="scalar"),
    Row("Squeeze", (x(1, 0), ints(0)), label="empty"),
    Row("Unsqueeze", (x(3, 2), ints(-1, 0))),
    Row("Unsqueeze", (x(), ints(0, -1)), label="scalar"),
    Row("Unsqueeze", (x(0, 2), ints(1)), label="empty"),
    Row("Tile", (x(2, 3), ints(2, 2))),
    Row("Tile", (x(), _NOTHING), label="scalar"),
    Row("Tile", (x(2, 3), ints(0, 1)), label="empty"),
    Row("Transpose", (x(2, 3, 2),), {"perm": [2, 0, 1]}),
    Row("Transpose", (x(),), label="scalar"),
    Row("Transpose", (x(2, 0),), label="empty"),
    Row("Trilu", (x(2, 3, 4),)),
    Row("Trilu", (x(3, 4), Const(np.array(-1, np.int64))), {"upper": 0}, "lower"),
    Row("Trilu", (x(2, 0, 4),), label="empty"),
)

_ELEMENTS = whole([[[0, -1, 2, 3], [1, 0, -2, 3]]])
_SLICES = whole([[0, 1], [-1, -1]])

INDICES: Final = (
    Row("Gather", (x(3, 4), whole([[2, -1], [0, -4]])), {"axis": -1}),
    Row("Gather", (x(4), whole(-2)), label="scalar"),
    Row("Gather", (x(3, 4), np.empty(0, np.int64)), label="empty"),
    Row("GatherElements", (x(1, 2, 4), _ELEMENTS), {"axis": -1}),
    Row("GatherElements", (x(3), np.empty(0, np.int64)), label="empty"),
    Row("GatherND", (x(2, 3, 4), _SLICES)),
    Row("GatherND", (x(2, 3), whole([[-1], [0]])), {"batch_dims": 1}, "batches"),
    Row("GatherND", (x(2, 3), np.empty((0, 1), np.int64)), label="empty"),
    Row("ScatterElements", (x(2, 2, 4), _ELEMENTS, x(1, 2, 4)), {"axis": -1}),
    Row("ScatterND", (x(2, 3, 4), _SLICES, x(2, 4))),
    *(
        row
        for how, kinds in (("add", "small"), ("mul", "small"), ("max", "finite"), ("min", "finite"))
        for row in (
            Row("ScatterElements", (Typed((2, 2, 4), kinds), _ELEMENTS, small(1, 2, 4)),
                {"axis": -1, "reduction": how}, how, types=_NUMBERS),
            Row("ScatterND", (Typed((2, 3, 4), kinds), _SLICES, small(2, 4)),
                {"reduction": how}, how, types=_NUMBERS),
        )
    ),
    Row("OneHot", (whole([0, -1, 3, -4, 2]), Const(np.array(4, np.int64)), x(2)), {"axis": -1}),
    Row("OneHot", (np.empty(0, np.int64), Const(np.array(3, np.int64)), x(2)), label="empty"),
)  # fmt: skip

_REDUCED = "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"

REDUCTIONS: Final = (
    Row(_REDUCED, (small(3, 4), ints(-1))),
    Row(_REDUCED, (small(2, 3, 4),), {"keepdims": 0}, "all"),
    Row(_REDUCED, (small(),), label="scalar"),
    Row("ReduceMax ReduceMin", (finite(3, 4), ints(0)), label="edges", types=_NUMBERS),
    Row("ReduceProd ReduceSum", (x(2, 0, 3), ints(1)), label="empty"),
    Row("ReduceMax ReduceMean ReduceMin", (x(0, 3), ints(-1)), label="empty"),
    Row("ArgMax ArgMin", (finite(3, 4),), {"axis": -1}),
    Row("ArgMax ArgMin", (small(3, 4),), {"axis": 0, "select_last_index": 1}, "last"),
    Row("ArgMax ArgMin", (x(0, 3),), {"axis": -1}, "empty"),
    Row("Softmax LogSoftmax Hardmax", (finite(2, 6),)),
    Row("Softmax LogSoftmax Hardmax", (small(2, 3, 2),), {"axis": -2}, "axis"),
    Row("Softmax LogSoftmax Hardmax", (x(0, 3),), label="empty"),
    Row("CumSum", (small(3, 4), Const(np.array(-1, np.int64))), {"reverse": 1}),
    Row("CumSum", (small(3, 4), Const(np.array(0, np.int32))), {"exclusive": 1}, "exclusive"),
    Row("CumSum", (small(3, 0), Const(np.array(-1, np.int64))), label="empty"),
)

PRODUCTS: Final = (
    Row("MatMul", (small(2, 3), small(3, 2))),
    Row("MatMul", (small(2, 1, 2, 3), weights(2, 3, 4)), label="broadcast"),
    Row("MatMul", (small(3), small(3)), label="scalar"),
    Row("MatMul", (small(2, 0), small(0, 3)), label="empty"),
    Row("Gemm", (small(2, 3), weights(3, 4), small(4))),
    Row("Gemm", (small(3, 2), small(4, 3), small()),
        {"transA": 1, "transB": 1, "alpha": 2.0, "beta": 3.0}, "scaled"),
    Row("Gemm", (small(0, 3), small(3, 4), small(4)), label="empty"),
    Row("Einsum", (small(2, 1, 2, 3), small(1, 2, 3, 2)), {"equation": "...ij,...jk->...ik"}),
    Row("Einsum", (small(3), small(3)), {"equation": "i,i->"}, "scalar"),
    Row("Einsum", (small(2, 0), small(0, 3)), {"equation": "ij,jk->ik"}, "empty"),
)  # fmt: skip


def _bits(dtype: str) -> tuple[str, ...]:
    size = np.dtype(dtype).itemsize
    return tuple(name for name in _NUMBERS if np.dtype(name).itemsize == size)


def _bit_casts() -> tuple[Row, ...]:
    found: list[Row] = []
    for target in (*INTEGERS, *FLOATS):
        options: dict[str, Any] = {"to": helper.np_dtype_to_tensor_dtype(np.dtype(target))}
        found.append(Row("BitCast", (x(2, 6),), options, f"to_{target}", types=_bits(target)))
    found.append(Row("BitCast", (x(3),), {"to": 9}, "to_bool", types=("bool",)))
    found.append(Row("BitCast", (x(),), {"to": 3}, "scalar", types=_bits("int8")))
    return tuple(found)


NEWEST: Final = (
    *_bit_casts(),
    Row("CumProd", (small(3, 4), Const(np.array(-1, np.int64))), {"reverse": 1}),
    Row("CumProd", (small(3, 4), Const(np.array(0, np.int32))), {"exclusive": 1}, "exclusive"),
    Row("CumProd", (small(3, 0), Const(np.array(-1, np.int64))), label="empty"),
    Row("TopK", (finite(3, 7, 2), ints(3)), {"axis": -2}, outputs=2),
    Row("TopK", (finite(3, 7), ints(7)), {"largest": 0}, "least", outputs=2),
    Row("TopK", (x(0, 3), ints(2)), label="empty", outputs=2),
)
