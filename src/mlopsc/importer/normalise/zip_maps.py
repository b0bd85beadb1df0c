"""Step *drop_zip_maps*: outputs that are maps from classes to scores become the scores.

Requires: nothing. Ensures: no ``ZipMap`` makes an output of the graph: that has the name it had and
holds what ``ZipMap`` takes, a column for each class in the order of its labels.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from mlopsc.importer.normalise.upgrade import OPSET

ML = "ai.onnx.ml"


def drop_zip_maps(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto``, which is not changed, without these nodes."""
    names = {value.name for value in proto.graph.output}
    read = {name for node in proto.graph.node for name in node.input}
    if not any(_is_dropped(node, names, read) for node in proto.graph.node):
        return proto
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    outputs = {value.name: value for value in model.graph.output}
    for node in model.graph.node:
        if _is_dropped(node, names, read):
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
            value = outputs[node.output[0]]
            value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    if all(entry.domain not in ("", "ai.onnx") for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    return model


def _is_dropped(node: onnx.NodeProto, outputs: set[str], read: set[str]) -> bool:
    made = node.output[0] if node.output else ""
    zip_map = (node.domain, node.op_type) == (ML, "ZipMap")
    return zip_map and made in outputs and made not in read
