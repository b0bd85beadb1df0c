"""Prefetches: every line of the next slab is asked for while one is worked on, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm import te
from tvm.sym import Analyzer
from tvm_ffi.structural import structural_map, structural_walk

from mlopsc.lower.parallel import mark_parallel
from mlopsc.lower.prefetch import AHEAD_BYTES, LINE_BYTES, is_prefetch
from mlopsc.lower.schedule import schedule_kernels
from mlopsc.schema.target import Hardware

LANES, PANEL = 16, 32


def product(rows: int, depth: int, panels: int) -> Any:
    """Return ``[rows, depth] x [panels, depth, PANEL]``, weights in panels of columns."""
    x = te.placeholder((rows, depth), "float32", name="x")
    w = te.placeholder((panels, depth, PANEL), "float32", name="w")
    k = te.reduce_axis((0, depth), name="k")
    y = te.compute(
        (rows, panels, PANEL), lambda i, p, j: te.sum(x(i, k) * w(p, k, j), axis=k), name="y"
    )
    return te.create_prim_func([x, w, y])


def scheduled(function: Any, l2_bytes: int) -> Any:
    hardware = Hardware(
        pointer_bits=64, vector_bits=32 * LANES, registers=32, fma=True, l2_bytes=l2_bytes
    )
    module = tvm.IRModule({"main": function})
    return schedule_kernels(module, hardware, vectorize=True)[0]["main"]


def calls(function: Any) -> list[tuple[Any, list[Any]]]:
    """Return where each prefetch points to, and the loops around it, outermost first."""
    found: list[tuple[Any, list[Any]]] = []

    def visit(statement: Any, loops: list[Any]) -> None:
        if is_prefetch(statement):
            found.append((statement.value.args[0].args[0].indices[-1], loops))
        elif isinstance(statement, tvm.tirx.For):
            visit(statement.body, [*loops, statement])
        elif isinstance(statement, tvm.tirx.stmt.SeqStmt):
            for part in statement:
                visit(part, loops)

    visit(function.body.block.body, [])
    return found


def at(place: Any, numbers: dict[Any, int]) -> int:
    """Return an index for the given iterations of loops."""

    def number(var: Any) -> Any:
        return next((tvm.tirx.const(n, "int64") for v, n in numbers.items() if v.same_as(var)), var)

    return int(Analyzer().simplify(structural_map(place, [(tvm.tirx.Var, number)])))


def test_a_row_asks_for_its_own_panels_some_lines_ahead() -> None:
    depth, line = 48, LINE_BYTES // 4
    found = calls(scheduled(product(1, depth, 48), l2_bytes=64 << 10))
    asked = {at(place, {loop.loop_var: 0 for loop in loops}) for place, loops in found}
    panels = len(asked) // (PANEL // line)
    assert asked == {
        panel * depth * PANEL + AHEAD_BYTES // 4 + place
        for panel in range(panels)
        for place in range(0, PANEL, line)
    }
    (place, loops), *_ = found
    first, *_, step = [loop.loop_var for loop in loops]
    begin = at(place, {loop.loop_var: 0 for loop in loops})
    later = {loop.loop_var: 0 for loop in loops}
    assert at(place, {**later, step: 3}) - begin == 3 * PANEL
    assert at(place, {**later, first: 1}) - begin == panels * depth * PANEL


@pytest.mark.parametrize("rows", [26, 39, 40])
def test_all_lines_of_the_next_panel_are_asked_for(rows: int) -> None:
    depth, line = 48, LINE_BYTES // 4
    found = calls(scheduled(product(rows, depth, 4), l2_bytes=64 << 10))
    assert found
    asked = set()
    for place, (over_panels, *inside) in found:
        moving = [loop for loop in inside if int(loop.extent) > 1]
        iterations: list[dict[Any, int]] = [{loop.loop_var: 0 for loop in inside}]
        for loop in moving:
            iterations = [
                {**numbers, loop.loop_var: n} for numbers in iterations
                for n in range(int(loop.extent))
            ]  # fmt: skip
        asked |= {at(place, {**numbers, over_panels.loop_var: 1}) // line for numbers in iterations}
    panel = depth * PANEL // line
    assert asked >= set(range(2 * panel, 3 * panel))
    assert max(asked) < 4 * panel
    assert min(asked) >= 2 * panel


def test_weights_in_pairs_of_panels_are_asked_for() -> None:
    depth, pairs, line = 32, 3, LINE_BYTES // 4
    x = te.placeholder((40, depth), "float32", name="x")
    w = te.placeholder((pairs, depth, 2, LANES), "float32", name="w")
    k = te.reduce_axis((0, depth), name="k")
    y = te.compute(
        (2 * pairs, 40, LANES),
        lambda f, i, j: te.sum(
            x(i, k) * w(tvm.tirx.indexdiv(f, 2), k, tvm.tirx.indexmod(f, 2), j), axis=k
        ),
        name="y",
    )
    found = calls(scheduled(te.create_prim_func([x, w, y]), l2_bytes=64 << 10))
    assert found
    (place, loops), *_ = found
    panel = depth * 2 * LANES // line
    assert at(place, {loop.loop_var: 0 for loop in loops}) // line == panel


@pytest.mark.parametrize("l2_bytes", [0, 2048])
def test_nothing_is_asked_for_where_two_panels_do_not_fit(l2_bytes: int) -> None:
    assert not calls(scheduled(product(26, 48, 4), l2_bytes))


def test_kernels_with_prefetches_are_shared_by_threads() -> None:
    function = scheduled(product(128, 768, 24), l2_bytes=1 << 21)
    marked = mark_parallel(tvm.IRModule({"main": function}))["main"]
    kinds = []
    structural_walk(marked.body, (tvm.tirx.For, lambda loop: kinds.append(loop.kind)))
    assert tvm.tirx.stmt.ForKind.PARALLEL in kinds
