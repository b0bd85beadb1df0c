"""Integer inputs and outputs: takes the outermost quantisation off a quantised model.

Requires: inputs that nothing but ``QuantizeLinear`` reads, float outputs that are made by a
``DequantizeLinear``. Ensures: names and shapes of inputs and outputs stay.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from mlopsc.dtypes import DTYPES
from mlopsc.errors import QuantizationError
from mlopsc.schema.quantize import IntegerTensor

Array = np.ndarray[Any, Any]
_INSIDE = "_DequantizeLinear_Output"
_HINT = "leave the inputs and outputs in float, or keep fewer layers in float"


def cut_inputs(model: onnx.ModelProto, names: Collection[str]) -> list[IntegerTensor]:
    """Make the float inputs ``names`` integer ones; return what they stand for.

    Raises:
        QuantizationError: Something computes with one of them in float.
    """
    graph = model.graph
    found = []
    for value in graph.input:
        if value.name not in names or not _is_float(value):
            continue
        readers = [n for n in graph.node if value.name in n.input]
        if not readers or any(n.op_type != "QuantizeLinear" for n in readers):
            raise QuantizationError(
                f"input '{value.name}' cannot be made integer: something computes with it in float",
                hint=_HINT,
            )
        edge = _edge(graph, value.name, readers[0])
        if any(_edge(graph, value.name, node) != edge for node in readers):
            raise QuantizationError(
                f"input '{value.name}' cannot be made integer: it is quantised in several ways",
                hint=_HINT,
            )
        for node in readers:
            _rename(graph, node.output[0], value.name)
            graph.node.remove(node)
        _set_type(value, edge)
        found.append(edge)
    return found


def cut_outputs(model: onnx.ModelProto, names: Collection[str]) -> list[IntegerTensor]:
    """Make the float outputs ``names`` integer ones; return what they stand for.

    Raises:
        QuantizationError: One of them is computed in float.
    """
    graph = model.graph
    found = []
    for value in graph.output:
        if value.name not in names or not _is_float(value):
            continue
        maker = next((n for n in graph.node if value.name in n.output), None)
        if maker is None or maker.op_type != "DequantizeLinear":
            raise QuantizationError(
                f"output '{value.name}' cannot be made integer: it is computed in float", hint=_HINT
            )
        edge = _edge(graph, value.name, maker)
        integers = maker.input[0]
        if any(value.name in node.input for node in graph.node):
            _rename(graph, value.name, f"{value.name}{_INSIDE}")  # who reads it still gets floats
        else:
            graph.node.remove(maker)
        _rename(graph, integers, value.name)
        _set_type(value, edge)
        found.append(edge)
    return found


def to_integers(array: Array, edge: IntegerTensor) -> Array:
    """Return float32 values as the integers that ``QuantizeLinear`` makes of them."""
    bounds = np.iinfo(edge.dtype)
    steps = np.rint(array.astype(np.float32) / np.float32(edge.scale)) + edge.zero_point
    clamped: Array = np.clip(steps, bounds.min, bounds.max).astype(edge.dtype)
    return clamped


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _edge(graph: onnx.GraphProto, name: str, node: onnx.NodeProto) -> IntegerTensor:
    """Return type, scale and zero point of a node that quantises or dequantises."""
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in node.input}
    zero = tensors[node.input[2]]
    return IntegerTensor.model_validate(
        {
            "name": name,
            "dtype": zero.dtype.name,
            "scale": float(tensors[node.input[1]].reshape(())),
            "zero_point": int(zero.reshape(())),
        }
    )


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename the tensor ``old`` where it is made and read."""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for value in list(graph.value_info):
        if value.name in (old, new):
            graph.value_info.remove(value)


def _set_type(value: onnx.ValueInfoProto, edge: IntegerTensor) -> None:
    value.type.tensor_type.elem_type = DTYPES[edge.dtype].onnx
