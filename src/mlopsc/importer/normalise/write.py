"""Writes nodes for passes that replace one node by several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def add_constant(model: ir.Model, array: np.ndarray[Any, Any], name: str) -> ir.Value:
    """Add an initializer to the main graph; its name becomes unique."""
    return new_constant(model.graph, array, name)


def new_constant(main: ir.Graph, array: np.ndarray[Any, Any], name: str) -> ir.Value:
    """Add an initializer to ``main``; its name becomes unique."""
    base, number = name, 0
    while name in main.initializers:
        number += 1
        name = f"{base}_{number}"
    if array.dtype.kind in "OU":  # strings
        encoded = [str(string).encode() for string in array.ravel().tolist()]
        tensor: ir.TensorProtocol = ir.StringTensor(encoded, shape=ir.Shape(array.shape), name=name)
    else:
        tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name,
        const_value=tensor,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
    )
    main.register_initializer(value)
    return value


class Writer:
    """Collects new nodes; ``nodes`` holds them in order.

    Names start with that of the node they stand for.
    """

    def __init__(self, model: ir.Model, name: str | None) -> None:
        """Take the model, whose main graph gets the constants, and the name."""
        self.model = model
        self.name = name or "node"
        self.nodes: list[ir.Node] = []

    def __call__(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Add a node with one output and return that."""
        return self.several(op_type, inputs, 1, **attributes)[0]

    def several(
        self, op_type: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Any
    ) -> list[ir.Value]:
        """Add a node and return its outputs."""
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
        node.name = f"{self.name}_{op_type}_{len(self.nodes)}"
        for index, output in enumerate(node.outputs):
            output.name = f"{node.name}_{index}" if outputs > 1 else node.name
        self.nodes.append(node)
        return list(node.outputs)

    def constant(self, value: Any, dtype: Any = np.int64) -> ir.Value:
        """Return a constant: a number, a list of numbers or an array."""
        return add_constant(self.model, np.asarray(value, dtype), f"{self.name}_constant")

    def reversed(self, value: ir.Value) -> ir.Value:
        """Return ``value`` with its first axis the other way round."""
        start, end, axis = (self.constant([n]) for n in (-1, -(2**63), 0))
        return self("Slice", value, start, end, axis, start)

    def body(self) -> Writer:
        """Return a writer for the nodes of a body."""
        return Writer(self.model, f"{self.name}_body")

    def loop(
        self,
        count: ir.Value,
        initial: Sequence[ir.Value],
        body: tuple[Writer, Sequence[ir.Value], Sequence[ir.Value]],
        stacks: int,
    ) -> list[ir.Value]:
        """Add a ``Loop`` and return its results.

        Args:
            count: The trip count.
            initial: Carried values before it.
            body: The nodes of one iteration; the iteration's number and the carried values; the
                new carried values and what is stacked.
            stacks: How many of the latter.
        """
        inner, inputs, outputs = body
        condition = ir.Value(name=f"{self.name}_condition")
        going = inner("Identity", condition)
        graph = ir.Graph(
            [inputs[0], condition, *inputs[1:]],
            [going, *outputs],
            nodes=inner.nodes,
            name=f"{self.name}_loop",
        )
        return self.several("Loop", [count, None, *initial], len(initial) + stacks, body=graph)

    def put_before(self, node: ir.Node) -> None:
        """Insert the nodes."""
        if node.graph is None:
            raise ValueError("a node that is in no graph")
        node.graph.insert_before(node, self.nodes)
