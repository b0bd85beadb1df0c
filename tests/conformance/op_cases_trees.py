"""Ensembles of trees in the forms that become a plain ``TreeEnsemble``: see ``op_cases``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import numpy_helper
from op_cases import Case
from op_cases_ml import AVERAGE, EQ, FEATURES, LEQ, MAX, MIN, NEQ, TREES, ensemble, features

TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
Weights = Callable[[np.random.Generator], list[tuple[int, float]]]


def columns(
    key: str,
    prefix: str,
    weights: Weights,
    *,
    trees: int = 12,
    depth: int = 3,
    modes: tuple[str, ...] = ("BRANCH_LEQ",),
    dtype: str = "float32",
) -> dict[str, Any]:
    """Return the attributes of trees as ``TreeEnsembleRegressor`` and ``Classifier`` have them.

    Args:
        key: Of the random numbers.
        prefix: ``target`` or ``class``.
        weights: Draws the classes and weights of a leaf.
        trees: How many.
        depth: At most.
        modes: To choose from.
        dtype: float64 makes tensors of what is float otherwise.
    """
    rng = np.random.default_rng(list(key.encode()))
    nodes: list[list[Any]] = []  # tree, node, feature, value, mode, missing, true, false
    leaves: list[tuple[int, int, int, float]] = []

    def grow(tree: int, depth: int) -> int:
        number = sum(node[0] == tree for node in nodes)
        if depth == 0 or rng.random() < 0.1:
            nodes.append([tree, number, 0, 0.0, "LEAF", 0, 0, 0])
            leaves.extend((tree, number, target, weight) for target, weight in weights(rng))
            return number
        split = float(rng.choice([rng.normal(), 0.0, 1.0, 0.3]))
        node = [tree, number, int(rng.integers(FEATURES)), split, str(rng.choice(modes))]
        node += [int(rng.random() < 0.5), 0, 0]
        nodes.append(node)
        node[6], node[7] = grow(tree, depth - 1), grow(tree, depth - 1)
        return number

    for tree in range(trees):
        grow(tree, depth)
    by_name = dict(
        zip(
            ("treeids", "nodeids", "featureids", "values", "modes", "missing_value_tracks_true",
             "truenodeids", "falsenodeids"),
            zip(*nodes, strict=True), strict=True,
        )
    )  # fmt: skip
    found = {f"nodes_{name}": list(values) for name, values in by_name.items()}
    for name, values in zip(("treeids", "nodeids", "ids", "weights"), zip(*leaves, strict=True),
                            strict=True):  # fmt: skip
        found[f"{prefix}_{name}"] = list(values)
    return wide(found) if dtype == "float64" else found


def wide(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return ``attributes`` with tensors of float64 for lists of floats."""
    return {
        f"{k}_as_tensor" if isinstance(v[0], float) else k: (
            numpy_helper.from_array(np.array(v)) if isinstance(v[0], float) else v
        )
        for k, v in attributes.items()
    }


def one(target: int, low: float = -1.0) -> Weights:
    """Every leaf has one weight for ``target``."""
    return lambda rng: [(target, float(rng.uniform(low, 1)))]


def each(count: int, low: float = -1.0) -> Weights:
    """Every leaf has a weight for every target."""
    return lambda rng: [(t, float(rng.uniform(low, 1))) for t in range(count)]


def some(count: int) -> Weights:
    """Every leaf has weights for some targets, in any order, some twice."""
    return lambda rng: [
        (int(t), float(rng.uniform(-1, 1))) for t in rng.integers(0, count, rng.integers(1, 4))
    ]


def _case(op: str, label: str, dtype: str = "float32", rows: int = 9, **attributes: Any) -> Case:
    name = f"ai.onnx.ml::TreeEnsemble{op}"
    x = features(label, rows, dtype, missing=dtype.startswith("float"))
    return Case(name, label, (x,), 2 if op == "Classifier" else 1, attributes)


def _regressors() -> list[Case]:
    def case(
        label: str, weights: Weights, targets: int, *, dtype: str = "float32", **how: Any
    ) -> Case:
        shape = {k: how.pop(k) for k in ("trees", "depth", "modes") if k in how}
        wide_too = "float64" if dtype == "float64" else "float32"
        trees = columns(label, "target", weights, dtype=wide_too, **shape)
        return _case("Regressor", label, dtype, n_targets=targets, **trees, **how)

    return [
        case("one", one(0), 1, trees=90, base_values=[0.25]),
        case("one_twice", some(1), 1),
        case("modes", one(0), 1, modes=MODES),
        case("each", each(3), 3, base_values=[0.1, -0.2, 0.3], modes=MODES),
        case("some", some(4), 4),
        case("float64", each(2), 2, dtype="float64"),
        case("base_of_some", some(7), 7, base_values=[0.5] * 7, trees=2),
        *(case(f"{a}_{n}", some(n), n, aggregate_function=a, base_values=[0.5] * n, trees=3)
          for a in ("AVERAGE", "MIN", "MAX") for n in (1, 3)),
        *(case(f"{t}_{n}", each(n, 0.02), n, post_transform=t, trees=1)
          for t in TRANSFORMS for n in (1, 3)),
        case("leaf", one(0), 1, depth=0, trees=2),
    ]  # fmt: skip


def _classifiers() -> list[Case]:
    def case(
        label: str, weights: Weights, classes: int, *, dtype: str = "float32", **how: Any
    ) -> Case:
        shape = {k: how.pop(k) for k in ("trees", "depth", "modes") if k in how}
        wide_too = "float64" if dtype == "float64" else "float32"
        trees = columns(label, "class", weights, dtype=wide_too, **shape)
        labels = [7, -2, 3, 11][:classes]
        return _case("Classifier", label, dtype, classlabels_int64s=labels, **trees, **how)

    two = {
        f"two_{name}_{transform}_{len(base)}": (weights, transform, base)
        for name, weights in {
            "first": one(0), "first_shares": one(0, 0.0), "second": one(1),
            "second_shares": one(1, 0.0), "both": each(2), "any": some(2),
        }.items()
        for transform in ("NONE", "LOGISTIC", "SOFTMAX")
        for base in ([], [0.1], [0.1, 0.25])
        if not (name == "any" and len(base) == 1)  # then the runtime writes one score of two
    }  # fmt: skip
    return [
        *(case(k, w, 2, post_transform=t, trees=2, **({"base_values": b} if b else {}))
          for k, (w, t, b) in two.items()),
        case("two_probit", each(2, 0.02), 2, post_transform="PROBIT", trees=1),
        case("two_float64", each(2), 2, dtype="float64"),
        case("two_shares_float64", one(0, 0.0), 2, dtype="float64"),
        *(case(f"four_{t}", each(4, 0.02), 4, post_transform=t, trees=1) for t in TRANSFORMS),
        case("four_base", each(4), 4, base_values=[0.1, -0.5, 0.2, 0.0], modes=MODES),
        case("four_some", some(4), 4, trees=2),
        case("four_missing_class", each(3), 4),
        case("four_float64", some(4), 4, dtype="float64", trees=30),
        case("four_integers", each(4), 4, dtype="int64"),
        case("alone", one(0), 1, base_values=[0.2]),
    ]  # fmt: skip


def ensembles() -> list[Case]:
    """Cases of ``TreeEnsemble`` itself."""

    def case(label: str, targets: int, **how: Any) -> Case:
        trees = ensemble(label, 5, 3, targets=targets, modes=(LEQ, EQ, NEQ), **how)
        return Case(TREES, label, (features(label, 9),), attributes=trees)

    return [
        case("average", 3, aggregate_function=AVERAGE),
        case("least_of_some", 3, aggregate_function=MIN),
        case("row", 2, aggregate_function=MAX),
    ]


def equalities(label: str) -> Case:
    """A set written as a chain of equalities that lead to one leaf."""
    members = [3.0, 1.0, -1.0, 35.0]
    count = len(members)
    tree = {
        "nodes_treeids": [0] * (count + 2),
        "nodes_nodeids": list(range(count + 2)),
        "nodes_featureids": [0] * (count + 2),
        "nodes_values": [*members, 0.0, 0.0],
        "nodes_modes": [*["BRANCH_EQ"] * count, "LEAF", "LEAF"],
        "nodes_truenodeids": [*[count + 1] * count, 0, 0],
        "nodes_falsenodeids": [*range(1, count + 1), 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [count, count + 1],
        "target_ids": [0, 0],
        "target_weights": [1.5, -2.5],
    }
    return _case("Regressor", label, n_targets=1, rows=30, **tree)


def coarse(label: str) -> Case:
    """Trees as measurements of few bits make them: few splits, few different leaves."""
    trees = columns(label, "class", each(3), trees=30, depth=6)
    splits, weights = trees["nodes_values"], trees["class_weights"]
    trees["nodes_values"] = [round(4 * split) / 4 for split in splits]
    trees["class_weights"] = [float(weight > 0.8) for weight in weights]
    return _case("Classifier", label, classlabels_int64s=[0, 1, 2], **trees)


def cases() -> list[Case]:
    """Cases of the operators before ``TreeEnsemble``."""
    return [*_regressors(), *_classifiers(), equalities("chain"), coarse("coarse")]
