"""Converters of trees for skl2onnx, written because its own are not exact.

What they do that skl2onnx 1.20's do not: ``HistGradientBoosting*`` converts at all with onnx 1.23
(the other writes booleans among integers, which protobuf refuses), its thresholds of float64 are
rounded down, as ``x <= t`` needs, and its categories and links are kept; NaN takes the side that
was learned; leaves of forests are added before they are divided, so that votes which are equal in
scikit-learn are equal here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlopsc.frontends.rounding import below
from mlopsc.frontends.sklearn.nodes import Writer

Array = np.ndarray[Any, Any]
_LEAF = "LEAF"


@dataclass
class _Forest:
    """Attributes of a ``TreeEnsembleRegressor`` under construction."""

    targets: int
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)

    def branch(
        self, tree: int, node: int, mode: str, feature: int, value: float, true: int, false: int,
        missing: bool = False,
    ) -> None:  # fmt: skip
        """Add a comparison."""
        row = {
            "treeids": tree, "nodeids": node, "modes": mode, "featureids": feature,
            "values": value, "truenodeids": true, "falsenodeids": false, "hitrates": 1.0,
            "missing_value_tracks_true": int(missing),
        }  # fmt: skip
        for key, entry in row.items():
            self.nodes.setdefault(f"nodes_{key}", []).append(entry)

    def leaf(self, tree: int, node: int, weights: Mapping[int, float]) -> None:
        """Add a leaf with its weights, by target."""
        self.branch(tree, node, _LEAF, 0, 0.0, 0, 0)
        for target, weight in weights.items():
            row = {"treeids": tree, "nodeids": node, "ids": target, "weights": weight}
            for key, entry in row.items():
                self.leaves.setdefault(f"target_{key}", []).append(entry)

    def write(self, writer: Writer, name: str, base: Sequence[float] = ()) -> str:
        """Write the node that sums the trees over tensor ``name``; return its output."""
        bases = {"base_values": [float(np.float32(b)) for b in base]} if any(base) else {}
        return writer.add(
            "TreeEnsembleRegressor",
            [name],
            domain="ai.onnx.ml",
            n_targets=self.targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **self.nodes,
            **self.leaves,
            **bases,
        )


def forest(scope: Any, operator: Any, container: Any) -> None:
    """Convert a decision tree or a forest, of a classifier or a regressor."""
    model = operator.raw_operator
    writer = Writer(scope, operator, container)
    trees = [one.tree_ for one in getattr(model, "estimators_", [model])]
    classes = getattr(model, "classes_", None)
    if classes is not None and int(model.n_outputs_) > 1:
        raise NotImplementedError("a forest that classifies several outputs at once")
    binary = classes is not None and len(classes) == 2
    targets = 1 if binary else int(trees[0].value[0].size)
    grown = _Forest(targets)
    for number, tree in enumerate(trees):
        _plain_tree(grown, number, tree, shares=classes is not None, binary=binary)
    total = grown.write(writer, writer.features())
    if len(trees) > 1:
        total = writer.add("Div", [total, writer.constant(np.float32(len(trees)))])
    if classes is None:
        writer.finish([total])
        return
    if binary:
        other = writer.add("Sub", [writer.constant(np.float32(1)), total])
        total = writer.add("Concat", [other, total], axis=1)
    writer.classify(total, classes)


def _plain_tree(grown: _Forest, number: int, tree: Any, *, shares: bool, binary: bool) -> None:
    """Add a ``sklearn.tree._tree.Tree``; it compares float32 with float64."""
    to_left = getattr(tree, "missing_go_to_left", None)
    for node in range(tree.node_count):
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left < 0:
            weights = np.asarray(tree.value[node], np.float64).ravel()
            if shares and weights.sum():
                weights = weights / weights.sum()
            weights = weights[1:2] if binary else weights
            grown.leaf(number, node, dict(enumerate(map(float, weights))))
            continue
        missing = bool(to_left[node]) if to_left is not None else False
        threshold = below(float(tree.threshold[node]))
        feature = int(tree.feature[node])
        grown.branch(number, node, "BRANCH_LEQ", feature, threshold, left, right, missing)


def boosting(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``HistGradientBoostingClassifier`` and ``HistGradientBoostingRegressor``."""
    model = operator.raw_operator
    writer = Writer(scope, operator, container)
    targets = int(model.n_trees_per_iteration_)
    grown = _Forest(targets)
    trees = [(k, tree) for round_ in model._predictors for k, tree in enumerate(round_)]
    categories = Categories(model)
    for number, (target, tree) in enumerate(trees):
        _histogram_tree(grown, number, target, tree, categories)
    base = np.asarray(model._baseline_prediction, np.float64).ravel()
    total = grown.write(writer, writer.features(), [float(b) for b in base])
    classes = getattr(model, "classes_", None)
    if classes is None:
        writer.finish([_link(writer, total, model._loss.link)])
        return
    raw = bool(container.get_options(model, {"raw_scores": False}).get("raw_scores"))
    if targets > 1:
        writer.classify(total if raw else writer.add("Softmax", [total], axis=1), classes)
        return
    if raw:
        writer.decide(total, classes)
        return
    yes = writer.add("Sigmoid", [total])
    no = writer.add("Sub", [writer.constant(np.float32(1)), yes])
    writer.classify(writer.add("Concat", [no, yes], axis=1), classes)


def _link(writer: Writer, total: str, link: Any) -> str:
    """Write the inverse of the link function of a loss."""
    inverse: Mapping[str, Callable[[], str]] = {
        "IdentityLink": lambda: total,
        "LogLink": lambda: writer.add("Exp", [total]),
        "LogitLink": lambda: writer.add("Sigmoid", [total]),
    }
    kind = type(link).__name__
    if kind not in inverse:
        raise NotImplementedError(f"HistGradientBoosting with the link {kind}")
    return inverse[kind]()


class Categories:
    """What the categorical features of a histogram model are, as raw values of raw columns.

    The model encodes categories and moves them to the front before its trees see them; here trees
    compare with what was encoded.
    """

    def __init__(self, model: Any) -> None:
        """Read the encoder of a fitted model."""
        flags = getattr(model, "is_categorical_", None)
        count = int(model.n_features_in_)
        self.columns = list(range(count))
        self._known: dict[int, list[float]] = {}
        if flags is None:
            return
        chosen = [i for i in range(count) if flags[i]]
        self.columns = chosen + [i for i in range(count) if not flags[i]]
        encoder = model._preprocessor.named_transformers_["encoder"]
        for place, values in enumerate(encoder.categories_):
            if np.asarray(values).dtype.kind in "OSU":
                raise NotImplementedError("HistGradientBoosting over categories that are strings")
            self._known[place] = [float(v) for v in values if not np.isnan(v)]

    def split(self, node: Any, bitsets: Array) -> tuple[list[float], list[float]]:
        """Return the raw categories that go left and right at a node."""
        known = self._known[int(node["feature_idx"])]
        bits = bitsets[int(node["bitset_idx"])]
        goes = [bool(int(bits[code // 32]) >> (code % 32) & 1) for code in range(len(known))]
        left = [value for value, yes in zip(known, goes, strict=True) if yes]
        right = [value for value, yes in zip(known, goes, strict=True) if not yes]
        return left, right


def _histogram_tree(
    grown: _Forest, number: int, target: int, tree: Any, categories: Categories
) -> None:
    """Add a ``TreePredictor``; it compares float64 with float64."""
    fresh = iter(range(len(tree.nodes), 1 << 31))
    for place, node in enumerate(tree.nodes):
        if node["is_leaf"]:
            grown.leaf(number, place, {target: float(node["value"])})
            continue
        feature = categories.columns[int(node["feature_idx"])]
        left, right = int(node["left"]), int(node["right"])
        to_left = bool(node["missing_go_to_left"])
        if node["is_categorical"]:
            sides = categories.split(node, tree.raw_left_cat_bitsets)
            # What is unknown, and NaN, equals nothing and so takes the side of what is missing.
            named, side, rest = (sides[1], right, left) if to_left else (sides[0], left, right)
            _any_of(grown, number, place, feature, named, side, rest, fresh)
            continue
        threshold = below(float(node["num_threshold"]))
        grown.branch(number, place, "BRANCH_LEQ", feature, threshold, left, right, to_left)


def _any_of(
    grown: _Forest, number: int, place: int, feature: int, named: Sequence[float], side: int,
    rest: int, fresh: Iterator[int],
) -> None:  # fmt: skip
    """Add comparisons that lead to ``side`` if the feature is one of ``named``, else to ``rest``.

    ONNX's trees are trees: what several comparisons lead to must be one place, so a set is a chain.
    """
    if not named:  # never true: NaN is equal to nothing
        grown.branch(number, place, "BRANCH_EQ", feature, float("nan"), side, rest)
        return
    for position, value in enumerate(named):
        following = rest if position == len(named) - 1 else next(fresh)
        grown.branch(number, place, "BRANCH_EQ", feature, value, side, following)
        place = following
