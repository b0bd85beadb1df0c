"""Pass *DeduplicateInitializers*: weights that are equal are stored once.

Requires: the main graph holds all initializers. Ensures: no two initializers have the same element
type, shape and bytes, except those that are inputs or outputs of the graph. Contents are compared
by digest, where they lie.
"""

from __future__ import annotations

import onnx_ir as ir

from mlopsc.bundle import raw
from mlopsc.schema.common import digest_bytes


class DeduplicateInitializers(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Let the users of a duplicate use the first of its kind."""
        groups: dict[tuple[object, ...], list[ir.Value]] = {}
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype.is_string():
                continue
            if not value.is_graph_input() and not value.is_graph_output():
                groups.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(value)
        modified = False
        for group in groups.values():
            if len(group) > 1:
                modified |= _merge(model.graph, group)
        return ir.passes.PassResult(model, modified)


def _merge(graph: ir.Graph, values: list[ir.Value]) -> bool:
    first: dict[str, ir.Value] = {}
    for value in values:
        kept = first.setdefault(digest_bytes(raw(value.const_value).data), value)
        if kept is not value:
            ir.convenience.replace_all_uses_with(value, kept)
            graph.initializers.pop(str(value.name))
    return len(first) < len(values)
