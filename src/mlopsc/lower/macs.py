"""Counts the multiply-accumulate operations of what a node computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm_ffi.structural import structural_walk

from mlopsc.lower.ops.arithmetic import ADDITION, MULTIPLICATION
from mlopsc.lower.ops.words import is_dot
from mlopsc.words import WORD_BYTES


def multiply_accumulates(tensors: Sequence[Any]) -> int:
    """Return how often the computations behind ``tensors`` add a product of two tensors' elements.

    These are the sums of products: convolutions and products of every kind. Layouts that pad
    channels make more of them, which count, too.
    """
    pending, seen, total = list(tensors), set(), 0
    while pending:
        operation = pending.pop().op
        if operation in seen:
            continue
        seen.add(operation)
        pending.extend(operation.input_tensors)
        if not getattr(operation, "reduce_axis", ()):
            continue
        sums = [r for r in operation.body if isinstance(r, tirx.Reduce) and _is_sum(r)]
        if any(_is_product(source) for reduction in sums for source in reduction.source):
            axes = (*operation.axis, *operation.reduce_axis)
            words = any(is_dot(source) for reduction in sums for source in reduction.source)
            total += math.prod(int(axis.dom.extent) for axis in axes) * (WORD_BYTES if words else 1)
    return total


def _is_sum(reduction: Any) -> bool:
    return all(
        isinstance(result, tirx.Add) or _operator(result) == ADDITION  # of integers, which wraps
        for result in reduction.combiner.result
    )


def _is_product(expr: Any) -> bool:
    """Whether an expression multiplies elements of two tensors."""
    while isinstance(expr, tirx.Cast):
        expr = expr.value
    if not (isinstance(expr, tirx.Mul) or _operator(expr) == MULTIPLICATION or is_dot(expr)):
        return False
    read = set()
    structural_walk(expr, (te.Tensor, lambda tensor: read.add(tensor)))
    return len(read) > 1


def _operator(expr: Any) -> str:
    return str(getattr(getattr(expr, "op", None), "name", ""))
