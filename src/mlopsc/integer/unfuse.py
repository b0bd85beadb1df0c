"""Writes ``QLinearConv`` and ``QLinearMatMul`` as what they mean: between Q and DQ nodes.

Source: the schemas of QLinearConv 10 and QLinearMatMul 21. The bias of QLinearConv has the scale of
the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer.quantisation import array_of

_OPERATORS: Final = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul"}


@dataclass(frozen=True)
class Unfused:
    """A fused operator and what stands for it, the last one a ``QuantizeLinear``."""

    fused: ir.Node
    nodes: tuple[ir.Node, ...]

    def undo(self) -> None:
        """Put the fused operator back."""
        _swap(self.nodes[-1].outputs[0], self.fused.outputs[0])
        graph = self.nodes[0].graph
        if graph is not None:
            graph.remove(self.nodes, safe=True)


def unfuse(graph: ir.Graph) -> list[Unfused]:
    """Write the fused operators whose parameters are constants; they lose all users."""
    return [
        made
        for node in list(graph)
        if node.op_type in _OPERATORS and not node.domain and (made := _unfuse(graph, node))
    ]


def _unfuse(graph: ir.Graph, node: ir.Node) -> Unfused | None:
    parameters = [node.inputs[i] for i in (1, 2, 4, 5, 6, 7)]
    arrays = [array_of(value) for value in parameters]
    if any(array is None for array in arrays):
        return None
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = node.inputs[:8]
    axis = 0 if node.op_type == "QLinearConv" else -1
    nodes = [
        _node("DequantizeLinear", [x, x_scale, x_zero], x),
        _node("DequantizeLinear", [w, w_scale, w_zero], w, {"axis": axis}),
    ]
    bias = node.inputs[8] if len(node.inputs) > 8 else None
    operands = [nodes[0].outputs[0], nodes[1].outputs[0]]
    if bias is not None:
        left, right = arrays[0], arrays[2]
        if left is None or right is None:
            return None
        scales = _constant(f"{node.outputs[0].name}/bias_scale", left.reshape(()) * right)
        nodes.append(_node("DequantizeLinear", [bias, scales], bias, {"axis": 0}))
        operands.append(nodes[-1].outputs[0])
    main = ir.Node("", _OPERATORS[node.op_type], operands, list(node.attributes.values()),
                   name=node.name)  # fmt: skip
    main.outputs[0].name = f"{node.outputs[0].name}/number"
    main.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    main.outputs[0].shape = node.outputs[0].shape
    last = _node("QuantizeLinear", [main.outputs[0], scale, zero], node.outputs[0])
    last.outputs[0].type, last.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    nodes += [main, last]
    graph.insert_before(node, nodes)
    made = Unfused(node, tuple(nodes))
    _swap(node.outputs[0], last.outputs[0])
    return made


def _node(
    op: str, inputs: Sequence[ir.Value | None], like: ir.Value | None,
    attributes: dict[str, int] | None = None,
) -> ir.Node:  # fmt: skip
    made = ir.node(op, list(inputs), attributes or {})
    output = made.outputs[0]
    name = "" if like is None else str(like.name)
    output.name = f"{name}/{op.lower()}"
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = None if like is None else like.shape
    return made


def _constant(name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    return ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )


def _swap(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads ``old`` read ``new``, which takes its name."""
    old.name, new.name = new.name, old.name
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    producer = old.producer()
    graph = None if producer is None else producer.graph
    if graph is not None:
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new
