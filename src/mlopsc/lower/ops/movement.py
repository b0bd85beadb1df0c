"""Operators that move elements without computing. Source: the ONNX operator schemas.

They work on any storage type.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from tvm import te, tirx, topi

from mlopsc.errors import CompilerError
from mlopsc.lower.ops.node import Lowering, Node, Operand, axis_of, compute


def _reshape(node: Node) -> Any:
    return topi.reshape(node.operand(0).tensor, node.result.shape)


def _transpose(node: Node) -> Any:
    x = node.operand(0)
    order = node.attribute("perm") or tuple(reversed(range(x.rank)))

    def element(*index: Any) -> Any:
        own: list[Any] = [0] * x.rank
        for position, axis in enumerate(order):
            own[axis] = index[position]
        return x.at(tuple(own)) if x.rank == 0 else x.tensor(*own)

    return compute(node, element)


def _concat(node: Node) -> Any:
    operands = [o for o in node.inputs if o is not None and 0 not in o.shape]
    axis = axis_of(int(node.attribute("axis", 0)), len(node.result.shape))
    return topi.concatenate([o.tensor for o in operands], axis)


def _expand(node: Node) -> Any:
    return compute(node, lambda *index: node.operand(0).at(index))


def _tile(node: Node) -> Any:
    x = node.operand(0)
    return compute(
        node,
        lambda *index: x.tensor(
            *(
                i if i_size == size else tirx.indexmod(i, size)
                for i, size, i_size in zip(index, x.shape, node.result.shape, strict=True)
            )
        ),
    )


def _slice(node: Node) -> Any:
    """``start:end:step`` per axis, with ONNX's clamping."""
    x = node.operand(0)
    starts, ends = node.integers(1), node.integers(2)
    if starts is None or ends is None:
        raise CompilerError("Slice: starts and ends must be constants")
    axes = node.integers(3) or list(range(len(starts)))
    steps = node.integers(4) or [1] * len(starts)
    first, step = [0] * x.rank, [1] * x.rank
    for start, axis, stride in zip(starts, axes, steps, strict=True):
        axis = axis_of(axis, x.rank)
        size = x.shape[axis]
        start = start + size if start < 0 else start
        first[axis] = min(max(start, 0), size if stride > 0 else size - 1)
        step[axis] = stride
    # Backwards by a table: TVM divides an index that falls as if it grew.
    tables = {
        axis: node.table(np.arange(size, dtype=np.int64) * step[axis] + first[axis])
        for axis, size in enumerate(node.result.shape)
        if step[axis] < 0 and size
    }

    def place(axis: int, i: Any) -> Any:
        if axis in tables:
            return tables[axis](i)
        if step[axis] != 1:
            return first[axis] + i * step[axis]
        return i + first[axis] if first[axis] else i

    return compute(node, lambda *index: x.tensor(*(place(a, i) for a, i in enumerate(index))))


def _split(node: Node) -> Any:
    x = node.operand(0)
    axis = axis_of(int(node.attribute("axis", 0)), x.rank)
    results = []
    start = 0
    for result in node.outputs:
        if result is None:
            raise CompilerError("Split: every output must be named")
        results.append(_part(x, axis, start, result.shape))
        start += result.shape[axis]
    return results


def _part(x: Operand, axis: int, start: int, shape: tuple[int, ...]) -> Any:
    def element(*index: Any) -> Any:
        return x.tensor(*index[:axis], index[axis] + start, *index[axis + 1 :])

    return te.compute(shape, element, name="split")


def _pad(node: Node) -> Any:
    """Constant, edge, reflect and wrap, with negative pads cropping."""
    x = node.operand(0)
    mode = node.attribute("mode", "constant")
    pads = node.integers(1) or []
    axes = node.integers(3)
    axes = list(range(x.rank)) if axes is None else [axis_of(a, x.rank) for a in axes]
    before = [0] * x.rank
    for position, axis in enumerate(axes):
        before[axis] = pads[position]
    value = node.optional(2)

    def element(*index: Any) -> Any:
        own, inside = [], []
        for i, b, size, total in zip(index, before, x.shape, node.result.shape, strict=True):
            at = i - b if b else i
            if b <= 0 and total - b <= size:  # nothing is added on this axis
                own.append(at)
            elif mode == "constant":
                own.append(at)
                inside += [at >= 0, at < size]
            else:  # what is cropped is gone before anything is added
                first, last = max(-b, 0), min(total - b, size)
                own.append(_inside(mode, i - max(b, 0), last - first) + first)
        if not inside:
            return x.tensor(*own) if x.rank else x.at(())
        fill = (
            value.at((0,) * value.rank)
            if value is not None and 0 not in value.shape
            else tirx.const(0, x.dtype)
        )
        return tirx.if_then_else(tirx.all(*inside), x.tensor(*own), fill)

    return compute(node, element)


def _inside(mode: str, at: Any, size: int) -> Any:
    """Return which of ``size`` elements stands at ``at``, which may lie outside."""
    if mode == "edge":
        return tirx.max(tirx.min(at, size - 1), 0)
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        folded = tirx.floormod(at, period)
        return tirx.min(folded, period - folded) if size > 1 else folded
    return tirx.floormod(at, size)


def _depth_to_space(node: Node) -> Any:
    x = node.operand(0)
    block = int(node.attribute("blocksize"))
    depth = x.shape[1] // (block * block)
    column_first = node.attribute("mode", "DCR") == "CRD"

    def element(n: Any, c: Any, h: Any, w: Any) -> Any:
        bh, bw = tirx.indexmod(h, block), tirx.indexmod(w, block)
        if column_first:
            channel = c * (block * block) + bh * block + bw
        else:
            channel = (bh * block + bw) * depth + c
        return x.tensor(n, channel, tirx.indexdiv(h, block), tirx.indexdiv(w, block))

    return compute(node, element)


def _space_to_depth(node: Node) -> Any:
    x = node.operand(0)
    block = int(node.attribute("blocksize"))
    depth = x.shape[1]
    column_first = node.attribute("mode", "DCR") == "CRD"

    def element(n: Any, c: Any, h: Any, w: Any) -> Any:
        if column_first:
            channel, place = tirx.indexdiv(c, block * block), tirx.indexmod(c, block * block)
        else:
            channel, place = tirx.indexmod(c, depth), tirx.indexdiv(c, depth)
        return x.tensor(
            n,
            channel,
            h * block + tirx.indexdiv(place, block),
            w * block + tirx.indexmod(place, block),
        )

    return compute(node, element)


def _trilu(node: Node) -> Any:
    x = node.operand(0)
    upper = bool(node.attribute("upper", 1))
    k = node.optional(1)

    def element(*index: Any) -> Any:
        row, column = (i.astype("int64") for i in index[-2:])
        offset = tirx.const(0, "int64") if k is None else k.at((0,) * k.rank)
        kept = column - row >= offset if upper else column - row <= offset
        return tirx.Select(kept, x.tensor(*index), tirx.const(0, x.dtype))

    return compute(node, element)


LOWERINGS: Final[dict[str, Lowering]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _reshape,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _reshape,
}
