"""Graphs inside graphs: the bodies of ``If``, ``Loop`` and ``Scan``, and what they capture."""

from __future__ import annotations

import onnx_ir as ir


def bodies(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that are attributes of ``node``."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def captured(graph: ir.Graph) -> list[ir.Value]:
    """Return the values of outer graphs that ``graph`` or its bodies use, in order of first use."""
    own: set[ir.Value] = set()
    used: dict[ir.Value, None] = {}

    def visit(part: ir.Graph) -> None:
        own.update(part.inputs)
        own.update(part.initializers.values())
        for node in part:
            used.update((value, None) for value in node.inputs if value is not None)
            for body in bodies(node):
                visit(body)
            own.update(node.outputs)
        used.update((value, None) for value in part.outputs)

    visit(graph)
    return [value for value in used if value not in own]
