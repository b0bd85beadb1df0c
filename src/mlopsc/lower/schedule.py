"""Schedules kernels by hardware facts. Whatever no rule covers is lowered as TVM made it.

Elementwise neighbours are fused first; then each block gets the rule of its kind: a register tile
for a reduction, vectors for what is left. Nothing here knows an operator or a chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import tvm
from tvm import tirx
from tvm.s_tir import Schedule, ScheduleError
from tvm_ffi.structural import structural_walk

from mlopsc.lower.accesses import is_reduction, loads_of, loops_of
from mlopsc.lower.borders import inline_padding
from mlopsc.lower.overlap import overlap_tails
from mlopsc.lower.prefetch import add_prefetches
from mlopsc.lower.schedule_elementwise import schedule_elementwise
from mlopsc.lower.schedule_reduction import schedule_reduction
from mlopsc.lower.schedule_winograd import is_stage, schedule_winograd
from mlopsc.schema.target import Accuracy, Hardware

_MOST_LOADS: Final = 8  # of an expression into which something is inlined more than once


def schedule_kernels(
    module: Any, hardware: Hardware, *, vectorize: bool, accuracy: Accuracy = "fast"
) -> tuple[Any, dict[str, str]]:
    """Return the module with scheduled kernels, and by kernel what was done.

    Args:
        module: Relax module whose TIR functions are to be scheduled.
        hardware: Facts of the target.
        vectorize: Whether vector types may be used.
        accuracy: ``strict`` sums long sums in parts, as far as vectors are used.
    """
    functions = {}
    notes: dict[str, str] = {}
    for var, function in module.functions.items():
        if isinstance(function, tirx.PrimFunc):
            ways = _ways(vectorize=vectorize, accuracy=accuracy)
            function, notes[var.name_hint] = _schedule(function, hardware, ways)
        functions[var] = function
    return tvm.IRModule(functions, attrs=module.attrs), notes


@dataclass(frozen=True)
class _Way:
    """How a function is scheduled.

    Attributes:
        vectorize: Whether vector types may be used.
        ragged: Whether tiles need not divide their axes.
        in_parts: Whether long sums are sums of parts.
    """

    vectorize: bool
    ragged: bool = False
    in_parts: bool = False


def _ways(*, vectorize: bool, accuracy: Accuracy) -> list[_Way]:
    """Return the ways to schedule a function, the best first: some do not apply to it."""
    if not vectorize:
        return [_Way(vectorize=False)]
    plain = [_Way(vectorize=True, ragged=True), _Way(vectorize=True)]
    return plain if accuracy == "fast" else [_Way(vectorize=True, in_parts=True), *plain]


def _schedule(function: Any, hardware: Hardware, ways: Sequence[_Way]) -> tuple[Any, str]:
    """Schedule in the first way that applies."""
    reason = ""
    for way in ways:
        try:
            made, note = _apply_rules(function, hardware, way)
        except ScheduleError as error:  # a primitive says that it does not apply
            reason = " ".join(str(error).split())[:120]
            continue
        made = overlap_tails(made)
        if made is not None:
            return add_prefetches(made, hardware.l2_bytes), note
    return function, f"as generated (no rule applies: {reason})"


def _apply_rules(function: Any, hardware: Hardware, way: _Way) -> tuple[Any, str]:
    schedule = Schedule(tvm.IRModule({"main": function}))
    if way.vectorize:
        inline_padding(schedule)
    _fuse_elementwise(schedule)
    note = schedule_winograd(schedule)
    notes = [] if note is None else [note]
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    for block in blocks:
        if is_reduction(schedule, block):
            tile = schedule_reduction(schedule, block, hardware, **vars(way))
            if tile is not None:
                notes.append(str(tile))
    if way.vectorize:
        for block in blocks:
            if not is_reduction(schedule, block) and _stands_alone(schedule, block):
                note = schedule_elementwise(schedule, block, hardware, ragged=way.ragged)
                if note is not None:
                    notes.append(note)
    return schedule.mod["main"], "; ".join(notes) or "as generated"


def _stands_alone(schedule: Any, block: Any) -> bool:
    """Whether no rule has touched a block: it has one plain loop per axis."""
    loops = loops_of(schedule, block)
    return loops is not None and all(
        int(schedule.get(loop).kind) == int(tirx.ForKind.SERIAL) for loop in loops
    )


def _fuse_elementwise(schedule: Any) -> None:
    """Inline every elementwise block into its only consumer, if that is elementwise too.

    Blocks that feed a reduction stay, padding above all: a condition per element read inside the
    innermost loop costs more than the buffer.
    """
    root = schedule.get_sblock("root")
    outputs = {schedule.get(b).name_hint for b in schedule.get_output_blocks(root)}
    # Last first: what two blocks use of which one is inlined into the other has one user then.
    for block in reversed(schedule.get_child_blocks(root)):
        if is_reduction(schedule, block) or is_stage(schedule, block):
            continue
        if schedule.get(block).name_hint in outputs:
            continue
        consumers = schedule.get_consumers(block)
        if (
            len(consumers) == 1
            and not is_reduction(schedule, consumers[0])
            and _stays_small(schedule.get(block), schedule.get(consumers[0]))
        ):
            schedule.compute_inline(block)


def _stays_small(block: Any, consumer: Any) -> bool:
    """Whether a block may be inlined: what is read twice is computed twice, in a chain again."""
    result, loads = block.writes[0].source, loads_of(consumer)
    times = sum(bool(load.source.same_as(result)) for load in loads)
    if times <= 1:
        return True
    calls: list[Any] = []
    structural_walk(block.body, (tvm.ir.Call, lambda call: calls.append(call)))
    return not calls and len(loads) + times * (len(loads_of(block)) - 1) <= _MOST_LOADS
