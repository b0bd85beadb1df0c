"""What the expansions of composite operators make, and what they refuse with which words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models import model, node, value
from onnx import TensorProto, helper

from mlopsc.core_ops import CORE_OPS
from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise import normalise
from mlopsc.importer.normalise.expansions import COMPOSITE, QUANTISED


def operators(made: onnx.ModelProto) -> list[str]:
    graph = onnx.load_model_from_string(normalise(made, {}).model).graph
    return [n.op_type for n in graph.node]


def test_resize_to_the_nearest_is_one_gather_an_axis() -> None:
    made = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        [value("x", [1, 2, 3, 4])],
        [value("y", [1, 2, 6, 8])],
        {"scales": np.float32([1, 1, 2, 2])},
    )
    assert operators(made) == ["Gather", "Gather"]


def test_sizes_that_are_computed_are_named() -> None:
    made = model(
        [node("Resize", ["x", "", "", "sizes"], ["y"])],
        [value("x", [1, 2, 3, 4]), value("sizes", [4], "int64")],
        [value("y", [1, 2, None, None])],
    )
    with pytest.raises(UnsupportedOpError, match="computed at run time") as caught:
        normalise(made, {})
    assert caught.value.run_time_inputs == ("sizes",)


def test_a_refusal_says_why() -> None:
    made = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="area")],
        [value("x", [1, 2, 3, 4])],
        [value("y", [1, 2, 6, 8])],
        {"scales": np.float32([1, 1, 2, 2])},
    )
    with pytest.raises(UnsupportedOpError, match="mode is 'area'; expected nearest, linear"):
        normalise(made, {})


def test_one_operator_that_is_refused_does_not_keep_functions_from_being_expanded() -> None:
    made = model(
        [
            node("Gelu", ["x"], ["g"]),
            node("Celu", ["g"], ["c"]),
            node("Det", ["c"], ["y"]),
        ],
        [value("x", [40, 40])],
        [value("y", [])],
        opset=20,
    )
    with pytest.raises(UnsupportedOpError, match=r"\(Det\): its input has shape \[40, 40\]"):
        normalise(made, {})


def test_a_convolution_of_too_many_products_is_refused() -> None:
    made = model(
        [node("ConvInteger", ["x", "w"], ["y"])],
        [value("x", [1, 70000, 1, 1], "uint8")],
        [value("y", [1, 1, 1, 1], "int32")],
        {"w": np.ones((1, 70000, 1, 1), np.int8)},
    )
    with pytest.raises(UnsupportedOpError, match="it sums 70000 products"):
        normalise(made, {})


def test_graphs_among_the_attributes_of_a_function_may_capture() -> None:
    scores = helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 2, 4, 4])
    scaled = helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 2, 4, 4])
    body = helper.make_graph(
        [helper.make_node("Mul", ["s", "factor"], ["t"])],
        "score",
        [scores],
        [scaled],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [0.5])],
    )
    attention = helper.make_node(
        "FlexAttention", ["x", "x", "x"], ["y"], domain="ai.onnx.preview", score_mod=body
    )
    graph = helper.make_graph(
        [attention], "graph", [value("x", [1, 2, 4, 8])], [value("y", [1, 2, 4, 8])]
    )
    opsets = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview", 1)]
    assert set(operators(helper.make_model(graph, opset_imports=opsets))) <= set(CORE_OPS)


def test_quantised_operators_have_a_table_of_their_own() -> None:
    assert not set(COMPOSITE) & set(QUANTISED)
    assert {name for _, name in QUANTISED} >= {"QuantizeLinear", "DequantizeLinear", "QLinearConv"}
