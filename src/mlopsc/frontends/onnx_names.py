"""Names of values in ONNX graphs that converters have made: other ones, everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the bodies in it."""
    for inner in _graphs(graph):
        yield from inner.node


def rename_values(
    graph: onnx.GraphProto, names: Mapping[str, str], reserved: Iterable[str] = ()
) -> dict[str, str]:
    """Rename values in a graph and the bodies in it, all at once.

    Args:
        graph: Changed in place.
        names: Those to be, by those that are there.
        reserved: Further names that nothing may have afterwards.

    Returns:
        All that is renamed: what had one of the names to be steps aside.
    """
    taken = {value.name for inner in _graphs(graph) for value in _declared(inner)}
    taken |= {name for node in all_nodes(graph) for name in (*node.input, *node.output)}
    wanted = {*names.values(), *reserved}
    renamed = dict(names)
    for name in sorted((taken & wanted) - set(names)):
        free = f"{name}_inner"
        while free in taken or free in wanted:
            free += "_"
        taken.add(free)
        renamed[name] = free
    for inner in _graphs(graph):
        for value in _declared(inner):
            value.name = renamed.get(value.name, value.name)
        for node in inner.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
    return renamed


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _graphs(body)


def _declared(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto | onnx.TensorProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    yield from graph.initializer
