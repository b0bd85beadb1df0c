"""Small ONNX models, made when a test needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 18
Shape = Sequence[int | str | None]


def value(name: str, shape: Shape | None, dtype: str = "float32") -> onnx.ValueInfoProto:
    """Return an input or output; a string in ``shape`` is a symbolic dimension."""
    return helper.make_tensor_value_info(name, _code(dtype), shape)


def _code(dtype: str) -> int:
    return (
        onnx.TensorProto.STRING
        if dtype == "string"
        else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """Return a node named after its first output."""
    return helper.make_node(op, inputs, outputs, name=f"make_{outputs[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = OPSET,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return a model; nothing is checked, so that tests can make wrong ones."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        outputs,
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, 1) for domain in domains),
        ],
        functions=functions,
        ir_version=10,
    )


def one_op(op: str = "Relu", shape: Shape = (1, 4), **attributes: Any) -> onnx.ModelProto:
    """Return ``y = op(x)`` on float32."""
    return model([node(op, ["x"], ["y"], **attributes)], [value("x", shape)], [value("y", shape)])


def add(first: str = "a", second: str = "b", result: str = "y") -> onnx.ModelProto:
    """Return ``result = first + second`` on float32 vectors of 4."""
    return model(
        [node("Add", [first, second], [result])],
        [value(first, [4]), value(second, [4])],
        [value(result, [4])],
    )


def random(*shape: int, seed: int = 1) -> Array:
    """Return float32 values of a fixed seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def two_convs(name: str = "image") -> onnx.ModelProto:
    """Return a network with two convolutions, so that there is an arena and weights."""
    return model(
        [
            node("Conv", [name, "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
            node("GlobalAveragePool", ["c2"], ["p"]),
            node("Flatten", ["p"], ["scores"]),
        ],
        [value(name, ["batch", 2, 8, 8])],
        [value("scores", ["batch", 5])],
        {
            "w1": random(4, 2, 3, 3),
            "b1": random(4),
            "w2": random(5, 4, 3, 3),
            "b2": random(5),
        },
    )


def several() -> onnx.ModelProto:
    """Return a model of several inputs and outputs: computed, copied, constant and given twice."""
    return model(
        [
            node("MatMul", ["left", "w"], ["product"]),
            node("Add", ["product", "right"], ["total"]),
            node("Relu", ["total"], ["positive"]),
            node("Identity", ["left"], ["same"]),
            node("Greater", ["product", "right"], ["larger"]),
        ],
        [value("left", [2, 3]), value("right", [2, 4])],
        [
            value("total", [2, 4]),
            value("positive", [2, 4]),
            value("same", [2, 3]),
            value("larger", [2, 4], "bool"),
        ],
        {"w": random(3, 4)},
    )


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write ``proto`` and return ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return path
