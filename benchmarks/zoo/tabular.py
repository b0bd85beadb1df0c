"""Models of rows: a wide perceptron and ensembles of decision trees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from zoo.graph import ML_OPSET, Graph

FEATURES = 30


def wide_mlp() -> onnx.ModelProto:
    """Return four dense layers of up to 4096 x 4096 for one row of 1024 features."""
    g = Graph("wide_mlp")
    x = g.input("row", (1, 1024))
    sizes = (1024, 4096, 4096, 1024, 100)
    for number, (before, after) in enumerate(pairwise(sizes)):
        x = g.gemm(g.op("Relu", x) if number else x, (before, after), gain=2.0 if number else 1.0)
    g.output(x, "scores", (1, sizes[-1]))
    return g.model()


def boosted_trees() -> onnx.ModelProto:
    """Return 200 trees of depth 6 with one weight a leaf, as gradient boosting makes them."""
    return random_ensemble(200, 6, 1)


def random_ensemble(trees: int, depth: int, classes: int) -> onnx.ModelProto:
    """Return full trees of random splits with a weight for each class in every leaf."""
    rng = np.random.default_rng(0)
    splits = (1 << depth) - 1
    nodes = 2 * splits + 1
    number = np.arange(nodes)
    inner = number < splits
    leaves = np.repeat(number[~inner], classes)
    prefix, suffix = ("class", "Classifier") if classes > 1 else ("target", "Regressor")
    attributes: dict[str, Any] = {
        "nodes_treeids": np.repeat(np.arange(trees), nodes),
        "nodes_nodeids": np.tile(number, trees),
        "nodes_featureids": rng.integers(0, FEATURES, trees * nodes),
        "nodes_values": rng.normal(size=trees * nodes),
        "nodes_modes": ["BRANCH_LEQ" if i else "LEAF" for i in inner] * trees,
        "nodes_truenodeids": np.tile(np.where(inner, 2 * number + 1, 0), trees),
        "nodes_falsenodeids": np.tile(np.where(inner, 2 * number + 2, 0), trees),
        f"{prefix}_treeids": np.repeat(np.arange(trees), len(leaves)),
        f"{prefix}_nodeids": np.tile(leaves, trees),
        f"{prefix}_ids": np.tile(np.arange(classes), trees * (splits + 1)),
        f"{prefix}_weights": rng.uniform(size=trees * len(leaves)) / trees,
    }
    attributes = {k: v if isinstance(v, list) else v.tolist() for k, v in attributes.items()}
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes])
    outputs, more = [scores], {"n_targets": 1}
    if classes > 1:
        label = helper.make_tensor_value_info("label", TensorProto.INT64, [1])
        outputs, more = [label, scores], {"classlabels_int64s": list(range(classes))}
    node = helper.make_node(
        f"TreeEnsemble{suffix}", ["x"], [o.name for o in outputs], domain="ai.onnx.ml",
        **attributes, **more,
    )  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])
    graph = helper.make_graph([node], "trees", [x], outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
