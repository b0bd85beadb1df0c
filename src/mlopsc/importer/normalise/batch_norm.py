"""Pass *FoldBatchNormalization*: scales the weights of a convolution instead of its result.

Requires: inferred shapes. Ensures: no ``BatchNormalization`` with constant parameters follows a
convolution with constant weights that nothing else reads, unless new weights would overflow or
underflow. Factors are computed in float64.
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, section 3.2.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.constants import can_be_scaled, constant_of
from mlopsc.importer.normalise.write import add_constant


class FoldBatchNormalization(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold every one that can be folded."""
        modified = False
        for node in list(model.graph.all_nodes()):
            if node.op_type == "BatchNormalization" and not node.domain:
                modified |= _fold(model, node)
        return ir.passes.PassResult(model, modified)


def _fold(model: ir.Model, node: ir.Node) -> bool:
    x = node.inputs[0]
    conv = x.producer() if x is not None else None
    if x is None or conv is None or conv.op_type != "Conv" or conv.domain or node.graph is None:
        return False
    training = "training_mode" in node.attributes and node.attributes["training_mode"].as_int()
    alone = len(x.uses()) == 1 and not x.is_graph_output() and conv.graph is node.graph
    if training or not alone or any(o.uses() for o in node.outputs[1:]):
        return False
    scale, bias, mean, variance = (constant_of(value) for value in node.inputs[1:5])
    weight = constant_of(conv.inputs[1])
    before = constant_of(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] else np.zeros(1)
    arrays = (scale, bias, mean, variance, weight, before)
    if any(array is None for array in arrays):
        return False
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    s, b, m, v, w, c = (np.asarray(array, np.float64) for array in arrays)
    factor = s / np.sqrt(v + epsilon)
    dtype = np.asarray(weight).dtype
    name = str(node.outputs[0].name)
    rows = factor.reshape(-1, *[1] * (w.ndim - 1))
    folded_weight, folded_bias = w * rows, (c - m) * factor + b
    fits = can_be_scaled(np.asarray(weight), rows, folded_weight)
    if not fits or np.any(np.abs(folded_bias) > np.finfo(dtype).max):
        return False
    weights = [
        add_constant(model, folded_weight.astype(dtype), f"{name}_weight"),
        add_constant(model, folded_bias.astype(dtype), f"{name}_bias"),
    ]
    folded = ir.Node(
        "", "Conv", [conv.inputs[0], *weights], list(conv.attributes.values()), name=conv.name
    )
    output, old = folded.outputs[0], node.outputs[0]
    output.name, output.type, output.shape = old.name, old.type, old.shape
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [folded], [old], [output])
    conv.graph.remove(conv, safe=True)
    return True
