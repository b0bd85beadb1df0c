"""Reading elements at computed places. Source: the ONNX operator schemas.

Negative indices count from the end. An index out of range reads the nearest element: a library
must not read outside its tensors, whatever it is given.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import tirx

from mlopsc.lower.ops.node import Lowering, Node, axis_of, compute


def in_range(index: Any, size: int) -> Any:
    """Return ``index`` counted from the start and kept in range."""
    dtype = str(index.ty)
    if dtype not in ("int32", "int64"):
        index, dtype = index.astype("int64"), "int64"
    zero, count = tirx.const(0, dtype), tirx.const(size, dtype)
    index = tirx.Select(index < zero, index + count, index)
    return tirx.max(tirx.min(index, count - tirx.const(1, dtype)), zero)


def _gather(node: Node) -> Any:
    x, indices = node.operand(0), node.operand(1)
    axis = axis_of(int(node.attribute("axis", 0)), x.rank)

    def element(*index: Any) -> Any:
        middle = index[axis : axis + indices.rank]
        place = in_range(indices.at(middle), x.shape[axis])
        return x.tensor(*index[:axis], place, *index[axis + indices.rank :])

    return compute(node, element)


def _gather_elements(node: Node) -> Any:
    x, indices = node.operand(0), node.operand(1)
    axis = axis_of(int(node.attribute("axis", 0)), x.rank)

    def element(*index: Any) -> Any:
        own = list(index)
        own[axis] = in_range(indices.tensor(*index), x.shape[axis])
        return x.tensor(*own)

    return compute(node, element)


def _gather_nd(node: Node) -> Any:
    x, indices = node.operand(0), node.operand(1)
    batch = int(node.attribute("batch_dims", 0))
    depth = indices.shape[-1]
    lead = indices.rank - 1

    def element(*index: Any) -> Any:
        own = [in_range(indices.tensor(*index[:lead], i), x.shape[batch + i]) for i in range(depth)]
        return x.tensor(*index[:batch], *own, *index[lead:])

    return compute(node, element)


LOWERINGS: Final[dict[str, Lowering]] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
}
