"""Which loops threads share: those whose iterations are independent, and no others."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T  # noqa: N812
from tvm_ffi.structural import structural_walk

from mlopsc.lower.parallel import MIN_NEST_NS, TASK_NS, mark_parallel


def tasks_of(function: Any) -> list[int]:
    """Return the extents of the parallel loops of ``function`` after marking, in order."""
    marked = mark_parallel(tvm.IRModule({"main": function}))["main"]
    found: list[int] = []

    def visit(loop: Any) -> None:
        if loop.kind == tirx.stmt.ForKind.PARALLEL:
            found.append(int(loop.extent))
            assert int(loop.annotations[TASK_NS]) * int(loop.extent) >= MIN_NEST_NS // 2

    structural_walk(marked.body, (tirx.For, visit))
    return found


def relu(*shape: int) -> Any:
    x = te.placeholder(shape, "float32", name="x")
    y = te.compute(shape, lambda *i: tirx.max(x(*i), tirx.const(0, "float32")), name="y")
    return te.create_prim_func([x, y])


def test_rows_of_an_elementwise_kernel_are_tasks() -> None:
    assert tasks_of(relu(64, 16384)) == [64]


def test_small_kernels_stay_on_one_thread() -> None:
    assert tasks_of(relu(64, 256)) == []


def test_loops_are_fused_until_there_are_enough_tasks() -> None:
    assert tasks_of(relu(1, 3, 512, 4096)) == [3 * 512]


def test_loops_are_not_fused_into_tasks_that_are_not_worth_a_call() -> None:
    assert tasks_of(relu(8, 64, 1024)) == [8]


def reduction(keep: int, sum_: int) -> Any:
    x = te.placeholder((keep, sum_), "float32", name="x")
    k = te.reduce_axis((0, sum_), name="k")
    y = te.compute((keep,), lambda i: te.sum(x(i, k), axis=k), name="y")
    return te.create_prim_func([x, y])


def test_few_results_of_a_large_operand_are_tasks() -> None:
    """One row of weights per result: reading takes long, multiplying with vectors would not."""
    x, w = (te.placeholder(s, "float32", name=n) for s, n in (((2048,), "x"), ((2048, 1024), "w")))
    k = te.reduce_axis((0, 2048), name="k")
    y = te.compute((1024,), lambda i: te.sum(x(k) * w(k, i), axis=k), name="y")
    schedule = Schedule(te.create_prim_func([x, w, y]))
    i, k_loop = schedule.get_loops(schedule.get_sblock("y"))
    outer, inner = schedule.split(i, [None, 256])
    schedule.reorder(outer, k_loop, inner)
    schedule.vectorize(inner)
    assert tasks_of(schedule.mod["main"]) == [4]


def test_a_reduction_is_never_divided() -> None:
    assert tasks_of(reduction(1, 1 << 22)) == []
    assert tasks_of(reduction(512, 8192)) == [512]


def test_a_decomposed_and_tiled_reduction_is_shared() -> None:
    schedule = Schedule(tvm.IRModule({"main": reduction(1024, 8192)}))
    block = schedule.get_sblock("y")
    rows, k = schedule.get_loops(block)
    outer, inner = schedule.split(rows, [None, 4])
    schedule.reorder(outer, k, inner)
    schedule.unroll(inner)
    schedule.decompose_reduction(block, k)
    assert tasks_of(schedule.mod["main"]) == [256]


def halo(private: bool) -> Any:
    """Return y[i] = a[i] + a[i + 1], where task i computes both of ``a``: rows overlap."""
    n, m = 256, 4096

    @T.prim_func(s_tir=True, check_well_formed=False)
    def shared(
        x: T.Buffer((n + 1, m), "float32"),
        a: T.Buffer((n + 1, m), "float32"),
        y: T.Buffer((n, m), "float32"),
    ) -> None:
        for i in range(n):
            for r, j in T.grid(2, m):
                with T.sblock("a"):
                    vi = T.axis.spatial(n + 1, i + r)
                    vj = T.axis.spatial(m, j)
                    a[vi, vj] = x[vi, vj] * T.float32(2)
            for j in range(m):
                with T.sblock("y"):
                    vi = T.axis.spatial(n, i)
                    vj = T.axis.spatial(m, j)
                    y[vi, vj] = a[vi, vj] + a[vi + 1, vj]

    @T.prim_func(s_tir=True, check_well_formed=False)
    def own(x: T.Buffer((n + 1, m), "float32"), y: T.Buffer((n, m), "float32")) -> None:
        a = T.sblock_alloc_buffer((n + 1, m), "float32")
        for i in range(n):
            for r, j in T.grid(2, m):
                with T.sblock("a"):
                    vi = T.axis.spatial(n + 1, i + r)
                    vj = T.axis.spatial(m, j)
                    a[vi, vj] = x[vi, vj] * T.float32(2)
            for j in range(m):
                with T.sblock("y"):
                    vi = T.axis.spatial(n, i)
                    vj = T.axis.spatial(m, j)
                    y[vi, vj] = a[vi, vj] + a[vi + 1, vj]

    return own if private else shared


def test_tasks_never_write_the_same_elements() -> None:
    assert tasks_of(halo(private=False)) == []


def test_what_a_task_computes_for_itself_may_overlap() -> None:
    assert tasks_of(halo(private=True)) == [256]


def ragged(accumulated: bool) -> Any:
    """Return a kernel of 258 rows in tiles of 4, whose last tile overlaps the one before."""

    @T.prim_func(s_tir=True, check_well_formed=False)
    def once(x: T.Buffer((258, 4096), "float32"), y: T.Buffer((258, 4096), "float32")) -> None:
        for o in range(65):
            for r, j in T.grid(4, 4096):
                with T.sblock("y"):
                    vi = T.axis.spatial(258, T.min(o * 4, 254) + r)
                    vj = T.axis.spatial(4096, j)
                    y[vi, vj] = x[vi, vj] * T.float32(2)

    @T.prim_func(s_tir=True, check_well_formed=False)
    def twice(x: T.Buffer((258, 4096), "float32"), y: T.Buffer((258, 4096), "float32")) -> None:
        for o in range(65):
            for r, j in T.grid(4, 4096):
                with T.sblock("start"):
                    vi = T.axis.spatial(258, T.min(o * 4, 254) + r)
                    vj = T.axis.spatial(4096, j)
                    y[vi, vj] = T.float32(0)
            for r, k, j in T.grid(4, 4, 4096):
                with T.sblock("y"):
                    vi = T.axis.spatial(258, T.min(o * 4, 254) + r)
                    vj = T.axis.spatial(4096, j)
                    vk = T.axis.reduce(4, k)
                    y[vi, vj] = y[vi, vj] + x[vi, vj] * T.Cast("float32", vk)

    return twice if accumulated else once


def test_tiles_that_overlap_are_tasks_if_they_write_final_values_only() -> None:
    assert tasks_of(ragged(accumulated=False)) == [65 * 4]
    assert tasks_of(ragged(accumulated=True)) == []


def test_each_nest_is_judged_for_itself() -> None:
    x = te.placeholder((512, 4096), "float32", name="x")
    two = tirx.const(2, "float32")
    a = te.compute((512, 4096), lambda i, j: x(i, j) * two, name="a")
    k = te.reduce_axis((0, 512), name="k")
    y = te.compute((1,), lambda i: te.sum(a(k, i), axis=k), name="y")
    assert tasks_of(te.create_prim_func([x, y])) == [512]
