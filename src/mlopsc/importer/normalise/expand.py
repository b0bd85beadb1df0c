"""Pass *ExpandComposites*: writes composite operators in terms of core ones.

Requires: inferred types. Ensures: no ``Sum``, ``Mean`` or ``Dropout`` is left, and ``Max`` and
``Min`` only of small or unsigned integers, which have no NaN.
Their definitions are ONNX's: sums add from the left; ``Max`` and ``Min`` of anything with NaN are
NaN; ``Dropout`` outside training passes its input on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_CHOOSABLE = (*_FLOATS, ir.DataType.INT32, ir.DataType.INT64)  # reference runtimes choose these
Expansion = Callable[[ir.tape.Tape, list[ir.Value]], ir.Value]


class ExpandComposites(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every composite node by its expansion."""
        modified = False
        for node in list(model.graph.all_nodes()):
            expansion = _EXPANSIONS.get(node.op_type) if node.domain == "" else None
            if expansion is None or any(o.uses() for o in node.outputs[1:]):
                continue
            dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
            if node.op_type in ("Max", "Min") and dtype not in _CHOOSABLE:
                continue
            if node.op_type == "Sign" and dtype not in _FLOATS:
                continue
            tape = ir.tape.Tape()
            inputs = [value for value in node.inputs if value is not None]
            result = expansion(tape, inputs)
            if result in inputs:
                result = tape.op("Identity", [result])
            output = node.outputs[0]
            result.name, result.type, result.shape = output.name, output.type, output.shape
            for number, made in enumerate(tape.nodes):
                made.name = f"{node.name}_{number}" if node.name else None
            for constant in tape.initializers:
                model.graph.register_initializer(constant)
            ir.convenience.replace_nodes_and_values(
                node.graph, node, [node], list(tape.nodes), [output], [result]
            )
            modified = True
        return ir.passes.PassResult(model, modified)


def _sum(tape: ir.tape.Tape, inputs: list[ir.Value]) -> ir.Value:
    return functools.reduce(lambda a, b: tape.op("Add", [a, b]), inputs)


def _mean(tape: ir.tape.Tape, inputs: list[ir.Value]) -> ir.Value:
    dtype = inputs[0].dtype or ir.DataType.FLOAT
    count = tape.initializer(
        ir.tensor(np.array(len(inputs), dtype.numpy()), name=f"{inputs[0].name}_count")
    )
    return tape.op("Div", [_sum(tape, inputs), count])


def _first(tape: ir.tape.Tape, inputs: list[ir.Value]) -> ir.Value:
    del tape
    return inputs[0]


def _choose(op_type: str) -> Expansion:
    """Return ``a if a > b or a is NaN else b`` (with ``<`` for Min), over all inputs."""

    def expand(tape: ir.tape.Tape, inputs: list[ir.Value]) -> ir.Value:
        dtype = inputs[0].dtype

        def choose(a: ir.Value, b: ir.Value) -> ir.Value:
            condition = tape.op(op_type, [a, b])
            if dtype in _FLOATS:
                condition = tape.op("Or", [condition, tape.op("IsNaN", [a])])
            return tape.op("Where", [condition, a, b])

        return functools.reduce(choose, inputs)

    return expand


def _sign(tape: ir.tape.Tape, inputs: list[ir.Value]) -> ir.Value:
    """Return ``x > 0 ? 1 : x < 0 ? -1 : 0``, and NaN for NaN."""
    x = inputs[0]
    dtype = x.dtype or ir.DataType.FLOAT
    zero = tape.initializer(ir.tensor(np.array(0, dtype.numpy()), name=f"{x.name}_zero"))
    above, below = (
        tape.op("Cast", [tape.op(op, [x, zero])], {"to": int(dtype)}) for op in ("Greater", "Less")
    )
    return tape.op("Where", [tape.op("IsNaN", [x]), x, tape.op("Sub", [above, below])])


_EXPANSIONS: dict[str, Expansion] = {
    "Dropout": _first,
    "Max": _choose("Greater"),
    "Mean": _mean,
    "Min": _choose("Less"),
    "Sign": _sign,
    "Sum": _sum,
}
