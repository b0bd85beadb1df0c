"""The schedule of a convolution by Winograd's minimal filtering (``ops/winograd.py``).

Points are made tile by tile, with the small linear maps unrolled over the points of a tile and
vectors along the channels of a block; so are pixels. The products between are a reduction like any
other and get the tile rule.
"""

from __future__ import annotations

from typing import Any, Final

from mlopsc.lower.ops.winograd import STAGE
from mlopsc.lower.overlap import GUARDED

NOTE: Final = "Winograd F({0}x{0})"


def trades_accuracy(note: str) -> bool:
    """Whether what was done to a kernel, by its note, makes its rounding errors larger."""
    return note.startswith(NOTE.partition("{")[0])


def is_stage(schedule: Any, block: Any) -> bool:
    """Whether a block changes between points and pixels."""
    return STAGE in schedule.get(block).annotations


def schedule_winograd(schedule: Any) -> str | None:
    """Schedule what surrounds the products; return what was done, or None if there are none."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    stages = [block for block in blocks if is_stage(schedule, block)]
    if not stages:
        return None
    half, points, back = stages
    results = int(schedule.get(half).annotations[STAGE])
    i, j, *outer, lane = schedule.get_loops(points)
    schedule.reorder(*outer, i, j, lane)
    schedule.compute_at(half, i)
    _unroll(schedule, [i, j], lane)
    *_, s, lane = schedule.get_loops(half)
    _unroll(schedule, [s], lane)

    (pixels,) = schedule.get_consumers(back)
    n, f, y, x, lane = schedule.get_loops(pixels)
    rows, a = schedule.split(y, [None, results])
    columns, b = schedule.split(x, [None, results])
    schedule.reorder(n, f, rows, columns, a, b, lane)
    schedule.compute_at(back, a)
    _unroll(schedule, [a, b], lane)
    *_, j, lane = schedule.get_loops(back)
    _unroll(schedule, [j], lane)
    schedule.annotate(pixels, GUARDED, 1)  # where a tile starts must stay a multiple of its size
    return NOTE.format(results)


def _unroll(schedule: Any, loops: list[Any], lane: Any) -> None:
    for loop in loops:
        schedule.unroll(loop)
    schedule.vectorize(lane)
