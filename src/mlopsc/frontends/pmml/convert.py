"""Frontend *pmml*: a document → ONNX graphs, with our own converter.

The fields that the model uses, as mining schema and transformations give them, are the columns of
one matrix, ``features``; what makes it of the raw fields is the preprocessing stage. The graphs are
made twice: only after the first time is it known how many features and labels there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

from mlopsc.frontends.pmml.convert_fields import Columns
from mlopsc.frontends.pmml.convert_mining import Mining
from mlopsc.frontends.pmml.convert_models import Models, Result
from mlopsc.frontends.pmml.convert_trees import Matrix
from mlopsc.frontends.pmml.element import Element, malformed, unsupported
from mlopsc.frontends.pmml.fields import (
    DataField,
    Scope,
    classes_of,
    data_fields,
    root_scope,
    target_of,
    tests_missing,
)
from mlopsc.frontends.pmml.graph import FLOAT, INT64, ML, Column, Graph, model_of

FEATURES: Final = "features"
PROBABILITIES: Final = "probabilities"


@dataclass
class Converted:
    """Graphs of a document.

    Attributes:
        model: The model, or all of it if there is no ``preprocess``.
        preprocess: What makes features of raw fields, or None.
        phrases: What it does.
        inputs: Fields by the names of the inputs.
        classes: That are predicted; empty for numbers.
        labels: Values of text fields, by name.
    """

    model: onnx.ModelProto
    preprocess: onnx.ModelProto | None
    phrases: tuple[str, ...]
    inputs: dict[str, DataField]
    classes: tuple[str, ...]
    labels: dict[str, list[str]]


@dataclass
class _Features(Scope[Column]):
    """The scope of a model: its lookups are columns of the matrix of features."""

    outer: Scope[Column] | None = None
    graph: Graph = field(default_factory=lambda: Graph("pmml"))
    order: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def look_up(self, name: str, user: Element) -> Column:
        """See ``Scope``."""
        if name in self.known:
            return self.known[name]
        if self.outer is None:
            raise AssertionError("features have a scope around them")
        column = self.outer.look_up(name, user)
        if column.tensor not in self.columns:
            self.columns.append(column.tensor)
            self.order.append(name)
        place = self.columns.index(column.tensor)
        tensor = self.graph.op("Gather", FEATURES, self.graph.constant([place], np.int64), axis=1)
        self.places[tensor] = place
        self.known[name] = Column(tensor, column.labels, column.open)
        return self.known[name]

    def is_single(self, name: str) -> bool:
        """See ``Scope``."""
        return self.outer is not None and self.outer.is_single(name)


class Converter:
    """Converts one document."""

    def __init__(self, document: Element, *, split: bool) -> None:
        """Take a document; ``split`` makes preprocessing a graph of its own."""
        self._document, self._split = document, split
        self._misses = bool(tests_missing(document))
        self._labels: dict[str, list[str]] = {}
        self._width = 0
        self._names: dict[str, str] = {}

    def convert(self) -> Converted:
        """Return the graphs."""
        self._once()
        return self._once()

    def _tensor_name(self, name: str) -> str:
        """Return an identifier for a field, unlike those of others."""
        if name not in self._names:
            plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "field"
            taken = {*self._names.values(), FEATURES, PROBABILITIES}
            while plain in taken:
                plain += "_"
            self._names[name] = plain
        return self._names[name]

    def _once(self) -> Converted:
        head, body = Graph("field"), Graph("model")
        inputs: dict[str, DataField] = {}
        outside = Columns(head, inputs, self._labels, self._tensor_name)
        outer, model = root_scope(outside, self._document)
        inside = Columns(body, {}, self._labels, self._tensor_name, self._misses)
        scope = _Features(inside, outer.fields, outer.functions, outer=outer, graph=body)
        classes = classes_of(self._document, model)
        if model.get("functionName") == "classification" and len(classes) < 2:
            malformed(model, f"predicts {len(classes)} classes; expected two or more")

        def matrix() -> Matrix:
            return Matrix(body, FEATURES, scope.places, max(self._width, len(scope.columns)))

        mining = Mining(Models(inside, classes, matrix))
        result = mining.convert(model, scope)
        if not scope.columns:
            unsupported(model, "depends on no field")
        self._width = len(scope.columns)
        outputs, ends = self._outputs(model, result, classes)
        joined = helper.make_node("Concat", scope.columns, [FEATURES], name=FEATURES, axis=1)
        declared = list(outer.fields)
        raw = [
            _input(name, data)
            for name, data in sorted(inputs.items(), key=lambda item: declared.index(item[1].name))
        ]
        found = classes if result.shares else ()
        phrases = self._phrases(outer, scope.order, head)
        if self._split and phrases:
            between = helper.make_tensor_value_info(FEATURES, FLOAT, ["batch", self._width])
            first = model_of([head], raw, [between], [joined])
            rest = model_of([body, ends], [between], outputs)
            return Converted(rest, first, phrases, inputs, found, self._labels)
        whole = model_of([head, body, ends], raw, outputs, [joined])
        return Converted(whole, None, (), inputs, found, self._labels)

    def _outputs(
        self, model: Element, result: Result, classes: Sequence[str]
    ) -> tuple[list[onnx.ValueInfoProto], Graph]:
        """Return the outputs, and what gives them their names."""
        target = target_of(model) or "prediction"
        name = self._tensor_name(target)
        ends = Graph("end")
        if not result.shares:
            ends.nodes.append(helper.make_node("Identity", [result.value], [name], name=name))
            return [helper.make_tensor_value_info(name, FLOAT, ["batch", 1])], ends
        label = result.label
        if label:
            whole = ends.op("Cast", label, to=INT64)
        else:
            shares = result.shares
            if self._misses:
                shares = ends.where(ends.missing(shares), -1.0, shares)
            whole = ends.op("ArgMax", shares, axis=1, keepdims=1)
        data = data_fields(self._document).get(target)
        numbers = data is not None and data.kind == "number"
        if numbers and all(re.fullmatch(r"-?\d{1,18}", c) for c in classes):
            table = ends.constant([int(c) for c in classes], np.int64)
            ends.nodes.append(helper.make_node("Gather", [table, whole], [name], name=name))
            kind = INT64
        else:
            kind = onnx.TensorProto.STRING
            places = list(range(len(classes)))
            texts: dict[str, Any] = {
                "keys_int64s": places,
                "values_strings": list(classes),
                "default_string": classes[0],
            }
            node = helper.make_node("LabelEncoder", [whole], [name], name=name, domain=ML, **texts)
            ends.nodes.append(node)
        ends.nodes.append(
            helper.make_node("Identity", [result.shares], [PROBABILITIES], name=PROBABILITIES)
        )
        return [
            helper.make_tensor_value_info(name, kind, ["batch", 1]),
            helper.make_tensor_value_info(PROBABILITIES, FLOAT, ["batch", len(classes)]),
        ], ends

    def _phrases(self, outer: Scope[Column], order: Sequence[str], head: Graph) -> tuple[str, ...]:
        """Return what is done to raw fields, in words; nothing if they are taken as they are."""
        if not head.nodes:
            return ()
        found = []
        for name in order:
            if name in outer.expressions:
                kinds = {c.tag for c in outer.expressions[name].children}
                kinds -= {"Value", "Interval", "FieldRef"}
                found += [f"'{name}' by {kind}" for kind in sorted(kinds)]
        for name in outer.known:
            treatment = outer.treatments.get(name)
            if treatment is None or not treatment.changes or name in outer.expressions:
                continue
            if treatment.outliers != "asIs":
                found.append(f"outliers of '{name}' {treatment.outliers}")
            if treatment.replacement is not None:
                found.append(f"missing values of '{name}' become {treatment.replacement}")
        texts = [f"'{name}'" for name in self._labels]
        if texts:
            found.append(f"texts of {', '.join(texts)} looked up")
        return tuple(found) or ("values that stand for missing ones",)


def _input(name: str, data: DataField) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.STRING if data.kind == "text" else FLOAT
    return helper.make_tensor_value_info(name, kind, ["batch", 1])


def check_document(document: Element) -> None:
    """Check what can be checked before a conversion.

    Raises:
        SourceError: Something that every document has is not there.
    """
    if not re.match(r"[34]\.\d", document.get("version")):
        malformed(document, f"is of version {document.get('version')[:20]!r}; expected 3.x or 4.x")
