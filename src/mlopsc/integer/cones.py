"""Functions of the elements of one tensor, as the graph composes them.

The part of the graph between a ``DequantizeLinear`` and a ``QuantizeLinear`` is computed by ONNX's
own evaluator in float64 on all values that 8 bits have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from mlopsc.integer.arithmetic import Unfit
from mlopsc.integer.quantisation import Array, array_of
from mlopsc.integer.recognise import Activation, Region

_UNARY: Final = frozenset(
    {
        "Abs", "Atan", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal",
        "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish",
        "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_BINARY: Final = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"})


def cone_function(region: Region, node: ir.Node) -> tuple[Callable[[Array], Array], Activation]:
    """Return the function and its operand.

    Raises:
        Unfit: It has two operands, or an operator that is no function of single elements.
    """
    if node.op_type == "DequantizeLinear" and not node.domain:
        return (lambda x: x), region.activation(node.outputs[0])
    operands: dict[ir.Value, Activation] = {}
    constants: dict[ir.Value, Array] = {}
    order: list[ir.Node] = []
    # All nodes inside first: a value inside may have several users, all of them inside.
    _collect(region, node, operands, constants, order)
    sources = {a.value for a in operands.values()}
    if len(sources) != 1:
        raise Unfit("it is a function of several tensors")
    region.sources[:] = region.sources[:1]
    for inner in order:
        for output in inner.outputs:
            users = {id(user) for user, _ in output.uses()}
            if output is not node.outputs[0] and not users <= {id(n) for n in order}:
                raise Unfit(f"'{output.name}' is used elsewhere too")
    version = 22
    return _evaluator(node, operands, constants, order, version), next(iter(operands.values()))


def _collect(
    region: Region, node: ir.Node, operands: dict[ir.Value, Activation],
    constants: dict[ir.Value, Array], order: list[ir.Node],
) -> None:  # fmt: skip
    if node in order:
        return
    if node.domain or node.op_type not in (*_UNARY, *_BINARY):
        raise Unfit(f"there is no integer form of {node.op_type}")
    if len(order) > 64:
        raise Unfit("the function is too long")
    for value in node.inputs:
        if value is None or value in operands or value in constants:
            continue
        array = array_of(value)
        producer = value.producer()
        if array is not None:
            if array.size != 1:
                raise Unfit("an operand has several numbers")
            constants[value] = array
        elif producer is not None and producer.op_type == "DequantizeLinear":
            known = region.constant(value)
            if known is None:
                operands[value] = region.activation(value)
            elif known.integers.size == 1:
                constants[value] = known.values
            else:
                raise Unfit("an operand has several numbers")
        elif producer is not None:
            _collect(region, producer, operands, constants, order)
        else:
            raise Unfit("an operand is not quantised")
    order.append(node)
    if node not in region.nodes:
        region.nodes.append(node)


def _evaluator(
    node: ir.Node, operands: dict[ir.Value, Activation], constants: dict[ir.Value, Array],
    order: list[ir.Node], version: int,
) -> Callable[[Array], Array]:  # fmt: skip
    from onnx.reference import ReferenceEvaluator

    x = helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["n"])
    y = helper.make_tensor_value_info(str(node.outputs[0].name), onnx.TensorProto.DOUBLE, ["n"])
    nodes = []
    for inner in order:
        proto: onnx.NodeProto = ir.to_proto(inner)
        given = ["x" if v in operands else "" if v is None else str(v.name) for v in inner.inputs]
        del proto.input[:]
        proto.input.extend(given)
        nodes.append(proto)
    initializers = [
        numpy_helper.from_array(np.asarray(array, np.float64).reshape(()), str(value.name))
        for value, array in constants.items()
    ]
    graph = helper.make_graph(nodes, "function", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])

    def run(values: Array) -> Array:
        try:
            results: Any = ReferenceEvaluator(model).run(None, {"x": values})
        except Exception as error:  # the evaluator raises whatever NumPy or it itself does
            raise Unfit(f"the function cannot be computed: {error}") from error
        return np.asarray(results[0], np.float64)

    return run
