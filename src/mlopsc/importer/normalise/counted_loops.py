"""Pass *CountLoops*: finds how often a ``Loop`` runs whose condition only counts.

Requires *PrepareBodies* and folded constants. Ensures: a loop whose condition is computed from the
number of the iteration, from values that every iteration raises by a constant, and from constants,
has a trip count, and no other end. TensorFlow's ``while`` loops are such, and so are loops that
count by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.constants import (
    body_of,
    constant_of,
    ends_of,
    runs_to_the_end,
    scalar_of,
)
from mlopsc.importer.normalise.write import add_constant

Array = np.ndarray[Any, Any]
_MAX_COUNT: Final = 1 << 20  # iterations that are tried
_OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "Add": np.add,
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": np.asarray,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Mul": np.multiply,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Reshape": lambda value, shape: value,  # of a single element
    "Squeeze": lambda value, axes=None: value,
    "Sub": np.subtract,
    "Unsqueeze": lambda value, axes=None: value,
}


class CountLoops(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Count every loop that can be counted."""
        modified = False
        for node in [n for n in model.graph.all_nodes() if n.op_type == "Loop" and not n.domain]:
            _, start = ends_of(node)
            if runs_to_the_end(node) or (start is not None and scalar_of(start) is not True):
                continue
            count = _count(node)
            if count is not None:
                _set_count(model, node, count)
                modified = True
        return ir.passes.PassResult(model, modified)


def _count(loop: ir.Node) -> int | None:
    """Return how many iterations run, or None if that does not follow."""
    given = ends_of(loop)[0]
    limit = _MAX_COUNT
    if given is not None:
        most = scalar_of(given)
        if most is None:
            return None
        limit = max(0, min(int(most), limit))
    body = body_of(loop)
    known = {id(body.inputs[0]): np.arange(limit, dtype=np.int64)}
    for index, (before, inside) in enumerate(zip(loop.inputs[2:], body.inputs[2:], strict=True)):
        counter = _counter(scalar_of(before), inside, body.outputs[1 + index], limit)
        if counter is not None:
            known[id(inside)] = counter
    with np.errstate(all="ignore"):
        goes_on = _evaluate(body.outputs[0], known, body)
    if goes_on is None:
        return None
    ends = np.flatnonzero(~np.broadcast_to(np.asarray(goes_on, bool), (limit,)))
    if ends.size:
        return int(ends[0]) + 1
    return limit if limit < _MAX_COUNT else None


def _counter(
    start: int | bool | float | None, inside: ir.Value, after: ir.Value, limit: int
) -> Array | None:
    """Return the value of a carried integer in every iteration, if it only counts."""
    dtype = inside.dtype
    if dtype not in (ir.DataType.INT32, ir.DataType.INT64) or start is None:
        return None
    node = after.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in ("Add", "Sub") or node.domain:
        return None
    left, right = node.inputs
    if node.op_type == "Add" and right is inside:
        left, right = right, left
    step = scalar_of(right)
    if left is not inside or step is None:
        return None
    sign = 1 if node.op_type == "Add" else -1
    values: Array = int(start) + np.arange(limit, dtype=np.int64) * int(step) * sign
    return values.astype(dtype.numpy())


def _evaluate(value: ir.Value | None, known: dict[int, Array], body: ir.Graph) -> Array | None:
    """Return a single element's value in every iteration, or None if it does not follow."""
    if value is None:
        return None
    if id(value) in known:
        return known[id(value)]
    constant = constant_of(value)
    if constant is not None:
        return constant.reshape(()) if constant.size == 1 else None
    node = value.producer()
    if node is None or node.graph is not body or node.domain:
        return None
    if node.op_type == "Cast":
        given = _evaluate(node.inputs[0], known, body)
        result = None if given is None else given.astype(_type_of(node))
    elif node.op_type in _OPERATIONS:
        shapes = node.op_type in ("Reshape", "Squeeze", "Unsqueeze")
        inputs = [_evaluate(v, known, body) for v in (node.inputs[:1] if shapes else node.inputs)]
        if any(each is None for each in inputs):
            return None
        inputs += [np.asarray(0)] if node.op_type == "Reshape" else []
        result = np.asarray(_OPERATIONS[node.op_type](*inputs))
    else:
        return None
    if result is not None:
        known[id(value)] = result
    return result


def _type_of(cast: ir.Node) -> Any:
    return ir.DataType(cast.attributes["to"].as_int()).numpy()


def _set_count(model: ir.Model, loop: ir.Node, count: int) -> None:
    """Give ``loop`` a trip count, and let its condition pass through."""
    body = body_of(loop)
    loop.resize_inputs(max(2, len(loop.inputs)))
    loop.replace_input_with(0, add_constant(model, np.array(count, np.int64), f"{loop.name}_count"))
    same = ir.node("Identity", [body.inputs[1]])
    same.outputs[0].type, same.outputs[0].shape = body.inputs[1].type, body.inputs[1].shape
    same.outputs[0].name = f"{loop.name}_goes_on"
    body.append(same)
    body.outputs[0] = same.outputs[0]
