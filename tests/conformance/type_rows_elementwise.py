"""Elementwise operators in every type: vectors of special values, scalars, broadcasts, nothing."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from op_cases import Const
from type_rows import (
    FLOATS,
    INTEGERS,
    PLAIN,
    SINGLE,
    Row,
    Typed,
    finite,
    positive,
    small,
    weights,
    x,
)

_PLAIN = (
    "Abs BitwiseNot Ceil Cos Elu Exp Floor Identity IsInf IsNaN Log Neg Not Reciprocal Relu Round "
    "Selu Sigmoid Sign Sin Softplus Sqrt"
)
_FUNCTIONS = "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Tan Tanh"
# ONNX's evaluator has Erf, and the 1/6 of HardSwish, in float32 only: in float64 they are tried
# where that does not show.
_ROUNDED = "Erf HardSwish"
_SATURATED = Typed((7,), (0.0, -0.0, 6.5, -7.25, math.nan, math.inf, -math.inf))
_SLOPES = {"alpha": 0.5}  # defaults such as 0.01 are other numbers in float64


def _unary(ops: str, types: tuple[str, ...] = PLAIN) -> tuple[Row, ...]:
    return (
        Row(ops, (x(2, 6),), types=types),
        Row(ops, (small(),), label="scalar", types=types),
        Row(ops, (x(2, 0, 3),), label="empty", types=types),
    )


FUNCTIONS: Final = (
    *_unary(f"{_FUNCTIONS} {_ROUNDED}", SINGLE),
    Row("HardSwish", (_SATURATED,), types=("float64",)),
)
# Those that machines without an operating system lack.
FUNCTIONS_FLOAT64: Final = (
    *_unary(_FUNCTIONS, ("float64",)),
    Row("Erf", (_SATURATED,), types=("float64",)),
    Row("Pow", (x(12, 1), small(7)), types=("float64",)),
    Row("Pow", (small(), positive(5)), label="scalar", types=("float64",)),
)
UNARY: Final = (
    *_unary(_PLAIN),
    Row("LeakyRelu HardSigmoid", (x(2, 6),), _SLOPES),
    Row("LeakyRelu HardSigmoid", (small(),), _SLOPES, "scalar"),
    Row("LeakyRelu HardSigmoid", (x(2, 0, 3),), _SLOPES, "empty"),
    Row("Shrink", (small(2, 6),), {"lambd": 0.75, "bias": 0.5}, types=FLOATS),
    Row("Shrink", (small(2, 6),), {"lambd": 1.5, "bias": 1.0}, types=INTEGERS),
    Row("Shrink", (small(),), label="scalar"),
    Row("Shrink", (x(2, 0, 3),), label="empty"),
    Row("Clip", (x(2, 6), small(), positive()), label="limits"),
    Row("Clip", (x(2, 6), weights(values="positive")), label="least"),
    Row("Clip", (x(2, 6), None, weights(values="positive")), label="most"),
    Row("Clip", (finite(), weights(values="positive")), label="scalar"),
    Row("Clip", (x(2, 0, 3), weights(values="positive")), label="empty"),
)

_FMOD = {"fmod": 1}


def _binary(ops: str) -> tuple[Row, ...]:
    return (
        Row(ops, (x(3, 1), x(4))),
        Row(ops, (small(), x(5)), label="scalar"),
        Row(ops, (x(0, 1), x(4)), label="empty"),
    )


COMPARISONS: Final = _binary("Equal Greater GreaterOrEqual Less LessOrEqual")

LOGIC: Final = (
    *_binary("And BitwiseAnd BitwiseOr BitwiseXor Or Xor"),
    *(
        row
        for way in ("LEFT", "RIGHT")
        for row in (
            Row("BitShift", (x(8, 1), small(7)), {"direction": way}, way),
            Row("BitShift", (small(), small(5)), {"direction": way}, f"{way}_scalar"),
            Row("BitShift", (x(0, 1), x(4)), {"direction": way}, f"{way}_empty"),
        )
    ),
    Row("Where", (np.array([[True], [False], [True]]), x(3, 4), x(1, 4))),
    Row("Where", (np.array(True), x(), x(3)), label="scalar"),
    Row("Where", (np.empty((0, 1), bool), x(3), x(3)), label="empty"),
)

ARITHMETIC: Final = (
    *_binary("Add Max Min Mul Sub"),
    Row("Max Min", (x(3, 1), finite(4), finite()), label="three"),
    Row("Div", (x(3, 1), x(4)), types=FLOATS),
    Row("Div Mod", (x(8, 1), positive(3)), types=INTEGERS),
    Row("Div", (small(), positive(5)), label="scalar"),
    Row("Div", (x(0, 1), x(4)), label="empty"),
    Row("Mod", (x(12, 1), x(12)), _FMOD, types=FLOATS),
    Row("Mod", (x(8, 1), positive(3)), _FMOD, "fmod", types=INTEGERS),
    Row("Mod", (small(), positive(5)), _FMOD, "scalar"),
    Row("Mod", (x(0, 1), x(4)), _FMOD, "empty"),
    Row("PRelu", (x(3, 12), small(3, 1))),
    Row("PRelu", (small(5), small()), label="scalar"),
    Row("PRelu", (x(2, 0), small(1)), label="empty"),
    Row("Pow", (x(12, 1), small(7)), types=SINGLE),
    Row("Pow", (small(7, 1), Const(np.array([0, 1, 2, 3], np.int64))), types=INTEGERS),
    Row("Pow", (small(), positive(5)), label="scalar", types=(*SINGLE, *INTEGERS)),
    Row("Pow", (x(0, 1), x(4)), label="empty"),
)
