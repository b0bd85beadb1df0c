"""``ai.onnx.ml``: ensembles of trees, as one plain ``TreeEnsemble`` and what follows it.

Source: the ONNX operator schemas and, where they are silent, ONNX Runtime's
``tree_ensemble_aggregator.h``, whose special rules for two classes these are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor
from mlopsc.importer.normalise.expansions.ml_features import rows
from mlopsc.importer.normalise.expansions.ml_forest import (
    CHECKED,
    MAX,
    MIN,
    SUM,
    Forest,
    reachable_rows,
    write,
)
from mlopsc.importer.normalise.expansions.ml_labels import class_labels
from mlopsc.importer.normalise.expansions.ml_read import (
    join_equalities,
    numbers,
    read_columns,
    read_ensemble,
)
from mlopsc.importer.normalise.expansions.ml_scores import (
    label_if,
    label_of_largest,
    post_transform,
    transform,
    two_classes,
)

FLOAT = ir.DataType.FLOAT
_RULES = {"AVERAGE": SUM, "SUM": SUM, "MIN": MIN, "MAX": MAX}
# As TreeEnsemble numbers them.
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def _samples(b: Builder) -> Tensor:
    """Return the input as float64 if it is that, else as float32, samples x features."""
    x = rows(b.required(0))
    return x if x.dtype == ir.DataType.DOUBLE else x.cast(FLOAT)


def _checked_rule(forest: Forest, features: int, targets: int, name: str) -> int:
    """Return the rule of an aggregate function; the trees are what they must be for it."""
    if name not in _RULES:
        raise Refusal(f"'aggregate_function' is '{name}'; expected one of {', '.join(_RULES)}")
    forest.check(features, targets)
    rule = _RULES[name]
    if rule != SUM and any(w != w for row in forest.leaves for _, w in row):
        raise Refusal("a leaf's weight is NaN, of which none is least or largest")
    return rule


def _aggregate(b: Builder, x: Tensor, forest: Forest, targets: int, name: str) -> Tensor:
    """Return samples x targets."""
    result = write(b, x, forest, targets, _checked_rule(forest, x.shape[1], targets, name))
    return result / len(forest.roots) if name == "AVERAGE" else result


def _finish(b: Builder, scores: Tensor, name: str) -> Tensor:
    """Transform the scores; the runtime transforms a single one only by PROBIT."""
    return scores if scores.shape[1] == 1 and name != "PROBIT" else transform(b, scores, name)


def _tree_ensemble(b: Builder) -> Tensor | None:
    x = b.required(0)
    if CHECKED in b.node.meta:
        return None
    forest, targets = read_ensemble(b), int(b.attribute("n_targets", 0))
    aggregate, after = b.attribute("aggregate_function", 1), b.attribute("post_transform", 0)
    if aggregate not in range(len(_AGGREGATES)) or after not in range(len(_TRANSFORMS)):
        raise Refusal(f"its aggregate function is {aggregate} and its post transform {after}")
    name, rule = _TRANSFORMS[after], _AGGREGATES[aggregate]
    if name in ("SOFTMAX", "LOGISTIC"):
        raise Refusal(
            f"its post transform is {after}, {name} in the specification and not in ONNX Runtime",
            hint="leave it 0, and put an operator for the transform behind it",
        )
    if name == "NONE" and rule != "AVERAGE" and x.rank == 2:
        _checked_rule(forest, x.shape[1], targets, rule)
        if forest.is_plain:
            b.node.meta[CHECKED] = True
            return None
    result = _aggregate(b, _samples(b), forest, targets, rule)
    return result if name == "NONE" else _finish(b, result, name).cast(x.dtype)


def _regressor(b: Builder) -> Tensor:
    x, targets = _samples(b), int(b.attribute("n_targets", 1))
    forest, base = read_columns(b, "target", x.dtype), numbers(b, "base_values", x.dtype)
    join_equalities(forest)
    if len(base) not in (0, targets):
        raise Refusal(f"it has {len(base)} 'base_values' for {targets} targets")
    if targets == 1:  # of several weights the runtime takes the first
        forest = replace(forest, leaves=[row[:1] for row in forest.leaves])
    result = _aggregate(b, x, forest, targets, b.attribute("aggregate_function", "SUM"))
    if any(base):
        result = result + b.constant(np.array(base), x.dtype)
        given = _given(b, x, forest, targets)
        if given is not None and targets > 1:  # without a weight the base counts for nothing
            result = b.where(given, result, 0.0)
    return _finish(b, result, post_transform(b)).cast(FLOAT)


def _classifier(b: Builder) -> list[Tensor]:
    x, labels = _samples(b), class_labels(b, "classlabels_int64s")
    forest, base = read_columns(b, "class", x.dtype), numbers(b, "base_values", x.dtype)
    join_equalities(forest)
    count, name = len(labels), post_transform(b)
    if len(base) not in ((0, 1, 2) if count == 2 else (0, 1) if count == 1 else (0, count)):
        raise Refusal(f"it has {len(base)} 'base_values' for {count} classes")
    if count == 1:
        forest = replace(forest, leaves=[row[:1] for row in forest.leaves])
    scores = _aggregate(b, x, forest, count, "SUM")
    if count == 1:
        scores = scores + base[0] if base else scores
        return [label_if(b, scores > 0.0, 1, 0), _finish(b, scores, name).cast(FLOAT)]
    if count == 2:
        return _Two(
            b=b,
            first=scores.part(1, 0, 1),
            second=scores.part(1, 1, 2),
            given=_given(b, x, forest, 2),
            base=base,
            labels=labels,
            name=name,
            one_class=len(set(b.attribute("class_ids") or ())) == 1,
            shares=all(weight >= 0 for weight in numbers(b, "class_weights", x.dtype)),
        ).outputs()
    if base:
        scores = scores + b.constant(np.array(base), x.dtype)
        label = label_of_largest(b, scores, labels)
    else:
        given = _given(b, x, forest, count)
        known = scores if given is None else b.where(given, scores, -np.inf)
        label = label_of_largest(b, known, labels)
    return [label, transform(b, scores, name)]


def _given(b: Builder, x: Tensor, forest: Forest, count: int) -> Tensor | None:
    """Return which classes get a weight from any tree, per sample; None if all always do."""
    always: set[int] = set()
    ever: set[int] = set()
    for root in forest.roots:
        found = [{target for target, _ in row} for row in reachable_rows(forest, root)]
        always |= set.intersection(*found)
        ever |= set.union(*found)
    if len(always) == count:
        return None
    if always == ever:
        return b.constant(np.array([[c in always for c in range(count)]]))
    marks = replace(forest, leaves=[[(t, 1.0) for t, _ in row] for row in forest.leaves])
    return write(b, x, marks, count, MAX) > 0.0


@dataclass(frozen=True)
class _Two:
    """The scores of two classes, where the runtime has rules of its own.

    Attributes:
        b: Of the node.
        first: Scores of the first class (samples x 1).
        second: Scores of the second class.
        given: Which classes get a weight from any tree (samples x 2); None if both always do.
        base: As many base values as there are.
        labels: Of the classes.
        name: The transform.
        one_class: Whether all weights are for the same class.
        shares: Whether no weight is negative.
    """

    b: Builder
    first: Tensor
    second: Tensor
    given: Tensor | None
    base: list[float]
    labels: list[int]
    name: str
    one_class: bool
    shares: bool

    def outputs(self) -> list[Tensor]:
        """Return labels and scores."""
        if self.given is None or self.given.array is not None:
            alone = self.given is not None and not self.given.array[0, 1]  # type: ignore[index]
            return list(self._without_second() if alone else self._with_second())
        label, scores = self._with_second()
        other_label, other_scores = self._without_second()
        chosen = self.given.part(1, 1, 2)
        return [
            self.b.where(chosen.reshape(-1), label, other_label),
            self.b.where(chosen, scores, other_scores),
        ]

    def _with_second(self) -> tuple[Tensor, Tensor]:
        first, second = self.first, self.second
        if len(self.base) == 2:
            second = self.first + self.base[1]
            first = -second
        elif self.base:
            first = first + self.base[0]
        if self.given is not None:
            first = self.b.where(self.given.part(1, 0, 1), first, 0.0)
        scores = self.b.concat([first, second], 1)
        return self._label(second), transform(self.b, scores, self.name)

    def _without_second(self) -> tuple[Tensor, Tensor]:
        first = self.first + self.base[0] if self.base else self.first
        if len(self.base) == 2:
            zeros = self.b.constant(np.zeros(first.shape), first.dtype)
            scores = transform(self.b, self.b.concat([first, zeros], 1), self.name)
        elif self.base and not self.one_class:
            raise Refusal("one base value says nothing of a second class that gets no weight")
        else:
            shares = self.one_class and self.shares
            scores = two_classes(self.b, first, self.name, shares=shares)
        return self._label(first), scores

    def _label(self, score: Tensor) -> Tensor:
        if not self.one_class:
            return label_if(self.b, score > 0.0, 1, 0)
        return label_if(
            self.b, score > (0.5 if self.shares else 0.0), self.labels[1], self.labels[0]
        )


EXPANSIONS: Final[dict[str, Expansion]] = {
    "TreeEnsemble": _tree_ensemble,
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
