"""Makes a bias that is an addition of its own part of the product or convolution before it.

Requires: the whole graph, with types and static shapes of its values. Ensures: the same numbers up
to the order of roundings. A bias that is quantised on its own has 8 bits; it may have 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper


def join_biases(model: onnx.ModelProto) -> None:
    """Turn ``MatMul`` and ``Add`` of a constant into ``Gemm``, ``Conv`` and ``Add`` into ``Conv``.

    Where the weights are a constant, there is one bias for each column or channel, and nothing else
    reads what is in between. Products of more than two axes become matrices, by ``Reshape``.
    """
    graph = model.graph
    for add in [node for node in graph.node if node.op_type == "Add"]:
        found = next(_pairs(graph, add), None)
        if found is None:
            continue
        nodes = found.nodes()
        graph.initializer.extend(found.constants)
        place = list(graph.node).index(found.maker)
        graph.node.remove(found.maker)
        for node in reversed(nodes):
            graph.node.insert(place, node)
        graph.node.remove(add)
    read = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)


@dataclass(frozen=True)
class _Pair:
    """A node without a bias, and the addition of one.

    Attributes:
        maker: ``MatMul`` or ``Conv``.
        add: What follows it.
        bias: One number for each column or channel.
        shapes: Of the input and output of the node.
    """

    maker: onnx.NodeProto
    add: onnx.NodeProto
    bias: np.ndarray
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def flat(self) -> bool:
        """Whether it is a product of more than two axes."""
        return self.maker.op_type == "MatMul" and len(self.shapes[0]) > 2

    def _name(self, what: str) -> str:
        return f"{self.add.output[0]}/joined_{what}"

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """What the nodes read."""
        found = [numpy_helper.from_array(self.bias, self._name("bias"))]
        if self.flat:
            given, wanted = self.shapes
            rows = np.array([math.prod(given[:-1]), given[-1]], np.int64)
            found.append(numpy_helper.from_array(rows, self._name("rows")))
            found.append(numpy_helper.from_array(np.array(wanted, np.int64), self._name("shape")))
        return found

    def nodes(self) -> list[onnx.NodeProto]:
        """Return what stands for the two."""
        node = onnx.NodeProto()
        node.CopyFrom(self.maker)
        node.input.append(self._name("bias"))
        node.output[0] = self.add.output[0]
        if self.maker.op_type == "MatMul":
            node.op_type = "Gemm"
        if not self.flat:
            return [node]
        source = node.input[0]
        node.input[0], node.output[0] = self._name("matrix"), self._name("product")
        before = helper.make_node(
            "Reshape", [source, self._name("rows")], [node.input[0]], self._name("flatten")
        )
        after = helper.make_node(
            "Reshape", [node.output[0], self._name("shape")], list(self.add.output),
            self._name("unflatten"),
        )  # fmt: skip
        return [before, node, after]


def _pairs(graph: onnx.GraphProto, add: onnx.NodeProto) -> Iterator[_Pair]:
    """Yield ``add`` with the node before it, if its constant can become a bias."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    outputs = {value.name for value in graph.output}
    for data, bias in (add.input, reversed(add.input)):
        maker = next((node for node in graph.node if data in node.output), None)
        if maker is None or maker.domain or maker.op_type not in ("MatMul", "Conv"):
            continue
        if bias not in constants or data in outputs or len(maker.input) != 2:
            continue
        if sum(list(node.input).count(data) for node in graph.node) != 1:
            continue
        weight = constants.get(maker.input[1])
        given, wanted = values.get(maker.input[0]), values.get(add.output[0])
        if weight is None or given is None or wanted is None:
            continue
        product = maker.op_type == "MatMul"
        if product and (len(weight.dims) != 2 or len(_shape(given)) < 2):
            continue
        count = weight.dims[1] if product else weight.dims[0]
        tail = () if product else (1,) * (len(weight.dims) - 2)
        array = numpy_helper.to_array(constants[bias])
        core = (count, *tail)
        leading = array.shape[: max(0, array.ndim - len(core))]
        if array.shape[len(leading) :] != core or any(size != 1 for size in leading):
            continue
        if len(_shape(wanted)) < array.ndim or len(_shape(given)) != len(_shape(wanted)):
            continue
        vector = np.ascontiguousarray(array.reshape(count))
        yield _Pair(maker, add, vector, (_shape(given), _shape(wanted)))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
