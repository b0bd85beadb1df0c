"""The schedule of a reduction: a tile of the result stays in registers while the reduced axes pass.

``tiling`` chooses the tile by counting loads. The elementwise consumers are fused into the tile's
store, the innermost loops are unrolled and, where addresses allow, vectorised. Loops over tiles are
ordered so that the larger operand is read from memory once. Nothing here knows an operator or a
chip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import tvm
from tvm import tirx

from mlopsc.lower.accesses import (
    REDUCE,
    Accesses,
    accesses,
    is_reduction,
    loops_of,
    may_be_in_place,
)
from mlopsc.lower.borders import BORDERS, has_conditions
from mlopsc.lower.ops.words import registers_of
from mlopsc.lower.prefetch import STREAM
from mlopsc.lower.tiling import Tile, choose_tile, unrolled_axes
from mlopsc.schema.target import Hardware

_PART: Final = 128  # terms of a sum that are added one after the other, about


def schedule_reduction(
    schedule: Any, block: Any, hardware: Hardware, *, vectorize: bool, ragged: bool, in_parts: bool
) -> Tile | None:
    """Tile one reduction block; return None where the rule does not apply.

    Args:
        schedule: Of one function.
        block: With at least one reduced axis.
        hardware: Facts of the target.
        vectorize: Whether vector types may be used.
        ragged: Whether tiles need not divide their axes; conditions are left to ``overlap``.
        in_parts: Whether long sums are to be sums of parts, which rounds less.
    """
    found, loops = accesses(schedule, block), loops_of(schedule, block)
    if found is None or loops is None or not _is_regular(schedule, block):
        return None
    block_of_parts = _split_sum(schedule, block, found, loops) if in_parts else None
    if block_of_parts is not None:
        loops = loops_of(schedule, block) or []
    info = schedule.get(block)
    spatial, reduced = _split_kinds(info, loops)
    dtype = str(info.writes[0].source.ty.dtype)
    bits = int(tvm.DataType(dtype).bits)
    # Truth values have no vectors: the code generator stores bytes where bits are computed.
    lanes = max(1, hardware.vector_bits // bits) if vectorize and dtype != "bool" else 1
    epilogue = _epilogue(schedule, block)
    accumulators = schedule.get(block).writes[0].source
    ragged = (
        ragged
        and vectorize
        and block_of_parts is None
        and not may_be_in_place(schedule, epilogue, accumulators)
    )
    registers = hardware.registers - registers_of(info.body)
    tile = choose_tile(found.spatial, registers=registers, lanes=lanes, ragged=ragged)
    outer: dict[int, Any] = {}
    inner: dict[int, Any] = {}
    vector_loop = None
    for position, factor in enumerate(tile.factors):
        loop = spatial[position]
        if factor == 1:
            outer[position] = loop
        elif position == tile.vector_axis:
            parts = [None, factor // tile.lanes, tile.lanes]
            outer[position], inner[position], vector_loop = schedule.split(loop, parts)
        else:
            outer[position], inner[position] = schedule.split(loop, [None, factor])
    heavy = _streams(found, tile, hardware)
    outer_loops = [outer[p] for p in sorted(outer, key=lambda p: _rank(found, p, heavy))]
    inner_loops = [inner[p] for p in sorted(inner, key=lambda p: _moves_vector(found, tile, p))]
    innermost = [*inner_loops, *([vector_loop] if vector_loop is not None else [])]
    schedule.reorder(*outer_loops, *reduced, *innermost)

    if outer_loops:
        if has_conditions(info.body):
            schedule.annotate(outer_loops[-1], BORDERS, 1)
        schedule.reverse_compute_at(epilogue, outer_loops[-1], preserve_unit_loops=True)
        _finish(schedule, schedule.get_loops(epilogue)[len(outer_loops) :], tile)
    _split_start(schedule, block, reduced[0], inner_loops, vector_loop)
    passes = reduced
    if block_of_parts is not None:
        passes = [*reduced, *_schedule_part(schedule, block_of_parts, reduced[0], found, tile)]
    count = math.prod(tile.factors) // tile.lanes
    unrolled = unrolled_axes([int(schedule.get(loop).extent) for loop in passes], count)
    # The outermost reduced loop carries the decomposed start and stays a loop.
    rolled = max(len(passes) - unrolled, 1 if block_of_parts is None else 2)
    for loop in passes[rolled:]:
        schedule.unroll(loop)
    vectors = _vector_operands(found, tile)
    if hardware.l2_bytes and len(vectors) == 1:
        schedule.annotate(passes[rolled - 1], STREAM, [vectors[0], rolled])
    return tile


def _split_sum(schedule: Any, block: Any, found: Accesses, loops: Sequence[Any]) -> Any | None:
    """Make a long sum one of parts, each summed from zero, and return the block of the parts.

    The rounding error of a sum grows with the number of additions one after the other. None where
    the sum is short, or its length a prime.
    """
    first, *others = (axis.extent for axis in found.reduced)
    inner = math.prod(others)
    if first * inner <= _PART or first == 1 or not _adds(schedule.get(block)):
        return None
    sizes = [n for n in range(1, first) if first % n == 0 and n * inner <= _PART]
    size = max(sizes, default=1)
    if size * inner == 1:
        return None
    loop = loops[len(found.spatial)]
    outer, _ = schedule.split(loop, [None, size]) if size > 1 else (loop, None)
    return schedule.rfactor(outer, 0)


def _adds(info: Any) -> bool:
    """Whether a reduction is a sum of floats."""
    return (
        isinstance(info.body, tirx.BufferStore)
        and isinstance(info.body.value, tirx.Add)
        and str(info.writes[0].source.ty.dtype).startswith("float")
    )


def _schedule_part(schedule: Any, part: Any, over: Any, found: Accesses, tile: Tile) -> list[Any]:
    """Compute the tile of a part inside the loop over parts; return its reduced loops."""
    schedule.compute_at(part, over, preserve_unit_loops=True)
    info = schedule.get(part)
    reduces = sum(int(v.iter_type) == REDUCE for v in info.iter_vars)
    loops = schedule.get_loops(part)
    place = [schedule.get(loop).loop_var.same_as(schedule.get(over).loop_var) for loop in loops]
    own = loops[place.index(True) + 1 :]
    spatial, reduced = list(own[:-reduces]), list(own[-reduces:])
    vector = None
    extra = len(spatial) - len(tile.factors)
    if tile.vector_axis is not None:
        at = extra + tile.vector_axis
        spatial[at], vector = schedule.split(spatial[at], [None, tile.lanes])
    order = sorted(range(len(tile.factors)), key=lambda p: _moves_vector(found, tile, p))
    spatial = [*spatial[:extra], *(spatial[extra + p] for p in order)]
    innermost = [*spatial, *([vector] if vector is not None else [])]
    schedule.reorder(*reduced, *innermost)
    _split_start(schedule, part, reduced[0], spatial, vector)
    return reduced


def _split_start(
    schedule: Any, block: Any, over: Any, loops: list[Any], vector: Any | None
) -> None:
    """Unroll the loops of a tile, and start its sums in front of the loop ``over``."""
    # Before the start is split off: afterwards the update no longer counts as a reduction.
    _unroll(schedule, loops, vector)
    start = schedule.decompose_reduction(block, over)
    number = len(loops) + (vector is not None)
    own = schedule.get_loops(start)[-number:] if number else []
    _unroll(schedule, own[: len(loops)], own[-1] if vector is not None else None)


def _split_kinds(info: Any, loops: list[Any]) -> tuple[list[Any], list[Any]]:
    reduced = [int(v.iter_type) == REDUCE for v in info.iter_vars]
    return (
        [loop for loop, r in zip(loops, reduced, strict=True) if not r],
        [loop for loop, r in zip(loops, reduced, strict=True) if r],
    )


def _is_regular(schedule: Any, block: Any) -> bool:
    """Whether a reduction has one result, of more than one element."""
    info = schedule.get(block)
    if len(info.writes) != 1 or info.init is None:
        return False
    return math.prod(int(d) for d in info.writes[0].source.ty.shape) > 1


def _vector_operands(found: Accesses, tile: Tile) -> list[int]:
    """Return the operands that are loaded as vectors: those that move along the vector axis."""
    if tile.vector_axis is None:
        return []
    strides = found.spatial[tile.vector_axis].strides
    return [operand for operand, stride in enumerate(strides) if stride]


def _moves_vector(found: Accesses, tile: Tile, position: int) -> tuple[bool, int]:
    """Order loops of a tile: those that move a vector operand last, so that vectors are reused."""
    strides = found.spatial[position].strides
    return any(strides[o] != 0 for o in _vector_operands(found, tile)), position


def _streams(found: Accesses, tile: Tile, hardware: Hardware) -> tuple[int, ...]:
    """Return the operands that should be read once, while the others stay in the cache.

    Those are the vectors, if they exceed half of the second-level cache or the others do not.
    Without such a cache there are none: the order of the axes is kept.
    """
    limit = hardware.l2_bytes // 2
    vectors = _vector_operands(found, tile)
    if not limit or not vectors:
        return ()
    others = [n for o, n in enumerate(found.operand_bytes) if o not in vectors]
    large = max(found.operand_bytes[o] for o in vectors) > limit
    return tuple(vectors) if large or max(others, default=limit + 1) <= limit else ()


def _rank(found: Accesses, position: int, heavy: tuple[int, ...]) -> tuple[bool, int]:
    """Order loops over tiles: those that move a heavy operand first."""
    strides = found.spatial[position].strides
    return not any(strides[o] != 0 for o in heavy), position


def _unroll(schedule: Any, loops: list[Any], vector_loop: Any | None) -> None:
    for loop in loops:
        schedule.unroll(loop)
    if vector_loop is not None:
        schedule.vectorize(vector_loop)


def _finish(schedule: Any, loops: list[Any], tile: Tile) -> None:
    """Unroll and vectorise the elementwise tail that writes one tile of the result."""
    for position, loop in enumerate(loops):
        extent = int(schedule.get(loop).extent)
        if position == tile.vector_axis and extent == tile.factors[position]:
            head, vector = schedule.split(loop, [None, tile.lanes])
            schedule.vectorize(vector)
            schedule.unroll(head)
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
        and not is_reduction(schedule, consumers[0])
        and _result_shape(schedule, consumers[0]) == shape
    ):
        return consumers[0]
    schedule.cache_write(block, 0, "global")
    return schedule.get_consumers(block)[0]


def _result_shape(schedule: Any, block: Any) -> list[int]:
    return [int(d) for d in schedule.get(block).writes[0].source.ty.shape]
