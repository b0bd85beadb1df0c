"""Pass *FoldScales*: what scales and shifts the channels of a convolution becomes its weights.

Converters write batch normalisation as ``Mul`` and ``Add`` with constants, too. Requires: inferred
shapes. Ensures: no ``Mul`` or ``Add`` with one constant per channel follows a convolution with
constant weights that nothing else reads, unless new weights would overflow or underflow. Products
and sums are computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.constants import can_be_scaled, constant_of
from mlopsc.importer.normalise.write import add_constant

Array = np.ndarray[Any, Any]
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


class FoldScales(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold every one that can be folded."""
        modified = False
        for node in list(model.graph.all_nodes()):
            if node.op_type in ("Add", "Mul") and not node.domain and node.graph is not None:
                modified |= _fold(model, node)
        return ir.passes.PassResult(model, modified)


def _fold(model: ir.Model, node: ir.Node) -> bool:
    for value, other in (node.inputs[:2], node.inputs[1::-1]):
        conv = value.producer() if value is not None else None
        given = constant_of(other)
        if value is None or conv is None or given is None or conv.op_type != "Conv" or conv.domain:
            continue
        alone = len(value.uses()) == 1 and not value.is_graph_output()
        weight = constant_of(conv.inputs[1])
        if not alone or conv.graph is not node.graph or weight is None:
            continue
        if value.dtype not in _FLOATS or not np.all(np.isfinite(given)):
            continue
        factor = _per_channel(given, weight.ndim, weight.shape[0])
        bias = constant_of(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] else None
        if factor is None or (len(conv.inputs) > 2 and conv.inputs[2] and bias is None):
            continue
        return _replace(model, node, conv, weight, bias, factor)
    return False


def _per_channel(given: Array, rank: int, channels: int) -> Array | None:
    """Return a constant's value for each channel, or None if it differs within one."""
    if given.ndim > rank:
        return None
    full = given.reshape([1] * (rank - given.ndim) + list(given.shape))
    if full.size != full.shape[1] or full.shape[1] not in (1, channels):
        return None
    return np.broadcast_to(full.ravel().astype(np.float64), (channels,))


def _replace(
    model: ir.Model, node: ir.Node, conv: ir.Node, weight: Array, bias: Array | None, factor: Array
) -> bool:
    """Put a convolution with other weights in the place of both nodes, if it can have them."""
    before = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    name = str(node.outputs[0].name)
    weights = conv.inputs[1]
    after = before * factor if node.op_type == "Mul" else before + factor
    if np.any(np.abs(after) > np.finfo(weight.dtype).max):
        return False
    if node.op_type == "Mul":
        rows = factor.reshape(-1, *[1] * (weight.ndim - 1))
        scaled = weight.astype(np.float64) * rows
        if not can_be_scaled(weight, rows, scaled):
            return False
        weights = add_constant(model, scaled.astype(weight.dtype), f"{name}_weight")
    shift = add_constant(model, after.astype(weight.dtype), f"{name}_bias")
    folded = ir.Node(
        "", "Conv", [conv.inputs[0], weights, shift], list(conv.attributes.values()), name=conv.name
    )
    output, old = folded.outputs[0], node.outputs[0]
    output.name, output.type, output.shape = old.name, old.type, old.shape
    graph = node.graph
    if graph is not None:
        ir.convenience.replace_nodes_and_values(graph, node, [node], [folded], [old], [output])
        graph.remove(conv, safe=True)
    return True
