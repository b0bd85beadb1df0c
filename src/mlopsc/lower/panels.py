"""Packs the constant right operands of matrix products into panels of columns.

A product ``[..., M, K] x [K, N]`` reads its weights column block by column block, so they are
stored that way, once: ``[N/P, K, P]`` with ``P`` columns beside each other, as many as the
registers of a tile hold. The result is written as ``[..., M, N/P, P]``, which is the same memory as
``[..., M, N]``; elementwise operators that follow work on that form, so that they can be fused into
the product, and a ``Reshape``, which costs nothing, gives the plain form to all others.

Works on the joined graph in normal form, after ``layout``. The operator is in the domain of the
blocked layouts (``ops/blocked.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.lower.layout import BINARY, DOMAIN, UNARY

_VECTORS: Final = 2  # of a row of a panel
_MIN_COLUMNS = 4

Array = np.ndarray[Any, Any]


def use_panels(model: ir.Model, lanes: int) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        lanes: Elements of float32 in a vector register.
    """
    if lanes >= _MIN_COLUMNS:
        _Packer(model.graph, lanes).run()
        model.opset_imports[DOMAIN] = 1
    return model


class _Packer:
    def __init__(self, graph: ir.Graph, lanes: int) -> None:
        self._graph = graph
        self._lanes = lanes
        self._split: dict[ir.Value, ir.Value] = {}  # plain value -> its split form
        self._packed: dict[tuple[ir.Value, bool], ir.Value] = {}
        self._replaced: dict[ir.Node, None] = {}

    def run(self) -> None:
        for node in list(self._graph):
            if self._convert(node):
                self._replaced[node] = None
        for node in self._replaced:
            (output,) = node.outputs
            if output.is_graph_output() or any(u not in self._replaced for u, _ in output.uses()):
                self._restore(output)
        self._graph.remove(list(self._replaced), safe=True)

    def _restore(self, value: ir.Value) -> None:
        """Give ``value`` its plain form back, for those who need it."""
        source = self._split[value]
        node = reshape(self._graph, source, _shape(value), str(value.name))
        self._graph.insert_after(_producer(source), node)
        ir.convenience.replace_all_uses_with(value, node.outputs[0], replace_graph_outputs=True)

    def _convert(self, node: ir.Node) -> bool:
        if node.domain or len(node.outputs) != 1 or node.outputs[0].dtype != ir.DataType.FLOAT:
            return False
        if node.op_type == "MatMul":
            return self._product(node, node.inputs[1], None, transposed=False)
        if node.op_type == "Gemm":
            return self._gemm(node)
        if node.op_type in UNARY or node.op_type in BINARY:
            return self._elementwise(node)
        return False

    def _gemm(self, node: ir.Node) -> bool:
        def number(name: str, default: float) -> float:
            found = node.attributes.get(name)
            return default if found is None else float(found.value)

        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if number("transA", 0) or number("alpha", 1.0) != 1.0:
            return False
        if bias is not None:
            columns = _shape(node.outputs[0])[-1]
            if number("beta", 1.0) != 1.0 or bias.const_value is None:
                return False
            if bias.const_value.size != 1 and _shape(bias) not in ([columns], [1, columns]):
                return False
        return self._product(node, node.inputs[1], bias, transposed=bool(number("transB", 0)))

    def _product(
        self, node: ir.Node, weight: ir.Value | None, bias: ir.Value | None, *, transposed: bool
    ) -> bool:
        x, output = node.inputs[0], node.outputs[0]
        if x is None or weight is None or weight.const_value is None or len(_shape(weight)) != 2:
            return False
        *rows, columns = _shape(output)
        width = self._width(columns)
        if not rows or not width or len(_shape(x)) < 2:
            return False
        key = (weight, transposed)
        if key not in self._packed:
            w = weight.const_value.numpy()
            w = w.T if transposed else w
            panels = w.reshape(w.shape[0], columns // width, width).transpose(1, 0, 2)
            self._packed[key] = self._constant(panels, f"{weight.name}_panels")
        inputs = [x, self._packed[key]]
        if bias is not None:
            full = np.broadcast_to(bias.const_value.numpy().reshape(-1), (columns,))
            inputs.append(
                self._constant(full.reshape(-1, width), f"{bias.name}_{output.name}_panels")
            )
        return self._emit(node, DOMAIN, "MatMul", inputs, [*rows, columns // width, width])

    def _width(self, columns: int) -> int:
        """Return the columns of a panel, or 0 where they do not divide."""
        width = _VECTORS * self._lanes
        while width >= _MIN_COLUMNS:
            if columns % width == 0:
                return width
            width //= 2
        return 0

    def _elementwise(self, node: ir.Node) -> bool:
        """Carry the split form on: the other operands are of the same shape, rows or constants."""
        shape = _shape(node.outputs[0])
        split = [v for v in node.inputs if v in self._split]
        if not split or any(_shape(v) != shape for v in split if v is not None):
            return False
        wanted = _shape(self._split[split[0]])
        if any(_shape(self._split[v]) != wanted for v in split if v is not None):
            return False
        inputs: list[ir.Value | None] = []
        pending: list[tuple[int, ir.Value, list[int]]] = []
        for index, value in enumerate(node.inputs):
            if value is None or value in self._split:
                inputs.append(None if value is None else self._split[value])
                continue
            own = _split_shape(_shape(value), wanted)
            if own is None:
                return False
            inputs.append(value)
            if own != _shape(value):
                pending.append((index, value, own))
        for index, value, own in pending:
            name = f"{node.outputs[0].name}_{index}_split"
            if value.const_value is not None:
                inputs[index] = self._constant(value.const_value.numpy().reshape(own), name)
            else:
                made = reshape(self._graph, value, own, name)
                self._graph.insert_before(node, made)
                inputs[index] = made.outputs[0]
        return self._emit(node, "", node.op_type, inputs, wanted)

    def _emit(
        self, node: ir.Node, domain: str, op: str, inputs: Sequence[ir.Value | None],
        shape: Sequence[int],
    ) -> bool:  # fmt: skip
        output = node.outputs[0]
        attributes = [] if domain else [*node.attributes.values()]
        made = ir.Node(domain, op, inputs, attributes, name=node.name)
        self._graph.insert_before(node, made)
        result = made.outputs[0]
        result.name, result.type, result.shape = (
            f"{output.name}_split", output.type, ir.Shape(list(shape))
        )  # fmt: skip
        self._split[output] = result
        return True

    def _constant(self, array: Array, name: str) -> ir.Value:
        return constant(self._graph, array, name)


def _split_shape(own: list[int], wanted: list[int]) -> list[int] | None:
    """Return the shape in which an operand broadcasts to the split form; None if it cannot."""
    *_, panels, width = wanted
    if math.prod(own) == 1:
        return own if len(own) <= 1 else [1] * len(wanted)
    if own[-1] == panels * width:
        return [*own[:-1], panels, width]
    return [*own, 1] if own[-1] == 1 else None


def reshape(graph: ir.Graph, source: ir.Value, shape: Sequence[int], name: str) -> ir.Node:
    """Return a node that gives ``source`` another shape; its result has a type and a name."""
    sizes = constant(graph, np.array(shape, np.int64), f"{name}_shape")
    node = ir.Node("", "Reshape", [source, sizes], [ir.AttrInt64("allowzero", 1)])
    made = node.outputs[0]
    made.name, made.type, made.shape = name, source.type, ir.Shape(list(shape))
    return node


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    if node is None:
        raise AssertionError("a split value is made by a node")
    return node


def constant(graph: ir.Graph, array: Array, name: str) -> ir.Value:
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


def _shape(value: ir.Value) -> list[int]:
    return [int(d) for d in value.shape or ()]
