"""A graph in normal form → a Relax module whose ``main`` calls one TIR function per node.

Takes ONNX; gives ``call_tir`` of what ``lower.ops`` computes. Element types become storage types.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir as ir
from tvm import relax, te

from mlopsc.errors import CompilerError
from mlopsc.lower.ops import LOWERINGS, Node, Operand, Result, stored


def translate(model: onnx.ModelProto) -> Any:
    """Return the Relax module of ``model``.

    Raises:
        CompilerError: A node is outside the core set or cannot be lowered.
    """
    return _Translator(ir.from_proto(model)).module()


class _Translator:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._builder = relax.BlockBuilder()
        self._values: dict[ir.Value, Any] = {}

    def module(self) -> Any:
        graph = self._model.graph
        params = [relax.Var(f"input_{i}", _type(v)) for i, v in enumerate(graph.inputs)]
        self._values.update(zip(graph.inputs, params, strict=True))
        with self._builder.function("main", params):
            with self._builder.dataflow():
                for node in graph:
                    self._emit(node)
                outputs = [self._value(v) for v in graph.outputs]
                result = self._builder.emit_output(
                    outputs[0] if len(outputs) == 1 else relax.Tuple(outputs)
                )
            self._builder.emit_func_output(result)
        return self._builder.get()

    def _value(self, value: ir.Value) -> Any:
        if value not in self._values:
            if value.const_value is None:
                raise CompilerError(f"tensor '{value.name}' is never computed")
            self._values[value] = _constant(value.const_value)
        return self._values[value]

    def _emit(self, node: ir.Node) -> None:
        """Lower one node to a TIR function and call it."""
        described = self._describe(node)
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
        function = te.create_prim_func([*(o.tensor for o in used), *tensors], "int64")
        name = self._builder.add_func(function.without_attr("global_symbol"), node.op_type.lower())
        types = [relax.TensorType(r.shape, r.dtype) for r in wanted]
        call = relax.call_tir(name, relax.Tuple([self._value(o.value) for o in used]), types)
        variable = self._builder.emit(call)
        present = [v for v, o in zip(node.outputs, described.outputs, strict=True) if o is not None]
        for index, output in enumerate(present):
            self._values[output] = (
                variable
                if len(present) == 1
                else self._builder.emit(relax.TupleGetItem(variable, index))
            )

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
