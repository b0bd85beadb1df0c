"""Functions of one tensor that 8 bits cannot follow node by node: normalisations, GELU.

Requires: a graph in normal form. A *cone* is what is computed of one tensor, its *root*, by
operators on single elements and means alone. Squares, roots and quotients need more range than 8
bits have, so a cone that holds them is left in float from end to end: it gets quantised values and
gives them. Where all of it is a function of single elements, integers have a table for it.
"""

from __future__ import annotations

from typing import Final

import onnx

_PLAIN: Final = frozenset({"Add", "Mul", "Sub", "Sigmoid", "Tanh"})  # quantised elsewhere
_MEANS: Final = frozenset({"ReduceMean"})  # part of a cone only in front of what needs range
_WIDE: Final = frozenset(
    {
        "Cos", "Div", "Erf", "Exp", "Log", "Pow", "Reciprocal", "ReduceL2", "ReduceSum",
        "ReduceSumSquare", "Sin", "Sqrt",
    }
)  # fmt: skip


def cone_nodes(graph: onnx.GraphProto) -> set[str]:
    """Return the nodes of cones that stay in float, by name."""
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    roots: dict[str, str] = {}  # of every value; its own if it begins a cone
    for value in graph.input:
        roots[value.name] = value.name
    for node in graph.node:
        data = [name for name in node.input if name and name not in constants]
        under = {roots.get(name, name) for name in data}
        inside = node.op_type in _PLAIN | _MEANS | _WIDE and len(under) == 1
        for name in node.output:
            roots[name] = min(under) if inside else name
    wide = {name for node in graph.node if node.op_type in _WIDE for name in node.output}
    held = {roots[name] for name in wide if roots[name] != name}
    before = _before(wide, makers)
    return {
        node.name
        for node in graph.node
        if node.output[0] in roots
        and roots[node.output[0]] != node.output[0]
        and roots[node.output[0]] in held
        and (node.op_type not in _MEANS or node.output[0] in before)
    }


def _before(values: set[str], makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Return ``values`` and all that they are computed from."""
    found: set[str] = set()
    pending = sorted(values)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += makers[name].input if name in makers else []
    return found
