"""What is known of values and loops before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


def constant_of(value: ir.Value | None) -> Array | None:
    """Return the array of a constant, or None."""
    if value is None or value.const_value is None:
        return None
    array: Array = value.const_value.numpy()
    return array


def scalar_of(value: ir.Value | None) -> int | bool | float | None:
    """Return the only element of a constant, or None."""
    array = constant_of(value)
    return array.reshape(-1)[0].item() if array is not None and array.size == 1 else None


def body_of(loop: ir.Node) -> ir.Graph:
    """Return the body of a ``Loop`` or ``Scan``."""
    return loop.attributes["body"].as_graph()


def ends_of(loop: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the trip count and the first condition of a ``Loop``; trailing inputs may be gone."""
    inputs = [*loop.inputs, None, None]
    return inputs[0], inputs[1]


def runs_to_the_end(loop: ir.Node) -> bool:
    """Whether nothing but the trip count ends ``loop``: its condition is always true.

    It is if it starts true and every iteration passes it on or computes a constant true.
    """
    _, start = ends_of(loop)
    if start is not None and scalar_of(start) is not True:
        return False
    body = body_of(loop)
    value: ir.Value | None = body.outputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type != "Identity":
            return False
        value = node.inputs[0]
    return value is body.inputs[1] or scalar_of(value) is True


def trip_count(loop: ir.Node) -> int | None:
    """Return how many iterations ``loop`` runs at most, or None if only run time tells.

    A loop without trip count and without a condition that can end it would never end.
    """
    given, start = ends_of(loop)
    if scalar_of(start) is False:
        return 0
    if given is None:
        return None
    count = scalar_of(given)
    return None if count is None else max(0, int(count))


def can_be_scaled(weight: Array, factor: Array, scaled: Array) -> bool:
    """Whether ``scaled``, which is ``weight * factor`` in float64, fits in the type of ``weight``.

    None of it may overflow, or lose digits that ``weight`` has: inputs may be small or large.
    """
    limits = np.finfo(weight.dtype)
    size, before = np.abs(scaled), np.abs(weight)
    lost = (size < limits.tiny) & (before >= limits.tiny) & (factor != 0)
    return not np.any(lost | ((size > limits.max) & (before <= limits.max)))
