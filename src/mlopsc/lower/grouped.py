"""Grouped convolutions become what the rules for layouts and tiles know.

A kernel of size 1 without stride and padding multiplies, for each group, a matrix of weights with
the matrix of its channels over all points: ``[G, F/G, C/G] x [N, G, C/G, P]``. As that it is tiled
over features and points alike, whatever the number of channels of a group. Other groups become
convolutions of their own if they are whole blocks of channels and features. Depthwise convolutions
stay, as do many small groups.

Works on the joined graph in normal form, before ``layout``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    BINARY,
    UNARY,
    add_constant,
    describe,
    groups_of,
    part_of,
    replace_by,
    reshape,
    shape_of,
)

_MAX_GROUPS: Final = 8  # convolutions that one may become


def rewrite_groups(model: ir.Model, lanes: int) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        lanes: Elements of float32 in a vector register.
    """
    for node in list(model.graph):
        if node.op_type == "Transpose" and not node.domain:
            _shuffle(model.graph, node)
        if node.op_type == "Conv" and not node.domain and _has_groups(node):
            if _is_pointwise(node):
                _multiply(model.graph, node)
            elif _has_whole_blocks(node, lanes):
                _separate(model.graph, node)
    return model


def _shuffle(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a shuffle of channels, a transposition between two reshapes, by a selection.

    Layouts do not pass a reshape, but they pass this.
    """
    before, uses = node.inputs[0].producer(), list(node.outputs[0].uses())
    after = uses[0][0] if len(uses) == 1 else None
    if before is None or after is None or {before.op_type, after.op_type} != {"Reshape"}:
        return
    if after.graph is not graph or before.domain or after.domain:
        return
    x, split, output = before.inputs[0], shape_of(node.inputs[0]), after.outputs[0]
    shape, rank = shape_of(x), len(split)
    perm = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else []
    if perm != [0, 2, 1, *range(3, rank)] or rank != len(shape) + 1 or rank < 4:
        return
    if shape_of(output) != shape or [split[0], *split[3:]] != [shape[0], *shape[2:]]:
        return
    if node.outputs[0].is_graph_output():
        return
    places = np.arange(shape[1]).reshape(split[1], split[2]).T.reshape(-1)
    indices = add_constant(graph, places, f"{output.name}_channels")
    made = ir.Node("", "Gather", [x, indices], [ir.AttrInt64("axis", 1)])
    describe(made.outputs[0], f"{output.name}_shuffled", output, shape)
    replace_by(graph, after, [made])
    graph.remove(node, safe=True)
    if not before.outputs[0].uses() and not before.outputs[0].is_graph_output():
        graph.remove(before, safe=True)


def _has_groups(node: ir.Node) -> bool:
    weight, output = node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.const_value is None or output.dtype != ir.DataType.FLOAT:
        return False
    return groups_of(node) > 1 and (bias is None or bias.const_value is not None)


def _is_pointwise(node: ir.Node) -> bool:
    _, depth, *kernel = shape_of(node.inputs[1])
    # Equal sizes also mean no stride and no padding.
    same = shape_of(node.inputs[0])[2:] == shape_of(node.outputs[0])[2:]
    return depth > 1 and math.prod(kernel) == 1 and same


def _has_whole_blocks(node: ir.Node, lanes: int) -> bool:
    features, depth = shape_of(node.inputs[1])[:2]
    groups = groups_of(node)
    return groups <= _MAX_GROUPS and depth % lanes == 0 and (features // groups) % lanes == 0


def _separate(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a convolution by one per group, of a part of the channels each."""
    x, output, groups, name = node.inputs[0], node.outputs[0], groups_of(node), node.outputs[0].name
    constants = [v.const_value.numpy() for v in node.inputs[1:] if v is not None]
    depth = constants[0].shape[1]
    n, features, *sizes = shape_of(output)
    attributes = [a for a in node.attributes.values() if a.name != "group"]
    made, results = [], []
    for number in range(groups):
        bounds = {1: (number * depth, (number + 1) * depth)}
        part = part_of(graph, x, bounds, f"{name}_channels{number}")
        inputs = [
            add_constant(graph, np.split(array, groups)[number], f"{name}_{number}_{index}_group")
            for index, array in enumerate(constants)
        ]
        conv = ir.Node("", "Conv", [part.outputs[0], *inputs], attributes, name=node.name)
        shape = [n, features // groups, *sizes]
        describe(conv.outputs[0], f"{name}_features{number}", output, shape)
        made += [part, conv]
        results.append(conv.outputs[0])
    whole = ir.Node("", "Concat", results, [ir.AttrInt64("axis", 1)])
    describe(whole.outputs[0], f"{name}_whole", output, shape_of(output))
    replace_by(graph, node, [*made, whole])


def _multiply(graph: ir.Graph, node: ir.Node) -> None:
    x, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    groups, name = groups_of(node), str(output.name)
    n, channels, *sizes = shape_of(x)
    features, depth = shape_of(weight)[:2]
    points = math.prod(sizes)
    stack = reshape(graph, x, [n, groups, channels // groups, points], f"{name}_channels")
    w = weight.const_value.numpy().reshape(1, groups, features // groups, depth)
    product = ir.Node(
        "", "MatMul", [add_constant(graph, w, f"{name}_weights"), stack.outputs[0]], name=node.name
    )
    wanted = [n, groups, features // groups, points]
    made = [stack, product]
    if bias is not None:
        added = bias.const_value.numpy().reshape(groups, -1, 1)
        made.append(
            ir.Node("", "Add", [product.outputs[0], add_constant(graph, added, f"{name}_bias")])
        )
    replaced = [node]
    while (follower := _follower(replaced[-1])) is not None:
        inputs = list(follower.inputs)
        for index, value in enumerate(inputs):
            if value is replaced[-1].outputs[0]:
                inputs[index] = made[-1].outputs[0]
            elif value is not None and shape_of(value) == shape_of(output):
                view = reshape(graph, value, wanted, f"{follower.outputs[0].name}_{index}_stack")
                made.insert(0, view)
                inputs[index] = view.outputs[0]
        made.append(ir.Node("", follower.op_type, inputs, [*follower.attributes.values()]))
        replaced.append(follower)
    for number, part in enumerate(made):
        if part.outputs[0].shape is None:
            describe(part.outputs[0], f"{name}_{number}", output, wanted)
    final = reshape(graph, made[-1].outputs[0], shape_of(output), f"{name}_whole")
    replace_by(graph, replaced[-1], [*made, final])
    graph.remove(replaced[-2::-1], safe=True)


def _follower(node: ir.Node) -> ir.Node | None:
    """Return what alone uses the result of a node, if it computes element by element.

    As long as nothing lies between, it can be fused into the product.
    """
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    user = uses[0][0]
    if user.domain or user.op_type not in UNARY | BINARY or len(user.outputs) != 1:
        return None
    others = [v for v in user.inputs if v is not None and v is not output]
    fits = all(
        shape_of(v) == shape_of(output) or (v.const_value is not None and v.const_value.size == 1)
        for v in others
    )
    return user if fits and user.graph is node.graph else None
