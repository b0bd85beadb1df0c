"""Frontend *pmml*: what a document predicts for one sample, in double precision.

Source: PMML 4.4, the chapter of each model. ``None`` is no result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from mlopsc.frontends.pmml.element import Element, as_number, malformed, unsupported
from mlopsc.frontends.pmml.evaluate_fields import (
    Value,
    Values,
    evaluate,
    interpolate,
    is_true,
    same,
)
from mlopsc.frontends.pmml.evaluate_rules import (
    ACTIVATIONS,
    INVERSE_LINKS,
    computed,
    normal,
    power,
    softmax,
)
from mlopsc.frontends.pmml.fields import Scope, classes_of, root_scope

Of = Mapping[str, float]


@dataclass
class Answer:
    """What a model predicts.

    Attributes:
        value: A number, or the class.
        shares: Probability, or votes, of each class; empty if there are none.
    """

    value: Value
    shares: dict[str, float] = field(default_factory=dict)


class Evaluator:
    """Predicts for one sample after the other."""

    def __init__(self, document: Element) -> None:
        """Take a document."""
        self._document = document
        _, model = root_scope(Values({}), document)
        self.classes = classes_of(document, model)

    def predict(self, given: Mapping[str, Value]) -> Answer:
        """Return what the model predicts from values by the names of fields."""
        scope, model = root_scope(Values(given), self._document)
        return self._answer(model, scope)

    def _answer(self, model: Element, scope: Scope[Value]) -> Answer:
        rules: dict[str, Callable[[Element, Scope[Value]], Answer]] = {
            "RegressionModel": self._regression,
            "GeneralRegressionModel": self._general,
            "TreeModel": self._tree,
            "MiningModel": self._mining,
            "Scorecard": self._scorecard,
            "NeuralNetwork": self._network,
        }
        answer = rules[model.tag](model, scope)
        if isinstance(answer.value, float):
            answer.value = _as_targeted(model, answer.value)
        return answer

    def _most(self, shares: dict[str, float]) -> Answer:
        # As in the graph: where there is no result, the first class.
        known = {c: -1.0 if math.isnan(x) else x for c, x in shares.items()}
        best = max(self.classes, key=lambda c: known.get(c, 0.0))
        return Answer(best, {c: shares.get(c, 0.0) for c in self.classes})

    def _regression(self, model: Element, scope: Scope[Value]) -> Answer:
        sums: dict[str, float] = {}
        for table in model.all("RegressionTable"):
            sums[table.get("targetCategory")] = _table_sum(table, scope)
        method = model.get("normalizationMethod", "none")
        if model.get("functionName") != "classification":
            (total,) = sums.values()
            rule = INVERSE_LINKS["logit" if method == "softmax" else method]
            return Answer(computed(rule, total))
        names = list(sums)
        if method in ("softmax", "simplemax"):
            shares = sums if method == "simplemax" else softmax(sums)
            return self._most(normal(shares) if method == "simplemax" else shares)
        shares = {name: computed(INVERSE_LINKS[method], x) for name, x in sums.items()}
        if len(names) == 2:
            shares[names[1]] = 1 - shares[names[0]]
        elif method != "none":
            shares = normal(shares)
        return self._most(shares)

    def _general(self, model: Element, scope: Scope[Value]) -> Answer:
        cells: dict[str, list[Element]] = {}
        for cell in [c for matrix in model.all("PPMatrix") for c in matrix.all("PPCell")]:
            cells.setdefault(cell.need("parameterName"), []).append(cell)
        listed = model.one("FactorList")
        factors = {p.need("name") for p in (listed.all("Predictor") if listed else [])}
        sums: dict[str, float] = {}
        for cell in model.must("ParamMatrix").all("PCell"):
            product = cell.number("beta")
            for part in cells.get(cell.need("parameterName"), []):
                name = part.need("predictorName")
                value = scope.look_up(name, part)
                if value is None:
                    return _nothing(self.classes)
                if name in factors or isinstance(value, str):
                    product *= float(same(part, value, part.need("value")))
                else:
                    product *= power(value, part.number("value"))
            category = cell.get("targetCategory")
            sums[category] = sums.get(category, 0.0) + product
        if model.get("modelType") == "multinomialLogistic":
            reference = model.get("targetReferenceCategory") or next(
                c for c in self.classes if c not in sums
            )
            return self._most(softmax({**sums, reference: 0.0}))
        ((category, total),) = sums.items()
        total += _offset(model, scope)
        link = model.get("linkFunction", "identity")
        if link == "power":
            value = power(total, 1 / model.number("linkParameter"))
        else:
            value = computed(INVERSE_LINKS[link], total)
        if model.get("functionName") != "classification":
            return Answer(value)
        reference = model.get("targetReferenceCategory")
        category = category or next(c for c in self.classes if c != (reference or self.classes[0]))
        other = next(c for c in self.classes if c != category)
        return self._most({category: value, other: 1 - value})

    def _tree(self, model: Element, scope: Scope[Value]) -> Answer:
        node = _leaf(model, scope)
        counts = {} if node is None else _distribution(node)
        if node is None or (not node.get("score") and not counts):
            return _nothing(self.classes if model.get("functionName") == "classification" else ())
        if model.get("functionName") != "classification":
            return Answer(node.number("score"))
        shares = counts or {node.need("score"): 1.0}
        best = node.get("score") or str(self._most(shares).value)
        return Answer(best, {c: shares.get(c, 0.0) for c in self.classes})

    def _scorecard(self, model: Element, scope: Scope[Value]) -> Answer:
        total = model.number("initialScore", 0.0)
        for characteristic in model.must("Characteristics").all("Characteristic"):
            for attribute in characteristic.all("Attribute"):
                if is_true(_predicate(attribute), scope):
                    total += attribute.number("partialScore")
                    break
            else:
                return Answer(None)
        return Answer(total)

    def _mining(self, model: Element, scope: Scope[Value]) -> Answer:
        segmentation = model.must("Segmentation")
        method = segmentation.need("multipleModelMethod")
        found: list[tuple[float, Answer]] = []
        for segment in segmentation.all("Segment"):
            if not is_true(_predicate(segment), scope):
                continue
            inner = segment.children[-1]
            inside = scope.inside(inner)
            answer = self._answer(inner, inside)
            _put_outputs(inner, answer, inside, scope)
            found.append((segment.number("weight", 1.0), answer))
            if method == "selectFirst":
                break
        if not found:
            return _nothing(self.classes if model.get("functionName") == "classification" else ())
        if method in ("selectFirst", "modelChain"):
            return found[-1][1]
        if model.get("functionName") == "classification":
            return self._elected(segmentation, method, found)
        return _combined(segmentation, method, found)

    def _elected(
        self, segmentation: Element, method: str, found: list[tuple[float, Answer]]
    ) -> Answer:
        weighted = method.startswith("weighted")
        votes = dict.fromkeys(self.classes, 0.0)
        if any(answer.value is None for _, answer in found):
            return _nothing(self.classes)
        for weight, answer in found:
            factor = weight if weighted else 1.0
            if method in ("majorityVote", "weightedMajorityVote"):
                votes[str(answer.value)] += factor
            elif method in ("average", "weightedAverage"):
                for name, share in answer.shares.items():
                    votes[name] += factor * share
            else:
                unsupported(segmentation, f"combines classes with {method!r}")
        return self._most(normal(votes))

    def _network(self, model: Element, scope: Scope[Value]) -> Answer:
        values: dict[str, float] = {}
        for given in model.must("NeuralInputs").all("NeuralInput"):
            value = scope.backend.derived(given.must("DerivedField"), scope)
            values[given.need("id")] = math.nan if value is None else float(value)
        layers = model.all("NeuralLayer")
        for layer in layers:
            sums = {n.need("id"): _neuron(n, values) for n in layer.all("Neuron")}
            name = layer.get("activationFunction") or model.need("activationFunction")
            limit = layer.number("threshold", model.number("threshold", 0.0))
            out = {
                key: float(x > limit) if name == "threshold" else computed(ACTIVATIONS[name], x)
                for key, x in sums.items()
            }
            last = model.get("normalizationMethod", "none") if layer is layers[-1] else "none"
            method = layer.get("normalizationMethod") or last
            if method != "none":
                out = softmax(out) if method == "softmax" else normal(out)
            values |= out
        return self._network_answer(model, values)

    def _network_answer(self, model: Element, values: Of) -> Answer:
        shares: dict[str, float] = {}
        for output in model.must("NeuralOutputs").all("NeuralOutput"):
            value = values[output.need("outputNeuron")]
            derived = output.must("DerivedField")
            discrete, scaled = derived.one("NormDiscrete"), derived.one("NormContinuous")
            if discrete is not None:
                shares[discrete.need("value")] = value
            elif scaled is not None:
                points = [(p.number("norm"), p.number("orig")) for p in scaled.all("LinearNorm")]
                return Answer(interpolate(scaled, value, sorted(points), "asIs"))
            else:
                return Answer(value)
        return self._most(shares)


def _predicate(element: Element) -> Element:
    return element.must(
        "True", "False", "SimplePredicate", "SimpleSetPredicate", "CompoundPredicate"
    )


def _nothing(classes: tuple[str, ...]) -> Answer:
    return Answer(None, dict.fromkeys(classes, math.nan))


def _table_sum(table: Element, scope: Scope[Value]) -> float:
    total = table.number("intercept", 0.0)
    for part in table.all("NumericPredictor"):
        value = scope.look_up(part.need("name"), part)
        exponent = part.number("exponent", 1.0)
        total += part.number("coefficient") * (
            math.nan if value is None else power(float(value), exponent)
        )
    for part in table.all("CategoricalPredictor"):
        value = scope.look_up(part.need("name"), part)
        if value is not None and same(part, value, part.need("value")):
            total += part.number("coefficient")
    for part in table.all("PredictorTerm"):
        product = part.number("coefficient")
        for reference in part.all("FieldRef"):
            value = scope.look_up(reference.need("field"), reference)
            product *= math.nan if value is None else float(value)
        total += product
    return total


def _offset(model: Element, scope: Scope[Value]) -> float:
    name = model.get("offsetVariable")
    if not name:
        return model.number("offsetValue", 0.0)
    value = scope.look_up(name, model)
    return math.nan if value is None else float(value)


def _as_targeted(model: Element, value: float) -> float:
    targets = model.one("Targets")
    target = None if targets is None else targets.one("Target")
    if target is None:
        return value
    value = min(max(value, target.number("min", -math.inf)), target.number("max", math.inf))
    value = value * target.number("rescaleFactor", 1.0) + target.number("rescaleConstant", 0.0)
    casts: dict[str, Callable[[float], float]] = {
        "": lambda x: x,
        "round": lambda x: math.floor(x + 0.5),
        "ceiling": math.ceil,
        "floor": math.floor,
    }
    return float(casts[target.get("castInteger")](value))


def _distribution(node: Element) -> dict[str, float]:
    parts = node.all("ScoreDistribution")
    given = {p.need("value"): p.number("probability", -1.0) for p in parts}
    if given and min(given.values()) >= 0:
        return given
    return normal({p.need("value"): p.number("recordCount") for p in parts})


def _leaf(model: Element, scope: Scope[Value]) -> Element | None:
    """Return the node at which a walk through a tree ends, or None if it has no result."""
    strategy = model.get("missingValueStrategy", "none")
    last = model.get("noTrueChildStrategy", "returnNullPrediction") == "returnLastPrediction"
    node = model.must("Node")
    if not is_true(_predicate(node), scope):
        return None
    while children := node.all("Node"):
        chosen = None
        for child in children:
            truth = is_true(_predicate(child), scope)
            if truth is None and strategy != "none":
                if strategy == "lastPrediction":
                    return node
                if strategy != "defaultChild":
                    return None
                chosen = next(
                    (c for c in children if c.get("id") == node.need("defaultChild")), None
                )
                if chosen is None:
                    malformed(node, "has a default child that is not there")
                break
            if truth:
                chosen = child
                break
        if chosen is None:
            return node if last else None
        node = chosen
    return node


def _combined(segmentation: Element, method: str, found: list[tuple[float, Answer]]) -> Answer:
    if any(a.value is None for _, a in found):
        return Answer(None)
    values = [as_number(segmentation, str(a.value)) for _, a in found]
    weights = [weight for weight, _ in found]
    weighted = math.fsum(w * v for w, v in zip(weights, values, strict=True))
    rules: dict[str, Callable[[], float]] = {
        "sum": lambda: math.fsum(values),
        "weightedSum": lambda: weighted,
        "average": lambda: math.fsum(values) / len(values),
        "weightedAverage": lambda: weighted / math.fsum(weights),
        "median": lambda: median(values),
        "max": lambda: max(values),
    }
    if method not in rules:
        unsupported(segmentation, f"combines numbers with {method!r}")
    return Answer(rules[method]())


def _neuron(neuron: Element, values: Of) -> float:
    parts = [c.number("weight") * values[c.need("from")] for c in neuron.all("Con")]
    return neuron.number("bias", 0.0) + math.fsum(parts)


def _put_outputs(model: Element, answer: Answer, inside: Scope[Value], scope: Scope[Value]) -> None:
    """Make the outputs of a segment's model known to what follows."""
    outputs = model.one("Output")
    for output in [] if outputs is None else outputs.all("OutputField"):
        feature = output.get("feature", "predictedValue")
        value: Value
        if feature == "predictedValue":
            value = answer.value
        elif feature == "probability":
            value = answer.shares.get(output.get("value") or str(answer.value))
        elif feature == "transformedValue":
            value = evaluate(output.children[0], inside)
        else:
            continue
        inside.known[output.need("name")] = value
        scope.known[output.need("name")] = value
