"""Reductions along the axis that is dense in memory: as many partial results as a vector has lanes.

A sum of a row walks memory element by element, and neither loads nor additions can be vectors,
because each addition waits for the one before. Here every such reduction becomes two: partial
results, one per lane, which the tile rule vectorises, and the reduction of those. Done before
anything else is scheduled, on the reductions as tensor expressions make them.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import Schedule, ScheduleError
from tvm_ffi.structural import structural_map

from mlopsc.lower.accesses import REDUCE, accesses, is_reduction, loops_of
from mlopsc.lower.functions import map_functions, with_parts
from mlopsc.schema.target import Hardware

_MIN_VECTORS = 2  # per row


def split_rows(module: Any, hardware: Hardware) -> Any:
    """Return the Relax module with reductions along dense axes split into partial results."""
    return map_functions(module, lambda function: _split_function(function, hardware))


def _split_function(function: Any, hardware: Hardware) -> Any:
    schedule = Schedule(tvm.IRModule({"main": function}))
    try:
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    except ScheduleError:  # a call of a runtime function has no blocks
        return function
    for name in [schedule.get(b).name_hint for b in blocks if is_reduction(schedule, b)]:
        schedule = _split(schedule, name, hardware)
    return schedule.mod["main"]


def _split(schedule: Any, name: str, hardware: Hardware) -> Any:
    """Split the reduction block ``name`` if its innermost reduced axis is dense."""
    block = schedule.get_sblock(name)
    found, info = accesses(schedule, block), schedule.get(block)
    loops = loops_of(schedule, block)
    if found is None or loops is None or not found.reduced:
        return schedule
    if int(info.iter_vars[-1].iter_type) != REDUCE:
        return schedule
    last, dtype = found.reduced[-1], tvm.DataType(str(info.writes[0].source.ty.dtype))
    lanes = hardware.vector_bits // int(dtype.bits)
    dense = 1 in last.strides and all(s in (0, 1) for s in last.strides)
    # Where the result is dense too, vectors go along it and no lane waits for another.
    along = any(
        a.store_stride == 1 and a.extent >= lanes and all(s in (0, 1) for s in a.strides)
        for a in found.spatial
    )
    if not dense or along or lanes < 4 or last.extent < _MIN_VECTORS * lanes:
        return schedule
    # Where elements are integers of 64 bits, TVM keeps loops of 64 bits and cannot cut them.
    if last.extent % lanes and int(dtype.bits) == 64 and "int" in str(dtype):
        return schedule
    before = schedule.copy()
    try:
        _, inner = schedule.split(loops[-1], [None, lanes])
        partial = schedule.rfactor(inner, len(found.spatial))
        if last.extent % lanes:
            schedule.annotate(schedule.get_loops(partial)[-2], "pragma_loop_partition_hint", 1)
            schedule = Schedule(tvm.IRModule({"main": _guard_values(schedule.mod["main"])}))
    except ScheduleError:  # a reduction that has no name for the compiler
        return before
    return schedule


def _guard_values(function: Any) -> Any:
    """Move the condition of a row's last vector into the value, where loops can be reordered.

    The loop over vectors is cut before its last iteration when it is lowered: all others have no
    condition.
    """

    def rewrite(realize: Any) -> Any:
        if isinstance(realize.predicate, tirx.IntImm):
            return realize
        block, axes = realize.block, [v.var for v in realize.block.iter_vars]
        inside = structural_map(
            realize.predicate, [(tirx.Var, lambda v: _axis_of(v, realize.iter_values, axes))]
        )
        store = block.body
        kept = tirx.BufferLoad(store.buffer, store.indices)
        value = tirx.if_then_else(tirx.likely(inside), store.value, kept)
        body = tirx.BufferStore(store.buffer, value, store.indices)
        made = with_parts(block, body=body)
        return s_tir.SBlockRealize(realize.iter_values, tirx.const(True, "bool"), made)

    return function.with_body(structural_map(function.body, [(s_tir.SBlockRealize, rewrite)]))


def _axis_of(variable: Any, values: Any, axes: list[Any]) -> Any:
    """Return the axis that is bound to a loop."""
    for value, axis in zip(values, axes, strict=True):
        if variable.same_as(value):
            return axis
    return variable
