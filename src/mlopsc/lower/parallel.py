"""Marks the loops of scheduled kernels whose iterations threads can share.

Runs after every scheduling rule and knows none. In each nest of a kernel the outermost loops are
taken as tasks if blocks use them for spatial axes only, every task writes elements of its own (or,
where tiles overlap, final values only, the same bits as another), and the nest has enough work;
several loops become one where the first has too few iterations. A reduction is never divided, so
the result has the same bits for any number of threads. What a task computes for itself alone is
allocated inside it by the lowering that follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tvm
from tvm import s_tir, tirx
from tvm.sym import detect_linear_equation
from tvm_ffi.structural import structural_walk

from mlopsc.lower.accesses import buffer_bytes, bytes_of_element
from mlopsc.lower.functions import map_functions, with_parts, with_values
from mlopsc.lower.overlap import without_overlap
from mlopsc.lower.prefetch import is_prefetch

# Handing out tasks costs one or two microseconds, ten times that if the workers sleep.
MIN_NEST_NS: Final = 30_000
MIN_TASK_NS: Final = 1_000
WANTED_TASKS: Final = 256  # 16 for each of 16 threads
TASK_NS: Final = "mlopsc.task_ns"  # annotation of a parallel loop: estimated time of an iteration

# The estimate: what one core of a few GHz does per nanosecond when a loop is scheduled well.
_OPERATIONS_PER_NS: Final = 6.0  # per vector lane: multiply-adds, or loads
_BYTES_PER_NS: Final = 20.0
_CALL_NS: Final = 5.0


@dataclass(frozen=True)
class _Instance:
    """A block and the loops around it, outermost first, inside one nest."""

    realize: Any
    loops: tuple[Any, ...]


def mark_parallel(module: Any) -> Any:
    """Return the module with parallel loops in its scheduled TIR functions."""
    return map_functions(module, _mark)


def _mark(function: Any) -> Any:
    root = function.body
    if not isinstance(root, s_tir.SBlockRealize):
        return function
    block = root.block
    nests = list(block.body) if isinstance(block.body, tirx.stmt.SeqStmt) else [block.body]
    uses = [_buffers(nest) for nest in nests]
    made = []
    for index, nest in enumerate(nests):
        elsewhere = [b for other in uses[:index] + uses[index + 1 :] for b in other]
        private = [b for b in block.alloc_buffers if not _among(b, elsewhere)]
        made.append(_mark_nest(nest, private) if isinstance(nest, tirx.For) else nest)
    body = tirx.stmt.SeqStmt(made) if len(made) > 1 else made[0]
    marked = with_parts(block, body=body)
    return function.with_body(s_tir.SBlockRealize(root.iter_values, root.predicate, marked))


def _mark_nest(nest: Any, private: Sequence[Any]) -> Any:
    """Return the nest with its outermost loops as one parallel loop, where that is possible."""
    try:
        instances = list(_instances(nest, ()))
    except TypeError:  # a statement that is neither loop nor block: nothing is known about it
        return nest
    total = sum(_nanoseconds(instance, private) for instance in instances)
    if total < MIN_NEST_NS:
        return nest
    touched = _buffers(nest)
    again = [b for b in touched if sum(b.same_as(other) for other in touched) > 1]
    loops: list[Any] = []
    tasks = 1
    statement = nest
    while isinstance(statement, tirx.For) and _is_shareable(statement, instances, private, again):
        extent = int(statement.extent)
        fine = total / (tasks * extent) >= MIN_TASK_NS
        # A guard of a fused loop cannot be split off from the iterations that do not need it.
        guarded = any(_uses(i.realize.predicate, statement.loop_var) for i in instances)
        if tasks > 1 and extent > 1 and (tasks >= WANTED_TASKS or not fine or guarded):
            break
        loops.append(statement)
        tasks *= extent
        statement = statement.body
        if guarded and extent > 1:
            break
    if tasks == 1:
        return nest
    return _fuse(loops, statement, tasks, round(total / tasks))


def _fuse(loops: Sequence[Any], body: Any, tasks: int, nanoseconds: int) -> Any:
    """Return one parallel loop over the iterations of perfectly nested ``loops``."""
    dtype = str(loops[0].loop_var.ty)
    task = tirx.Var("task", dtype)
    indices: list[Any] = []
    inner = tasks
    for loop in loops:
        extent = int(loop.extent)
        inner //= extent
        index: Any = task if inner == 1 else tirx.floordiv(task, tirx.const(inner, dtype))
        if inner * extent != tasks:
            index = tirx.floormod(index, tirx.const(extent, dtype))
        indices.append(tirx.const(0, dtype) if extent == 1 else index)
    variables = [loop.loop_var for loop in loops]
    kept = {key: value for loop in loops for key, value in loop.annotations.items()}
    return tirx.For(
        task,
        tirx.const(0, dtype),
        tirx.const(tasks, dtype),
        tirx.stmt.ForKind.PARALLEL,
        with_values(body, list(zip(variables, indices, strict=True))),
        annotations={**kept, TASK_NS: tirx.const(nanoseconds, "int64")},
    )


def _instances(statement: Any, loops: tuple[Any, ...]) -> Iterator[_Instance]:
    """Yield the outermost blocks of a nest.

    Raises:
        TypeError: It holds a statement of another kind.
    """
    if isinstance(statement, tirx.For):
        yield from _instances(statement.body, (*loops, statement))
    elif isinstance(statement, tirx.stmt.SeqStmt):
        for part in statement:
            yield from _instances(part, loops)
    elif isinstance(statement, s_tir.SBlockRealize):
        yield _Instance(statement, loops)
    elif not is_prefetch(statement):
        raise TypeError(type(statement).__name__)


def _is_shareable(
    loop: Any, instances: Sequence[_Instance], private: Sequence[Any], again: Sequence[Any]
) -> bool:
    """Whether the iterations of ``loop`` may run at the same time.

    Args:
        loop: Of a nest.
        instances: The blocks of the nest.
        private: Buffers that nothing outside the nest touches.
        again: Buffers that the nest touches more than once: an element may be written and then
            read, or written twice.
    """
    if loop.kind != tirx.stmt.ForKind.SERIAL or int(loop.min) != 0:
        return False
    if int(loop.extent) == 1:
        return True
    return all(_is_spatial(loop, instance, private, again) for instance in instances)


def _is_spatial(
    loop: Any, instance: _Instance, private: Sequence[Any], again: Sequence[Any]
) -> bool:
    """Whether iterations of ``loop`` write other elements each, in the block of ``instance``."""
    block = instance.realize.block
    axes = [
        (axis, value)
        for axis, value in zip(block.iter_vars, instance.realize.iter_values, strict=True)
        if _uses(value, loop.loop_var)
    ]
    if any(int(axis.iter_type) != tirx.IterVar.DataPar for axis, _ in axes):
        return False
    if all(_among(write.source, private) for write in block.writes):
        return True
    final = not any(_among(write.source, again) for write in block.writes)
    return any(
        _tells_apart(loop, without_overlap(value) if final else value, instance.loops)
        and all(_names_one(write, axis.var) for write in block.writes)
        for axis, value in axes
    )


def _tells_apart(loop: Any, value: Any, loops: Sequence[Any]) -> bool:
    """Whether ``value`` differs between iterations of ``loop``, whatever the other loops do.

    It does if it is a mixed-radix number whose digits are the loops: each coefficient is larger
    than what all smaller digits can add up to.
    """
    coefficients = detect_linear_equation(value, [other.loop_var for other in loops])
    if not coefficients:
        return False
    try:
        digits = [
            (abs(int(c)), int(other.extent))
            for c, other in zip(coefficients[:-1], loops, strict=True)
        ]
    except TypeError:
        return False
    own = next(c for (c, _), other in zip(digits, loops, strict=True) if other.same_as(loop))
    smaller = sorted(d for d in digits if d[0] and d[1] > 1)
    reach = 0
    for coefficient, extent in smaller:
        if coefficient <= reach:
            return False
        reach += coefficient * (extent - 1)
    return own > 0


def _names_one(write: Any, axis: Any) -> bool:
    """Whether an index of the written element is the axis itself."""
    return any(
        isinstance(r.min, tirx.Var) and r.min.same_as(axis) and int(r.extent) == 1
        for r in write.region
    )


def _nanoseconds(instance: _Instance, private: Sequence[Any]) -> float:
    """Estimate the time of all instances of a block on one core.

    Memory counts once per buffer and element of the result, or for a reduction once per buffer:
    what a block reads again, and what only its nest knows, is in the first-level cache.
    """
    block = instance.realize.block
    lanes = math.prod(
        int(loop.extent)
        for loop in instance.loops
        if loop.kind == tirx.stmt.ForKind.VECTORIZED
    )  # fmt: skip
    calls = 0
    loads = 0
    inner = 1
    choices = 1  # between values, of which one is computed when loops are unrolled

    def visit_call(call: Any) -> None:
        nonlocal calls
        calls += getattr(call.op, "name", "") in ("tirx.call_pure_extern", "tirx.call_extern")

    def visit_load(_: Any) -> None:
        nonlocal loads
        loads += 1

    def visit_select(_: Any) -> None:
        nonlocal choices
        choices += 1

    def visit_loop(loop: Any) -> None:
        nonlocal inner
        inner *= int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else 1

    structural_walk(
        block.body,
        (
            (tvm.ir.Call, visit_call),
            (tvm.ir.TensorLoad, visit_load),
            (tirx.For, visit_loop),
            (tirx.Select, visit_select),
        ),
    )
    count = inner * math.prod(int(loop.extent) for loop in instance.loops)
    known = [r.source for r in (*block.reads, *block.writes) if not _among(r.source, private)]
    reduces = any(int(axis.iter_type) == tirx.IterVar.CommReduce for axis in block.iter_vars)
    if reduces:  # reads each operand at least once
        moved, operations = sum(map(buffer_bytes, known)), 1.0
    else:
        moved, operations = count * sum(map(bytes_of_element, known)), max(1.0, loads / choices)
    arithmetic = count * operations / (_OPERATIONS_PER_NS * lanes)
    return max(arithmetic, moved / _BYTES_PER_NS) + count * calls * _CALL_NS


def _buffers(statement: Any) -> list[Any]:
    """Return every buffer that the blocks of a statement say they touch."""
    found: list[Any] = []

    def visit(block: Any) -> None:
        found.extend(region.source for region in (*block.reads, *block.writes))

    structural_walk(statement, (s_tir.SBlock, visit))
    return found


def _among(buffer: Any, buffers: Sequence[Any]) -> bool:
    return any(buffer.same_as(other) for other in buffers)


def _uses(expression: Any, var: Any) -> bool:
    found = False

    def visit(other: Any) -> None:
        nonlocal found
        found = found or var.same_as(other)

    structural_walk(expression, (tirx.Var, visit))
    return found
