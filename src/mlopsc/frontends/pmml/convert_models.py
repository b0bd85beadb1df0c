"""Frontend *pmml*: linear models and neural networks as nodes of a graph.

Source: PMML 4.4, *RegressionModel*, *GeneralRegressionModel* and *NeuralNetwork*.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlopsc.frontends.pmml.convert_fields import Columns, numbers_of
from mlopsc.frontends.pmml.convert_trees import Matrix
from mlopsc.frontends.pmml.element import Element, malformed, unsupported
from mlopsc.frontends.pmml.fields import Scope
from mlopsc.frontends.pmml.graph import Array, Column, Graph


@dataclass(frozen=True)
class Result:
    """What a model predicts.

    Attributes:
        value: A number for each sample: [N, 1]; empty for classes.
        shares: Probability, or votes, of each class: [N, classes]; empty for numbers.
        label: The number of the class, as float: [N, 1]; empty if it is that of the largest share.
    """

    value: str = ""
    shares: str = ""
    label: str = ""


def _gauss(g: Graph, x: str) -> str:
    scaled = g.op("Mul", x, g.constant(1 / np.sqrt(2)))
    return g.op("Mul", g.op("Add", g.op("Erf", scaled), g.constant(1.0)), g.constant(0.5))


def _log_log(g: Graph, x: str) -> str:
    return g.op("Exp", g.op("Neg", g.op("Exp", g.op("Neg", x))))


def _arc(g: Graph, x: str, scale: float, shift: float) -> str:
    y = g.op("Mul", g.op("Atan", x), g.constant(scale))
    return g.op("Add", y, g.constant(shift))


def _softened(g: Graph, x: str) -> str:
    return g.op("Div", x, g.op("Add", g.op("Abs", x), g.constant(1.0)))


Rule = Callable[[Graph, str], str]
INVERSE_LINKS: Final[Mapping[str, Rule]] = {
    "none": lambda g, x: x,
    "identity": lambda g, x: x,
    "logit": lambda g, x: g.op("Sigmoid", x),
    "probit": _gauss,
    "cloglog": lambda g, x: g.op("Sub", g.constant(1.0), _log_log(g, g.op("Neg", x))),
    "loglog": _log_log,
    "cauchit": lambda g, x: _arc(g, x, 1 / np.pi, 0.5),
    "exp": lambda g, x: g.op("Exp", x),
    "log": lambda g, x: g.op("Exp", x),
    "inverse": lambda g, x: g.op("Reciprocal", x),
}
_ACTIVATIONS: Final[Mapping[str, Rule]] = {
    "identity": lambda g, x: x,
    "logistic": lambda g, x: g.op("Sigmoid", x),
    "tanh": lambda g, x: g.op("Tanh", x),
    "exponential": lambda g, x: g.op("Exp", x),
    "reciprocal": lambda g, x: g.op("Reciprocal", x),
    "square": lambda g, x: g.op("Mul", x, x),
    "Gauss": lambda g, x: g.op("Exp", g.op("Neg", g.op("Mul", x, x))),
    "sine": lambda g, x: g.op("Sin", x),
    "cosine": lambda g, x: g.op("Cos", x),
    "Elliott": _softened,
    "arctan": lambda g, x: _arc(g, x, 2 / np.pi, 0.0),
    "rectifier": lambda g, x: g.op("Relu", x),
}


def softmax(g: Graph, x: str) -> str:
    """Return the softmax of each row."""
    return g.op("Softmax", x, axis=1)


def shares_of(g: Graph, x: str) -> str:
    """Return each row divided by its sum."""
    total = g.op("ReduceSum", x, g.constant([1], np.int64), keepdims=1)
    return g.op("Div", x, total)


class Models:
    """Converts linear models and neural networks.

    Attributes:
        columns: Where nodes go.
        classes: Of the document.
    """

    def __init__(self, columns: Columns, classes: Sequence[str], matrix: Callable[[], Matrix]):
        """Take what all models of a document share; ``matrix`` makes a new one."""
        self.columns, self.classes, self.matrix = columns, list(classes), matrix

    def place(self, element: Element, category: str) -> int:
        """Return the number of a class.

        Raises:
            SourceError: There is none.
        """
        if category not in self.classes:
            malformed(element, f"names the class {category[:40]!r}, which is not declared")
        return self.classes.index(category)

    def in_order(self, element: Element, tensor: str, categories: Sequence[str]) -> str:
        """Return columns that belong to ``categories`` in the order of the classes."""
        places = [self.place(element, category) for category in categories]
        if places == list(range(len(self.classes))):
            return tensor
        weights = np.zeros((len(places), len(self.classes)))
        weights[range(len(places)), places] = 1
        g = self.columns.graph
        return g.op("MatMul", tensor, g.constant(weights))

    def regression(self, model: Element, scope: Scope[Column]) -> Result:
        """Convert a ``RegressionModel``."""
        g, tables = self.columns.graph, model.all("RegressionTable")
        if not tables:
            malformed(model, "holds no RegressionTable")
        method = model.get("normalizationMethod", "none")
        sums = self._linear(tables, scope)
        if model.get("functionName") != "classification":
            rule = INVERSE_LINKS.get("logit" if method == "softmax" else method)
            if rule is None or len(tables) > 1:
                unsupported(model, f"normalises numbers with {method!r}, or has several tables")
            return Result(rule(g, sums))
        if method == "softmax":
            shares = softmax(g, sums)
        elif method == "simplemax":
            shares = shares_of(g, sums)
        elif method not in INVERSE_LINKS:
            unsupported(model, f"normalises with {method!r}")
        elif len(tables) == 2:
            first = g.op(
                "Gather", INVERSE_LINKS[method](g, sums), g.constant([0], np.int64), axis=1
            )
            shares = g.op("Concat", first, g.op("Sub", g.constant(1.0), first), axis=1)
        else:
            shares = INVERSE_LINKS[method](g, sums)
            shares = shares if method == "none" else shares_of(g, shares)
        names = [t.get("targetCategory") for t in tables]
        return Result(shares=self.in_order(model, shares, names))

    def _linear(self, tables: Sequence[Element], scope: Scope[Column]) -> str:
        """Return the sum of every table: [N, tables]."""
        count = len(tables)
        terms: dict[str, Array] = {}
        categories: dict[str, dict[str, Array]] = {}
        for number, table in enumerate(tables):
            for part in table.all("NumericPredictor", "PredictorTerm"):
                tensor = self._term(part, scope)
                terms.setdefault(tensor, np.zeros(count))[number] += part.number("coefficient")
            for part in table.all("CategoricalPredictor"):
                of_field = categories.setdefault(part.need("name"), {})
                row = of_field.setdefault(part.need("value"), np.zeros(count))
                row[number] += part.number("coefficient")
        bias = np.array([table.number("intercept", 0.0) for table in tables])
        parts = [self._category(tables[0], scope, name, of) for name, of in categories.items()]
        return self._sum(terms, bias, parts)

    def _term(self, part: Element, scope: Scope[Column]) -> str:
        g = self.columns.graph
        if part.tag == "NumericPredictor":
            tensor = numbers_of(part, scope.look_up(part.need("name"), part))
            power = part.number("exponent", 1.0)
            return tensor if power == 1 else g.op("Pow", tensor, g.constant(power))
        references = part.all("FieldRef")
        if not references:
            malformed(part, "holds no FieldRef")
        columns = [scope.look_up(r.need("field"), part) for r in references]
        tensors = [numbers_of(part, column) for column in columns]
        return functools.reduce(lambda a, b: g.op("Mul", a, b), tensors)

    def _category(
        self, element: Element, scope: Scope[Column], name: str, rows: Mapping[str, Array]
    ) -> str:
        """Return what the category of a field adds: [N, tables]; nothing if it is missing."""
        g, column = self.columns.graph, scope.look_up(name, element)
        if column.labels is None:
            total = ""
            for text, row in rows.items():
                hit = g.number(self.columns.equals(element, column, text))
                part = g.op("Mul", hit, g.constant(row.reshape(1, -1)))
                total = g.op("Add", total, part) if total else part
            return total
        places = {column.place(text): row for text, row in rows.items()}
        width = len(next(iter(rows.values())))
        table = np.zeros((len(column.labels) + 1, width))
        for place, row in places.items():
            if place >= 0:
                table[place] = row
        return g.take(table, column)

    def _sum(self, terms: Mapping[str, Array], bias: Array, parts: Sequence[str]) -> str:
        """Return terms times their weights, plus a bias, plus parts."""
        g = self.columns.graph
        total = ""
        if terms:
            matrix = self.matrix()
            places = [matrix.place(tensor) for tensor in terms]
            tensor = matrix.tensor
            weights = np.array(list(terms.values()))
            if sorted(places) == list(range(matrix.width)):
                weights = weights[np.argsort(places)]
            else:
                # What is not used may be missing, and nothing times NaN is not nothing.
                tensor = g.op("Gather", tensor, g.constant(places, np.int64), axis=1)
            total = g.op("MatMul", tensor, g.constant(weights))
        for part in parts:
            total = g.op("Add", total, part) if total else part
        if not total:
            unsupported(Element("RegressionTable", {}), "has no predictors")
        return g.op("Add", total, g.constant(bias))

    def general(self, model: Element, scope: Scope[Column]) -> Result:
        """Convert a ``GeneralRegressionModel``."""
        kind = model.get("modelType")
        if kind not in ("regression", "generalLinear", "generalizedLinear", "multinomialLogistic"):
            unsupported(model, f"is of the type {kind!r}")
        g = self.columns.graph
        betas, categories = self._betas(model)
        parameters = self._parameters(model, scope)
        terms: dict[str, Array] = {}
        bias = np.zeros(len(categories))
        for name, weights in betas.items():
            if name in parameters:
                tensor = parameters[name]
                terms[tensor] = terms.get(tensor, np.zeros(len(categories))) + weights
            else:
                bias += weights
        sums = self._sum(terms, bias, [])
        reference = model.get("targetReferenceCategory")
        if kind == "multinomialLogistic":
            reference = reference or next(c for c in self.classes if c not in categories)
            zero = g.op(
                "Mul", g.op("Gather", sums, g.constant([0], np.int64), axis=1), g.constant(0.0)
            )
            shares = softmax(g, g.op("Concat", sums, zero, axis=1))
            return Result(shares=self.in_order(model, shares, [*categories, reference]))
        if len(categories) != 1:
            unsupported(model, "has several categories without being multinomial")
        if model.get("offsetVariable"):
            offset = numbers_of(model, scope.look_up(model.get("offsetVariable"), model))
            sums = g.op("Add", sums, offset)
        elif "offsetValue" in model.attributes:
            sums = g.op("Add", sums, g.constant(model.number("offsetValue")))
        value = self._unlinked(model, sums)
        if model.get("functionName") != "classification":
            return Result(value)
        if len(self.classes) != 2:
            unsupported(model, f"has {len(self.classes)} classes; expected 2")
        category = categories[0] or next(
            c for c in self.classes if c != (reference or self.classes[0])
        )
        other = self.classes[1 - self.place(model, category)]
        both = g.op("Concat", value, g.op("Sub", g.constant(1.0), value), axis=1)
        return Result(shares=self.in_order(model, both, [category, other]))

    def _unlinked(self, model: Element, x: str) -> str:
        g, link = self.columns.graph, model.get("linkFunction", "identity")
        if link == "power":
            return g.op("Pow", x, g.constant(1 / model.number("linkParameter")))
        if link not in INVERSE_LINKS:
            unsupported(model, f"has the link function {link!r}")
        return INVERSE_LINKS[link](g, x)

    def _betas(self, model: Element) -> tuple[dict[str, Array], list[str]]:
        cells = model.must("ParamMatrix").all("PCell")
        if not cells:
            malformed(model, "has an empty ParamMatrix")
        categories = list(dict.fromkeys(c.get("targetCategory") for c in cells))
        found: dict[str, Array] = {}
        for cell in cells:
            row = found.setdefault(cell.need("parameterName"), np.zeros(len(categories)))
            row[categories.index(cell.get("targetCategory"))] += cell.number("beta")
        return found, categories

    def _parameters(self, model: Element, scope: Scope[Column]) -> dict[str, str]:
        """Return the column of every parameter that depends on predictors."""
        g = self.columns.graph
        listed = model.one("FactorList")
        factors = {p.need("name") for p in (listed.all("Predictor") if listed else [])}
        found: dict[str, str] = {}
        for cell in [c for matrix in model.all("PPMatrix") for c in matrix.all("PPCell")]:
            name, parameter = cell.need("predictorName"), cell.need("parameterName")
            column = scope.look_up(name, cell)
            if name in factors or column.labels is not None:
                tensor = self.columns.indicator(cell, column, cell.need("value"))
            else:
                power = cell.number("value")
                tensor = column.tensor if power == 1 else (
                    g.op("Pow", column.tensor, g.constant(power))
                )  # fmt: skip
            before = found.get(parameter)
            found[parameter] = g.op("Mul", before, tensor) if before else tensor
        return found

    def network(self, model: Element, scope: Scope[Column]) -> Result:
        """Convert a ``NeuralNetwork``."""
        g = self.columns.graph
        inputs = model.must("NeuralInputs").all("NeuralInput")
        if not inputs:
            malformed(model, "has no NeuralInput")
        columns = [self.columns.derived(i.must("DerivedField"), scope) for i in inputs]
        tensors = [numbers_of(model, column) for column in columns]
        blocks = [([i.need("id") for i in inputs], g.op("Concat", *tensors, axis=1))]
        layers = model.all("NeuralLayer")
        for number, layer in enumerate(layers):
            neurons = layer.all("Neuron")
            bias = np.array([n.number("bias", 0.0) for n in neurons])
            known = {name for ids, _ in blocks for name in ids}
            wires = [c for n in neurons for c in n.all("Con")]
            lost = next((c for c in wires if c.need("from") not in known), None)
            if lost is not None:
                malformed(lost, f"comes from {lost.get('from')[:40]!r}, which is not there")
            total = ""
            for ids, tensor in blocks:
                weights = _weights(neurons, ids)
                if weights.any():
                    part = g.op("MatMul", tensor, g.constant(weights))
                    total = g.op("Add", total, part) if total else part
            if not total:
                malformed(layer, "is connected with nothing before it")
            x = self._activated(model, layer, g.op("Add", total, g.constant(bias)))
            last = model.get("normalizationMethod", "none")
            method = layer.get("normalizationMethod") or (
                last if number == len(layers) - 1 else "none"
            )
            if method not in ("none", "softmax", "simplemax"):
                unsupported(layer, f"normalises with {method!r}")
            x = {"none": lambda g, x: x, "softmax": softmax, "simplemax": shares_of}[method](g, x)
            blocks.append(([n.need("id") for n in neurons], x))
        return self._network_result(model, blocks)

    def _activated(self, model: Element, layer: Element, x: str) -> str:
        g = self.columns.graph
        name = layer.get("activationFunction") or model.need("activationFunction")
        if name == "threshold":
            limit = layer.number("threshold", model.number("threshold", 0.0))
            return g.number(g.compare("greaterThan", x, limit))
        if name not in _ACTIVATIONS:
            unsupported(layer, f"has the activation function {name!r}")
        return _ACTIVATIONS[name](g, x)

    def _network_result(self, model: Element, blocks: Sequence[tuple[list[str], str]]) -> Result:
        g, shares, names = self.columns.graph, [], []
        for output in model.must("NeuralOutputs").all("NeuralOutput"):
            wanted = output.need("outputNeuron")
            found = [(ids.index(wanted), t) for ids, t in blocks if wanted in ids]
            if not found:
                malformed(output, f"names the neuron {wanted[:40]!r}, which is not there")
            place, tensor = found[-1]
            value = g.op("Gather", tensor, g.constant([place], np.int64), axis=1)
            derived = output.must("DerivedField")
            discrete, scaled = derived.one("NormDiscrete"), derived.one("NormContinuous")
            if discrete is None:
                if scaled is None:
                    return Result(value)
                points = [(p.number("norm"), p.number("orig")) for p in scaled.all("LinearNorm")]
                return Result(self.columns.interpolated(scaled, value, sorted(points), "asIs"))
            shares.append(value)
            names.append(discrete.need("value"))
        if not shares:
            malformed(model, "has no NeuralOutput")
        tensor = g.op("Concat", *shares, axis=1)
        return Result(shares=self.in_order(model, tensor, names))


def _weights(neurons: Sequence[Element], ids: Sequence[str]) -> Array:
    """Return the weights from a block of neurons to another: [from, to]."""
    places = {name: place for place, name in enumerate(ids)}
    found = np.zeros((len(ids), len(neurons)))
    for number, neuron in enumerate(neurons):
        for connection in neuron.all("Con"):
            place = places.get(connection.need("from"))
            if place is not None:
                found[place, number] += connection.number("weight")
    return found
