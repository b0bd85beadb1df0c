"""What passes do with bodies: copy, inline, replace; and pass *PrepareBodies*.

Normalising keeps all initializers in the main graph; a body uses them, and values of the graphs
around it, by capture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from mlopsc.bodies import bodies


def all_graphs(model: ir.Model) -> list[ir.Graph]:
    """Return the main graph and every body, outer ones first."""
    return [model.graph, *model.graph.subgraphs()]


def parents(model: ir.Model) -> dict[ir.Graph, ir.Node]:
    """Return the node that holds each body."""
    return {body: node for node in model.graph.all_nodes() for body in bodies(node)}


def copy_of(graph: ir.Graph) -> ir.Graph:
    """Return a copy of ``graph`` that captures the same values."""
    return graph.clone(allow_outer_scope_values=True)


def inline(before: ir.Node, graph: ir.Graph, arguments: Sequence[ir.Value]) -> list[ir.Value]:
    """Put the nodes of a copy of ``graph`` before a node, and return the copy's outputs.

    Args:
        before: Where.
        graph: What; its inputs become ``arguments``.
        arguments: One value per input.
    """
    parent = before.graph
    if parent is None:
        raise ValueError("a node that is in no graph")
    copy = copy_of(graph)
    outputs = list(copy.outputs)
    copy.outputs.clear()
    given = dict(zip(copy.inputs, arguments, strict=True))
    ir.convenience.replace_all_uses_with(list(given), list(given.values()))
    nodes = list(copy)
    copy.remove(nodes)
    parent.insert_before(before, nodes)
    return [given.get(value, value) for value in outputs]


def replace(node: ir.Node, results: Sequence[ir.Value]) -> None:
    """Remove ``node`` and let the users of its outputs use ``results``.

    An output of a graph keeps its name; it becomes an ``Identity`` of a result that is not a new
    value of the same graph.
    """
    graph = node.graph
    if graph is None:
        raise ValueError("a node that is in no graph")
    for old, new in zip(node.outputs, results, strict=True):
        for index, output in enumerate(graph.outputs):
            if output is not old:
                continue
            producer = new.producer()
            if producer is not None and producer.graph is graph and not new.is_graph_output():
                old.name, new.name = f"{old.name}_replaced", old.name
                graph.outputs[index] = new
            else:
                identity = ir.Node("", "Identity", [new])
                made = identity.outputs[0]
                made.type, made.shape = old.type or new.type, old.shape or new.shape
                made.name, old.name = old.name, f"{old.name}_replaced"
                graph.outputs[index] = made
                graph.insert_before(node, identity)
        ir.convenience.replace_all_uses_with(old, new)
    graph.remove(node, safe=True)
    release_bodies(node)


def release_bodies(node: ir.Node) -> None:
    """Let the bodies of a node that was removed use nothing that stays."""
    for body in bodies(node):
        for inner in body.all_nodes():
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)


class RemoveUnused(ir.passes.InPlacePass):
    """Pass *RemoveUnused*: removes nodes and initializers whose results nobody uses.

    Requires: nothing. Ensures: what only the bodies of removed nodes used is gone, too.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove until nothing is left to remove."""
        modified = False
        while True:
            holders = [node for node in model.graph.all_nodes() if bodies(node)]
            modified |= bool(common.RemoveUnusedNodesPass()(model).modified)
            gone = [node for node in holders if node.graph is None]
            for node in gone:
                release_bodies(node)
            if not gone:
                return ir.passes.PassResult(model, modified)


class PrepareBodies(ir.passes.InPlacePass):
    """Pass *PrepareBodies*: what the other passes rely on inside bodies.

    Requires: nothing. Ensures: the main graph holds all initializers; a name stands for one value
    in the whole model; what a body returns is computed in it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lift, rename and add ``Identity`` nodes."""
        graphs = all_graphs(model)
        modified = make_names_unique(model)
        for graph in graphs[1:]:
            modified |= _compute_outputs(graph)  # first: what a body returns cannot leave it
            modified |= _lift(model.graph, graph)
        return ir.passes.PassResult(model, modified)


def _lift(main: ir.Graph, graph: ir.Graph) -> bool:
    found = list(graph.initializers.values())
    for value in found:
        if value in graph.inputs:
            raise ValueError(f"'{value.name}' is both an input and a constant of a body")
        graph.initializers.pop(str(value.name))
        main.register_initializer(value)
    return bool(found)


def _compute_outputs(graph: ir.Graph) -> bool:
    modified = False
    seen: set[ir.Value] = set()
    for index, output in enumerate(list(graph.outputs)):
        producer = output.producer()
        if producer is not None and producer.graph is graph and output not in seen:
            seen.add(output)
            continue
        identity = ir.Node("", "Identity", [output])
        made = identity.outputs[0]
        made.name, made.type, made.shape = f"{output.name}_out{index}", output.type, output.shape
        graph.append(identity)
        graph.outputs[index] = made
        modified = True
    return modified


def make_names_unique(model: ir.Model) -> bool:
    """Give every value of the model a name of its own; inputs and outputs keep theirs."""
    modified = False
    taken = {str(v.name) for v in (*model.graph.inputs, *model.graph.outputs)}
    kept = {*model.graph.inputs, *model.graph.outputs}
    numbers: dict[str, int] = {}
    for value in _values(model.graph):
        if value in kept:
            continue
        kept.add(value)
        base = value.name or "value"
        name = base
        while name in taken or (not value.name and name == base):
            numbers[base] = numbers.get(base, 0) + 1
            name = f"{base}_{numbers[base]}"
        taken.add(name)
        if name != value.name:
            value.name = name
            modified = True
    return modified


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from list(graph.initializers.values())
    for node in graph:
        for body in bodies(node):
            yield from _values(body)
        yield from (output for output in node.outputs if output.name != "")
