"""Fetches weights into the caches while those before them are used.

Where a nest passes several tiles over one panel of weights before it goes on to the next, each step
of a pass fetches a share of the next panel: memory works all the time, and the next panel is there
when it is needed. Where there is one pass, memory is all that counts, and every step fetches what
lies a few lines ahead of its own vectors. Panels lie behind each other, so what follows the last
one is fetched too; a fetch has no effect but on caches and never faults.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import tvm
from tvm import s_tir, tirx
from tvm.sym import Analyzer
from tvm_ffi.structural import structural_walk

from mlopsc.lower.accesses import bytes_of_element, flat_index, loads_of, step_of
from mlopsc.lower.functions import with_body, with_parts, with_values

# Annotation of the loop that fetches: which operand of its block, and how many loops are a pass.
STREAM: Final = "mlopsc.stream"
LINE_BYTES: Final = 64  # of the caches; where lines are longer, some fetches bring nothing new
AHEAD_BYTES: Final = 1024  # of each row of vectors: time for memory to answer
_MOST: Final = 32  # fetches of one step: keeps code small
_READ, _DATA = 0, 1  # operands of the fetch: see LLVM's llvm.prefetch
_FIRST, _SECOND = 3, 2  # and the level of the cache


def add_prefetches(function: Any, l2_bytes: int) -> Any:
    """Return the scheduled ``function`` with fetches in the loops that are annotated ``STREAM``.

    Args:
        function: Whose annotated loops are the innermost that stay loops.
        l2_bytes: Second-level cache, which must hold two panels.
    """
    return function.with_body(_visit(function.body, (), l2_bytes))


def is_prefetch(statement: Any) -> bool:
    """Whether a statement is a fetch."""
    return (
        isinstance(statement, tirx.Evaluate)
        and isinstance(statement.value, tvm.ir.Call)
        and getattr(statement.value.op, "name", "") == "tirx.prefetch"
    )


def _visit(statement: Any, loops: tuple[Any, ...], l2_bytes: int) -> Any:
    """Rewrite the loops of ``statement``; ``loops`` are around it, outermost first."""
    if isinstance(statement, tirx.For):
        inside = (*loops, statement)
        body = _visit(statement.body, inside, l2_bytes)
        if STREAM in statement.annotations:
            fetches = _fetches(inside, l2_bytes)
            body = tirx.stmt.SeqStmt([*fetches, body]) if fetches else body
        return with_body(statement, body, without=STREAM)
    if isinstance(statement, tirx.stmt.SeqStmt):
        return tirx.stmt.SeqStmt([_visit(part, loops, l2_bytes) for part in statement])
    if isinstance(statement, s_tir.SBlockRealize) and not loops:
        block = statement.block
        made = with_parts(block, body=_visit(block.body, (), l2_bytes))
        return s_tir.SBlockRealize(statement.iter_values, statement.predicate, made)
    return statement


@dataclass(frozen=True)
class _Stream:
    """How a nest walks an operand: panels, passes over each, steps of a pass."""

    buffer: Any
    panel: int  # elements from one panel to the next
    passes: tuple[Any, ...]  # loops
    steps: tuple[Any, ...]  # loops
    start: Any  # flat index of the first element of the panel
    place: Any  # flat index of the first element of the step
    lines: tuple[int, ...]  # what a step reads: lines behind that element


def _fetches(loops: Sequence[Any], l2_bytes: int) -> list[Any]:
    """Return the fetches of one iteration of the last of ``loops``; none without panels."""
    stream = _stream(loops)
    if stream is None:
        return []
    line = LINE_BYTES // bytes_of_element(stream.buffer)
    if not stream.passes:
        ahead = stream.place + AHEAD_BYTES // bytes_of_element(stream.buffer)
        addresses = [(ahead + number * line, _FIRST) for number in stream.lines]
    elif 2 * stream.panel * bytes_of_element(stream.buffer) > l2_bytes:
        return []
    else:
        loops = (*stream.passes, *stream.steps)
        share = -(-stream.panel // math.prod(int(loop.extent) for loop in loops))
        number = -(-share // line)
        share = share if number == 1 else number * line
        step: Any = tirx.const(0, "int64")
        for loop in loops:
            step = step * int(loop.extent) + loop.loop_var
        first = stream.start + stream.panel + step * share
        addresses = [(first + k * line, _SECOND) for k in range(number)]
    if len(addresses) > _MOST:
        return []
    return [_fetch(stream.buffer, flat, level) for flat, level in addresses]


def _fetch(buffer: Any, flat: Any, level: int) -> Any:
    """Return the fetch of an element, given by its index in the whole buffer."""
    # No element of the last axis any more, but the place in memory is the one that is meant.
    at = [tirx.const(0, "int64")] * (len(buffer.ty.shape) - 1)
    address = tirx.address_of(tirx.BufferLoad(buffer, [*at, flat]))
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, _READ, level, _DATA))


def _stream(loops: Sequence[Any]) -> _Stream | None:
    realized: list[Any] = []
    inner: list[Any] = []
    structural_walk(
        loops[-1].body,
        (
            (s_tir.SBlockRealize, lambda r: realized.append(r)),
            (tirx.For, lambda f: inner.append(f)),
        ),
    )
    block = realized[0].block
    operand, rolled = map(int, loops[-1].annotations[STREAM])
    load = loads_of(block)[operand]
    values = list(zip([v.var for v in block.iter_vars], realized[0].iter_values, strict=True))
    flat = with_values(flat_index(load.source, load.indices), values)
    place = _at_start(flat, inner)
    strides = [step_of(place, loop.loop_var) for loop in loops]
    if None in strides:
        return None
    steps = loops[-rolled:]
    around = [
        (loop, stride)
        for loop, stride in zip(loops[:-rolled], strides, strict=False)
        if int(loop.extent) > 1
    ]
    passes: list[Any] = []
    while around and not around[-1][1]:
        passes.insert(0, around.pop()[0])
    if not around:
        return None
    panel = int(around[-1][1] or 0)
    reach = max(
        int(s or 0) * int(loop.extent) for loop, s in zip(steps, strides[-rolled:], strict=True)
    )
    if reach > panel:  # a pass goes beyond the panel: panels do not lie behind each other
        return None
    start = _at_start(place, steps)
    lines = () if passes else _lines(flat - place, inner, bytes_of_element(load.source))
    return _Stream(load.source, panel, tuple(passes), tuple(steps), start, place, lines)


def _lines(offset: Any, inner: Sequence[Any], size: int) -> tuple[int, ...]:
    """Return the lines that ``inner`` reads, given how far from the first its elements are."""
    unrolled = [loop for loop in inner if loop.kind != tirx.stmt.ForKind.VECTORIZED]
    fixed = _at_start(offset, [loop for loop in inner if loop not in unrolled])
    found = set()
    for numbers in itertools.product(*(range(int(loop.extent)) for loop in unrolled)):
        values = [
            (loop.loop_var, tirx.const(number, str(loop.loop_var.ty)))
            for loop, number in zip(unrolled, numbers, strict=True)
        ]
        place = Analyzer().simplify(with_values(fixed, values))
        if not isinstance(place, tirx.IntImm):
            return ()
        found.add(int(place) * size // LINE_BYTES)
    return tuple(sorted(found))


def _at_start(flat: Any, loops: Sequence[Any]) -> Any:
    starts = [(loop.loop_var, tirx.const(0, str(loop.loop_var.ty))) for loop in loops]
    return with_values(flat, starts)
