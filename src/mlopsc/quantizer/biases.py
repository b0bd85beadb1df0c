"""Makes a bias that is an addition of its own part of the product or convolution before it.

Requires: the whole graph, with the types of its values. Ensures: the same numbers up to the order
of roundings. A sum that is quantised on its own loses the bits that a bias in int32 keeps.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def join_biases(model: onnx.ModelProto) -> None:
    """Turn ``MatMul`` and ``Add`` of a constant into ``Gemm``, ``Conv`` and ``Add`` into ``Conv``.

    Where the product is of matrices, the bias is one number per column or channel, and nothing else
    reads what is in between.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    makers = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for add in [node for node in graph.node if node.op_type == "Add"]:
        for data, bias in (add.input, reversed(add.input)):
            maker = makers.get(data)
            if maker is None or bias not in constants or data in outputs:
                continue
            if sum(list(node.input).count(data) for node in graph.node) != 1:
                continue
            joined = _join(maker, constants, ranks, numpy_helper.to_array(constants[bias]))
            if joined is None:
                continue
            node, vector = joined
            vector.name = _free(f"{bias}_vector", constants)
            constants[vector.name] = vector
            graph.initializer.append(vector)
            node.input.append(vector.name)
            node.output[0] = add.output[0]
            makers[add.output[0]] = maker
            maker.CopyFrom(node)
            graph.node.remove(add)
            break


def _join(
    maker: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    ranks: dict[str, int],
    bias: np.ndarray,
) -> tuple[onnx.NodeProto, onnx.TensorProto] | None:
    """Return the node that takes a bias, and the bias; None if it cannot."""
    if len(maker.input) != 2 or maker.input[1] not in constants or maker.domain:
        return None
    weight = constants[maker.input[1]].dims
    if maker.op_type == "MatMul" and len(weight) == 2 and ranks.get(maker.input[0]) == 2:
        count, shapes = weight[1], ((weight[1],), (1, weight[1]))
        node = helper.make_node("Gemm", list(maker.input), list(maker.output), name=maker.name)
    elif maker.op_type == "Conv":
        count, ones = weight[0], (1,) * (len(weight) - 2)
        shapes = ((weight[0], *ones), (1, weight[0], *ones))
        node = onnx.NodeProto()
        node.CopyFrom(maker)
    else:
        return None
    if bias.shape not in shapes:
        return None
    return node, numpy_helper.from_array(np.ascontiguousarray(bias.reshape(count)))


def _free(name: str, taken: dict[str, onnx.TensorProto]) -> str:
    number = 0
    while (tried := f"{name}_{number}" if number else name) in taken:
        number += 1
    return tried
