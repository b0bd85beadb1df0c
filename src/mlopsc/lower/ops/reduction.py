"""Reductions and searches along axes. Source: the ONNX operator schemas.

``ReduceMax`` and ``ReduceMin`` of anything with NaN are NaN, as in NumPy and ONNX's own evaluator
(ONNX Runtime's answer depends on where the NaN stands), and a search finds the NaN. It gives the
first index of the extremum unless ``select_last_index`` asks for the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tvm import te, tirx

from mlopsc.lower.ops.arithmetic import divide
from mlopsc.lower.ops.extrema import larger, smaller
from mlopsc.lower.ops.node import Lowering, Node, axis_of, compute, literal

Reducer = Callable[..., Any]


def _axes(node: Node) -> list[int] | None:
    """Return the reduced axes; None means that nothing is reduced."""
    rank = node.operand(0).rank
    axes = node.attribute("axes")
    if axes is None:
        axes = node.integers(1)
    if not axes:
        return None if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis_of(int(a), rank) for a in axes})


def _reduce(reducer: Reducer, finish: Callable[[Any, int], Any] | None = None) -> Lowering:
    def lowering(node: Node) -> Any:
        x = node.operand(0)
        axes = _axes(node)
        if axes is None or x.rank == 0:
            return compute(node, lambda *i: x.at(i))
        keep = bool(node.attribute("keepdims", 1))
        reduced = [te.reduce_axis((0, x.shape[a]), name=f"r{a}") for a in axes]

        def element(*index: Any) -> Any:
            rest = (
                iter(index) if not keep else iter(v for a, v in enumerate(index) if a not in axes)
            )
            own = [reduced[axes.index(a)] if a in axes else next(rest) for a in range(x.rank)]
            return reducer(x.tensor(*own), axis=reduced)

        result = te.compute(node.result.shape, element, name=node.op.lower())
        if finish is None:
            return result
        count = math.prod(x.shape[a] for a in axes)
        return te.compute(
            node.result.shape, lambda *i: finish(result(*i), count), name=f"{node.op.lower()}_end"
        )

    return lowering


def _mean(total: Any, count: int) -> Any:
    dtype = str(total.ty)
    if dtype.startswith("float"):
        return (
            total * tirx.const(1.0 / count, dtype)
            if count & (count - 1) == 0
            else (total / tirx.const(float(count), dtype))
        )
    return divide(total, literal(count, dtype))


_PROD = te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t), name="prod")
_ANY = te.comm_reducer(lambda a, b: tirx.any(a, b), lambda t: tirx.const(False, t), name="any")
_ALL = te.comm_reducer(lambda a, b: tirx.all(a, b), lambda t: tirx.const(True, t), name="all")


def _extremum(reducer: Reducer, of_bool: Reducer, *, largest: bool) -> Lowering:
    """Choose the reducer by type."""

    def start(dtype: Any) -> Any:
        return te.min_value(dtype) if largest else te.max_value(dtype)

    of_float = te.comm_reducer(larger if largest else smaller, start, name="extremum")

    def lowering(node: Node) -> Any:
        dtype = node.result.dtype
        chosen = of_bool if dtype == "bool" else of_float if "float" in dtype else reducer
        return _reduce(chosen)(node)

    return lowering


def place_reducer(dtype: str, *, largest: bool = True, last: bool = False) -> Any:
    """Return the reducer of pairs (index, value) that keeps the extremum; NaN counts as it.

    It starts at the first index, for a row may hold nothing better than the start value.
    """

    def combine(a: Any, b: Any) -> Any:
        earlier = a[0] > b[0] if last else a[0] < b[0]
        better = a[1] > b[1] if largest else a[1] < b[1]
        wins = tirx.any(better, tirx.all(a[1] == b[1], earlier))
        if "float" in dtype:
            either = tirx.any(tirx.isnan(a[1]), tirx.isnan(b[1]))
            of_nan = tirx.all(tirx.isnan(a[1]), tirx.any(b[1] == b[1], earlier))
            wins = tirx.Select(either, of_nan, wins)
        return tirx.Select(wins, a[0], b[0]), tirx.Select(wins, a[1], b[1])

    def start(index_type: Any, value_type: Any) -> Any:
        worst = te.min_value(value_type) if largest else te.max_value(value_type)
        return tirx.const(0, index_type), worst

    return te.comm_reducer(combine, start, name="place")


def _search(largest: bool) -> Lowering:
    """ArgMax and ArgMin as a reduction of pairs (index, value)."""

    def lowering(node: Node) -> Any:
        x = node.operand(0)
        axis = axis_of(int(node.attribute("axis", 0)), max(x.rank, 1))
        last = bool(node.attribute("select_last_index", 0))
        keep = bool(node.attribute("keepdims", 1))
        if x.rank == 0:
            return compute(node, lambda *i: tirx.const(0, "int64"))
        reducer = place_reducer(x.dtype, largest=largest, last=last)
        k = te.reduce_axis((0, x.shape[axis]), name="k")

        def element(*index: Any) -> Any:
            rest = list(index[:axis]) + list(index[axis + 1 :] if keep else index[axis:])
            own = [*rest[:axis], k, *rest[axis:]]
            return reducer((k.astype("int64"), x.tensor(*own)), axis=k)

        return te.compute(node.result.shape, element, name=node.op.lower())[0]

    return lowering


LOWERINGS: Final[dict[str, Lowering]] = {
    "ArgMax": _search(True),
    "ArgMin": _search(False),
    "ReduceMax": _extremum(te.max, _ANY, largest=True),
    "ReduceMean": _reduce(te.sum, _mean),
    "ReduceMin": _extremum(te.min, _ALL, largest=False),
    "ReduceProd": _reduce(_PROD),
    "ReduceSum": _reduce(te.sum),
}
