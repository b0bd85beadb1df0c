"""Windows at the border of an image test each element; those inside it test nothing.

Padding that only one result reads an element of is not worth a padded copy: its conditions are
computed in the reduction itself. Here the tiles of such a nest get two bodies, and one test
chooses: whether every condition holds for the whole tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any, Final

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm_ffi.structural import structural_map, structural_walk

from mlopsc.lower.accesses import accesses, is_reduction, loads_of, step_of
from mlopsc.lower.functions import map_functions, with_body, with_values

BORDERS: Final = "mlopsc.borders"  # annotation of a loop over tiles some of which lie at a border
_CHOICE: Final = "prim.if_then_else"


def inline_padding(schedule: Any) -> None:
    """Compute padding in the reduction that reads it, where that reads no element twice.

    Twice means for results that differ along an axis the operand does not know: a convolution reads
    its input for every feature, so there a copy pays.
    """
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        if is_reduction(schedule, block) or not has_conditions(schedule.get(block).body):
            continue
        consumers = schedule.get_consumers(block)
        if len(consumers) == 1 and _reads_once(schedule, consumers[0], schedule.get(block)):
            schedule.compute_inline(block)


def _reads_once(schedule: Any, consumer: Any, producer: Any) -> bool:
    found = accesses(schedule, consumer) if is_reduction(schedule, consumer) else None
    if found is None:
        return False
    padded = producer.writes[0].source
    places = [
        number
        for number, load in enumerate(loads_of(schedule.get(consumer)))
        if load.source.same_as(padded)
    ]
    return len(places) == 1 and all(
        axis.extent == 1 or axis.strides[places[0]] for axis in found.spatial
    )


def has_conditions(body: Any) -> bool:
    """Whether values are computed only under a condition."""
    return bool(_conditions(body))


def split_borders(module: Any) -> Any:
    """Return ``module``, lowered to plain loops, with two bodies where a loop is annotated."""

    def rewrite(loop: Any) -> Any:
        return _with_two_bodies(loop) if BORDERS in loop.annotations else loop

    return map_functions(
        module, lambda f: f.with_body(structural_map(f.body, [(tirx.For, rewrite)]))
    )


def _with_two_bodies(loop: Any) -> Any:
    parts = list(loop.body) if isinstance(loop.body, tirx.stmt.SeqStmt) else [loop.body]
    made = [_choose(part) if has_conditions(part) else part for part in parts]
    body = tirx.stmt.SeqStmt(made) if len(made) > 1 else made[0]
    return with_body(loop, body, without=BORDERS)


def _choose(statement: Any) -> Any:
    """Return a statement that tests once what ``statement`` tests for each element.

    Tests of different axes are told apart by the variables they depend on: a tile at one border
    need not test for the others.
    """
    inner: list[Any] = []
    structural_walk(statement, (tirx.For, lambda loop: inner.append(loop)))
    bound: set[str] = set()  # variables that have no value outside
    structural_walk(
        statement,
        (
            (tirx.stmt.Bind, lambda bind: bound.add(str(bind.var.name))),
            (tirx.Let, lambda let: bound.add(str(let.var.name))),
        ),
    )
    groups: dict[frozenset[str], list[Any]] = {}
    for condition in _conditions(statement):
        for test in _tests(condition):
            others = _others(test, inner)
            if not others:
                continue
            worst = _worst(test, inner)
            if worst is None or others & bound:
                return statement
            groups.setdefault(others, []).append(worst)
    whole = {others: Analyzer().simplify(tirx.all(*tests)) for others, tests in groups.items()}
    made = statement
    for others in whole:  # holds for all axes but this
        rest = [test for key, test in whole.items() if key != others]
        if rest:
            made = tirx.IfThenElse(
                tirx.all(*rest), _without(statement, inner, whole.keys() - {others}), made
            )
    if whole:
        made = tirx.IfThenElse(
            tirx.all(*whole.values()), _without(statement, inner, whole.keys()), made
        )
    return made


def _without(statement: Any, inner: Sequence[Any], known: Set[frozenset[str]]) -> Any:
    """Return a copy of ``statement`` without the tests that are known to hold."""

    def rewrite(call: Any) -> Any:
        if getattr(call.op, "name", "") != _CHOICE:
            return call
        kept = [t for t in _tests(call.args[0]) if _others(t, inner) not in known]
        return tirx.if_then_else(tirx.all(*kept), *call.args[1:]) if kept else call.args[1]

    return _with_new_loops(structural_map(statement, [(tvm.ir.Call, rewrite)]), inner)


def _conditions(body: Any) -> list[Any]:
    found: list[Any] = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == _CHOICE:
            found.append(call.args[0])

    structural_walk(body, (tvm.ir.Call, visit))
    return found


def _tests(condition: Any) -> Iterator[Any]:
    if isinstance(condition, tirx.And):
        yield from _tests(condition.a)
        yield from _tests(condition.b)
    else:
        yield condition


def _others(test: Any, inner: Sequence[Any]) -> frozenset[str]:
    """Return the names of what a test depends on beside the loops of the tile."""
    found = set()

    def visit(var: Any) -> None:
        if not any(var.same_as(loop.loop_var) for loop in inner):
            found.add(str(var.name))

    structural_walk(test, (tirx.Var, visit))
    return frozenset(found)


def _worst(test: Any, inner: Sequence[Any]) -> Any | None:
    """Return what must hold for ``test`` to hold throughout ``inner``; None if unknown."""
    sides = {tirx.LT: 1, tirx.LE: 1, tirx.GT: -1, tirx.GE: -1}
    direction = next((d for kind, d in sides.items() if isinstance(test, kind)), 0)
    if not direction:
        return None
    difference = test.b - test.a if direction > 0 else test.a - test.b  # must be large
    strict = isinstance(test, tirx.LT | tirx.GT)
    for loop in inner:
        step = step_of(difference, loop.loop_var)
        if step is None:
            return None
        last = loop.min + loop.extent - 1
        value = loop.min if step >= 0 else last
        difference = with_values(difference, [(loop.loop_var, value)])
    return difference > 0 if strict else difference >= 0


def _with_new_loops(statement: Any, loops: Sequence[Any]) -> Any:
    """Return a copy of ``statement`` whose loops have variables of their own."""
    return with_values(
        statement, [(v, tirx.Var(v.name, v.ty)) for v in (loop.loop_var for loop in loops)]
    )
