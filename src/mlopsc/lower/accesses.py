"""How a block walks memory: the stride of every operand and of the result along each axis.

Reads TIR blocks; what it gives is plain numbers that the rules of scheduling reason with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.sym import Analyzer, detect_linear_equation
from tvm_ffi.structural import structural_walk

from mlopsc.lower.functions import with_values

REDUCE = 2  # tirx.IterVar.CommReduce


@dataclass(frozen=True)
class Axis:
    """A loop of a block.

    Attributes:
        extent: Number of iterations.
        strides: Per operand, how many elements its address moves per iteration; None if unknown.
        store_stride: The same for the result.
    """

    extent: int
    strides: tuple[int | None, ...]
    store_stride: int | None


@dataclass(frozen=True)
class Accesses:
    """What a block with one result reads and writes.

    Attributes:
        spatial: The axes of the result, outermost first.
        reduced: The axes that are reduced.
        operand_bytes: Size of the whole tensor behind each operand.
    """

    spatial: tuple[Axis, ...]
    reduced: tuple[Axis, ...]
    operand_bytes: tuple[int, ...]


def is_reduction(schedule: Any, block: Any) -> bool:
    """Whether a block has a reduced axis."""
    return any(int(v.iter_type) == REDUCE for v in schedule.get(block).iter_vars)


def accesses(schedule: Any, block: Any) -> Accesses | None:
    """Return how ``block`` walks memory; None unless it stores one element per iteration.

    None also where the extent of an axis is not a number.
    """
    info = schedule.get(block)
    body = info.body
    if len(info.writes) != 1 or not hasattr(body, "indices"):
        return None
    if not all(isinstance(v.dom.extent, tirx.IntImm) for v in info.iter_vars):
        return None
    variables = [v.var for v in info.iter_vars]
    result, reads = info.writes[0].source, loads_of(info)
    operands = [_strides(r.source, r.indices, variables) for r in reads]
    stored = _strides(result, body.indices, variables)
    axes = [
        Axis(int(v.dom.extent), tuple(o[i] for o in operands), stored[i])
        for i, v in enumerate(info.iter_vars)
    ]
    reduced = [int(v.iter_type) == REDUCE for v in info.iter_vars]
    return Accesses(
        tuple(a for a, r in zip(axes, reduced, strict=True) if not r),
        tuple(a for a, r in zip(axes, reduced, strict=True) if r),
        tuple(buffer_bytes(r.source) for r in reads),
    )


def loads_of(block: Any) -> list[Any]:
    """Return what the body of a block with one result loads, but for that; in a fixed order."""
    result, found = block.writes[0].source, []

    def visit(load: Any) -> None:
        if not load.source.same_as(result):
            found.append(load)

    structural_walk(block.body, (tvm.ir.TensorLoad, visit))
    return found


def loops_of(schedule: Any, block: Any) -> list[Any] | None:
    """Return the loop of each axis of a block, in the order of its axes.

    None unless every axis has one loop of its own, over the whole of it, and there are no others.
    """
    loops = schedule.get_loops(block)
    info = schedule.get(block)
    realized: list[Any] = []

    def visit(realize: Any) -> None:
        if realize.block.same_as(info):
            realized.append(realize)

    structural_walk(schedule.mod["main"].body, (s_tir.SBlockRealize, visit))
    if len(realized) != 1 or len(loops) != len(info.iter_vars):
        return None
    by_variable = {schedule.get(loop).loop_var.name: loop for loop in loops}
    found = []
    for value, axis in zip(realized[0].iter_values, info.iter_vars, strict=True):
        loop = by_variable.get(value.name) if isinstance(value, tirx.Var) else None
        if loop is None or not _same_extent(schedule.get(loop), axis, value):
            return None
        found.append(loop)
    return found


def _same_extent(loop: Any, axis: Any, value: Any) -> bool:
    sizes = loop.extent, axis.dom.extent
    return (
        loop.loop_var.same_as(value)
        and all(isinstance(n, tirx.IntImm) for n in sizes)
        and (int(sizes[0]) == int(sizes[1]))
    )


def may_be_in_place(schedule: Any, block: Any, ignored: Any | None = None) -> bool:
    """Whether a block may come to write what it reads.

    TVM gives a buffer inside a kernel the place of an equally large one that is read there for the
    last time. Buffers of the caller keep theirs.

    Args:
        schedule: Of one function.
        block: To look at.
        ignored: A buffer that it reads and that only a part of is kept at a time.
    """
    inside = list(schedule.get(schedule.get_sblock("root")).alloc_buffers)
    info = schedule.get(block)
    written = info.writes[0].source
    if not any(b.same_as(written) for b in inside):
        return False
    return any(
        buffer_bytes(region.source) == buffer_bytes(written)
        and any(b.same_as(region.source) for b in inside)
        for region in info.reads
        if not region.source.same_as(written)
        and not (ignored is not None and region.source.same_as(ignored))
    )


def buffer_bytes(buffer: Any) -> int:
    """Return the size of a buffer."""
    return math.prod(int(d) for d in buffer.ty.shape) * bytes_of_element(buffer)


def bytes_of_element(buffer: Any) -> int:
    """Return the size of an element of a buffer, which may be a vector."""
    dtype = tvm.DataType(str(buffer.ty.dtype))
    return -(-int(dtype.bits) // 8) * int(dtype.lanes)


def dense_axes(axes: Sequence[Axis]) -> int:
    """Return how many innermost axes every operand and the result walk as one dense axis.

    An operand that does not move along any of them is no obstacle.
    """
    if not axes or axes[-1].store_stride != 1 or any(s not in (0, 1) for s in axes[-1].strides):
        return 0
    count, size = 1, axes[-1].extent
    for axis in reversed(axes[:-1]):
        alike = axis.store_stride == size and all(
            s == size * (inner or 0)
            for s, inner in zip(axis.strides, axes[-1].strides, strict=True)
        )
        if not alike:
            break
        count, size = count + 1, size * axis.extent
    return count


def _strides(buffer: Any, indices: Any, variables: list[Any]) -> list[int | None]:
    """Return the stride of a flattened access along each variable; None where it is not linear."""
    flat = flat_index(buffer, indices)
    coefficients = detect_linear_equation(flat, variables)
    if not coefficients:
        return [step_of(flat, variable) for variable in variables]
    try:
        return [int(c) for c in coefficients[: len(variables)]]
    except TypeError:
        return [None] * len(variables)


def flat_index(buffer: Any, indices: Any) -> Any:
    """Return the number of an element in the order of memory."""
    flat: Any = tirx.const(0, "int64")
    for size, index in zip(buffer.ty.shape, indices, strict=True):
        flat = flat * int(size) + index
    return flat


def step_of(value: Any, variable: Any) -> int | None:
    """Return how far ``value`` moves when ``variable`` does, if that is the same everywhere."""
    step = Analyzer().simplify(with_values(value, [(variable, variable + 1)]) - value)
    return int(step) if isinstance(step, tirx.IntImm) else None
