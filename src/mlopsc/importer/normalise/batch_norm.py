"""Pass *FoldBatchNormalization*: scales the weights of a convolution instead of its result.

Requires: inferred shapes. Ensures: no ``BatchNormalization`` with constant parameters follows a
convolution with constant weights that nothing else reads. Factors are computed in float64.
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


class FoldBatchNormalization(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold every one that can be folded."""
        modified = False
        for node in list(model.graph.all_nodes()):
            if node.op_type == "BatchNormalization" and not node.domain:
                modified |= _fold(model.graph, node)
        return ir.passes.PassResult(model, modified)


def _fold(root: ir.Graph, node: ir.Node) -> bool:
    x = node.inputs[0]
    conv = x.producer() if x is not None else None
    if x is None or conv is None or conv.op_type != "Conv" or conv.domain or node.graph is None:
        return False
    training = "training_mode" in node.attributes and node.attributes["training_mode"].as_int()
    alone = len(x.uses()) == 1 and not x.is_graph_output() and conv.graph is node.graph
    if training or not alone or any(o.uses() for o in node.outputs[1:]):
        return False
    scale, bias, mean, variance = (_array(value) for value in node.inputs[1:5])
    weight = _array(conv.inputs[1])
    before = _array(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] else np.zeros(1)
    arrays = (scale, bias, mean, variance, weight, before)
    if any(array is None for array in arrays):
        return False
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    s, b, m, v, w, c = (np.asarray(array, np.float64) for array in arrays)
    factor = s / np.sqrt(v + epsilon)
    dtype = np.asarray(weight).dtype
    name = str(node.outputs[0].name)
    weights = [
        _constant(root, f"{name}_weight", (w * factor.reshape(-1, *[1] * (w.ndim - 1))), dtype),
        _constant(root, f"{name}_bias", (c - m) * factor + b, dtype),
    ]
    folded = ir.Node(
        "", "Conv", [conv.inputs[0], *weights], list(conv.attributes.values()), name=conv.name
    )
    output, old = folded.outputs[0], node.outputs[0]
    output.name, output.type, output.shape = old.name, old.type, old.shape
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [folded], [old], [output])
    conv.graph.remove(conv, safe=True)
    return True


def _array(value: ir.Value | None) -> Array | None:
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def _constant(graph: ir.Graph, name: str, array: Array, dtype: np.dtype[Any]) -> ir.Value:
    array = array.astype(dtype)
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )
    graph.register_initializer(value)
    return value
