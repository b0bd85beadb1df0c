"""Pass *RemoveIdentities*: removes copies that nobody asked for.

Requires: nothing. Ensures: an ``Identity`` stays only where its result is an output of the graph or
of a body, because there it carries the output's name.
"""

from __future__ import annotations

import onnx_ir as ir


class RemoveIdentities(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Let the users of every inner ``Identity`` read its input."""
        modified = False
        for node in list(model.graph.all_nodes()):
            if node.op_type != "Identity" or node.domain or node.outputs[0].is_graph_output():
                continue
            source = node.inputs[0]
            if source is None:
                continue
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            if node.graph is not None:
                node.graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)
