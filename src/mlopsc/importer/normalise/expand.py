"""Pass *ExpandComposites*: writes composite operators in terms of core ones.

Requires: inferred types and shapes. Ensures: no operator of the given table is left, unless its
expansion refuses it; then the refusal says why. A node whose inputs have no static shape
yet is left for a later round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

import onnx_ir as ir

from mlopsc.importer.normalise.expansions import Table
from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor
from mlopsc.importer.normalise.upgrade import OPSET

Refusals = MutableMapping[ir.Node, Refusal]


class ExpandComposites(ir.passes.InPlacePass):
    """See the module's docstring."""

    def __init__(
        self,
        table: Table,
        refusals: Refusals,
        keep: Callable[[ir.Graph], set[ir.Node]] = lambda _: set(),
    ) -> None:
        """Take the expansions; write into ``refusals`` why a node is left.

        Args:
            table: The expansions.
            refusals: By node.
            keep: Returns the nodes of the main graph that stay as they are.
        """
        super().__init__()
        self._table, self._refusals, self._keep = table, refusals, keep

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every composite node by its expansion."""
        taken: set[str] | None = None
        modified = False
        model.opset_imports.setdefault("", OPSET)  # expansions of other domains need it
        kept = self._keep(model.graph)
        for node in list(model.graph.all_nodes()):
            if node in kept:
                continue
            expansion = self._table.get((node.domain, node.op_type))
            if expansion is None or not _is_typed(node):
                continue
            taken = _names(model) if taken is None else taken
            modified |= self._expand(model, node, expansion, taken)
        return ir.passes.PassResult(model, modified)

    def _expand(
        self, model: ir.Model, node: ir.Node, expansion: Expansion, taken: set[str]
    ) -> bool:
        builder = Builder(node, model.opset_imports[""], taken)
        graph = node.graph
        if graph is None:
            return False
        self._refusals.pop(node, None)  # of an earlier round
        try:
            made = expansion(builder)
        except Refusal as refusal:
            self._refusals[node] = refusal
            return False
        if made is None:
            return False
        results = [made] if isinstance(made, Tensor) else list(made)
        results = (results + [None] * len(node.outputs))[: len(node.outputs)]
        old, new = [], []
        for index, (output, result) in enumerate(zip(node.outputs, results, strict=True)):
            if not builder.wanted(index):
                continue
            if result is None:
                self._refusals[node] = Refusal(f"its output {index} cannot be computed")
                return False
            if result.value.producer() not in builder.nodes or result.value in new:
                result = builder.op("Identity", result)
            result.value.name = output.name
            if output.shape is not None and output.shape.is_static():
                result.value.shape = output.shape
            old.append(output)
            new.append(result.value)
        model.opset_imports.update(builder.imports)
        for constant in builder.constants:
            model.graph.register_initializer(constant)
        ir.convenience.replace_nodes_and_values(graph, node, [node], builder.nodes, old, new)
        return True


def _is_typed(node: ir.Node) -> bool:
    return all(
        v is None or (v.dtype is not None and v.shape is not None and v.shape.is_static())
        for v in node.inputs
    )


def _names(model: ir.Model) -> set[str]:
    return set(_walk(model))


def _walk(model: ir.Model) -> Iterator[str]:
    yield from model.graph.initializers
    yield from (str(v.name) for v in model.graph.inputs)
    for node in model.graph.all_nodes():
        yield from (str(v.name) for v in (*node.inputs, *node.outputs) if v is not None)
