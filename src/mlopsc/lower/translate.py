"""A graph in normal form → a Relax module whose ``main`` calls one TIR function per node.

Takes ONNX; gives ``call_tir`` of what ``lower.ops`` computes. Element types become storage types.
The bodies of ``Loop`` and ``If`` become functions of their own; ``flow`` says how they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx_ir as ir
from tvm import relax, te

from mlopsc.bodies import captured
from mlopsc.errors import CompilerError
from mlopsc.lower.flow import Flows, IfFlow, LoopFlow, MicroFlow
from mlopsc.lower.forms import BYTES
from mlopsc.lower.macs import multiply_accumulates
from mlopsc.lower.micro import Variant
from mlopsc.lower.micro_calls import MicroCall, micro_call
from mlopsc.lower.ops import LOWERINGS, Node, Operand, Result, stored
from mlopsc.lower.origins import Origin, Origins

# relax.op_pattern: the elementwise consumers of such a function may be fused into it. What TVM
# finds out by itself stops at functions of several stages: a convolution with padding and bias.
_OUT_ELEMENTWISE_FUSABLE = 4
# What gives the same memory another shape: no function, and nothing is fused across it.
_VIEWS: Final = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def translate(model: ir.Model, variant: Variant | None) -> tuple[Any, Flows, Origins]:
    """Return the Relax module of ``model``, what its external calls stand for, and whose calls are.

    Raises:
        CompilerError: A node is outside the core set or cannot be lowered.
    """
    return _Translator(model, variant).module()


@dataclass(frozen=True)
class _Function:
    """A Relax function to be made of the nodes of a graph."""

    name: str
    graph: ir.Graph
    params: Sequence[ir.Value]
    outputs: Sequence[ir.Value]


class _Translator:
    def __init__(self, model: ir.Model, variant: Variant | None) -> None:
        self._model, self._variant = model, variant
        self._builder = relax.BlockBuilder()
        self._values: dict[ir.Value, Any] = {}  # of the function that is being made
        self._pending: list[_Function] = []
        self._flows: Flows = {}
        self._origins: Origins = {}
        self._function = ""  # that is being made

    def module(self) -> tuple[Any, Flows, Origins]:
        graph = self._model.graph
        self._pending.append(_Function("main", graph, graph.inputs, graph.outputs))
        for function in self._pending:  # grows: bodies are made after what holds them
            self._make(function)
        return self._builder.get(), self._flows, self._origins

    def _make(self, function: _Function) -> None:
        params = [relax.Var(f"input_{i}", _type(v)) for i, v in enumerate(function.params)]
        self._values = dict(zip(function.params, params, strict=True))
        self._function = function.name
        with self._builder.function(function.name, params):
            with self._builder.dataflow():
                for node in function.graph:
                    self._emit(node)
                outputs = [self._value(v) for v in function.outputs]
                alone = len(outputs) == 1 and function.name == "main"
                result = self._builder.emit_output(outputs[0] if alone else relax.Tuple(outputs))
            self._builder.emit_func_output(result)

    def _value(self, value: ir.Value) -> Any:
        if value not in self._values:
            if value.const_value is None:
                raise CompilerError(f"tensor '{value.name}' is never computed")
            self._values[value] = _constant(value.const_value)
        return self._values[value]

    def _emit(self, node: ir.Node) -> None:
        """Lower one node to a TIR function and call it."""
        if node.op_type in ("Loop", "If") and not node.domain:
            self._emit_flow(node)
            return
        if node.op_type in _VIEWS and not node.domain:
            source, output = node.inputs[0], node.outputs[0]
            if source is None:
                raise CompilerError(f"node '{node.name}': its input is missing")
            shape = [int(d) for d in output.shape or ()]
            self._values[output] = self._builder.emit(relax.op.reshape(self._value(source), shape))
            return
        if node.op_type == "View" and node.domain == BYTES:
            target = _type(node.outputs[0])
            made = relax.op.memory.view(
                self._value(node.inputs[0]), shape=target.shape, dtype=str(target.dtype)
            )
            self._values[node.outputs[0]] = self._builder.emit(made)
            return
        described = self._describe(node)
        call = micro_call(described, self._variant) if self._variant else None
        if call is not None:
            self._emit_micro(node, call)
            return
        lowering = LOWERINGS.get(described.op)
        if lowering is None:
            raise CompilerError(f"node '{node.name}': there is no lowering for {described.op}")
        made = lowering(described)
        tensors = list(made) if isinstance(made, list | tuple) else [made]
        wanted = [o for o in described.outputs if o is not None]
        for tensor, result in zip(tensors, wanted, strict=True):
            _check(node, tensor, result)
        # One parameter per tensor, however often the node takes it.
        used = [o for o in dict.fromkeys(described.inputs) if o is not None and o.used]
        used += described.tables
        function = te.create_prim_func([*(o.tensor for o in used), *tensors], "int64")
        function = function.without_attr("global_symbol")
        if _reduces(tensors):
            function = function.with_attr("op_pattern", _OUT_ELEMENTWISE_FUSABLE)
        name = self._builder.add_func(function, node.op_type.lower())
        types = [relax.TensorType(r.shape, r.dtype) for r in wanted]
        call = relax.call_tir(name, relax.Tuple([self._value(o.value) for o in used]), types)
        variable = self._builder.emit(call)
        self._origins[self._function, variable.name] = Origin(
            node.name or node.outputs[0].name or node.op_type,
            described.op,
            multiply_accumulates(tensors),
        )
        present = [v for v, o in zip(node.outputs, described.outputs, strict=True) if o is not None]
        for index, output in enumerate(present):
            self._values[output] = (
                variable
                if len(present) == 1
                else self._builder.emit(relax.TupleGetItem(variable, index))
            )

    def _emit_micro(self, node: ir.Node, call: MicroCall) -> None:
        """Call a hand-written kernel that computes the whole node."""
        symbol = f"mlopsc.{call.operator}_{len(self._flows)}"
        name = node.name or node.outputs[0].name or node.op_type
        self._flows[symbol] = MicroFlow(call, name, f"{node.domain}::{node.op_type}")
        given = [self._value(v) for v in node.inputs[: call.inputs] if v is not None]
        given += [relax.const(array, array.dtype.name) for array in call.constants]
        output = node.outputs[0]
        made = relax.call_dps_packed(symbol, relax.Tuple(given), [_type(output)])
        self._values[output] = self._builder.emit(made)

    def _emit_flow(self, node: ir.Node) -> None:
        """Call an external function that stands for a loop or a conditional."""
        number = len(self._flows)
        symbol = f"mlopsc.flow_{number}"
        if node.op_type == "Loop":
            self._flows[symbol], arguments = self._loop(node, number)
        else:
            self._flows[symbol], arguments = self._conditional(node, number)
        types = [_type(output) for output in node.outputs]
        given = relax.Tuple([self._value(value) for value in arguments])
        variable = self._builder.emit(relax.call_dps_packed(symbol, given, types))
        for index, output in enumerate(node.outputs):
            self._values[output] = (
                variable
                if len(types) == 1
                else self._builder.emit(relax.TupleGetItem(variable, index))
            )

    def _loop(self, node: ir.Node, number: int) -> tuple[LoopFlow, list[ir.Value]]:
        body = node.attributes["body"].as_graph()
        trips, condition, initial = node.inputs[0], node.inputs[1], node.inputs[2:]
        if not initial:
            condition = None  # nothing can change it
        constant = None if trips is None else trips.const_value
        outer = [v for v in captured(body) if v.const_value is None]
        flow = LoopFlow(
            body=f"body_{number}",
            trip_count=None if constant is None else max(0, int(constant.numpy().reshape(-1)[0])),
            counted=trips is not None and constant is None,
            conditional=condition is not None,
            carried=len(initial),
        )
        outputs = list(body.outputs if flow.conditional else body.outputs[1:])
        self._pending.append(_Function(flow.body, body, [*body.inputs, *outer], outputs))
        ends = [trips if flow.counted else None, condition]
        return flow, [value for value in (*ends, *initial, *outer) if value is not None]

    def _conditional(self, node: ir.Node, number: int) -> tuple[IfFlow, list[ir.Value]]:
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        outer = [[v for v in captured(b) if v.const_value is None] for b in branches]
        flow = IfFlow(f"then_{number}", f"else_{number}", len(outer[0]))
        for name, branch, params in zip((flow.then, flow.otherwise), branches, outer, strict=True):
            self._pending.append(_Function(name, branch, params, branch.outputs))
        arguments = [node.inputs[0], *outer[0], *outer[1]]
        return flow, [value for value in arguments if value is not None]

    def _describe(self, node: ir.Node) -> Node:
        operands = {v: Operand(v) for v in node.inputs if v is not None}
        domain = node.domain if node.domain != "ai.onnx" else ""
        version = self._model.graph.opset_imports.get(domain, 1)
        return Node(
            op=f"{domain}::{node.op_type}" if domain else node.op_type,
            inputs=tuple(None if v is None else operands[v] for v in node.inputs),
            outputs=tuple(_results(node)),
            attributes={a.name: _plain(a) for a in node.attributes.values()},
            version=version,
        )


def _reduces(tensors: Sequence[Any]) -> bool:
    """Whether one of the computations behind ``tensors`` is a reduction."""
    pending, seen = list(tensors), set()
    while pending:
        operation = pending.pop().op
        if operation in seen:
            continue
        seen.add(operation)
        if getattr(operation, "reduce_axis", ()):
            return True
        pending.extend(operation.input_tensors)
    return False


def _results(node: ir.Node) -> Iterable[Result | None]:
    for number, value in enumerate(node.outputs):
        needed = value.uses() or value.is_graph_output()
        wanted = number == 0 or node.op_type == "Split" or (value.name and needed)
        yield Result.of(value) if wanted else None


def _plain(attribute: ir.Attr) -> Any:
    return list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value


def _type(value: ir.Value) -> Any:
    operand = Operand(value)
    return relax.TensorType(operand.shape, operand.dtype)


def _constant(tensor: ir.TensorProtocol) -> Any:
    array = stored(tensor)
    return relax.const(array, array.dtype.name)


def _check(node: ir.Node, tensor: Any, result: Result) -> None:
    shape = tuple(int(d) for d in tensor.shape)
    if (shape, str(tensor.dtype)) != (result.shape, result.dtype):
        raise CompilerError(
            f"node '{node.name}' ({node.op_type}) was lowered to {tensor.dtype}{list(shape)}, but "
            f"its type is {result.dtype}{list(result.shape)}"
        )
