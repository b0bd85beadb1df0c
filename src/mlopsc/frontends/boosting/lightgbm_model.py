"""Reads the text in which LightGBM saves models into an ``Ensemble``.

Source: ``gbdt_model_text.cpp``, ``tree.cpp`` and ``tree.h`` of LightGBM; versions 2 to 4 of the
format, which differ in what is not read here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.boosting import forest
from mlopsc.frontends.boosting.forest import LEQ, MEMBER, Ensemble, Leaf, Split, Tree

ZERO: Final = float(np.float32(1e-35))  # kZeroThreshold
VERSIONS: Final = ("v2", "v3", "v4")
_LINKS: Final = {
    "binary": forest.SIGMOID,
    "cross_entropy": forest.SIGMOID,
    "cross_entropy_lambda": forest.LOG1P_EXP,
    "gamma": forest.EXP,
    "multiclass": forest.SOFTMAX,
    "multiclassova": forest.SIGMOID,
    "poisson": forest.EXP,
    "tweedie": forest.EXP,
    **dict.fromkeys(
        (
            "custom", "fair", "huber", "lambdarank", "mape", "quantile", "rank_xendcg",
            "regression", "regression_l1",
        ),
        forest.IDENTITY,
    ),
}  # fmt: skip
# Bits of decision_type, and what the two bits of missing values mean.
_CATEGORICAL: Final = 1
_DEFAULT_LEFT: Final = 2
_NONE, _ZERO, _NAN = 0, 1, 2
Section = Mapping[str, str]


def read(text: str) -> Ensemble:
    """Return the model.

    Raises:
        ConversionError: It has linear models in its leaves, or an objective that is not known.
        Exception: The text is damaged.
    """
    body, ended, rest = text.replace("\r\n", "\n").partition("\nend of trees")
    if not ended:
        raise SourceError("it does not come to 'end of trees': the file is cut off")
    if "\nparameters:" in rest and "\nend of parameters\n" not in f"{rest}\n":
        # Otherwise it is whole, but LightGBM 4.7 crashes.
        raise SourceError("it does not come to 'end of parameters': the file is cut off")
    first, *parts = re.split(r"\n(?=Tree=\d+\n)", body)
    header = _section(first)
    if header["version"] not in VERSIONS:
        raise SourceError(f"its version is {header['version']}; expected {', '.join(VERSIONS)}")
    per_round = int(header["num_tree_per_iteration"])
    if per_round < 1 or len(parts) % per_round:
        raise SourceError(f"it has {len(parts)} trees, {per_round} to a round")
    _check_sizes(header, parts)
    zeros = _Missing()
    trees = [
        _read_tree(_section(part), number % per_round, zeros) for number, part in enumerate(parts)
    ]
    ensemble = Ensemble(
        features=int(header["max_feature_idx"]) + 1,
        targets=per_round,
        trees=trees,
        zero_is_missing=zeros.checked(),
        names=tuple(header.get("feature_names", "").split()),
        written_by=f"LightGBM (text format {header['version']})",
    )
    if "average_output" in header:
        ensemble.divisor = max(len(parts) // per_round, 1)
    _read_objective(ensemble, header)
    ensemble.configuration = {
        "objective": header.get("objective", "custom"),
        "feature_names": list(ensemble.names),
        "parameters": dict(_parameters(rest)),
    }
    _note_categories(ensemble, rest)
    return ensemble


def without_sizes(text: str) -> str:
    """Return a model without the sizes of its trees.

    By them LightGBM reads trees on several threads, where an error ends the process.
    """
    return re.sub(r"^tree_sizes=.*\n", "", text, count=1, flags=re.MULTILINE)


def _check_sizes(header: Section, parts: list[str]) -> None:
    """Make sure that trees are as long as the header says: a file was changed otherwise."""
    if "tree_sizes" not in header:
        return
    told = [int(word) for word in header["tree_sizes"].split()]
    if len(told) != len(parts):
        raise SourceError(f"it has {len(parts)} trees and tells of {len(told)}")
    # The last part ends before the line break that belongs to 'end of trees'.
    for number, (size, part) in enumerate(zip(told, parts, strict=True)):
        if size != len(part.encode()) + 1:
            raise SourceError(
                f"tree {number} has {len(part.encode()) + 1} bytes and the header tells of {size}"
            )


def _section(text: str) -> dict[str, str]:
    """Return lines ``key=value``; a line without a value is a flag."""
    pairs = (line.partition("=") for line in text.splitlines() if line)
    return {key: value for key, _, value in pairs}


def _read_objective(ensemble: Ensemble, header: Section) -> None:
    name, *words = header.get("objective", "custom").split()
    settings = dict(word.partition(":")[::2] for word in words)
    if name not in _LINKS:
        raise ConversionError(
            f"LightGBM's objective '{name}' is not known; expected one of "
            f"{', '.join(sorted(_LINKS))}"
        )
    ensemble.objective, ensemble.link = name, _LINKS[name]
    if "sqrt" in words:
        ensemble.link = forest.SQUARE
    if name in ("binary", "multiclassova"):
        ensemble.factor = float(settings.get("sigmoid") or 1)
    if name == "binary":
        ensemble.labels, ensemble.label_of_sum = (0, 1), True
    elif name in ("multiclass", "multiclassova"):
        ensemble.labels = tuple(range(ensemble.targets))


class _Missing:
    """Features with a comparison that takes zeros for missing values, and those without."""

    def __init__(self) -> None:
        self.zero = set[int]()
        self.other = set[int]()

    def checked(self) -> tuple[int, ...]:
        if both := sorted(self.zero & self.other):
            raise ConversionError(
                f"LightGBM: feature {both[0]} takes zeros for missing values in some trees and not "
                "in others",
                hint="train all rounds with the same zero_as_missing",
            )
        return tuple(sorted(self.zero))


def _read_tree(part: Section, target: int, missing: _Missing) -> Tree:
    """Return one tree; leaves stand behind its comparisons."""
    leaves = int(part["num_leaves"])
    if part.get("is_linear", "0").strip() == "1":
        raise ConversionError(
            "LightGBM: the leaves of this model are linear models (linear_tree=true), which an "
            "ONNX TreeEnsemble cannot hold",
            hint="train it with linear_tree=false",
        )
    values = _numbers(part, "leaf_value", leaves)
    inner = leaves - 1
    if inner < 0:
        raise SourceError("a tree has no leaves")
    nodes: dict[int, Leaf | Split] = {
        inner + number: Leaf((value,)) for number, value in enumerate(values)
    }
    if not inner:
        return Tree(nodes, 0, target)
    features, kinds = (
        _integers(part, "split_feature", inner),
        _integers(part, "decision_type", inner),
    )
    left, right = _integers(part, "left_child", inner), _integers(part, "right_child", inner)
    thresholds = _numbers(part, "threshold", inner)
    sets = list(_category_sets(part))
    for place in range(inner):
        then, other = (_place(ways[place], inner) for ways in (left, right))
        kind, threshold, feature = kinds[place], thresholds[place], features[place]
        if kind & _CATEGORICAL:
            number = int(threshold)
            if not 0 <= number < len(sets):
                raise SourceError(f"node {place} asks for set {number} of {len(sets)}")
            missing.other.add(feature)
            nodes[place] = Split(feature, MEMBER, 0.0, False, then, other, sets[number])
            continue
        default, rule = bool(kind & _DEFAULT_LEFT), kind >> 2 & 3
        if rule == _NONE:  # NaN counts as zero
            default = threshold >= 0
        (missing.zero if rule == _ZERO else missing.other).add(feature)
        nodes[place] = Split(feature, LEQ, _snapped(threshold), default, then, other)
    return Tree(nodes, 0, target)


def _snapped(threshold: float) -> float:
    """Return a threshold for features that are compared as they come.

    LightGBM takes features within ``ZERO`` of zero for zero before it compares.
    """
    if not -ZERO <= threshold <= ZERO:
        return threshold
    return ZERO if threshold >= 0 else float(np.nextafter(-ZERO, -np.inf))


def _place(child: int, inner: int) -> int:
    """Return where a child stands; leaves are ``~number`` in the file."""
    if child >= inner:
        raise SourceError(f"it leads to node {child} of {inner}")
    return child if child >= 0 else inner + ~child


def _numbers(part: Section, key: str, count: int) -> list[float]:
    values = [float(word) for word in part[key].split()]
    if len(values) != count:
        raise SourceError(f"'{key}' has {len(values)} values; expected {count}")
    return values


def _integers(part: Section, key: str, count: int) -> list[int]:
    values = [int(word) for word in part[key].split()]
    if len(values) != count:
        raise SourceError(f"'{key}' has {len(values)} values; expected {count}")
    return values


def _category_sets(part: Section) -> Iterator[tuple[float, ...]]:
    """Yield the sets of categories, which the file holds as words of 32 bits."""
    count = int(part.get("num_cat", "0"))
    if count <= 0:
        return
    starts = _integers(part, "cat_boundaries", count + 1)
    words = [int(word) for word in part["cat_threshold"].split()]
    for start, end in itertools.pairwise(starts):
        if not 0 <= start <= end <= len(words):
            raise SourceError(
                f"a set of categories takes the words {start} to {end} of {len(words)}"
            )
        chosen = np.array(words[start:end], np.uint32)
        bits = np.unpackbits(chosen.view(np.uint8), bitorder="little")
        yield tuple(float(v) for v in np.flatnonzero(bits))


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the training was told: lines ``[name: value]``."""
    yield from re.findall(r"^\[(\w+): (.*)\]$", text, re.MULTILINE)


def _note_categories(ensemble: Ensemble, text: str) -> None:
    """Keep pandas's categories, whose codes the model takes."""
    found = re.search(r"^pandas_categorical:(.*)$", text, re.MULTILINE)
    if found is None or found[1] in ("null", "[]"):
        return
    tables: Any = json.loads(found[1])
    ensemble.configuration["pandas_categorical"] = tables
    ensemble.notes += (
        "it was trained with pandas categories: the bundle takes their codes, in the order of "
        "'pandas_categorical' of the training configuration",
    )
