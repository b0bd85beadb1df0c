"""Pass *ExpandReverseSequence*: writes ``ReverseSequence`` as a ``GatherND``.

Requires: inferred shapes. Ensures: none is left whose input has a static shape. Element ``t`` of a
sequence of length ``n`` becomes element ``n - 1 - t``; what lies beyond stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.subgraphs import make_names_unique, replace
from mlopsc.importer.normalise.write import Writer


class ExpandReverseSequence(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every node whose input has a static shape."""
        modified = False
        for node in [n for n in model.graph.all_nodes() if n.op_type == "ReverseSequence"]:
            x, lengths = node.inputs
            if node.domain or x is None or lengths is None:
                continue
            if x.shape is None or not x.shape.is_static():
                continue
            write = Writer(model, node.name)
            result = _expand(node, write, x, lengths)
            write.put_before(node)
            replace(node, [result])
            modified = True
        if modified:
            make_names_unique(model)
        return ir.passes.PassResult(model, modified)


def _expand(node: ir.Node, write: Writer, x: ir.Value, lengths: ir.Value) -> ir.Value:
    batch_axis, time_axis = (
        node.attributes[name].as_int() if name in node.attributes else default
        for name, default in (("batch_axis", 1), ("time_axis", 0))
    )
    sizes = [int(d) for d in x.shape or ()]
    steps, batch = sizes[time_axis], sizes[batch_axis]
    # [time, batch] or [batch, time], as the axes of x
    time_shape = [steps, 1] if time_axis == 0 else [1, steps]
    batch_shape = [1, batch] if time_axis == 0 else [batch, 1]
    time = write.constant(np.arange(steps).reshape(time_shape))
    length = write("Reshape", write("Cast", lengths, to=int(ir.DataType.INT64)),
                   write.constant(batch_shape))  # fmt: skip
    mirrored = write("Sub", write("Sub", length, write.constant(1)), time)
    source = write("Where", write("Less", time, length), mirrored, time)
    own = np.broadcast_to(np.arange(batch).reshape(batch_shape), (sizes[0], sizes[1]))
    pair = [source, write.constant(own)]
    axis = write.constant([2])
    columns = [
        write("Unsqueeze", value, axis) for value in (pair if time_axis == 0 else pair[::-1])
    ]
    return write("GatherND", x, write("Concat", *columns, axis=2))
