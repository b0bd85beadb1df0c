"""Grouped convolutions of single points become stacks of matrix products.

A convolution with groups, a kernel of size 1, no stride and no padding multiplies, for each group,
a matrix of weights with the matrix of its channels over all points: ``[G, F/G, C/G] x [N, G, C/G,
P]``. As that it is tiled over features and points alike, whatever the number of channels of a
group. Depthwise convolutions have nothing to multiply and stay.

Works on the joined graph in normal form, before ``layout``.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from mlopsc.lower.forms import add_constant, reshape, shape_of


def use_grouped_products(model: ir.Model) -> ir.Model:
    """Rewrite ``model`` in place and return it."""
    for node in list(model.graph):
        if node.op_type == "Conv" and not node.domain and _is_pointwise(node):
            _rewrite(model.graph, node)
    return model


def _is_pointwise(node: ir.Node) -> bool:
    weight, output = node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.const_value is None or output.dtype != ir.DataType.FLOAT:
        return False
    if bias is not None and bias.const_value is None:
        return False
    _, depth, *kernel = shape_of(weight)
    groups = _group(node)
    # Equal sizes also mean no stride and no padding.
    same = shape_of(node.inputs[0])[2:] == shape_of(output)[2:]
    return groups > 1 and depth > 1 and math.prod(kernel) == 1 and same


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    groups, name = _group(node), str(output.name)
    n, channels, *sizes = shape_of(x)
    features, depth = shape_of(weight)[:2]
    points = math.prod(sizes)
    stack = reshape(graph, x, [n, groups, channels // groups, points], f"{name}_channels")
    w = weight.const_value.numpy().reshape(1, groups, features // groups, depth)
    product = ir.Node(
        "", "MatMul", [add_constant(graph, w, f"{name}_weights"), stack.outputs[0]], name=node.name
    )
    wanted = [n, groups, features // groups, points]
    nodes = [stack, product]
    if bias is not None:
        added = bias.const_value.numpy().reshape(groups, -1, 1)
        nodes.append(
            ir.Node("", "Add", [product.outputs[0], add_constant(graph, added, f"{name}_bias")])
        )
    for number, made in enumerate(nodes[1:]):
        value = made.outputs[0]
        value.name, value.type, value.shape = f"{name}_{number}", output.type, ir.Shape(wanted)
    final = reshape(graph, nodes[-1].outputs[0], shape_of(output), f"{name}_whole")
    graph.insert_before(node, [*nodes, final])
    ir.convenience.replace_all_uses_with(output, final.outputs[0], replace_graph_outputs=True)
    final.outputs[0].name = name
    graph.remove(node, safe=True)


def _group(node: ir.Node) -> int:
    return node.attributes["group"].as_int() if "group" in node.attributes else 1
