"""Writing elements at computed places. Source: the ONNX operator schemas.

Updates apply in row order, so that of several to one place the last one wins, or they are combined
one after the other. Negative indices count from the end; an index out of range writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tvm import tirx

from mlopsc.lower.ops.extrema import larger, smaller
from mlopsc.lower.ops.loops import load, over, program, sequence, store
from mlopsc.lower.ops.node import Lowering, Node, Operand, axis_of, literal


def _plus(a: Any, b: Any) -> Any:
    return tirx.any(a, b) if str(a.ty) == "bool" else a + b


def _times(a: Any, b: Any) -> Any:
    return tirx.all(a, b) if str(a.ty) == "bool" else a * b


_REDUCTIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "none": lambda a, b: b,
    "add": _plus,
    "mul": _times,
    "max": larger,
    "min": smaller,
}


def _wide(index: Any, size: int) -> Any:
    """Return ``index`` as int64 counted from the start."""
    wide = index.astype("int64")
    return tirx.Select(wide < literal(0, "int64"), wide + literal(size, "int64"), wide)


def _within(places: Sequence[Any], sizes: Sequence[int]) -> Any:
    tests = [
        test
        for place, size in zip(places, sizes, strict=True)
        for test in (place >= literal(0, "int64"), place < literal(size, "int64"))
    ]
    return tirx.all(*tests) if tests else tirx.const(True, "bool")


def _guarded_store(out: Any, value: Any, index: Sequence[Any], inside: Any) -> Any:
    return tirx.stmt.IfThenElse(inside, store(out, value, index), None)


def _distinct(*operands: Operand) -> list[Operand]:
    return list(dict.fromkeys(operands))


def _buffers(operands: Sequence[Operand], ins: Sequence[Any]) -> list[Any]:
    found = dict(zip(_distinct(*operands), ins, strict=True))
    return [found[operand] for operand in operands]


def _scatter_elements(node: Node) -> Any:
    data, indices, updates = (node.operand(i) for i in range(3))
    axis = axis_of(int(node.attribute("axis", 0)), data.rank)
    combine = _REDUCTIONS[node.attribute("reduction", "none")]

    def write(ins: list[Any], outs: list[Any]) -> Any:
        x, where, new = _buffers((data, indices, updates), ins)
        out = outs[0]

        def update(*index: Any) -> Any:
            place = _wide(load(where, index), data.shape[axis])
            target = [*index[:axis], place, *index[axis + 1 :]]
            value = combine(load(out, target), load(new, index))
            return _guarded_store(out, value, target, _within([place], [data.shape[axis]]))

        return sequence(
            over(data.shape, lambda *i: store(out, load(x, i), i)), over(indices.shape, update)
        )

    return program(node, _distinct(data, indices, updates), write)


def _scatter_nd(node: Node) -> Any:
    data, indices, updates = (node.operand(i) for i in range(3))
    depth, lead = indices.shape[-1], indices.rank - 1
    combine = _REDUCTIONS[node.attribute("reduction", "none")]

    def write(ins: list[Any], outs: list[Any]) -> Any:
        x, where, new = _buffers((data, indices, updates), ins)
        out = outs[0]

        def update(*index: Any) -> Any:
            head = index[:lead]
            own = [
                _wide(load(where, (*head, literal(i, "int64"))), data.shape[i])
                for i in range(depth)
            ]
            target = [*own, *index[lead:]]
            value = combine(load(out, target), load(new, index))
            return _guarded_store(out, value, target, _within(own, data.shape[:depth]))

        return sequence(
            over(data.shape, lambda *i: store(out, load(x, i), i)), over(updates.shape, update)
        )

    return program(node, _distinct(data, indices, updates), write)


def _max_unpool(node: Node) -> Any:
    """Indices count in the whole output."""
    x, indices = node.operand(0), node.operand(1)
    shape = node.result.shape

    def write(ins: list[Any], outs: list[Any]) -> Any:
        values, where = _buffers((x, indices), ins)
        out = outs[0]

        def update(*index: Any) -> Any:
            rest = load(where, index).astype("int64")
            places: list[Any] = []
            for size in reversed(shape):
                places.insert(0, tirx.floormod(rest, literal(size, "int64")))
                rest = tirx.floordiv(rest, literal(size, "int64"))
            inside = rest == literal(0, "int64")
            return _guarded_store(out, load(values, index), places, inside)

        zero = literal(0, x.dtype)
        return sequence(over(shape, lambda *i: store(out, zero, i)), over(x.shape, update))

    return program(node, _distinct(x, indices), write)


LOWERINGS: Final[dict[str, Lowering]] = {
    "MaxUnpool": _max_unpool,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
