"""Pass *InlineConditionals*: puts the branch of an ``If`` that is known to be taken in its place.

Requires: *PrepareBodies*, folded constants. Ensures: the condition of every ``If`` that is left is
computed at run time.
"""

from __future__ import annotations

import onnx_ir as ir

from mlopsc.importer.normalise.constants import scalar_of
from mlopsc.importer.normalise.subgraphs import inline, make_names_unique, replace


class InlineConditionals(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inline until none is left: a branch may hold another ``If``."""
        modified = False
        while True:
            node = next((n for n in model.graph.all_nodes() if _is_decided(n)), None)
            if node is None:
                break
            name = "then_branch" if scalar_of(node.inputs[0]) else "else_branch"
            replace(node, inline(node, node.attributes[name].as_graph(), []))
            modified = True
        if modified:
            make_names_unique(model)
        return ir.passes.PassResult(model, modified)


def _is_decided(node: ir.Node) -> bool:
    return node.op_type == "If" and not node.domain and scalar_of(node.inputs[0]) is not None
