"""Sums along an axis, the largest elements, and positions as vectors.

``CumSum`` and ``CumProd`` add and multiply from one end, rounding after each step. ``TopK`` takes
NaN as larger than any number and of equal elements the first. Source: the ONNX operator schemas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tvm import tirx

from mlopsc.errors import CompilerError
from mlopsc.lower.ops.loops import call, load, over, program, sequence, store
from mlopsc.lower.ops.node import Lowering, Node, axis_of, compute, literal


def _cumulative(combine: Callable[[Any, Any], Any], start: int) -> Lowering:
    def lowering(node: Node) -> Any:
        x = node.operand(0)
        axes = node.integers(1)
        if axes is None or x.rank == 0:
            raise CompilerError(f"{node.op}: expected an axis of a tensor of rank 1 or more")
        axis, size = axis_of(axes[0], x.rank), x.shape[axis_of(axes[0], x.rank)]
        exclusive = bool(node.attribute("exclusive", 0))
        reverse = bool(node.attribute("reverse", 0))
        shape = list(x.shape)

        def write(ins: list[Any], outs: list[Any]) -> Any:
            out = outs[0]

            def place(index: tuple[Any, ...], step: Any) -> tuple[Any, ...]:
                at = literal(size - 1, "int64") - step if reverse else step
                return (*index[:axis], at, *index[axis + 1 :])

            first = shape.copy()
            first[axis] = 1
            rest = shape.copy()
            rest[axis] = size - 1

            def begin(*index: Any) -> Any:
                where = place(index, literal(0, "int64"))
                value = literal(start, x.dtype) if exclusive else load(ins[0], where)
                return store(out, value, where)

            def advance(*index: Any) -> Any:
                before = place(index, index[axis])
                where = place(index, index[axis] + literal(1, "int64"))
                new = load(ins[0], before if exclusive else where)
                return store(out, combine(load(out, before), new), where)

            loops = [over(first, begin)]
            if size > 1:
                loops.append(over(rest, advance))
            return sequence(*loops)

        return program(node, [x], write)

    return lowering


def _top_k(node: Node) -> Any:
    x = node.operand(0)
    axis = axis_of(int(node.attribute("axis", -1)), x.rank)
    kept = node.result.shape[axis]
    largest = int(node.attribute("largest", 1))
    inner = math.prod(x.shape[axis + 1 :])
    outer = math.prod(x.shape[:axis])
    kind = x.dtype.replace("float", "f").replace("uint", "u").replace("int", "i")
    name = f"mlopsc_topk_{kind}"
    return program(
        node,
        [x],
        lambda ins, outs: call(name, ins, outs, outer, x.shape[axis], inner, kept, largest),
    )


def _one_hot(node: Node) -> Any:
    indices, values = node.operand(0), node.operand(2)
    shape = node.result.shape
    axis = axis_of(int(node.attribute("axis", -1)), len(shape))
    depth = shape[axis]

    def element(*index: Any) -> Any:
        at = indices.at((*index[:axis], *index[axis + 1 :]))
        dtype = str(at.ty)
        here = index[axis].astype(dtype)
        same = at == here
        if not dtype.startswith("uint"):
            same = tirx.any(same, at + literal(depth, dtype) == here)
        off, on = (values.tensor(literal(i, "int64")) for i in (0, 1))
        return tirx.Select(same, on, off)

    return compute(node, element)


LOWERINGS: Final[dict[str, Lowering]] = {
    "CumProd": _cumulative(lambda a, b: a * b, 1),
    "CumSum": _cumulative(lambda a, b: a + b, 0),
    "OneHot": _one_hot,
    "TopK": _top_k,
}
