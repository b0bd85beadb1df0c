"""Reads the model that XGBoost saves as JSON or UBJSON into an ``Ensemble``.

Source: ``doc/model.schema`` of XGBoost and its C++ (``tree_model.cc``, ``gbtree_model.cc``,
``multi_target_tree_model.cc``, ``learner.cc``); versions 1.0 to 3.2 write it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.boosting import forest
from mlopsc.frontends.boosting.forest import LT, MEMBER, Ensemble, Leaf, Split, Tree
from mlopsc.frontends.boosting.ubjson import decode

Json = Mapping[str, Any]
# What the sum becomes. The base score is kept as a prediction; the inverse brings it back to the
# scale of sums.
_LINKS: Final = {
    "binary:hinge": forest.SIGN,
    "binary:logistic": forest.SIGMOID,
    "count:poisson": forest.EXP,
    "multi:softmax": forest.SOFTMAX,
    "multi:softprob": forest.SOFTMAX,
    "reg:gamma": forest.EXP,
    "reg:logistic": forest.SIGMOID,
    "reg:tweedie": forest.EXP,
    "survival:aft": forest.EXP,
    "survival:cox": forest.EXP,
    **dict.fromkeys(
        (
            "binary:logitraw", "rank:map", "rank:ndcg", "rank:pairwise", "reg:absoluteerror",
            "reg:expectileerror", "reg:pseudohubererror", "reg:quantileerror",
            "reg:squarederror", "reg:squaredlogerror", "reg:linear",
        ),
        forest.IDENTITY,
    ),
}  # fmt: skip
_CATEGORICAL: Final = 1  # of split_type


def parse(data: bytes) -> Json:
    """Return the document, whichever of the two forms it has."""
    document = decode(data) if data[:2] == b"{L" else json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("learner"), dict):
        raise SourceError("it has no 'learner'")
    return document


def read(document: Json) -> Ensemble:
    """Return the model.

    Raises:
        ConversionError: Its objective is not known.
        Exception: The document is damaged.
    """
    learner = document["learner"]
    booster = learner["gradient_booster"]
    objective = str(learner["objective"]["name"])
    if objective not in _LINKS:
        raise ConversionError(
            f"XGBoost's objective '{objective}' is not known; expected one of "
            f"{', '.join(sorted(_LINKS))}"
        )
    sizes = learner["learner_model_param"]
    classes, outputs = int(sizes.get("num_class", 0)), int(sizes.get("num_target", 1))
    attributes = {str(k): str(v) for k, v in learner.get("attributes", {}).items()}
    ensemble = Ensemble(
        features=int(sizes["num_feature"]),
        link=_LINKS[objective],
        names=tuple(str(name) for name in learner.get("feature_names", ())),
        objective=objective,
        written_by=_version(document),
        configuration={
            "objective": learner["objective"],
            "booster": booster["name"],
            "attributes": attributes,
            "feature_names": list(learner.get("feature_names", ())),
            "feature_types": list(learner.get("feature_types", ())),
        },
    )
    if booster["name"] == "gblinear":
        ensemble.targets = max(classes, outputs, 1)
        _read_linear(ensemble, booster["model"])
    else:
        _read_trees(ensemble, booster, attributes, max(classes, outputs, 1))
    base = [float(v) for v in np.atleast_1d(json.loads(str(sizes["base_score"]).lower()))]
    margins = [_margin(ensemble.link, objective, v) for v in base]
    if len(margins) == 1 or booster["name"] == "gblinear":  # whose code knows the first one only
        margins = margins[:1] * ensemble.targets
    biases = ensemble.base or [0.0] * ensemble.targets
    ensemble.base = [b + m for b, m in zip(biases, margins, strict=True)]
    if objective.startswith("multi:"):
        ensemble.labels = tuple(range(ensemble.targets))
    elif objective == "binary:logistic":
        ensemble.labels, ensemble.many = (0, 1), ensemble.targets > 1
    return ensemble


def feature_types(document: Json) -> tuple[str, ...]:
    """Return XGBoost's letter for each feature's type; empty if they are not told."""
    return tuple(str(kind) for kind in document["learner"].get("feature_types", ()))


def has_old_vectors(document: Json) -> bool:
    """Whether leaves are vectors and lack columns of version 3.2, which crashes without them."""
    booster = document["learner"]["gradient_booster"]
    trees = booster.get("gbtree", booster)["model"].get("trees", ())
    return any(
        int(tree["tree_param"].get("size_leaf_vector", 1)) > 1
        and not {"leaf_weights", "loss_changes", "parents", "sum_hessian"} <= tree.keys()
        for tree in trees
    )


def _version(document: Json) -> str:
    numbers = document.get("version", ())
    return "XGBoost " + ".".join(str(int(v)) for v in numbers) if numbers else "XGBoost"


def _margin(link: str, objective: str, score: float) -> float:
    """Return a base score on the scale of sums."""
    if link == forest.SIGMOID:
        if not 0 < score < 1:
            raise SourceError(f"the base score {score} of '{objective}' is not between 0 and 1")
        return -math.log(1 / score - 1)
    if link == forest.EXP:
        if score <= 0:
            raise SourceError(f"the base score {score} of '{objective}' is not positive")
        return math.log(score)
    return score


def _read_linear(ensemble: Ensemble, model: Json) -> None:
    weights = np.array(model["weights"], np.float64).reshape(-1, ensemble.targets)
    if weights.shape[0] != ensemble.features + 1 or not np.isfinite(weights).all():
        raise SourceError(
            f"it has {weights.size} weights for {ensemble.features} features and "
            f"{ensemble.targets} outputs"
        )
    ensemble.coefficients = weights[:-1]
    ensemble.base = weights[-1].tolist()


def _read_trees(ensemble: Ensemble, booster: Json, attributes: Json, groups: int) -> None:
    """Fill in the trees, of boosting or of DART, which gives each a weight."""
    scales: Sequence[float] | None = None
    if booster["name"] == "dart":
        scales = [float(v) for v in booster["weight_drop"]]
        booster = booster["gbtree"]
    if booster["name"] != "gbtree":
        raise SourceError(f"its booster is '{booster['name']}'; expected gbtree, dart or gblinear")
    model = booster["model"]
    trees, info = list(model["trees"]), [int(v) for v in model["tree_info"]]
    if len(info) != len(trees) or (scales is not None and len(scales) != len(trees)):
        raise SourceError(f"it has {len(trees)} trees and tells of {len(info)}")
    parallel = max(int(model["gbtree_model_param"].get("num_parallel_tree", 1)), 1)
    ensemble.targets = max(groups, max(info, default=0) + 1)
    if trees and int(trees[0]["tree_param"].get("size_leaf_vector", 1)) > 1:
        groups = 1
    else:
        groups = ensemble.targets
    used = _used_trees(ensemble, model, attributes, len(trees), groups * parallel)
    ensemble.trees = [
        _read_tree(tree, info[number], 1.0 if scales is None else scales[number], ensemble.targets)
        for number, tree in enumerate(trees[:used])
    ]


def _used_trees(
    ensemble: Ensemble, model: Json, attributes: Json, trees: int, per_round: int
) -> int:
    """Return how many trees count: those up to the best round, where training stopped early."""
    if "best_iteration" not in attributes:
        return trees
    rounds = int(attributes["best_iteration"]) + 1
    starts = model.get("iteration_indptr")
    if not starts:
        starts = range(0, trees + 1, per_round)
    if not 0 < rounds < len(starts):
        return trees
    used = int(starts[rounds])
    if not 0 <= used <= trees:
        raise SourceError(f"round {rounds} ends with tree {used} of {trees}")
    if used < trees:
        ensemble.notes += (
            f"training stopped early: {rounds} of {len(starts) - 1} rounds are used, up to the "
            "best one, as XGBoost's scikit-learn interface and R do",
        )
    return used


def _read_tree(tree: Json, target: int, scale: float, outputs: int) -> Tree:
    """Return one tree; what is scaled is rounded to float32 as XGBoost does."""
    left, right = tree["left_children"], tree["right_children"]
    features, conditions = tree["split_indices"], tree["split_conditions"]
    default_left = tree["default_left"]
    count = len(left)
    kinds = tree.get("split_type") or [0] * count
    sizes = {len(c) for c in (left, right, features, conditions, default_left, kinds)}
    width = int(tree["tree_param"].get("size_leaf_vector", 1))
    if width > 1 and "leaf_weights" not in tree:
        sizes.discard(len(conditions))
    if len(sizes) > 1:
        raise SourceError(f"its columns have {sorted(sizes)} values; expected {count}")
    categories = _categories(tree)
    nodes: dict[int, Leaf | Split] = {}
    for place in range(count):
        if int(left[place]) == -1:
            values = _leaf(tree, place, width, outputs)
            with np.errstate(over="ignore"):
                scaled = np.array(values, np.float32) * np.float32(scale)
            nodes[place] = Leaf(tuple(scaled.tolist()))
            continue
        then, other = int(left[place]), int(right[place])
        missing = bool(default_left[place])
        if int(kinds[place]) == _CATEGORICAL:
            # XGBoost sends to the right what is in the set.
            members = categories[place]
            nodes[place] = Split(
                int(features[place]), MEMBER, 0.0, not missing, other, then, members
            )
        else:
            # JSON has the shortest decimal that is read as this float32.
            threshold = float(np.float32(conditions[place]))
            nodes[place] = Split(int(features[place]), LT, threshold, missing, then, other)
    found = Tree(nodes, 0, 0 if width > 1 else target)
    if "parents" in tree:
        _check_parents(found, tree["parents"])
    return found


def _check_parents(tree: Tree, parents: Sequence[Any]) -> None:
    """Make sure that the ways back are those of the tree; XGBoost crashes on others."""
    for place, node in tree.reached():
        if isinstance(node, Split):
            for child in (node.then, node.other):
                if not 0 <= child < len(parents) or int(parents[child]) != place:
                    raise SourceError(f"the parent of node {child} is not {place}")


def _leaf(tree: Json, place: int, width: int, outputs: int) -> list[float]:
    """Return the values of a leaf; vectors have a table, in newer versions of the leaves alone."""
    if width <= 1:
        return [float(tree["split_conditions"][place])]
    if width != outputs:
        raise SourceError(f"a leaf has {width} values for {outputs} outputs")
    table, row = tree["base_weights"], place
    if "leaf_weights" in tree:
        table, row = tree["leaf_weights"], int(tree["right_children"][place])
    values = table[row * width : (row + 1) * width] if row >= 0 else ()
    if len(values) != width:
        raise SourceError(f"leaf {place} has {len(values)} values; expected {width}")
    return [float(v) for v in values]


def _categories(tree: Json) -> dict[int, tuple[float, ...]]:
    """Return the set of categories of each node that asks for one."""
    taken = tree.get("categories", ())
    columns = [tree.get(f"categories_{name}", ()) for name in ("nodes", "segments", "sizes")]
    if sum(int(size) for size in columns[2]) > len(taken):
        raise SourceError("its sets of categories overlap")
    found = {}
    for node, start, size in zip(*columns, strict=True):
        members = taken[int(start) : int(start) + int(size)]
        if (
            len(members) != int(size)
            or int(start) < 0
            or any(not 0 <= v < 1 << 24 for v in members)
        ):
            raise SourceError(f"the categories of node {node} are damaged")
        found[int(node)] = tuple(float(v) for v in members)
    return found
