"""Schedules kernels by hardware facts. Whatever no rule covers is lowered as TVM made it.

One rule: in a kernel with a reduction, the elementwise neighbours are fused into it, a tile of the
result is kept in registers (``tiling`` chooses it by counting loads), and the innermost loops are
unrolled and, where addresses allow, vectorised. Nothing here knows an operator or a chip.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule, ScheduleError
from tvm.sym import detect_linear_equation
from tvm_ffi.structural import structural_walk

from mlopsc.lower.tiling import Axis, Tile, choose_tile, unrolled_axes
from mlopsc.schema.target import Hardware

_REDUCE = 2  # tirx.IterVar.CommReduce


def schedule_kernels(
    module: Any, hardware: Hardware, *, vectorize: bool
) -> tuple[Any, dict[str, str]]:
    """Return the module with scheduled kernels, and by kernel what was done.

    Args:
        module: Relax module whose TIR functions are to be scheduled.
        hardware: Facts of the target.
        vectorize: Whether vector types may be used.
    """
    functions = {}
    notes: dict[str, str] = {}
    for var, function in module.functions.items():
        if isinstance(function, tirx.PrimFunc):
            try:
                function, notes[var.name_hint] = _schedule(function, hardware, vectorize=vectorize)
            except ScheduleError as error:  # a primitive says that it does not apply
                first = " ".join(str(error).split())[:120]
                notes[var.name_hint] = f"as generated (no rule applies: {first})"
        functions[var] = function
    return tvm.IRModule(functions, attrs=module.attrs), notes


def _schedule(function: Any, hardware: Hardware, *, vectorize: bool) -> tuple[Any, str]:
    schedule = Schedule(tvm.IRModule({"main": function}))
    _fuse_elementwise(schedule)
    notes = []
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if _is_reduction(schedule, block):
            tile = _tile_reduction(schedule, block, hardware, vectorize=vectorize)
            if tile is not None:
                notes.append(str(tile))
    return schedule.mod["main"], "; ".join(notes) or "as generated"


def _is_reduction(schedule: Any, block: Any) -> bool:
    return any(int(v.iter_type) == _REDUCE for v in schedule.get(block).iter_vars)


def _fuse_elementwise(schedule: Any) -> None:
    """Inline every elementwise block into its only consumer, if that is elementwise too.

    Blocks that feed a reduction stay, padding above all: a condition per element read inside the
    innermost loop costs more than the buffer.
    """
    root = schedule.get_sblock("root")
    outputs = {schedule.get(b).name_hint for b in schedule.get_output_blocks(root)}
    for block in schedule.get_child_blocks(root):
        if _is_reduction(schedule, block) or schedule.get(block).name_hint in outputs:
            continue
        consumers = schedule.get_consumers(block)
        if len(consumers) == 1 and not _is_reduction(schedule, consumers[0]):
            schedule.compute_inline(block)


def _tile_reduction(
    schedule: Any, block: Any, hardware: Hardware, *, vectorize: bool
) -> Tile | None:
    """Tile one reduction block; return None where the rule does not apply."""
    if not _is_regular(schedule, block):
        return None
    info = schedule.get(block)
    loops = schedule.get_loops(block)
    spatial = [i for i, v in enumerate(info.iter_vars) if int(v.iter_type) != _REDUCE]
    reduced = [i for i, v in enumerate(info.iter_vars) if int(v.iter_type) == _REDUCE]
    extents = [int(schedule.get(loop).extent) for loop in loops]
    axes = _axes(info, [extents[i] for i in spatial], spatial)
    bits = int(tvm.DataType(str(info.writes[0].source.ty.dtype)).bits)
    lanes = max(1, hardware.vector_bits // bits) if vectorize else 1
    tile = choose_tile(axes, registers=hardware.registers, lanes=lanes)

    epilogue = _epilogue(schedule, block)
    outer, inner = [], []
    vector_loop = None
    for position, (index, factor) in enumerate(zip(spatial, tile.factors, strict=True)):
        if factor == 1:
            outer.append(loops[index])
            continue
        is_vector = position == tile.vector_axis
        if is_vector:
            head, middle, vector_loop = schedule.split(
                loops[index], [None, factor // tile.lanes, tile.lanes]
            )
            inner.append(middle)
        else:
            head, tail = schedule.split(loops[index], [None, factor])
            inner.append(tail)
        outer.append(head)
    innermost = [*inner, *([vector_loop] if vector_loop is not None else [])]
    reduction_loops = [loops[i] for i in reduced]
    schedule.reorder(*outer, *reduction_loops, *innermost)

    if outer:
        schedule.reverse_compute_at(epilogue, outer[-1], preserve_unit_loops=True)
        tail_loops = schedule.get_loops(epilogue)[len(outer) :]
        _finish(schedule, tail_loops, tile, hardware)
    # Before the start is split off: afterwards the update no longer counts as a reduction.
    _unroll(schedule, inner, vector_loop)
    start = schedule.decompose_reduction(block, reduction_loops[0])
    if innermost:
        start_loops = schedule.get_loops(start)[-len(innermost) :]
        _unroll(schedule, start_loops[: len(inner)], start_loops[-1] if vector_loop else None)
    accumulators = math.prod(tile.factors) // tile.lanes
    count = unrolled_axes([extents[i] for i in reduced], accumulators)
    # The outermost reduced loop carries the decomposed start and stays a loop.
    for loop in reduction_loops[max(1, len(reduction_loops) - count) :]:
        schedule.unroll(loop)
    return tile


def _is_regular(schedule: Any, block: Any) -> bool:
    """Whether a reduction has one result of more than one element and one loop per axis."""
    info = schedule.get(block)
    if len(info.writes) != 1 or info.init is None:
        return False
    if len(schedule.get_loops(block)) != len(info.iter_vars):
        return False
    return math.prod(int(d) for d in info.writes[0].source.ty.shape) > 1


def _unroll(schedule: Any, loops: list[Any], vector_loop: Any | None) -> None:
    for loop in loops:
        schedule.unroll(loop)
    if vector_loop is not None:
        schedule.vectorize(vector_loop)


def _finish(schedule: Any, loops: list[Any], tile: Tile, hardware: Hardware) -> None:
    """Unroll and vectorise the elementwise tail that writes one tile of the result."""
    for loop in loops:
        extent = int(schedule.get(loop).extent)
        if tile.vector_axis is not None and extent == tile.factors[tile.vector_axis]:
            head, vector = schedule.split(loop, [None, tile.lanes])
            schedule.vectorize(vector)
            schedule.unroll(head)
            tile = Tile(tile.factors)  # one loop only
        else:
            schedule.unroll(loop)


def _epilogue(schedule: Any, block: Any) -> Any:
    """Return the elementwise block that consumes a reduction; make a copy where there is none.

    Either way the reduction then writes accumulators that only this block reads.
    """
    shape = _result_shape(schedule, block)
    consumers = schedule.get_consumers(block)
    if (
        len(consumers) == 1
        and not _is_reduction(schedule, consumers[0])
        and _result_shape(schedule, consumers[0]) == shape
    ):
        return consumers[0]
    schedule.cache_write(block, 0, "global")
    return schedule.get_consumers(block)[0]


def _result_shape(schedule: Any, block: Any) -> list[int]:
    return [int(d) for d in schedule.get(block).writes[0].source.ty.shape]


def _axes(info: Any, extents: list[int], spatial: list[int]) -> list[Axis]:
    """Return the spatial axes of a block with the stride of every operand along each."""
    variables = [v.var for v in info.iter_vars]
    result = info.writes[0].source
    reads: list[Any] = []

    def visit(load: Any) -> None:
        if not load.source.same_as(result):
            reads.append(load)

    structural_walk(info.body, (tvm.ir.TensorLoad, visit))
    store = info.body
    operands = [_strides(r.source, r.indices, variables) for r in reads]
    stored = _strides(result, store.indices, variables)
    return [
        Axis(extent, tuple(o[index] for o in operands), stored[index])
        for extent, index in zip(extents, spatial, strict=True)
    ]


def _strides(buffer: Any, indices: Any, variables: list[Any]) -> list[int | None]:
    """Return the stride of a flattened access along each variable; None where it is not linear."""
    shape = [int(d) for d in buffer.ty.shape]
    flat: Any = tirx.const(0, "int64")
    for size, index in zip(shape, indices, strict=True):
        flat = flat * size + index
    coefficients = detect_linear_equation(flat, variables)
    if not coefficients:
        return [None] * len(variables)
    try:
        return [int(c) for c in coefficients[: len(variables)]]
    except TypeError:
        return [None] * len(variables)
