"""Pass *ExpandComposites*: writes composite operators in terms of core ones.

Requires: inferred types. Ensures: no ``Sum``, ``Max`` or ``Min`` is left. Their definitions are
ONNX's: ``Sum`` adds from the left; ``Max`` and ``Min`` of anything with NaN are NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import onnx_ir as ir

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
Expansion = Callable[[ir.tape.Tape, ir.Value, ir.Value], ir.Value]


class ExpandComposites(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every composite node by its expansion."""
        modified = False
        for node in list(model.graph):
            expansion = _EXPANSIONS.get(node.op_type) if node.domain == "" else None
            if expansion is None:
                continue
            tape = ir.tape.Tape()
            inputs = [value for value in node.inputs if value is not None]
            step = functools.partial(expansion, tape)
            result = functools.reduce(step, inputs) if len(inputs) > 1 else inputs[0]
            if result is inputs[0]:
                result = tape.op("Identity", inputs)
            output = node.outputs[0]
            result.name, result.type, result.shape = output.name, output.type, output.shape
            for number, made in enumerate(tape.nodes):
                made.name = f"{node.name}_{number}" if node.name else None
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], list(tape.nodes), [output], [result]
            )
            modified = True
        return ir.passes.PassResult(model, modified)


def _add(tape: ir.tape.Tape, a: ir.Value, b: ir.Value) -> ir.Value:
    return tape.op("Add", [a, b])


def _choose(op_type: str) -> Expansion:
    """Return ``a if a > b or a is NaN else b`` (with ``<`` for Min)."""

    def expand(tape: ir.tape.Tape, a: ir.Value, b: ir.Value) -> ir.Value:
        condition = tape.op(op_type, [a, b])
        if a.dtype in _FLOATS or a.dtype is None:
            condition = tape.op("Or", [condition, tape.op("IsNaN", [a])])
        chosen = tape.op("Where", [condition, a, b])
        chosen.dtype = a.dtype
        return chosen

    return expand


_EXPANSIONS: dict[str, Expansion] = {
    "Sum": _add,
    "Max": _choose("Greater"),
    "Min": _choose("Less"),
}
