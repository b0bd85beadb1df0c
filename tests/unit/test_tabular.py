"""Operators of ``ai.onnx.ml``: what they become, and which are refused with which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from models import Array, value
from onnx import TensorProto, helper, numpy_helper

from mlopsc.errors import MlopscError, UnsupportedOpError
from mlopsc.importer.normalise import Normalised, normalise
from mlopsc.lower.ops.node import Node
from mlopsc.lower.ops.tree_reader import Reader
from mlopsc.lower.ops.tree_tables import tables
from mlopsc.reference import run_graph

DOMAIN = "ai.onnx.ml"
# if x0 <= 0.5: 1, elif x1 <= 1.5: 2, else 3
TREE: dict[str, list[Any]] = {
    "nodes_treeids": [0] * 5,
    "nodes_nodeids": [0, 1, 2, 3, 4],
    "nodes_featureids": [0, 0, 1, 0, 0],
    "nodes_values": [0.5, 0.0, 1.5, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 3, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0],
    "target_treeids": [0, 0, 0],
    "target_nodeids": [1, 3, 4],
    "target_ids": [0, 0, 0],
    "target_weights": [1.0, 2.0, 3.0],
}


def tabular(
    op: str, shape: list[int], outputs: list[Any], *, version: int = 3, **attributes: Any
) -> onnx.ModelProto:
    made = helper.make_node(
        op, ["x"], [o.name for o in outputs], name="tabular", domain=DOMAIN, **attributes
    )
    graph = helper.make_graph([made], "graph", [value("x", shape)], outputs)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(DOMAIN, version)], ir_version=8
    )


def regressor(features: int = 2, **changes: Any) -> onnx.ModelProto:
    return tabular(
        "TreeEnsembleRegressor", [1, features], [value("y", [1, 1])], n_targets=1, **TREE | changes
    )


def nodes(done: Normalised) -> list[onnx.NodeProto]:
    return list(onnx.load_model_from_string(done.model).graph.node)


def changed(name: str, index: int, new: Any) -> dict[str, list[Any]]:
    values = list(TREE[name])
    values[index] = new
    return {name: values}


def test_trees_become_one_operator_that_is_left_alone() -> None:
    done = normalise(regressor(), {})
    assert [(n.domain, n.op_type) for n in nodes(done)] == [(DOMAIN, "TreeEnsemble")]
    again = normalise(onnx.load_model_from_string(done.model), {})
    assert again.model == done.model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": 1}, "tree 0 reads feature 1 of 1"),
        (changed("nodes_truenodeids", 0, 9), "tree 0 has no node 9"),
        (changed("nodes_truenodeids", 2, 0), "node 0 of tree 0 is reached twice"),
        (changed("nodes_truenodeids", 2, 2), "is reached twice"),
        (changed("nodes_nodeids", 1, 0), "node 0 of tree 0 is there twice"),
        (changed("nodes_modes", 0, "BRANCH_NEAR"), "mode 'BRANCH_NEAR' is unknown"),
        (changed("nodes_treeids", 1, 1), "are not together"),
        (changed("target_ids", 1, 1), "names target 1 of 1"),
        (changed("target_nodeids", 0, 7), "a weight is given for node 7"),
        (changed("target_nodeids", 0, 0), "has no weight"),
        ({"nodes_values": [0.5]}, "5 nodes, 1 values"),
        ({"nodes_featureids": [0]}, "'nodes_featureids' has 1 values; expected 5"),
        ({"base_values": [1.0, 2.0]}, "2 'base_values' for 1 targets"),
        ({"aggregate_function": "MEDIAN"}, "'aggregate_function' is 'MEDIAN'"),
        ({"post_transform": "SQUARE"}, "'post_transform' is 'SQUARE'"),
        (
            {**changed("target_weights", 0, float("nan")), "aggregate_function": "MIN"},
            "a leaf's weight is NaN",
        ),
    ],
)
def test_trees_that_are_none_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        normalise(regressor(**changes), {})
    assert words in caught.value.message
    assert "node 'tabular' (ai.onnx.ml::TreeEnsembleRegressor)" in caught.value.message


def test_equalities_that_lead_to_one_place_are_one_set() -> None:
    count = 40
    tree = {
        "nodes_treeids": [0] * (count + 2),
        "nodes_nodeids": list(range(count + 2)),
        "nodes_featureids": [1] * (count + 2),
        "nodes_values": [float(v) for v in range(count)] + [0.0, 0.0],
        "nodes_modes": ["BRANCH_EQ"] * count + ["LEAF"] * 2,
        "nodes_truenodeids": [count + 1] * count + [0, 0],
        "nodes_falsenodeids": [*range(1, count + 1), 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [count, count + 1],
        "target_ids": [0, 0],
        "target_weights": [-1.0, 1.0],
    }
    done = normalise(regressor(**tree), {})
    (ensemble,) = (n for n in nodes(done) if n.op_type == "TreeEnsemble")
    modes = next(a.t for a in ensemble.attribute if a.name == "nodes_modes")
    assert numpy_helper.to_array(modes).tolist() == [6]
    for x, y in ((0.0, 1.0), (39.0, 1.0), (40.0, -1.0), (-1.0, -1.0)):
        given = np.array([[7.0, x]], np.float32)
        assert run_graph(done.model, {"x": given})["y"].item() == y


@pytest.mark.parametrize("transform", [1, 2])
def test_transforms_that_runtimes_number_differently_are_refused(transform: int) -> None:
    done = onnx.load_model_from_string(normalise(regressor(), {}).model)
    done.graph.node[0].attribute.append(helper.make_attribute("post_transform", transform))
    with pytest.raises(UnsupportedOpError, match="not in ONNX Runtime"):
        normalise(done, {})


def test_map_as_output_is_refused_with_what_to_do() -> None:
    pairs = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    output = helper.make_value_info("y", helper.make_sequence_type_proto(pairs))
    with pytest.raises(MlopscError) as caught:
        normalise(tabular("ZipMap", [1, 2], [output], classlabels_int64s=[0, 1]), {})
    assert "'y' holds maps, as ZipMap has them" in caught.value.message
    assert "options={'zipmap': False}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("op", "attributes", "hint"),
    [
        ("OneHotEncoder", {"cats_strings": ["a"]}, "let encoders alone take strings"),
        ("LabelEncoder", {"keys_strings": ["a"], "values_int64s": [1]}, "feed integers"),
        ("TreeEnsembleClassifier", {"classlabels_strings": ["a"]}, "or use integers"),
    ],
)
def test_strings_are_refused_with_what_to_do(
    op: str, attributes: dict[str, Any], hint: str
) -> None:
    with pytest.raises(UnsupportedOpError, match="holds strings") as caught:
        normalise(tabular(op, [1, 2], [value("y", None)], **attributes), {})
    assert hint in str(caught.value.hint)


def test_names_of_classes_are_no_matter_if_only_scores_are_asked_for() -> None:
    made = tabular(
        "LinearClassifier",
        [1, 2],
        [value("label", [1], "string"), value("y", [1, 3])],
        classlabels_strings=["a", "b", "c"],
        coefficients=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        intercepts=[0.0, 1.0, 2.0],
    )
    del made.graph.output[0]
    done = normalise(made, {})
    given = np.array([[1.0, -1.0]], np.float32)
    assert run_graph(done.model, {"x": given})["y"].tolist() == [[-1.0, 0.0, 1.0]]


def _ensemble(splits: Array, copies: int) -> Node:
    """Trees of one comparison, ``copies`` of each, every copy with a target of its own."""
    trees = len(splits) * copies
    return Node(
        op="ai.onnx.ml::TreeEnsemble",
        inputs=(),
        outputs=(),
        attributes={
            "tree_roots": list(range(trees)),
            "nodes_featureids": [0] * trees,
            "nodes_splits": ir.tensor(np.repeat(splits, copies)),
            "nodes_modes": ir.tensor(np.zeros(trees, np.uint8)),
            "nodes_truenodeids": list(range(0, 2 * trees, 2)),
            "nodes_trueleafs": [1] * trees,
            "nodes_falsenodeids": list(range(1, 2 * trees, 2)),
            "nodes_falseleafs": [1] * trees,
            "leaf_targetids": [t for t in range(copies) for _ in (0, 1)] * len(splits),
            "leaf_weights": ir.tensor(np.tile(np.array([1, 2], np.float32), trees)),
        },
        version=5,
    )


def test_trees_of_one_shape_are_walked_once_and_equal_leaves_are_held_once() -> None:
    node = _ensemble(np.array([0.5, -1.0, 3.0], np.float32), copies=4)
    trees = list(Reader(node).trees())
    heads, words, splits, leaves = tables(trees, 4, 0.0)
    assert heads.tolist() == [[0, 0], [1, 0], [2, 0]]
    assert splits.tolist() == [0.5, -1.0, 3.0]
    assert leaves.tolist() == [[1.0] * 4, [2.0] * 4]
    assert words[:, 3:].tolist() == [[~0, ~1]] * 3
