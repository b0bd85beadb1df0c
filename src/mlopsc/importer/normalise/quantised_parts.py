"""Pass *KeepQuantised*: prepares the quantised parts of a graph that integers will compute.

Requires: inferred shapes and types. Ensures: what only moves the elements of a constant is done to
its integers, behind ``DequantizeLinear`` no more; a ``DequantizeLinear`` that an integer operator
replaces has no other user. ``kept_nodes`` says which nodes then stay as they are; all others are
expanded into float arithmetic.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.write import add_constant
from mlopsc.integer import find_clusters
from mlopsc.integer.quantisation import array_of
from mlopsc.integer.recognise import quantised_nodes
from mlopsc.integer.unfuse import unfuse

# Composite operators that integers compute as a whole.
COMPOSITE_OPS: Final = frozenset({"Resize"})
QUANTISED_OPS: Final = frozenset(
    {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}
)


def kept_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes of the main graph that stay quantised."""
    if not any(node.op_type in QUANTISED_OPS for node in graph):
        return set()
    unfused = unfuse(graph)
    clusters = find_clusters(graph)
    kept = quantised_nodes(clusters)
    kept |= {
        node for cluster in clusters for node in cluster.nodes if node.op_type in COMPOSITE_OPS
    }
    for part in reversed(unfused):
        if part.nodes[-1] in kept:
            kept.add(part.fused)
        part.undo()
    return kept


def kept_composites(graph: ir.Graph) -> set[ir.Node]:
    """Return the composite operators of the main graph that integers compute as a whole."""
    if not any(node.op_type in COMPOSITE_OPS for node in graph):
        return set()
    return {node for node in kept_nodes(graph) if node.op_type in COMPOSITE_OPS}


class KeepQuantised(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Move constants, then give other users a ``DequantizeLinear`` of their own."""
        modified = any([_transpose_constant(model, node) for node in list(model.graph)])
        inside = {node for cluster in find_clusters(model.graph) for node in cluster.nodes}
        for node in [n for n in inside if n.op_type == "DequantizeLinear"]:
            output = node.outputs[0]
            others = [(user, i) for user, i in output.uses() if user not in inside]
            if not others and not output.is_graph_output():
                continue
            copy = ir.Node("", node.op_type, node.inputs, list(node.attributes.values()),
                           name=node.name)  # fmt: skip
            copy.outputs[0].type, copy.outputs[0].shape = output.type, output.shape
            copy.outputs[0].name, output.name = output.name, f"{output.name}/inner"
            model.graph.insert_before(node, copy)
            for user, index in others:
                user.replace_input_with(index, copy.outputs[0])
            for index, value in enumerate(model.graph.outputs):
                if value is output:
                    model.graph.outputs[index] = copy.outputs[0]
            modified = True
        return ir.passes.PassResult(model, modified)


def _transpose_constant(model: ir.Model, node: ir.Node) -> bool:
    """Turn Transpose(DequantizeLinear(constant)) around."""
    source = node.inputs[0] if node.inputs else None
    dequantize = None if source is None else source.producer()
    if node.op_type != "Transpose" or node.domain or dequantize is None:
        return False
    array = array_of(dequantize.inputs[0]) if dequantize.inputs else None
    original = dequantize.inputs[0]
    if dequantize.op_type != "DequantizeLinear" or array is None or original is None:
        return False
    default = tuple(reversed(range(array.ndim)))
    order = node.attributes["perm"].as_ints() if "perm" in node.attributes else default
    axis = dequantize.attributes["axis"].as_int() if "axis" in dequantize.attributes else 1
    scale = array_of(dequantize.inputs[1])
    if scale is None or scale.ndim > 1:
        return False
    moved = np.ascontiguousarray(array.transpose(order))
    constant = add_constant(model, moved, f"{original.name}_transposed")
    attributes = {"axis": list(order).index(axis % array.ndim)} if scale.size > 1 else {}
    made = ir.node("DequantizeLinear", [constant, *dequantize.inputs[1:]], attributes)
    output = node.outputs[0]
    made.outputs[0].type, made.outputs[0].shape = output.type, output.shape
    made.outputs[0].name = output.name
    graph = node.graph
    if graph is None:
        return False
    ir.convenience.replace_nodes_and_values(graph, node, [node], [made], [output], made.outputs)
    return True
