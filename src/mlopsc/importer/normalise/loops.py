"""Passes on ``Loop``: *SimplifyLoops* and *UnrollLoops*.

*SimplifyLoops* requires *PrepareBodies* and folded constants. It ensures: a loop that runs no or
one iteration is gone; a value that no iteration changes is captured instead of carried; a carried
value or stack that nobody reads is gone; what every iteration would compute again is computed once,
before the loop; the condition is an input exactly if it can end the loop or nothing is carried.

*UnrollLoops* requires that inference and folding have nothing left to do. It unrolls one loop that
cannot be compiled as it is and whose iterations are known at import: a carried value changes its
shape, or an input that decides a shape depends on the iteration. What is left holds static shapes
only, or is refused by the check.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence

import numpy as np
import onnx_ir as ir

from mlopsc.bodies import bodies, captured
from mlopsc.core_ops import CORE_OPS
from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise.constants import body_of, ends_of, runs_to_the_end, trip_count
from mlopsc.importer.normalise.subgraphs import inline, make_names_unique, replace
from mlopsc.importer.normalise.write import add_constant

MAX_UNROLLED = 1 << 14  # nodes that one loop may become


class SimplifyLoops(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Simplify every loop once."""
        modified = False
        while True:
            node = next((n for n in model.graph.all_nodes() if _runs_once_at_most(n)), None)
            if node is None:
                break
            _unroll(model, node, trip_count(node) or 0)
            modified = True
        for node in [n for n in model.graph.all_nodes() if n.op_type == "Loop" and not n.domain]:
            modified |= _settle_condition(model, node)
            modified |= _drop_needless(node) or _hoist_invariants(node)
        if modified:
            make_names_unique(model)
        return ir.passes.PassResult(model, modified)


class UnrollLoops(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Unroll the first loop that needs it.

        Raises:
            UnsupportedOpError: It would become too many nodes.
        """
        for node in model.graph.all_nodes():
            count = trip_count(node) if node.op_type == "Loop" and not node.domain else None
            if count is None or not runs_to_the_end(node) or _is_static(node):
                continue
            size = count * len(list(body_of(node).all_nodes()))
            if size > MAX_UNROLLED:
                raise UnsupportedOpError(
                    f"node '{node.name}' (Loop) changes shapes from one of its {count} iterations "
                    f"to the next; written out it would have {size} nodes, at most {MAX_UNROLLED} "
                    "are allowed",
                    hint="pad what grows in the loop to its final size before the export",
                )
            _unroll(model, node, count)
            make_names_unique(model)
            return ir.passes.PassResult(model, True)
        return ir.passes.PassResult(model, False)


def _runs_once_at_most(node: ir.Node) -> bool:
    if node.op_type != "Loop" or node.domain:
        return False
    count = trip_count(node)
    return count == 0 or (count == 1 and runs_to_the_end(node))


def _is_static(loop: ir.Node) -> bool:
    """Whether all shapes inside are known and the same in every iteration."""
    for node in body_of(loop).all_nodes():
        rule = CORE_OPS.get(node.op_type)
        fixed = rule.constant_inputs if rule is not None else ()
        for index in fixed:
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value.const_value is None:
                return False
        values = [*node.outputs, *(v for body in bodies(node) for v in body.inputs)]
        if any(v.name and (v.shape is None or not v.shape.is_static()) for v in values):
            return False
    inputs = body_of(loop).inputs
    return all(v.shape is not None and v.shape.is_static() for v in inputs)


def _unroll(model: ir.Model, loop: ir.Node, count: int) -> None:
    """Write ``count`` iterations one after the other in the place of ``loop``."""
    body = body_of(loop)
    number = len(loop.inputs[2:])
    values = [v for v in loop.inputs[2:] if v is not None]
    scanned: list[list[ir.Value]] = [[] for _ in loop.outputs[number:]]
    condition = add_constant(model, np.array(True), f"{loop.name}_condition")
    for iteration in range(count):
        step = add_constant(model, np.array(iteration, np.int64), f"{loop.name}_{iteration}")
        results = inline(loop, body, [step, condition, *values])
        values = results[1 : 1 + number]
        for one, each in zip(scanned, results[1 + number :], strict=False):
            one.append(each)
    axis = add_constant(model, np.array([0], np.int64), f"{loop.name}_axis")
    stacked = [
        _stack(loop, parts, axis) if parts else _nothing(model, body, loop, index)
        for index, parts in enumerate(scanned)
    ]
    replace(loop, [*values[: len(loop.outputs)], *stacked])


def _stack(loop: ir.Node, parts: list[ir.Value], axis: ir.Value) -> ir.Value:
    tape = ir.tape.Tape()
    single = [tape.op("Unsqueeze", [part, axis]) for part in parts]
    result = tape.op("Concat", single, {"axis": 0}) if len(single) > 1 else single[0]
    if loop.graph is not None:
        loop.graph.insert_before(loop, tape.nodes)
    return result


def _nothing(model: ir.Model, body: ir.Graph, loop: ir.Node, index: int) -> ir.Value:
    """Return the empty tensor that a loop without iterations stacks."""
    each = body.outputs[1 + len(loop.inputs[2:]) + index]
    sizes = [0 if not isinstance(d, int) else d for d in each.shape or ()]
    dtype = each.dtype or ir.DataType.FLOAT
    return add_constant(model, np.empty([0, *sizes], dtype.numpy()), f"{loop.name}_empty{index}")


def _origin(value: ir.Value) -> ir.Value:
    """Return what ``value`` is a copy of."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _settle_condition(model: ir.Model, loop: ir.Node) -> bool:
    """Give the condition as an input exactly if it can end the loop, or if nothing is carried.

    Without it the first iteration runs; what the body says still counts, as in ONNX Runtime. A node
    must have two inputs; so a loop that carries nothing, which no condition can end, has it.
    """
    wanted = not runs_to_the_end(loop) or not loop.inputs[2:]
    if wanted == (ends_of(loop)[1] is not None):
        return False
    loop.resize_inputs(max(2, len(loop.inputs)))
    start = add_constant(model, np.array(True), f"{loop.name}_start") if wanted else None
    loop.replace_input_with(1, start)
    return True


def _drop_needless(loop: ir.Node) -> bool:
    """Carry and stack only what must be: see the module's docstring."""
    body = body_of(loop)
    number = len(loop.inputs[2:])
    results: list[ir.Value | None] = [None] * len(loop.outputs)
    dropped = set()
    for index, (output, after) in enumerate(zip(loop.outputs, body.outputs[1:], strict=True)):
        is_read = bool(output.uses()) or output.is_graph_output()
        if index >= number:
            if not is_read:
                dropped.add(index)
            continue
        before, inside = loop.inputs[2 + index], body.inputs[2 + index]
        if before is not None and _origin(after) is inside:
            ir.convenience.replace_all_uses_with(inside, before)
            results[index] = before
            dropped.add(index)
        elif not is_read and not inside.uses():
            dropped.add(index)
    if not dropped or loop.graph is None:
        return False
    kept = [index for index in range(len(loop.outputs)) if index not in dropped]
    carried = [index for index in kept if index < number]
    made = ir.Node(
        "",
        "Loop",
        [*ends_of(loop), *(loop.inputs[2 + index] for index in carried)],
        list(loop.attributes.values()),
        num_outputs=len(kept),
        name=loop.name,
    )
    _keep(body.inputs, [0, 1, *(2 + index for index in carried)])
    _keep(body.outputs, [0, *(1 + index for index in kept)])
    for index, output in zip(kept, made.outputs, strict=True):
        old = loop.outputs[index]
        output.type, output.shape = old.type, old.shape
        results[index] = output
    loop.graph.insert_before(loop, made)
    loop.attributes.clear()  # the body is the new node's
    replace(loop, [result or loop.outputs[i] for i, result in enumerate(results)])
    return True


def _keep(values: MutableSequence[ir.Value], indices: Sequence[int]) -> None:
    chosen = [values[index] for index in indices]
    values.clear()
    values.extend(chosen)


def _hoist_invariants(loop: ir.Node) -> bool:
    """Move what every iteration would compute again out of the loop."""
    body = body_of(loop)
    moved = False
    for node in list(body):
        inner = (value for graph in bodies(node) for value in captured(graph))
        own = [
            value
            for value in (*node.inputs, *inner)
            if value is not None and (value in body.inputs or _is_made_in(value, body))
        ]
        if own or any(output.is_graph_output() for output in node.outputs) or loop.graph is None:
            continue
        body.remove(node)
        loop.graph.insert_before(loop, node)
        moved = True
    return moved


def _is_made_in(value: ir.Value, body: ir.Graph) -> bool:
    producer = value.producer()
    return producer is not None and producer.graph is body
