"""Pass *RemoveEmpties*: tensors without elements are constants, and nodes that only make such go.

Requires: inferred shapes. Ensures: nothing but ``Identity`` in front of an output of the graph
gives a tensor without elements, and inputs without elements are unused; what is left of ``Concat``
and ``Split`` has elements, and no scatter is without updates. Loops that carry a tensor without
elements are left for the check.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlopsc.bodies import bodies
from mlopsc.importer.normalise.check import open_shape_inputs
from mlopsc.importer.normalise.fold import replace_by_constant
from mlopsc.importer.normalise.subgraphs import release_bodies
from mlopsc.importer.normalise.write import add_constant


def is_empty(value: ir.Value) -> bool:
    """Whether ``value`` is a tensor, not of strings, that is known to have no elements."""
    known = value.dtype is not None and value.shape is not None and value.shape.is_static()
    return (
        known
        and value.dtype != ir.DataType.STRING
        and 0 in [int(size) for size in value.shape or ()]
    )


class RemoveEmpties(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace values, then shorten the nodes that took or gave them."""
        modified = False
        graphs = [model.graph]
        while graphs:
            graph = graphs.pop(0)
            graphs += [body for node in graph for body in bodies(node)]
            for value in [*graph.inputs, *(o for node in graph for o in node.outputs)]:
                modified |= _make_constant(model.graph, graph, value)
            for node in list(graph):
                modified |= _shorten(model, graph, node)
        return ir.passes.PassResult(model, modified)


def _make_constant(main: ir.Graph, graph: ir.Graph, value: ir.Value) -> bool:
    if not is_empty(value) or not (value.uses() or value.is_graph_output()):
        return False
    producer = value.producer()
    if producer is not None and producer.op_type == "Identity" and value.is_graph_output():
        source = producer.inputs[0]
        if source is not None and source.const_value is not None:
            return False  # what is left of an output
    if producer is not None and any(open_shape_inputs(producer)):
        return False  # that it is empty is only declared
    sizes = [int(size) for size in value.shape or ()]
    dtype = ir.DataType(value.dtype or ir.DataType.FLOAT)
    if producer is None and value.is_graph_output():
        return False  # an input that is an output
    replace_by_constant(main, graph, value, np.empty(sizes, dtype.numpy()))
    if producer is not None and not any(o.uses() or o.is_graph_output() for o in producer.outputs):
        graph.remove(producer, safe=True)
        release_bodies(producer)
    return True


def _shorten(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Concat":
        kept = [value for value in node.inputs if value is not None and not is_empty(value)]
        if len(kept) == len(node.inputs) or not kept:
            return False
        node.resize_inputs(len(kept))
        for index, value in enumerate(kept):
            node.replace_input_with(index, value)
        return True
    if node.op_type == "Split" and any(is_empty(output) for output in node.outputs):
        return _shorten_split(model, graph, node)
    if node.op_type in ("ScatterElements", "ScatterND") and _has_no_updates(node):
        made = ir.node("Identity", [node.inputs[0]])
        _replace(graph, node, made, node.outputs)
        return True
    return False


def _has_no_updates(node: ir.Node) -> bool:
    updates = node.inputs[2]
    return updates is not None and is_empty(updates)


def _replace(graph: ir.Graph, node: ir.Node, made: ir.Node, outputs: Sequence[ir.Value]) -> None:
    """Put ``made`` in the place of ``node``; its outputs are called and typed as ``outputs``."""
    made.name = node.name
    for old, new in zip(outputs, made.outputs, strict=True):
        new.name, new.type, new.shape = old.name, old.type, old.shape
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [made], list(outputs), list(made.outputs)
    )


def _shorten_split(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    """Leave out the outputs without elements, whose users have constants by now."""
    outputs = [output for output in node.outputs if not is_empty(output)]
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if not outputs or any(o.shape is None or not o.shape.is_static() for o in outputs):
        return False
    sizes = np.array([int((o.shape or ())[axis]) for o in outputs], np.int64)
    constant = add_constant(model, sizes, f"{outputs[0].name}_sizes")
    made = ir.Node(
        "", "Split", [node.inputs[0], constant], [ir.AttrInt64("axis", axis)],
        num_outputs=len(outputs),
    )  # fmt: skip
    _replace(graph, node, made, outputs)
    return True
