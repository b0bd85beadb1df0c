"""Frontend *pmml*: trees, scorecards and ensembles of models as nodes of a graph.

An ensemble of trees is one ``TreeEnsemble``, if what becomes of the trees is a sum.
Source: PMML 4.4, *TreeModel*, *Scorecard* and *Multiple Models*.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from mlopsc.frontends.pmml.convert_models import Models, Result, shares_of
from mlopsc.frontends.pmml.convert_trees import PREDICATES, Trees, Weigh
from mlopsc.frontends.pmml.element import Element, malformed, unsupported
from mlopsc.frontends.pmml.fields import MODELS, Scope
from mlopsc.frontends.pmml.graph import LARGEST, NAN, Column

_VOTES: Final = ("majorityVote", "weightedMajorityVote")
_MEANS: Final = ("average", "weightedAverage")
_SUMS: Final = (*_MEANS, "sum", "weightedSum")


class Mining:
    """Converts any model of a document."""

    def __init__(self, models: Models) -> None:
        """Take the converter of other models."""
        self._models, self._graph = models, models.columns.graph
        self._classes = models.classes

    def convert(self, model: Element, scope: Scope[Column]) -> Result:
        """Return what a model predicts."""
        rules: dict[str, Callable[[Element, Scope[Column]], Result]] = {
            "RegressionModel": self._models.regression,
            "GeneralRegressionModel": self._models.general,
            "NeuralNetwork": self._models.network,
            "TreeModel": self._tree,
            "Scorecard": self._scorecard,
            "MiningModel": self._mining,
        }
        if model.tag not in rules:
            unsupported(model, "is of a kind that is not converted")
        if model.get("isScorable", "true") == "false":
            unsupported(model, "says that it is not scorable")
        result = rules[model.tag](model, scope)
        return Result(self._targeted(model, result.value)) if result.value else result

    def _targeted(self, model: Element, value: str) -> str:
        """Return a number as the ``Targets`` of a model want it."""
        g, targets = self._graph, model.one("Targets")
        target = None if targets is None else targets.one("Target")
        if target is None:
            return value
        if {"min", "max"} & target.attributes.keys():
            low, high = target.number("min", -LARGEST), target.number("max", LARGEST)
            value = g.op("Clip", value, g.constant(low), g.constant(high))
        if "rescaleFactor" in target.attributes:
            value = g.op("Mul", value, g.constant(target.number("rescaleFactor")))
        if "rescaleConstant" in target.attributes:
            value = g.op("Add", value, g.constant(target.number("rescaleConstant")))
        cast = target.get("castInteger")
        if cast == "round":
            return g.op("Floor", g.op("Add", value, g.constant(0.5)))
        if cast and cast not in ("ceiling", "floor"):
            malformed(target, f"casts with {cast!r}")
        return g.op("Ceil" if cast == "ceiling" else "Floor", value) if cast else value

    def _is_class(self, model: Element) -> bool:
        name = model.need("functionName")
        if name not in ("classification", "regression"):
            unsupported(model, f"is a model for {name!r}")
        return name == "classification"

    def _tree(self, model: Element, scope: Scope[Column]) -> Result:
        if not self._is_class(model):
            trees = Trees(self._models.columns, self._models.matrix(), 1)
            trees.add_tree(model, scope, _score)
            return Result(trees.tensor())
        count = len(self._classes)
        trees = Trees(self._models.columns, self._models.matrix(), count + 1)
        trees.add_tree(model, scope, self._shares_and_label)
        sums = trees.tensor()
        pick = functools.partial(self._pick, sums)
        return Result(shares=pick(range(count)), label=pick([count]))

    def _pick(self, tensor: str, places: range | list[int]) -> str:
        index = self._graph.constant(list(places), np.int64)
        return self._graph.op("Gather", tensor, index, axis=1)

    def _shares(self, node: Element | None) -> tuple[float, ...]:
        """Return the probability of each class at a node."""
        if node is None or not (node.get("score") or node.one("ScoreDistribution")):
            return (NAN,) * len(self._classes)
        shares = np.zeros(len(self._classes))
        parts = node.all("ScoreDistribution")
        named = [self._models.place(node, p.need("value")) for p in parts]
        if parts and all("probability" in p.attributes for p in parts):
            shares[named] = [p.number("probability") for p in parts]
        elif parts:
            shares[named] = [p.number("recordCount") for p in parts]
            with np.errstate(invalid="ignore"):
                shares /= shares.sum()
        else:
            shares[self._models.place(node, node.need("score"))] = 1
        return tuple(shares.tolist())

    def _label(self, node: Element | None) -> int:
        if node is None:
            return 0
        if node.get("score"):
            return self._models.place(node, node.get("score"))
        shares = self._shares(node)
        return 0 if np.isnan(shares).any() else int(np.argmax(shares))

    def _shares_and_label(self, node: Element | None) -> tuple[float, ...]:
        return (*self._shares(node), float(self._label(node)))

    def _vote(self, node: Element | None) -> tuple[float, ...]:
        if np.isnan(self._shares(node)).any():
            return (NAN,) * len(self._classes)
        return tuple(float(i == self._label(node)) for i in range(len(self._classes)))

    def _scorecard(self, model: Element, scope: Scope[Column]) -> Result:
        g = self._graph
        trees = Trees(self._models.columns, self._models.matrix(), 1)
        for characteristic in model.must("Characteristics").all("Characteristic"):
            trees.add_characteristic(characteristic, scope)
        return Result(g.op("Add", trees.tensor(), g.constant(model.number("initialScore", 0.0))))

    def _mining(self, model: Element, scope: Scope[Column]) -> Result:
        segmentation = model.must("Segmentation")
        segments = segmentation.all("Segment")
        if not segments:
            malformed(segmentation, "holds no Segment")
        for segment in segments:
            if segment.children[-1].tag not in MODELS:
                unsupported(segment, f"holds a {segment.children[-1].tag}")
        treatment = segmentation.get("missingPredictionTreatment", "continue")
        if treatment not in ("continue", "returnMissing"):
            unsupported(segmentation, f"treats missing predictions with {treatment!r}")
        method = segmentation.need("multipleModelMethod")
        always = all(s.must(*PREDICATES).tag == "True" for s in segments)
        if method == "modelChain":
            if not always:
                unsupported(segmentation, "chains models on conditions")
            return self._chain(segments, scope)
        plain = always and all(s.children[-1].tag == "TreeModel" for s in segments)
        if plain and all(s.children[-1].one("Targets") is None for s in segments):
            found = self._forest(model, segments, scope, method)
            if found is not None:
                return found
        return self._any(model, segments, scope, method)

    def _forest(
        self, model: Element, segments: list[Element], scope: Scope[Column], method: str
    ) -> Result | None:
        """Return what trees add up to, or None if it is no sum."""
        classes = self._is_class(model)
        if method not in (_VOTES + _MEANS if classes else _SUMS):
            return None
        weighted = method.startswith("weighted")
        weights = [s.number("weight", 1.0) if weighted else 1.0 for s in segments]
        divides = classes or method in _MEANS
        total = sum(weights) if divides else 1.0
        if not total:
            malformed(model, "has weights that add up to 0")
        targets = len(self._classes) if classes else 1
        weigh: Weigh = _score
        if classes:
            weigh = self._vote if method in _VOTES else self._shares
        trees = Trees(self._models.columns, self._models.matrix(), targets)
        for segment, weight in zip(segments, weights, strict=True):
            inner = segment.children[-1]
            scaled = functools.partial(_scaled, weigh, 1.0 if classes else weight / total)
            if classes:
                scaled = functools.partial(_scaled, weigh, weight)
            trees.add_tree(inner, scope.inside(inner), scaled)
        sums = trees.tensor()
        if not classes:
            return Result(sums)
        # Votes are whole numbers until they are divided: ties stay ties.
        return Result(shares=self._graph.op("Div", sums, self._graph.constant(total)))

    def _chain(self, segments: list[Element], scope: Scope[Column]) -> Result:
        result = Result()
        for segment in segments:
            inner = segment.children[-1]
            inside = scope.inside(inner)
            result = self.convert(inner, inside)
            self._put_outputs(inner, result, inside, scope)
        return result

    def _put_outputs(
        self, model: Element, result: Result, inside: Scope[Column], scope: Scope[Column]
    ) -> None:
        """Make the outputs of a segment's model fields of what follows."""
        outputs = model.one("Output")
        for output in [] if outputs is None else outputs.all("OutputField"):
            feature, name = output.get("feature", "predictedValue"), output.need("name")
            if feature == "predictedValue" and result.value:
                column = Column(result.value)
            elif feature == "predictedValue":
                column = Column(self._label_column(result), list(self._classes))
            elif feature == "probability" and result.shares and "value" in output.attributes:
                place = self._models.place(output, output.need("value"))
                column = Column(self._pick(result.shares, [place]))
            elif feature == "transformedValue" and output.children:
                column = self._models.columns.expression(output.children[0], inside)
            else:
                continue  # refused as undeclared where something uses it
            inside.known[name] = scope.known[name] = column

    def _label_column(self, result: Result) -> str:
        g = self._graph
        return result.label or g.number(g.op("ArgMax", result.shares, axis=1, keepdims=1))

    def _any(
        self, model: Element, segments: list[Element], scope: Scope[Column], method: str
    ) -> Result:
        """Combine models of any kind."""
        classes = self._is_class(model)
        weighted = method.startswith("weighted")
        holds, values, weights = [], [], []
        for segment in segments:
            inner = segment.children[-1]
            holds.append(self._models.columns.truth(segment.must(*PREDICATES), scope).holds)
            result = self.convert(inner, scope.inside(inner))
            values.append(self._voted(result, method) if classes else result.value)
            if not values[-1]:
                unsupported(segment, "predicts a class where a number is needed, or a number")
            weights.append(segment.number("weight", 1.0) if weighted else 1.0)
        if method == "selectFirst":
            return self._first(segments, scope, classes)
        g = self._graph
        if method in ("max", "median") and not classes:
            everything = g.op("Concat", *values, axis=1)
            if any(s.must(*PREDICATES).tag != "True" for s in segments):
                unsupported(model, f"combines with {method!r} on conditions")
            return Result(self._ranked(everything, len(values), method))
        if method not in (_VOTES + _MEANS if classes else _SUMS):
            unsupported(model, f"combines with {method!r}")
        parts, counts = [], []
        for hold, value, weight in zip(holds, values, weights, strict=True):
            parts.append(g.where(hold, g.op("Mul", value, g.constant(weight)), 0.0))
            counts.append(g.where(hold, weight, 0.0))
        total = functools.reduce(lambda a, b: g.op("Add", a, b), parts)
        if classes:
            return Result(shares=shares_of(g, total))
        if method in _MEANS:
            count = functools.reduce(lambda a, b: g.op("Add", a, b), counts)
            total = g.op("Div", total, count)
        return Result(total)

    def _voted(self, result: Result, method: str) -> str:
        if method not in _VOTES or not result.shares:
            return result.shares
        g = self._graph
        numbers = g.constant([list(range(len(self._classes)))])
        return g.number(g.op("Equal", self._label_column(result), numbers))

    def _ranked(self, values: str, count: int, method: str) -> str:
        g = self._graph
        if method == "max":
            return g.op("ReduceMax", values, g.constant([1], np.int64), keepdims=1)
        ranked = g.largest(values, count // 2 + 1)
        last = [count // 2] if count % 2 else [count // 2 - 1, count // 2]
        middle = g.op("Gather", ranked, g.constant(last, np.int64), axis=1)
        return g.op("ReduceMean", middle, g.constant([1], np.int64), keepdims=1)

    def _first(self, segments: list[Element], scope: Scope[Column], classes: bool) -> Result:
        """Return what the first segment predicts whose predicate holds."""
        g, columns = self._graph, self._models.columns
        value: str | float = NAN
        label: str | float = 0.0
        for segment in reversed(segments):
            inner = segment.children[-1]
            hold = columns.truth(segment.must(*PREDICATES), scope).holds
            result = self.convert(inner, scope.inside(inner))
            value = g.where(hold, result.shares if classes else result.value, value)
            if classes:
                label = g.where(hold, self._label_column(result), label)
        return Result(shares=str(value), label=str(label)) if classes else Result(str(value))


def _score(node: Element | None) -> tuple[float, ...]:
    """Return the number that a node predicts."""
    return (NAN if node is None or not node.get("score") else node.number("score"),)


def _scaled(weigh: Weigh, factor: float, node: Element | None) -> tuple[float, ...]:
    return tuple(weight * factor for weight in weigh(node))
