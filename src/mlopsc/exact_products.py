"""Products of 8-bit integers that the reference computes exactly on every processor.

ONNX Runtime adds neighbouring products of unsigned and signed bytes in 16 bits, which saturate, on
x86 processors without VNNI (its "Quantize ONNX models" guide, "Why am I seeing precision loss on
x86-64?"). Products of unsigned bytes alone do not, so signed weights and their zero point are both
moved up by 128, which changes no product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Where the two operands stand, and the zero point of the second.
_OPERANDS: Final = {
    "ConvInteger": (0, 1, 3),
    "MatMulInteger": (0, 1, 3),
    "QLinearConv": (0, 3, 5),
    "QLinearMatMul": (0, 3, 5),
}
_MOVE: Final = "exact_products__128"


def make_products_exact(model: bytes) -> bytes:
    """Return ``model`` with unsigned second operands where the first is unsigned.

    Those in bodies of control flow stay as they are.

    Args:
        model: A serialised ONNX model, whose weights may lie elsewhere.
    """
    if not any(name.encode() in model for name in _OPERANDS):
        return model
    proto = onnx.load_model_from_string(model)
    types = _types(onnx.shape_inference.infer_shapes(proto).graph)
    nodes: list[onnx.NodeProto] = []
    moved: dict[str, str] = {}
    for node in proto.graph.node:
        if node.domain == "" and node.op_type in _OPERANDS:
            first, second, zero = _OPERANDS[node.op_type]
            pair = (types.get(node.input[first]), types.get(node.input[second]))
            if pair == (TensorProto.UINT8, TensorProto.INT8):
                _move(node, second, nodes, moved)
                _move(node, zero, nodes, moved)
        nodes.append(node)
    if not moved:
        return model
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(128, np.int32), _MOVE))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), f"{_MOVE}_u8"))
    return bytes(proto.SerializeToString())


def _types(graph: onnx.GraphProto) -> Mapping[str, int]:
    known = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info)}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _move(
    node: onnx.NodeProto, place: int, nodes: list[onnx.NodeProto], moved: dict[str, str]
) -> None:
    """Replace an int8 input of ``node`` with the same plus 128 in uint8; nothing is 0."""
    node.input.extend([""] * (place + 1 - len(node.input)))
    name = node.input[place]
    if name and name not in moved:
        wide, sum_, new = (f"{name}__{part}" for part in ("int32", "moved", "uint8"))
        nodes += [
            helper.make_node("Cast", [name], [wide], to=TensorProto.INT32),
            helper.make_node("Add", [wide, _MOVE], [sum_]),
            helper.make_node("Cast", [sum_], [new], to=TensorProto.UINT8),
        ]
        moved[name] = new
    node.input[place] = moved[name] if name else f"{_MOVE}_u8"
