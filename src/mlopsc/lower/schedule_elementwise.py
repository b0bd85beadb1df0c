"""The schedule of a block without a reduction: vectors along the innermost axes, where dense.

Axes that every operand and the result walk alike are one loop. A tail that is no multiple of the
vectors is left to ``overlap``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm_ffi.structural import structural_walk

from mlopsc.lower.accesses import Axis, accesses, dense_axes, loops_of, may_be_in_place
from mlopsc.lower.intrinsics import OWN_MATH
from mlopsc.lower.vector_math import VECTOR_MATH
from mlopsc.schema.target import Hardware

_MIN_LANES = 4
_LONG = 512  # elements of a row
# Calls that a vector would make lane by lane.
_SCALAR = {"tirx.call_pure_extern", *(OWN_MATH.keys() - VECTOR_MATH.keys())}
_UNROLL = 4  # vectors of one iteration: enough to keep the units busy


def schedule_elementwise(
    schedule: Any, block: Any, hardware: Hardware, *, ragged: bool
) -> str | None:
    """Vectorise one block; return what was done, or None where no rule applies."""
    found, loops = accesses(schedule, block), loops_of(schedule, block)
    if found is None or not loops:
        return None
    count = _long_enough(found.spatial, dense_axes(found.spatial))
    info = schedule.get(block)
    dtype = tvm.DataType(str(info.writes[0].source.ty.dtype))
    if count == 0 or int(dtype.bits) != 32 or _branches(info):
        return None
    ragged = ragged and not may_be_in_place(schedule, block)
    loop = schedule.fuse(*loops[-count:]) if count > 1 else loops[-1]
    extent = int(schedule.get(loop).extent)
    lanes = hardware.vector_bits // int(dtype.bits)
    while lanes > extent:
        lanes //= 2
    if not ragged and extent % lanes:
        lanes = next((n for n in (lanes // 2, lanes // 4) if n and extent % n == 0), 0)
    if lanes < _MIN_LANES:
        return None
    groups = extent // lanes
    unroll = next(u for u in (_UNROLL, 2, 1) if u <= groups and (ragged or groups % u == 0))
    _, middle, inner = schedule.split(loop, [None, unroll, lanes])
    schedule.vectorize(inner)
    schedule.unroll(middle)
    return f"{lanes} lanes"


def _long_enough(axes: Sequence[Axis], count: int) -> int:
    """Return how many of ``count`` innermost axes make a long row; threads share the others."""
    size = 1
    for number, axis in enumerate(reversed(axes[len(axes) - count :]), start=1):
        size *= axis.extent
        if size >= _LONG:
            return number
    return count


def _branches(info: Any) -> bool:
    """Whether elements are guarded or computed by functions: either would undo the vectors."""
    found = False

    def visit(call: Any) -> None:
        nonlocal found
        found |= getattr(call.op, "name", "") in _SCALAR

    structural_walk(info.body, (tvm.ir.Call, visit))
    return found or not isinstance(info.body, tirx.BufferStore)
