"""What passes over the graph share that give values another form and carry it on.

A pass replaces nodes, in order, by nodes that work on the other form of a value: a layout, or a
shape of the same memory. Where something else still needs the plain value, it is restored once. The
graph is joined and in normal form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

DOMAIN: Final = "mlopsc.blocked"  # of the operators that exist in other forms only (ops/blocked.py)
BYTES: Final = "mlopsc.bytes"  # of those on 8-bit integers (ops/blocked_integers.py)
FLOAT_BYTES: Final = 4
PANEL_VECTORS: Final = 2  # of a row of a panel of weights: what registers of a tile hold
MIN_LANES: Final = 4  # fewer elements beside each other are worth no form of their own
# Elementwise operators that compute the same in any form.
UNARY: Final = frozenset(
    {
        "Abs", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish",
        "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus",
        "Sqrt", "Tanh",
    }
)  # fmt: skip
BINARY: Final = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub"})


class Carrier(ABC):
    """A pass that carries forms of float32 values through one graph.

    Attributes:
        graph: What is rewritten in place.
        lanes: Elements of float32 in a vector register.
        forms: Plain value → its other form.
    """

    def __init__(self, graph: ir.Graph, lanes: int) -> None:
        """Prepare to rewrite ``graph``."""
        self.graph = graph
        self.lanes = lanes
        self.forms: dict[ir.Value, ir.Value] = {}

    @abstractmethod
    def convert(self, node: ir.Node) -> bool:
        """Put what replaces ``node``, which has one float32 result, in front of it, if anything."""

    @abstractmethod
    def plain(self, value: ir.Value, form: ir.Value) -> ir.Node:
        """Return a node that makes ``value``, with its name, of its other form."""

    def run(self) -> None:
        """Rewrite the graph."""
        nodes = [node for node in self.graph if self._fits(node)]
        replaced = {node: None for node in nodes if self.convert(node)}
        for node in replaced:
            (output,) = node.outputs
            if output.is_graph_output() or any(u not in replaced for u, _ in output.uses()):
                self._restore(output)
        self.graph.remove(list(replaced), safe=True)

    def _fits(self, node: ir.Node) -> bool:
        return (
            not node.domain
            and len(node.outputs) == 1
            and node.outputs[0].dtype == ir.DataType.FLOAT
        )

    def _restore(self, value: ir.Value) -> None:
        """Give ``value`` its plain form back, for those who need it."""
        form = self.forms[value]
        node, producer = self.plain(value, form), form.producer()
        if producer is None:
            raise AssertionError("a form is made by a node")
        self.graph.insert_after(producer, node)
        ir.convenience.replace_all_uses_with(value, node.outputs[0], replace_graph_outputs=True)

    def constant(self, array: Array, name: str) -> ir.Value:
        """Add an initializer."""
        return add_constant(self.graph, array, name)


def shape_of(value: ir.Value | None) -> list[int]:
    """Return the static shape of a value; none for an input that is left out."""
    return [] if value is None else [int(d) for d in value.shape or ()]


def add_constant(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    """Add an initializer to ``graph``, under ``name`` or one like it that is free."""
    array = np.ascontiguousarray(array)
    while name in graph.initializers:
        name += "_"
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )
    graph.register_initializer(value)
    return value


def groups_of(node: ir.Node) -> int:
    """Return the groups of a convolution."""
    return node.attributes["group"].as_int() if "group" in node.attributes else 1


def describe(value: ir.Value, name: str, like: ir.Value, shape: Sequence[int]) -> None:
    """Give a new value a name, the type of another and a shape."""
    value.name, value.type, value.shape = name, like.type, ir.Shape(list(shape))


def replace_by(graph: ir.Graph, node: ir.Node, made: Sequence[ir.Node]) -> None:
    """Put nodes in the place of one; the last of them has its result, under its name."""
    output, final = node.outputs[0], made[-1].outputs[0]
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(output, final, replace_graph_outputs=True)
    final.name = output.name
    graph.remove(node, safe=True)


def view(source: ir.Value, dtype: ir.DataType, shape: Sequence[int], name: str) -> ir.Node:
    """Return a node that reads the memory of ``source`` as elements of another type and shape."""
    node = ir.Node(BYTES, "View", [source])
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(dtype), ir.Shape(list(shape))
    return node


def part_of(
    graph: ir.Graph, source: ir.Value, bounds: dict[int, tuple[int, int]], name: str
) -> ir.Node:
    """Return a node that takes elements of ``source``; its result has a type and a name.

    Args:
        graph: Where the constants go.
        source: What is cut.
        bounds: By axis, the first element and that behind the last.
        name: Of the result.
    """
    starts, ends = zip(*bounds.values(), strict=True)
    limits = [
        add_constant(graph, np.array(values, np.int64), f"{name}_{what}")
        for what, values in (("starts", starts), ("ends", ends), ("axes", list(bounds)))
    ]
    node = ir.Node("", "Slice", [source, *limits])
    shape = shape_of(source)
    for axis, (start, end) in bounds.items():
        shape[axis] = end - start
    describe(node.outputs[0], name, source, shape)
    return node


def reshape(graph: ir.Graph, source: ir.Value, shape: Sequence[int], name: str) -> ir.Node:
    """Return a node that gives ``source`` another shape; its result has a type and a name."""
    sizes = add_constant(graph, np.array(shape, np.int64), f"{name}_shape")
    node = ir.Node("", "Reshape", [source, sizes], [ir.AttrInt64("allowzero", 1)])
    describe(node.outputs[0], name, source, shape)
    return node
