"""Counts the multiply-accumulate operations of what a node computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm_ffi.structural import structural_walk

from mlopsc.lower.ops.arithmetic import ADDITION
from mlopsc.lower.ops.words import is_dot
from mlopsc.words import WORD_BYTES


def multiply_accumulates(tensors: Sequence[Any]) -> int:
    """Return how often the computations behind ``tensors`` add a product of two tensors' elements.

    These are the sums over an expression that reads two tensors: convolutions and products of every
    kind, whatever layout their operands have.
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
        if any(_tensors_read(source) > 1 for reduction in sums for source in reduction.source):
            axes = (*operation.axis, *operation.reduce_axis)
            words = any(is_dot(source) for reduction in sums for source in reduction.source)
            total += math.prod(int(axis.dom.extent) for axis in axes) * (WORD_BYTES if words else 1)
    return total


def _is_sum(reduction: Any) -> bool:
    return all(
        isinstance(result, tirx.Add)
        or getattr(getattr(result, "op", None), "name", "") == ADDITION  # of integers, which wraps
        for result in reduction.combiner.result
    )


def _tensors_read(expr: Any) -> int:
    read = set()
    structural_walk(expr, (te.Tensor, lambda tensor: read.add(tensor)))
    return len(read)
