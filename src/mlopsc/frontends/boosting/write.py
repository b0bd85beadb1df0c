"""Writes an ``Ensemble`` as ONNX: one ``TreeEnsemble``, and plain operators around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlopsc._version import __version__
from mlopsc.frontends.boosting import forest
from mlopsc.frontends.boosting.forest import MEMBER, Ensemble, Leaf, Split, Tree, limit_of
from mlopsc.frontends.boosting.old_columns import old_columns

INPUT: Final = "X"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
PREDICTION: Final = "prediction"
OPSETS: Final = {"": 18, "ai.onnx.ml": 5}
_IR_VERSION: Final = 9
_LEAST: Final = np.float32(1e-35)  # LightGBM's zero, kZeroThreshold
Array = np.ndarray[Any, Any]


class Graph:
    """Nodes and constants that are collected, under names with a prefix.

    Attributes:
        nodes: In the order they run.
        initializers: Constants.
        tabular: Version of ``ai.onnx.ml``; ``TreeEnsemble`` came with 5.
    """

    def __init__(self, prefix: str = "", tabular: int = OPSETS["ai.onnx.ml"]) -> None:
        """Start empty."""
        self.tabular = tabular
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = prefix

    def add(
        self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output and return that."""
        made = name or f"{self._prefix}{op.lower()}_{len(self.nodes)}"
        label = f"{self._prefix}{op}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [made], name=label, domain=domain, **attributes)
        )
        return made

    def name_last(self, name: str) -> None:
        """Give the output of the last node another name; no node reads it."""
        self.nodes[-1].output[0] = name

    def constant(self, value: Array | np.floating[Any]) -> str:
        """Add a constant and return its name."""
        name = f"{self._prefix}constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def to_model(ensemble: Ensemble) -> onnx.ModelProto:
    """Return the model: an input ``X``; ``label`` and ``probabilities``, or ``prediction``."""
    graph = Graph()
    rows, float32 = "batch", onnx.TensorProto.FLOAT
    answers = add_answers(graph, ensemble, INPUT, named=True)
    outputs = []
    for name in answers:
        if name == LABEL:
            shape: list[str | int] = [rows, ensemble.targets] if ensemble.many else [rows]
            outputs.append(helper.make_tensor_value_info(name, _label_type(ensemble), shape))
        else:
            width = max(ensemble.targets, len(ensemble.labels or ()))
            outputs.append(helper.make_tensor_value_info(name, float32, [rows, width]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "boosted_trees",
            [helper.make_tensor_value_info(INPUT, float32, [rows, ensemble.features])],
            outputs,
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid(domain, number) for domain, number in OPSETS.items()],
        ir_version=_IR_VERSION,
        producer_name="mlopsc",
        producer_version=__version__,
    )
    onnx.checker.check_model(model)
    return model


def add_answers(graph: Graph, ensemble: Ensemble, x: str, *, named: bool) -> tuple[str, ...]:
    """Add all that ``ensemble`` computes of ``x`` (samples x features, float32).

    Args:
        graph: Where to.
        ensemble: Checked.
        x: Name of the input.
        named: Whether the outputs get the names that ``to_model`` gives them.

    Returns:
        Names of the label and the probabilities, or of the prediction.
    """
    scores = _add_scores(graph, ensemble, x)
    if ensemble.labels is None:
        return (_add_link(graph, ensemble, scores, PREDICTION if named else ""),)
    name = PROBABILITIES if named else ""
    label = LABEL if named else ""
    if ensemble.many:
        chances = _add_link(graph, ensemble, scores, name)
        yes = graph.add("Greater", chances, graph.constant(np.float32(0.5)))
        return graph.add("Cast", yes, name=label, to=onnx.TensorProto.INT64), chances
    if ensemble.targets == 1:
        second = _add_link(graph, ensemble, scores, "")
        first = graph.add("Sub", graph.constant(np.float32(1)), second)
        chances = graph.add("Concat", first, second, name=name, axis=1)
        limit = 0.0 if ensemble.label_of_sum else 0.5
        judged = scores if ensemble.label_of_sum else second
        yes = graph.add("Greater", judged, graph.constant(np.float32(limit)))
        place = graph.add("Cast", yes, to=onnx.TensorProto.INT64)
        place = graph.add("Squeeze", place, graph.constant(np.array([1])))
    else:
        chances = _add_link(graph, ensemble, scores, name)
        # Of sums that differ the probabilities may be equal, once they are rounded.
        place = graph.add("ArgMax", scores, axis=1, keepdims=0)
    if ensemble.labels == tuple(range(len(ensemble.labels))):
        if named:
            graph.name_last(label)
        return label or place, chances
    table = graph.constant(_label_table(ensemble))
    return graph.add("Gather", table, place, name=label, axis=0), chances


def _label_table(ensemble: Ensemble) -> Array:
    labels = ensemble.labels or ()
    if any(isinstance(label, str) for label in labels):
        return np.array([str(label) for label in labels], object)
    if any(isinstance(label, float) for label in labels):
        return np.array(labels, np.float32)
    return np.array(labels, np.int64)


def _label_type(ensemble: Ensemble) -> int:
    kind = _label_table(ensemble).dtype.kind
    types = onnx.TensorProto
    return {"O": types.STRING, "f": types.FLOAT, "i": types.INT64}[kind]


def _add_link(graph: Graph, ensemble: Ensemble, scores: str, last: str) -> str:
    """Add what the sum becomes; the last node gives ``last``, if that is a name."""
    if ensemble.factor != 1.0:
        factor = graph.constant(np.float32(ensemble.factor))
        scores = graph.add("Mul", scores, factor)
    if ensemble.link == forest.SIGMOID:
        return graph.add("Sigmoid", scores, name=last)
    if ensemble.link == forest.SOFTMAX:
        return graph.add("Softmax", scores, name=last, axis=1)
    if ensemble.link == forest.EXP:
        return graph.add("Exp", scores, name=last)
    if ensemble.link == forest.LOG1P_EXP:
        return graph.add("Softplus", scores, name=last)
    if ensemble.link == forest.SQUARE:
        return graph.add("Mul", scores, graph.add("Abs", scores), name=last)
    if ensemble.link == forest.SIGN:
        above = graph.add("Greater", scores, graph.constant(np.float32(0)))
        return graph.add("Cast", above, name=last, to=onnx.TensorProto.FLOAT)
    if last:
        graph.name_last(last)
    return last or scores


def _add_scores(graph: Graph, ensemble: Ensemble, x: str) -> str:
    """Add the sum of trees, or of products, and the base; return samples x outputs."""
    base = np.array(ensemble.base or [0.0] * ensemble.targets, np.float64)
    if ensemble.coefficients is not None:
        missing = graph.add("IsNaN", x)
        given = graph.add("Where", missing, graph.constant(np.float32(0)), x)
        weights = graph.constant(ensemble.coefficients.astype(np.float32))
        scores = graph.add("MatMul", given, weights)
    else:
        x = _add_zeros(graph, ensemble, x)
        trees, constant = _without_stumps(ensemble)
        base = base + constant / ensemble.divisor
        if graph.tabular >= OPSETS["ai.onnx.ml"]:
            columns = _columns(trees, ensemble.targets)
            scores = graph.add("TreeEnsemble", x, domain="ai.onnx.ml", **columns)
        else:
            columns = old_columns(trees, ensemble.targets)
            scores = graph.add("TreeEnsembleRegressor", x, domain="ai.onnx.ml", **columns)
        if ensemble.divisor != 1:
            scores = graph.add("Div", scores, graph.constant(np.float32(ensemble.divisor)))
    if base.any():
        scores = graph.add("Add", scores, graph.constant(base.astype(np.float32)))
    return scores


def _add_zeros(graph: Graph, ensemble: Ensemble, x: str) -> str:
    """Add what makes NaN of zeros, in the features where they stand for missing values."""
    if not ensemble.zero_is_missing:
        return x
    columns = np.zeros((1, ensemble.features), bool)
    columns[0, list(ensemble.zero_is_missing)] = True
    zero = graph.add("LessOrEqual", graph.add("Abs", x), graph.constant(_LEAST))
    missing = graph.add("And", zero, graph.constant(columns))
    return graph.add("Where", missing, graph.constant(np.float32(np.nan)), x)


def _without_stumps(ensemble: Ensemble) -> tuple[list[Tree], Array]:
    """Return the trees that compare something, and the sum of the others."""
    constant = np.zeros(ensemble.targets)
    trees = []
    for tree in ensemble.trees:
        root = tree.nodes[tree.root]
        if isinstance(root, Split):
            trees.append(tree)
        else:
            constant[tree.target : tree.target + len(root.values)] += root.values
    if not trees:  # what does not look at its input is a model, too
        trees = [
            Tree({0: Split(0, forest.LEQ, 0.0, False, 1, 2), 1: Leaf((0.0,)), 2: Leaf((0.0,))})
        ]
    return trees, constant


def _columns(trees: Sequence[Tree], targets: int) -> dict[str, Any]:
    """Return the attributes of a ``TreeEnsemble`` that adds ``trees``.

    A leaf there has one weight: a tree whose leaves have several is written once for each.
    """
    names = (
        "nodes_featureids", "nodes_missing_value_tracks_true", "nodes_truenodeids",
        "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs", "leaf_targetids", "tree_roots",
    )  # fmt: skip
    columns: dict[str, list[int]] = {name: [] for name in names}
    modes, splits, members, weights = list[int](), list[np.float32](), list[float](), list[float]()
    for tree in trees:
        reached = list(tree.reached())
        for copy in range(max(len(n.values) for _, n in reached if isinstance(n, Leaf))):
            places: dict[int, tuple[int, int]] = {}
            inner = len(modes)
            for place, node in reached:
                if isinstance(node, Leaf):
                    places[place] = (len(weights), 1)
                    weights.append(node.values[copy])
                    columns["leaf_targetids"].append(tree.target + copy)
                else:
                    places[place] = (inner, 0)
                    inner += 1
            columns["tree_roots"].append(len(modes))
            for _, node in reached:
                if isinstance(node, Leaf):
                    continue
                columns["nodes_featureids"].append(node.feature)
                columns["nodes_missing_value_tracks_true"].append(int(node.missing))
                for way, to in (("true", node.then), ("false", node.other)):
                    columns[f"nodes_{way}nodeids"].append(places[to][0])
                    columns[f"nodes_{way}leafs"].append(places[to][1])
                modes.append(node.mode)
                splits.append(limit_of(node.threshold, node.mode))
                members.extend([*node.members, np.nan] if node.mode == MEMBER else [])
    with np.errstate(over="ignore"):
        leaves = np.array(weights, np.float32)
    attributes: dict[str, Any] = {
        **columns,
        "n_targets": targets,
        "aggregate_function": 1,
        "post_transform": 0,
        "nodes_modes": numpy_helper.from_array(np.array(modes, np.uint8), "modes"),
        "nodes_splits": numpy_helper.from_array(np.array(splits, np.float32), "splits"),
        "leaf_weights": numpy_helper.from_array(leaves, "weights"),
    }
    if not any(columns["nodes_missing_value_tracks_true"]):
        del attributes["nodes_missing_value_tracks_true"]
    if members:
        sets = np.array(members, np.float32)
        attributes["membership_values"] = numpy_helper.from_array(sets, "members")
    return attributes
