"""Tensors without elements: constants, or gone; never computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models import model, node, value

from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise import normalise


def normal(*nodes: onnx.NodeProto, **sizes: tuple[int, ...]) -> onnx.GraphProto:
    """Normalise ``nodes``, which compute ``y`` from the other tensors that have a size."""
    out = sizes.pop("y")
    made = model(nodes, [value(n, s) for n, s in sizes.items()], [value("y", out)])
    return onnx.load_model_from_string(normalise(made, {}).model).graph


def ops(graph: onnx.GraphProto) -> list[str]:
    return [n.op_type for n in graph.node]


def test_an_input_without_elements_stays_and_is_unused() -> None:
    graph = normal(node("Concat", ["e", "x"], ["y"], axis=0), e=(0, 3), x=(2, 3), y=(2, 3))
    assert [v.name for v in graph.input] == ["e", "x"]
    assert not [n for n in graph.node if "e" in n.input]


def test_an_output_without_elements_is_a_constant() -> None:
    graph = normal(node("Relu", ["x"], ["r"]), node("Exp", ["r"], ["y"]), x=(2, 0), y=(2, 0))
    assert ops(graph) == ["Identity"]
    assert list(graph.initializer[0].dims) == [2, 0]


def test_a_sum_of_nothing_is_folded() -> None:
    graph = normal(node("ReduceSum", ["x"], ["s"], keepdims=1), node("Add", ["s", "b"], ["y"]),
                   x=(2, 0), b=(2, 3), y=(2, 3))  # fmt: skip
    assert ops(graph) == ["Add"]
    assert onnx.numpy_helper.to_array(graph.initializer[0]).tolist() == [[0]]


def test_only_parts_with_elements_are_joined_and_split() -> None:
    graph = normal(
        node("Split", ["x"], ["a", "b", "c"], axis=0, num_outputs=3),
        node("Exp", ["a"], ["ea"]),
        node("Exp", ["b"], ["eb"]),
        node("Exp", ["c"], ["ec"]),
        node("Concat", ["ec", "eb", "ea"], ["y"], axis=0),
        x=(2, 3),
        y=(2, 3),
    )
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    assert ops(graph).count("Exp") == 2
    assert all(0 not in shape for shape in shapes.values())


def test_a_declared_shape_alone_makes_nothing_empty() -> None:
    made = model(
        [node("Reshape", ["x", "shape"], ["y"], allowzero=1)],
        [value("x", [0, 3]), value("shape", [2], "int64")],
        [value("y", [3, 0])],
    )
    with pytest.raises(UnsupportedOpError) as caught:
        normalise(made, {})
    assert caught.value.run_time_inputs == ("shape",)


def test_types_are_kept() -> None:
    made = model(
        [node("Cast", ["x"], ["y"], to=onnx.TensorProto.UINT8)],
        [value("x", [0])],
        [value("y", [0], "uint8")],
    )
    graph = onnx.load_model_from_string(normalise(made, {}).model).graph
    assert onnx.numpy_helper.to_array(graph.initializer[0]).dtype == np.uint8
