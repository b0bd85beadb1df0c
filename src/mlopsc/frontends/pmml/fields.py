"""Frontend *pmml*: the fields of a document, and how one gets its value where a model uses it.

A field is raw, as the data dictionary declares it; treated, as a mining schema says (missing
values, outliers); or derived by an expression. The evaluator and the converter both look fields up
in ``Scope``, each with values of its own kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from mlopsc.frontends.pmml.element import Element, as_number, malformed, unsupported

MODELS: Final = (
    "RegressionModel", "GeneralRegressionModel", "TreeModel", "MiningModel", "Scorecard",
    "NeuralNetwork",
)  # fmt: skip
MAX_CALLS: Final = 100_000
_TARGETS: Final = ("target", "predicted")
_NUMBERS: Final = ("integer", "float", "double", "boolean")
V = TypeVar("V")


@dataclass(frozen=True)
class DataField:
    """A field of the data dictionary.

    Attributes:
        name: In the document.
        kind: ``number`` or ``text``.
        single: Whether comparisons are of float32.
        values: That it may have, as text; empty if that is not said.
        missing: Numbers that stand for missing values.
        integral: Whether it is made of integers.
        ordinal: Whether its values are in order.
        margins: The least and the largest value that is declared, or None.
    """

    name: str
    kind: str
    single: bool
    values: tuple[str, ...] = ()
    missing: tuple[float, ...] = ()
    integral: bool = False
    ordinal: bool = False
    margins: tuple[float, float] | None = None


@dataclass(frozen=True)
class Treatment:
    """What a mining schema does with a field.

    Attributes:
        replacement: Of missing values, as text; None if they stay.
        outliers: ``asIs``, ``asMissingValues`` or ``asExtremeValues``.
        low: Below are outliers.
        high: Above are outliers.
    """

    replacement: str | None
    outliers: str
    low: float
    high: float

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self.replacement is not None or self.outliers != "asIs"


def kind_of(element: Element) -> str:
    """Return whether a field's ``dataType`` is ``number`` or ``text``."""
    given = element.get("dataType", "double")
    if given == "string":
        return "text"
    if given not in _NUMBERS:
        unsupported(element, f"has the data type {given!r}: dates and times are not converted")
    return "number"


def data_fields(document: Element) -> dict[str, DataField]:
    """Return the fields that a document declares."""
    found = {}
    for element in document.must("DataDictionary").all("DataField"):
        name, given = element.need("name"), element.get("dataType", "double")
        if given != "string" and given not in _NUMBERS:
            continue  # refused where it is used
        kind = kind_of(element)
        values = element.all("Value")
        interval = element.one("Interval")
        margins = None
        if interval is not None and {"leftMargin", "rightMargin"} <= interval.attributes.keys():
            margins = (interval.number("leftMargin"), interval.number("rightMargin"))
        missing = [v for v in values if v.get("property") == "missing"]
        found[name] = DataField(
            name,
            kind,
            single=given == "float",
            values=tuple(v.need("value") for v in values if v.get("property", "valid") == "valid"),
            missing=_codes(missing) if kind == "number" else (),
            integral=given in ("integer", "boolean"),
            ordinal=element.get("optype") == "ordinal",
            margins=margins,
        )
    return found


def _codes(values: Sequence[Element]) -> tuple[float, ...]:
    """Return numbers that stand for missing values; NaN always does."""
    return tuple(v.number("value") for v in values if v.need("value").lower() != "nan")


def target_of(model: Element) -> str | None:
    """Return the name of the field that a model predicts, or None if it does not say."""
    for mining in model.must("MiningSchema").all("MiningField"):
        if mining.get("usageType") in _TARGETS:
            return mining.need("name")
    return None


def _treatments(model: Element, fields: Mapping[str, DataField]) -> dict[str, Treatment]:
    found = {}
    for mining in model.must("MiningSchema").all("MiningField"):
        if mining.get("usageType", "active") in _TARGETS:
            continue
        outliers = mining.get("outliers", "asIs")
        if outliers not in ("asIs", "asMissingValues", "asExtremeValues"):
            malformed(mining, f"has outliers {outliers!r}")
        margins = (float("-inf"), float("inf"))
        if outliers != "asIs":
            margins = (mining.number("lowValue"), mining.number("highValue"))
        replacement = mining.attributes.get("missingValueReplacement")
        data = fields.get(mining.need("name"))
        if replacement is not None and data is not None and data.kind == "number":
            as_number(mining, replacement)
        found[mining.need("name")] = Treatment(replacement, outliers, *margins)
    return found


class Backend(Protocol[V]):
    """What gives values of fields: the evaluator, or the converter."""

    def raw(self, data: DataField) -> V:
        """Return what is given for a field."""

    def treated(self, value: V, treatment: Treatment, single: bool) -> V:
        """Return ``value`` as a mining schema wants it."""

    def derived(self, element: Element, scope: Scope[V]) -> V:
        """Return the value of a ``DerivedField``."""


@dataclass
class Scope(Generic[V]):
    """The fields that one model sees.

    Attributes:
        backend: Where values come from.
        fields: The data dictionary.
        functions: ``DefineFunction`` elements by name.
        parent: Of the model around this one, or None.
        expressions: ``DerivedField`` elements by name.
        treatments: Of the mining schema.
        known: Values that were looked up, or given by earlier models.
    """

    backend: Backend[V]
    fields: Mapping[str, DataField]
    functions: Mapping[str, Element]
    parent: Scope[V] | None = None
    expressions: Mapping[str, Element] = field(default_factory=dict)
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    known: dict[str, V] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def look_up(self, name: str, user: Element) -> V:
        """Return the value of a field that ``user`` names.

        Raises:
            SourceError: There is none, or it is derived from itself.
        """
        if name in self.known:
            return self.known[name]
        if name in self._open:
            malformed(user, f"uses the field '{name[:60]}', which is derived from itself")
        self._open.add(name)
        if name in self.expressions:
            value = self.backend.derived(self.expressions[name], self)
        elif self.parent is not None:
            value = self.parent.look_up(name, user)
            treatment = self.treatments.get(name)
            if treatment is not None and treatment.changes:
                value = self.backend.treated(value, treatment, self.is_single(name))
        elif name in self.fields:
            value = self.backend.raw(self.fields[name])
        else:
            malformed(user, f"uses the field '{name[:60]}', which is declared nowhere")
        self._open.discard(name)
        self.known[name] = value
        return value

    def is_single(self, name: str) -> bool:
        """Whether comparisons of a field are of float32."""
        if name in self.expressions:
            return self.expressions[name].get("dataType") == "float"
        if self.parent is not None:
            return self.parent.is_single(name)
        return name in self.fields and self.fields[name].single

    def inside(self, model: Element, *more: Element) -> Scope[V]:
        """Return the scope of a model in this one; ``more`` holds further derived fields."""
        local = model.one("LocalTransformations")
        places = [*more, *([] if local is None else [local])]
        return Scope(
            self.backend,
            self.fields,
            self.functions,
            self,
            {d.need("name"): d for place in places for d in place.all("DerivedField")},
            _treatments(model, self.fields),
        )

    def with_known(self, values: dict[str, V]) -> Scope[V]:
        """Return a scope of a function's parameters alone."""
        return Scope(self.backend, self.fields, self.functions, known=dict(values))


def root_scope(backend: Backend[V], document: Element) -> tuple[Scope[V], Element]:
    """Return the scope of a document's model, and the model.

    Raises:
        ConversionError: It is of a kind that is not converted.
    """
    model = model_of(document)
    dictionary = document.one("TransformationDictionary")
    defined = [] if dictionary is None else dictionary.all("DefineFunction")
    functions = {f.need("name"): f for f in defined}
    _check_calls(document, functions)
    raw = Scope(backend, data_fields(document), functions)
    return raw.inside(model, *([] if dictionary is None else [dictionary])), model


def _check_calls(document: Element, functions: Mapping[str, Element]) -> None:
    """Refuse functions that never end, or call each other so often that they hardly do.

    Raises:
        ConversionError: One calls itself, or there are more than ``MAX_CALLS`` calls in all.
    """
    costs: dict[str, int] = {}
    open_: list[str] = []

    def calls(name: str) -> int:
        if name in open_:
            unsupported(functions[name], "calls itself")
        if name not in costs:
            open_.append(name)
            costs[name] = 1 + inside(functions[name])
            open_.pop()
        return costs[name]

    def inside(element: Element) -> int:
        called = (e.get("function") for e in element.walk() if e.tag == "Apply")
        return sum(calls(name) for name in called if name in functions)

    if functions and inside(document) > MAX_CALLS:
        unsupported(document, f"takes more than {MAX_CALLS:,} calls of its functions")


def tests_missing(document: Element) -> set[str]:
    """Return the fields of which a document says what happens if they are missing.

    Those count whose missing values a model sees, unlike those that the mining schema replaces.
    """
    found = set()
    for element in document.walk():
        asks = element.get("operator") in ("isMissing", "isNotMissing")
        if "field" in element.attributes and (asks or "mapMissingTo" in element.attributes):
            found.add(element.need("field"))
        if element.get("function") in ("isMissing", "isNotMissing"):
            found |= {child.get("field") for child in element.children}
    return found


_FRAME: Final = ("Header", "MiningBuildTask", "DataDictionary", "TransformationDictionary")


def model_of(document: Element) -> Element:
    """Return the model that a document holds.

    Raises:
        SourceError: It holds none.
        ConversionError: It is of a kind that is not converted, or there are several.
    """
    found = [child for child in document.children if child.tag not in _FRAME]
    if not found:
        malformed(document, "holds no model")
    model = found[0]
    if model.tag not in MODELS:
        unsupported(model, f"is of a kind that is not converted; converted are {', '.join(MODELS)}")
    if len(found) > 1:
        unsupported(found[1], "is a second model; expected one")
    return model


def classes_of(document: Element, model: Element) -> tuple[str, ...]:
    """Return the classes that a document predicts: as declared, else in the order of their use."""
    target = target_of(model)
    data = data_fields(document).get(target or "")
    if data is not None and data.values:
        return data.values
    found: dict[str, None] = {}
    for element in model.walk():
        if element.tag == "Node" and model.get("functionName") == "classification":
            found |= {element.attributes["score"]: None} if element.get("score") else {}
        elif element.tag == "ScoreDistribution":
            found[element.need("value")] = None
        if element.get("targetCategory"):
            found[element.get("targetCategory")] = None
    if model.get("targetReferenceCategory"):
        found[model.get("targetReferenceCategory")] = None
    for outputs in (e for e in model.walk() if e.tag == "NeuralOutputs"):
        found |= {e.need("value"): None for e in outputs.walk() if e.tag == "NormDiscrete"}
    return tuple(found)
