"""Integers that wrap between two operators of one kernel, and constants at the ends of a type.

A compiler that takes integers for unbounded, or computes small ones in a wider type, gets these
wrong; a store to memory would hide it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from op_cases import Case, Const
from op_cases_kernels import INTEGERS


@dataclass(frozen=True)
class Chain(Case):
    """Nodes that are compiled into one kernel.

    Attributes:
        steps: ``result = Operator arguments; ...``. The inputs are ``x``, ``k`` and ``q``, the
            result of the last step is ``y``; ``Cast.INT64`` is a cast to that type.
    """

    steps: str = ""

    def nodes(self, inputs: list[str], outputs: list[str]) -> list[onnx.NodeProto]:
        names = {**dict(zip("xkq", inputs, strict=False)), "y": outputs[0]}
        made = []
        for step in self.steps.split("; "):
            result, operator, *arguments = step.replace(" =", "").split()
            op, _, detail = operator.partition(".")
            attributes: dict[str, Any] = {}
            if op == "Cast":
                attributes["to"] = TensorProto.DataType.Value(detail)
            elif op == "BitShift":
                attributes["direction"] = detail
            output = names.setdefault(result, f"{self.name}_{result}")
            made.append(helper.make_node(op, [names[a] for a in arguments], [output], **attributes))
        return made


# By name: the steps, and the constants k and q.
_CHAINS: dict[str, tuple[str, tuple[int, ...]]] = {
    "next_is_greater": ("a = Add x k; y = Greater a x", (1,)),
    "previous_is_less": ("a = Sub x k; y = Less a x", (1,)),
    "previous_is_positive": ("a = Sub x k; y = GreaterOrEqual a q", (1, 0)),
    "next_up_to": ("a = Add x k; y = LessOrEqual a q", (1, 5)),
    "average": ("a = Add x k; y = Div a q", (100, 2)),
    "double_half": ("a = Mul x k; y = Div a k", (2,)),
    "six_thirds": ("a = Mul x k; y = Div a q", (6, 3)),
    "square_is_positive": ("a = Mul x x; y = GreaterOrEqual a k", (0,)),
    "larger_neighbour": ("a = Add x k; y = Max a x", (1,)),
    "smaller_sum": ("a = Add x k; b = Add x q; y = Min a b", (1, 2)),
    "equal_sums": ("a = Add x k; b = Add x q; y = Equal a b", (1, 2)),
    "sum_as_float": ("a = Add x k; y = Cast.FLOAT a", (100,)),
    "sum_as_int64": ("a = Add x k; y = Cast.INT64 a", (100,)),
    "product_as_double": ("a = Mul x k; y = Cast.DOUBLE a", (3,)),
    "square_as_int64": ("a = Mul x x; y = Cast.INT64 a", ()),
    "negated_as_double": ("a = Sub k x; y = Cast.DOUBLE a", (0,)),
    "rest_is_less": ("a = Mod x k; y = Less a k", (7,)),
    "rest_of_sum": ("a = Add x k; y = Mod a q", (100, 7)),
    "half_is_less": ("a = Div x k; y = Less a x", (2,)),
    "division": ("a = Div x k; b = Mul a k; y = Sub x b", (3,)),
    "absolute_is_positive": ("a = Abs x; y = GreaterOrEqual a k", (0,)),
    "absolute_is_greater": ("a = Abs x; y = Greater a x", ()),
    "complement": ("a = BitwiseNot x; y = Cast.INT64 a", ()),
    "as_int8": ("a = Cast.INT8 x; y = Cast.INT64 a", ()),
    "as_uint16": ("a = Cast.UINT16 x; y = Cast.DOUBLE a", ()),
}
_SIGNED: dict[str, tuple[str, tuple[int, ...]]] = {
    "negated_is_greater": ("a = Neg x; y = Greater a x", ()),
    "negated_as_int64": ("a = Neg x; y = Cast.INT64 a", ()),
}
_UNSIGNED: dict[str, tuple[str, tuple[int, ...]]] = {
    "shifted_back": ("a = BitShift.LEFT x k; y = BitShift.RIGHT a k", (1,)),
}


def _ends(dtype: str, x: Any) -> list[Case]:
    """Return one operator each with a constant at an end of the type, or next to it."""
    info = np.iinfo(dtype)
    cases = []
    for end, inner in ((int(info.min), int(info.min) + 1), (int(info.max), int(info.max) - 1)):
        label = f"{'low' if end == info.min else 'high'}_{dtype}"
        k, beside = (Const(np.array(value, dtype)) for value in (end, inner))
        for op in ("Add", "Mul", "Max", "Min", "Equal", "GreaterOrEqual", "LessOrEqual", "Less"):
            cases.append(Case(op, label, (x, k)))
        for op in ("Sub", "Greater", "GreaterOrEqual"):
            cases += [Case(op, f"{label}_first", (k, x)), Case(op, f"{label}_beside", (x, beside))]
        if end != 0:
            cases += [Case(op, label, (x, k)) for op in ("Div", "Mod")]
    return cases


def cases() -> list[Case]:
    """Every integer type, at the ends of its range."""
    made: list[Case] = []
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        middle = int(info.max) // 2
        values = [info.min, info.min + 1, 0, 1, 2, 5, 100, middle, middle + 1, middle + 9,
                  info.max - 1, info.max]  # fmt: skip
        x = np.array(values, dtype)
        chains = {**_CHAINS, **(_UNSIGNED if dtype.startswith("u") else _SIGNED)}
        for name, (steps, constants) in chains.items():
            inputs = (x, *(Const(np.array(value, dtype)) for value in constants))
            made.append(Chain("chain", f"{name}_{dtype}", inputs, steps=steps))
        made += _ends(dtype, x)
    return made
