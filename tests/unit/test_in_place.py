"""Which inputs of a kernel may give their place to an output, on kernels of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tvm
from tvm import te, tirx

from mlopsc.lower.in_place import in_place_pairs
from mlopsc.lower.overlap import overlap_tails


def kernel(make: Callable[..., Any], *shapes: tuple[int, ...], dtype: str = "float32") -> Any:
    """Return the function whose inputs have ``shapes`` and whose output ``make`` computes."""
    inputs = [te.placeholder(shape, dtype, name=f"x{i}") for i, shape in enumerate(shapes)]
    return te.create_prim_func([*inputs, make(*inputs)], "int64")


def relu(x: Any) -> Any:
    return te.compute(x.shape, lambda *i: te.max(x(*i), tirx.const(0, "float32")), name="y")


def softmax(x: Any) -> Any:
    """Several stages; the last one reads the element that it writes."""
    k = te.reduce_axis((0, x.shape[1]), name="k")
    top = te.compute((x.shape[0],), lambda i: te.max(x(i, k), axis=k), name="top")
    return te.compute(x.shape, lambda i, j: te.exp(x(i, j) - top(i)), name="y")


def padded_sum(x: Any) -> Any:
    """A copy with a border, then windows of that."""
    p = te.compute(
        (x.shape[0] + 2,),
        lambda i: tirx.if_then_else(
            tirx.all(i >= 1, i <= x.shape[0]), x(i - 1), tirx.const(0, "float32")
        ),
        name="p",
    )
    k = te.reduce_axis((0, 3), name="k")
    return te.compute(x.shape, lambda i: te.sum(p(i + k), axis=k), name="y")


def window(x: Any) -> Any:
    k = te.reduce_axis((0, 3), name="k")
    return te.compute((x.shape[0] - 2,), lambda i: te.sum(x(i + k), axis=k), name="y")


CASES = [
    ("elementwise", kernel(relu, (4, 6)), ((0, 1),)),
    ("another shape of the same memory", kernel(
        lambda x: te.compute((4, 6), lambda i, j: x(i * 6 + j), name="y"), (24,)), ((0, 1),)),
    ("sum", kernel(lambda a, b: te.compute(a.shape, lambda i: a(i) + b(i), name="y"), (9,), (9,)),
     ((0, 2), (1, 2))),
    ("sum with one broadcast", kernel(
        lambda a, b: te.compute(a.shape, lambda i, j: a(i, j) + b(j), name="y"), (3, 5), (5,)),
     ((0, 2),)),
    ("stages", kernel(softmax, (3, 8)), ((0, 1),)),
    ("all read before", kernel(padded_sum, (16,)), ((0, 1),)),
    ("window", kernel(window, (16,)), ()),
    ("transposition", kernel(
        lambda x: te.compute((5, 5), lambda i, j: x(j, i), name="y"), (5, 5)), ()),
    ("backwards", kernel(
        lambda x: te.compute((7,), lambda i: x(6 - i), name="y"), (7,)), ()),
    ("the element and another", kernel(
        lambda x: te.compute((7,), lambda i: x(i) + x(0), name="y"), (7,)), ()),
    ("another type", kernel(
        lambda x: te.compute((7,), lambda i: x(i).astype("int32"), name="y"), (7,)), ()),
    ("more elements", kernel(
        lambda x: te.compute((2, 7), lambda i, j: x(j), name="y"), (7,)), ()),
    ("matrix product", kernel(
        lambda a, b: te.compute((4, 4), lambda i, j: te.sum(
            a(i, k := te.reduce_axis((0, 4), name="k")) * b(k, j), axis=k), name="y"),
        (4, 4), (4, 4)), ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "pairs"), CASES, ids=[name for name, *_ in CASES])
def test_pairs_are_those_that_compute_the_same_in_place(
    name: str, function: Any, pairs: tuple[tuple[int, int], ...]
) -> None:
    assert in_place_pairs(function) == pairs


def test_what_hides_a_pointer_shares_nothing() -> None:
    x = te.placeholder((8,), "float32", name="x")
    y = te.extern(
        (8,),
        [x],
        lambda ins, outs: tirx.call_extern(
            "int32", "f", ins[0].access_ptr("r"), outs[0].access_ptr("w")
        ),
        name="y",
        dtype="float32",
    )
    assert in_place_pairs(te.create_prim_func([x, y], "int64")) == ()


@pytest.mark.parametrize(("factor", "pairs"), [(4, ((0, 1),)), (5, ())])
def test_tiles_that_overlap_read_what_they_have_written(
    factor: int, pairs: tuple[tuple[int, int], ...]
) -> None:
    schedule = tvm.s_tir.Schedule(tvm.IRModule({"main": kernel(relu, (12,))}))
    (loop,) = schedule.get_loops(schedule.get_child_blocks(schedule.get_sblock("root"))[0])
    schedule.split(loop, [None, factor])
    assert in_place_pairs(schedule.mod["main"]) == ((0, 1),)  # a condition guards the last tile
    assert in_place_pairs(overlap_tails(schedule.mod["main"])) == pairs
