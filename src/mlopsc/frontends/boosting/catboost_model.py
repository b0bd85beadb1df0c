"""Reads the JSON in which CatBoost saves models into an ``Ensemble``.

Source: CatBoost's documentation of the format (``model_analysis_tutorial``, ``json_model_helpers``)
and its C++.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.boosting import forest
from mlopsc.frontends.boosting.forest import GT, Ensemble, Leaf, Split, Tree
from mlopsc.frontends.boosting.labels import plain_labels

Json = Mapping[str, Any]
_TRUE_IF_MISSING: Final = "AsTrue"
_DEPTH: Final = 16  # of symmetric trees, as CatBoost allows
_LINKS: Final = {
    "CrossEntropy": forest.SIGMOID,
    "Focal": forest.SIGMOID,
    "Logloss": forest.SIGMOID,
    "MultiClass": forest.SOFTMAX,
    "MultiClassOneVsAll": forest.SIGMOID,
    "MultiCrossEntropy": forest.SIGMOID,
    "MultiLogloss": forest.SIGMOID,
    "Poisson": forest.EXP,
    "Tweedie": forest.EXP,
    **dict.fromkeys(
        (
            "Expectile", "GroupQuantile", "Huber", "LambdaMart", "LogCosh", "LogLinQuantile", "Lq",
            "MAE", "MAPE", "MultiQuantile", "MultiRMSE", "MultiRMSEWithMissingValues",
            "PairLogit", "PairLogitPairwise", "Quantile", "QueryCrossEntropy", "QueryRMSE",
            "QuerySoftMax", "RMSE", "StochasticFilter", "StochasticRank", "YetiRank",
            "YetiRankPairwise",
        ),
        forest.IDENTITY,
    ),
}  # fmt: skip
CATEGORIES: Final = (
    "categorical features, which it turns into numbers with statistics of the training data that "
    "no ONNX operator holds"
)
_OTHER_FEATURES: Final = {
    "categorical_features": CATEGORIES,
    "text_features": "text features",
    "embedding_features": "embeddings",
}


def read(data: bytes | str) -> Ensemble:
    """Return the model.

    Raises:
        ConversionError: It has features that are no numbers, or a loss that is not known.
        Exception: The document is damaged.
    """
    document = json.loads(data)
    info = document["features_info"]
    for key, what in _OTHER_FEATURES.items():
        if info.get(key):
            refuse_features(what)
    features = {int(f["feature_index"]): f for f in info["float_features"]}
    scale, bias = document["scale_and_bias"]
    loss = _loss(document)
    ensemble = Ensemble(
        features=max(int(f["flat_feature_index"]) for f in features.values()) + 1,
        base=[float(v) for v in (bias if isinstance(bias, list) else [bias])],
        link=_LINKS[loss],
        label_of_sum=True,
        names=tuple(str(f.get("feature_id", "")) for f in features.values()),
        objective=loss,
        written_by=f"CatBoost {_version(document)}".strip(),
        configuration={
            "loss": loss,
            "feature_names": [str(f.get("feature_id", "")) for f in features.values()],
            "parameters": document.get("model_info", {}).get("params", {}).get("flat_params", {}),
        },
    )
    if "oblivious_trees" in document:
        ensemble.trees = [
            _symmetric(t, features, float(scale)) for t in document["oblivious_trees"]
        ]
    else:
        ensemble.trees = [_nested(t, features, float(scale)) for t in document["trees"]]
    widths = {
        len(node.values)
        for tree in ensemble.trees
        for _, node in tree.reached()
        if isinstance(node, Leaf)
    }
    ensemble.targets = max(widths, default=1)
    if widths - {ensemble.targets}:
        raise SourceError(f"its leaves have {sorted(widths)} values")
    if len(ensemble.base) == 1:
        ensemble.base = list(ensemble.base) * ensemble.targets
    _read_labels(ensemble, document)
    return ensemble


def refuse_features(what: str) -> NoReturn:
    """Say that a model has features that are no numbers.

    Raises:
        ConversionError: Always.
    """
    raise ConversionError(
        f"CatBoost: the model has {what}; CatBoost's own ONNX export refuses these, too",
        hint="encode categories as numbers before training (one column each, or a code), so that "
        "the encoding can become the bundle's preprocessing",
    )


def _loss(document: Json) -> str:
    params = document.get("model_info", {}).get("params", {})
    loss = str(params.get("loss_function", {}).get("type", ""))
    if loss not in _LINKS:
        raise ConversionError(
            f"CatBoost's loss '{loss}' is not known; expected one of {', '.join(sorted(_LINKS))}"
        )
    return loss


def _version(document: Json) -> str:
    """Return the version out of what git said when CatBoost was built."""
    text = str(document.get("model_info", {}).get("catboost_version_info", ""))
    return text.partition("tags/v")[2].split("\n")[0].strip()


def _read_labels(ensemble: Ensemble, document: Json) -> None:
    if ensemble.link not in (forest.SIGMOID, forest.SOFTMAX):
        return
    if ensemble.objective in ("MultiLogloss", "MultiCrossEntropy"):
        ensemble.labels, ensemble.many = (0, 1), True
        return
    names = document.get("model_info", {}).get("class_params", {}).get("class_names", ())
    count = max(ensemble.targets, 2)
    if len(names) not in (0, count):
        raise SourceError(f"it has {len(names)} class names for {count} classes")
    ensemble.labels = plain_labels(names) if names else tuple(range(count))


def _split(split: Json, features: Mapping[int, Json], then: int, other: int) -> Split:
    kind = split.get("split_type", "FloatFeature")
    if kind != "FloatFeature":
        refuse_features(f"splits of kind {kind}")
    feature = features[int(split["float_feature_index"])]
    missing = feature.get("nan_value_treatment") == _TRUE_IF_MISSING
    column = int(feature["flat_feature_index"])
    border = float(np.float32(split["border"]))  # which it is, however it is printed
    return Split(column, GT, border, missing, then, other)


def _symmetric(tree: Json, features: Mapping[int, Json], scale: float) -> Tree:
    """Return a tree with the same comparison on all nodes of a level.

    Comparison number i gives bit i of the leaf's number.
    """
    splits: Sequence[Json] = tree.get("splits") or ()
    if len(splits) > _DEPTH:
        raise SourceError(f"a tree is {len(splits)} deep; expected at most {_DEPTH}")
    count = 1 << len(splits)
    values = [float(v) * scale for v in tree["leaf_values"]]
    width, left = divmod(len(values), count)
    if left or not width:
        raise SourceError(f"a tree has {len(values)} values for {count} leaves")
    nodes: dict[int, Leaf | Split] = {}
    # Level by level from the last comparison, so that bits are decided from the highest down.
    for level in range(len(splits)):
        split = splits[len(splits) - 1 - level]
        for index in range(1 << level):
            place = (1 << level) - 1 + index
            nodes[place] = _split(split, features, 2 * place + 2, 2 * place + 1)
    for number in range(count):
        nodes[count - 1 + number] = Leaf(tuple(values[number * width : (number + 1) * width]))
    return Tree(nodes)


def _nested(tree: Json, features: Mapping[int, Json], scale: float) -> Tree:
    """Return a tree whose nodes hold their children."""
    nodes: dict[int, Leaf | Split] = {}
    pending: list[tuple[int, Json]] = [(0, tree)]
    free = 1
    while pending:
        place, node = pending.pop()
        if "split" not in node:
            value = node["value"]
            values = value if isinstance(value, list) else [value]
            nodes[place] = Leaf(tuple(float(v) * scale for v in values))
            continue
        nodes[place] = _split(node["split"], features, free + 1, free)
        pending += [(free, node["left"]), (free + 1, node["right"])]
        free += 2
    return Tree(nodes)
