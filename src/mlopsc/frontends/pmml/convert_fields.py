"""Frontend *pmml*: expressions and predicates as nodes of a graph, on columns.

Source: PMML 4.4, *Transformations*, *Functions* and *TreeModel* (predicates).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlopsc.frontends.pmml.convert_logic import Logic, Truth, as_number_of
from mlopsc.frontends.pmml.element import (
    Element,
    array_of,
    as_number,
    malformed,
    rows_of,
    unsupported,
)
from mlopsc.frontends.pmml.fields import DataField, Scope, Treatment, kind_of
from mlopsc.frontends.pmml.graph import LARGEST, ML, NAN, Array, Column, Graph

_COMPARED: Final = (
    "equal", "notEqual", "lessThan", "lessOrEqual", "greaterThan", "greaterOrEqual",
)  # fmt: skip
_UNARY: Final = {
    "ln": "Log", "sqrt": "Sqrt", "abs": "Abs", "exp": "Exp", "floor": "Floor", "ceil": "Ceil",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "atan": "Atan",
}  # fmt: skip
_BINARY: Final = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "pow": "Pow"}
_FOLDS: Final = {
    "min": ("Min", LARGEST), "max": ("Max", -LARGEST), "sum": ("Add", 0.0),
    "avg": ("Add", 0.0), "product": ("Mul", 1.0),
}  # fmt: skip
MAX_ROWS: Final = 512


@dataclass
class Columns:
    """The columns of one graph: the backend of a scope.

    Attributes:
        graph: Where nodes go.
        inputs: Fields that are inputs of the graph, by the names of their tensors.
        labels: Of text fields; kept from one conversion to the next.
        tensor_names: Gives the name of a field's tensor.
        misses: Whether models see missing values that the document expects.
    """

    graph: Graph
    inputs: dict[str, DataField]
    labels: dict[str, list[str]]
    tensor_names: Callable[[str], str]
    misses: bool = False

    def raw(self, data: DataField) -> Column:
        """See ``Backend``."""
        g, name = self.graph, self.tensor_names(data.name)
        self.inputs[name] = data
        if data.kind == "text":
            labels = self.labels.setdefault(data.name, list(data.values))
            keys = labels or ["?"]
            codes = [float(i) for i in range(len(keys))]
            encoded = g.op(
                "LabelEncoder", name, domain=ML,
                keys_strings=keys, values_floats=codes, default_float=-1.0,
            )  # fmt: skip
            found = g.op("GreaterOrEqual", encoded, g.constant(0.0))
            return Column(g.where(found, encoded, NAN), labels, open=not data.values)
        tensor = name
        for number in data.missing:
            tensor = g.where(g.compare("equal", tensor, number), NAN, tensor)
        return Column(tensor)

    def treated(self, value: Column, treatment: Treatment, single: bool) -> Column:
        """See ``Backend``."""
        del single
        g, tensor = self.graph, value.tensor
        if value.labels is None and treatment.outliers != "asIs":
            low, high = treatment.low, treatment.high
            extreme = treatment.outliers == "asExtremeValues"
            small, large = (low, high) if extreme else (NAN, NAN)
            less, more = (
                g.compare("lessThan", tensor, low),
                g.compare("greaterThan", tensor, high),
            )
            tensor = g.where(less, small, g.where(more, large, tensor))
        if treatment.replacement is not None:
            text = treatment.replacement
            new = as_number(Element("MiningField", {}), text) if value.labels is None else (
                float(value.place(text))
            )  # fmt: skip
            tensor = g.where(g.missing(tensor), new, tensor)
        return Column(tensor, value.labels, value.open)

    def derived(self, element: Element, scope: Scope[Column]) -> Column:
        """See ``Backend``."""
        found = [c for c in element.children if c.tag not in ("Value", "Interval")]
        if len(found) != 1:
            malformed(element, f"holds {len(found)} expressions; expected one")
        column = self.expression(found[0], scope, kind_of(element))
        if kind_of(element) == "number" and column.labels is not None:
            table = [as_number(element, label) for label in column.labels]
            return Column(self._column(self.graph.take(np.array([*table, NAN]), column)))
        if kind_of(element) == "text" and column.labels is None:
            unsupported(element, "makes a text of a number")
        return column

    def _column(self, tensor: str) -> str:
        return self.graph.op("Reshape", tensor, self.graph.constant([-1, 1], np.int64))

    def expression(self, element: Element, scope: Scope[Column], kind: str = "number") -> Column:
        """Return the column of an expression whose constants are of ``kind``."""
        if element.tag == "FieldRef":
            column = scope.look_up(element.need("field"), element)
            return self._filled(element, column, column)
        if element.tag == "Constant":
            wanted = kind_of(element) if element.get("dataType") else kind
            if wanted == "text":
                return Column(self.graph.constant([[0]]), [element.text])
            return Column(self.graph.constant([[as_number(element, element.text)]]))
        rules: dict[str, Callable[[Element, Scope[Column], str], Column]] = {
            "NormContinuous": self._norm_continuous,
            "NormDiscrete": self._norm_discrete,
            "Discretize": self._discretize,
            "MapValues": self._map_values,
            "Apply": self._apply,
        }
        if element.tag not in rules:
            unsupported(element, "is an expression that is not converted")
        return rules[element.tag](element, scope, kind)

    def _filled(self, element: Element, source: Column, made: Column) -> Column:
        """Return ``made`` with what the element maps missing values of ``source`` to."""
        text = element.attributes.get("mapMissingTo")
        if text is None:
            return made
        new = as_number(element, text) if made.labels is None else float(made.place(text))
        return Column(
            self.graph.where(self.graph.missing(source.tensor), new, made.tensor), made.labels
        )

    def _norm_continuous(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        del kind
        x = scope.look_up(element.need("field"), element)
        points = [(p.number("orig"), p.number("norm")) for p in element.all("LinearNorm")]
        y = self.interpolated(
            element, numbers_of(element, x), points, element.get("outliers", "asIs")
        )
        made = Column(y)
        return self._filled(element, x if "mapMissingTo" not in element.attributes else made, made)

    def interpolated(
        self, element: Element, x: str, points: list[tuple[float, float]], outliers: str
    ) -> str:
        """Return the line through ``points`` at ``x``."""
        if len(points) < 2 or any(a[0] >= b[0] for a, b in itertools.pairwise(points)):
            malformed(element, "has no two points LinearNorm in ascending order")
        g, y = self.graph, ""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            scaled = g.op("Mul", g.op("Sub", x, g.constant(x0)), g.constant((y1 - y0) / (x1 - x0)))
            line = g.op("Add", scaled, g.constant(y0))
            y = g.where(g.compare("greaterThan", x, x0), line, y) if y else line
        if outliers != "asIs":
            extreme = outliers == "asExtremeValues"
            (low, first), (high, last) = points[0], points[-1]
            y = g.where(g.compare("lessThan", x, low), first if extreme else NAN, y)
            y = g.where(g.compare("greaterThan", x, high), last if extreme else NAN, y)
        return y

    def indicator(self, element: Element, column: Column, text: str) -> str:
        """Return 1 where a column has the value that ``text`` says, NaN where it is missing."""
        g, where = self.graph, self.equals(element, column, text)
        return g.where(g.missing(column.tensor), NAN, g.number(where))

    def equals(self, element: Element, column: Column, text: str) -> str:
        """Return where a column has the value that ``text`` says."""
        number = as_number(element, text) if column.labels is None else float(column.place(text))
        return self.graph.compare("equal", column.tensor, number)

    def _norm_discrete(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        del kind
        column = scope.look_up(element.need("field"), element)
        made = Column(self.indicator(element, column, element.need("value")))
        return self._filled(element, column, made)

    def _discretize(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        g, x = self.graph, scope.look_up(element.need("field"), element)
        numbers_of(element, x)
        bins = element.all("DiscretizeBin")
        literal = _Literals(kind)
        default = element.attributes.get("defaultValue")
        y: str | float = NAN if default is None else literal(element, default)
        for part in reversed(bins):
            interval = part.must("Interval")
            closure, limits = interval.need("closure"), []
            if "leftMargin" in interval.attributes:
                operator = "greaterOrEqual" if closure.startswith("closed") else "greaterThan"
                limits.append(g.compare(operator, x.tensor, interval.number("leftMargin")))
            if "rightMargin" in interval.attributes:
                operator = "lessOrEqual" if closure.endswith("Closed") else "lessThan"
                limits.append(g.compare(operator, x.tensor, interval.number("rightMargin")))
            inside = (
                functools.reduce(lambda a, b: g.op("And", a, b), limits)
                if limits
                else g.op("Not", g.missing(x.tensor))
            )
            y = g.where(inside, literal(part, part.need("binValue")), y)
        made = g.where(g.missing(x.tensor), self._missing_value(element, literal), y)
        return Column(made, literal.labels)

    @staticmethod
    def _missing_value(element: Element, literal: _Literals) -> float:
        text = element.attributes.get("mapMissingTo")
        return NAN if text is None else literal(element, text)

    def _map_values(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        g, literal = self.graph, _Literals(kind)
        pairs, rows, wanted = rows_of(element)
        columns = [(scope.look_up(name, element), column) for name, column in pairs]
        if len(rows) > MAX_ROWS:
            unsupported(element, f"has {len(rows)} rows; up to {MAX_ROWS} are converted")
        default = element.attributes.get("defaultValue")
        y: str | float = NAN if default is None else literal(element, default)
        for row in reversed(rows):
            hits = [self.equals(element, c, row[name]) for c, name in columns]
            hit = functools.reduce(lambda a, b: g.op("And", a, b), hits)
            y = g.where(hit, literal(element, row[wanted]), y)
        lost = [g.missing(c.tensor) for c, _ in columns]
        anywhere = functools.reduce(lambda a, b: g.op("Or", a, b), lost)
        return Column(g.where(anywhere, self._missing_value(element, literal), y), literal.labels)

    def _apply(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        g, name = self.graph, element.need("function")
        if not element.children:
            malformed(element, "has no arguments")
        if name == "if":
            return self._if(element, scope, kind)
        if name in _COMPARED or name in ("isIn", "isNotIn"):
            made = self._comparison(element, scope, name)
            return self._filled(element, made, made)
        values = [self.expression(child, scope) for child in element.children]
        if name in scope.functions:
            function = scope.functions[name]
            names = [p.need("name") for p in function.all("ParameterField")]
            if len(names) != len(values):
                malformed(element, f"has {len(values)} arguments; expected {len(names)}")
            bodies = [c for c in function.children if c.tag != "ParameterField"]
            inner = scope.with_known(dict(zip(names, values, strict=True)))
            return self.expression(bodies[0], inner, kind)
        tensors = [v.tensor for v in values]
        if name in ("isMissing", "isNotMissing"):
            lost = g.missing(tensors[0])
            return Column(g.number(lost if name == "isMissing" else g.op("Not", lost)))
        tensors = [numbers_of(element, v) for v in values]
        made = Column(self._computed(element, name, tensors))
        return self._filled(element, made, made)

    def _computed(self, element: Element, name: str, tensors: list[str]) -> str:
        g = self.graph
        if name in _FOLDS:
            return self._fold(name, tensors)
        if name in ("and", "or"):
            truths = [
                Truth(g.compare("notEqual", t, 0.0), g.op("Not", g.missing(t))) for t in tensors
            ]
            return as_number_of(g, Logic(g).combined(name, truths, element))
        if name == "not":
            return g.op("Sub", g.constant(1.0), tensors[0])
        if name in _UNARY and len(tensors) == 1:
            return g.op(_UNARY[name], tensors[0])
        if name == "-" and len(tensors) == 1:
            return g.op("Neg", tensors[0])
        if name in _BINARY and len(tensors) == 2:
            return g.op(_BINARY[name], *tensors)
        if name == "log10":
            return g.op("Mul", g.op("Log", tensors[0]), g.constant(1 / np.log(10)))
        if name == "round":
            return g.op("Floor", g.op("Add", tensors[0], g.constant(0.5)))
        if name == "threshold" and len(tensors) == 2:
            return g.number(g.op("Greater", *tensors))
        return unsupported(element, f"calls the function {name!r}, which is not converted")

    def _fold(self, name: str, tensors: list[str]) -> str:
        """Return what a function makes of those arguments that are there."""
        g = self.graph
        kind, neutral = _FOLDS[name]
        given = [g.where(g.missing(t), neutral, t) for t in tensors]
        total = functools.reduce(lambda a, b: g.op(kind, a, b), given)
        there = [g.number(g.op("Not", g.missing(t))) for t in tensors]
        count = functools.reduce(lambda a, b: g.op("Add", a, b), there)
        total = g.op("Div", total, count) if name == "avg" else total
        return g.where(g.compare("equal", count, 0.0), NAN, total)

    def _if(self, element: Element, scope: Scope[Column], kind: str) -> Column:
        g = self.graph
        if not 2 <= len(element.children) <= 3:
            malformed(element, f"has {len(element.children)} arguments; expected 2 or 3")
        test, *branches = element.children
        where = self.expression(test, scope).tensor
        columns = [self.expression(branch, scope, kind) for branch in branches]
        literal = _Literals("number" if columns[0].labels is None else "text")
        tensors: list[str | float] = [self._relabelled(c, literal) for c in columns]
        yes, no = (*tensors, NAN)[:2]
        chosen = g.where(g.compare("greaterThan", where, 0.5), yes, no)
        made = Column(g.where(g.missing(where), NAN, chosen), literal.labels)
        return self._filled(element, made, made)

    def _relabelled(self, column: Column, literal: _Literals) -> str:
        if column.labels is None or literal.labels is None:
            return column.tensor
        places = [literal.place(label) for label in column.labels]
        if places == list(range(len(places))):
            return column.tensor
        table: Array = np.array([*places, NAN])
        return self._column(self.graph.take(table, column))

    def _comparison(self, element: Element, scope: Scope[Column], name: str) -> Column:
        g = self.graph
        first, *others = element.children
        column = self.expression(first, scope)
        constants = [o.text for o in others if o.tag == "Constant"]
        if len(constants) == len(others) and others:
            if name in ("isIn", "isNotIn", "equal", "notEqual"):
                hits = [self.equals(element, column, text) for text in constants]
                hit = functools.reduce(lambda a, b: g.op("Or", a, b), hits)
                hit = g.op("Not", hit) if name in ("isNotIn", "notEqual") else hit
            else:
                hit = g.compare(name, column.tensor, as_number(others[0], constants[0]))
                numbers_of(element, column)
            return Column(g.where(g.missing(column.tensor), NAN, g.number(hit)))
        second = self.expression(others[0], scope) if len(others) == 1 else None
        if second is None or column.labels is not None or second.labels is not None:
            unsupported(element, "compares what are not two numbers, or a field with constants")
        difference = g.op("Sub", column.tensor, second.tensor)
        return Column(
            g.where(g.missing(difference), NAN, g.number(g.compare(name, difference, 0.0)))
        )

    def truth(self, element: Element, scope: Scope[Column]) -> Truth:
        """Return where a predicate holds."""
        g = self.graph
        if element.tag in ("True", "False"):
            return Truth(g.constant([[element.tag == "True"]], np.bool_))
        if element.tag == "CompoundPredicate":
            parts = [self.truth(part, scope) for part in element.children]
            if not parts:
                malformed(element, "has no parts")
            return Logic(g).combined(element.need("booleanOperator"), parts, element)
        column = scope.look_up(element.need("field"), element)
        known = g.op("Not", g.missing(column.tensor))
        if element.tag == "SimpleSetPredicate":
            words = array_of(element.must("Array"))
            hits = [self.equals(element, column, word) for word in words]
            hit = functools.reduce(lambda a, b: g.op("Or", a, b), hits)
            inside = element.need("booleanOperator") == "isIn"
            return Truth(hit if inside else g.op("And", g.op("Not", hit), known), known)
        operator = element.need("operator")
        if operator in ("isMissing", "isNotMissing"):
            return Truth(known if operator == "isNotMissing" else g.missing(column.tensor))
        if operator not in _COMPARED:
            malformed(element, f"has the operator {operator!r}")
        limit = limit_of(element, column, scope)
        return Truth(g.compare(operator, column.tensor, limit), known)


def single(number: float) -> float:
    """Return the nearest float32."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def numbers_of(element: Element, column: Column) -> str:
    """Return the tensor of a column of numbers.

    Raises:
        SourceError: It is one of texts.
    """
    if column.labels is not None:
        malformed(element, "computes with a text")
    return column.tensor


def limit_of(element: Element, column: Column, scope: Scope[Column]) -> float:
    """Return what a ``SimplePredicate`` compares a column with."""
    text = element.need("value")
    if column.labels is not None:
        if element.get("operator") not in ("equal", "notEqual"):
            malformed(element, "orders texts")
        return float(column.place(text))
    limit = as_number(element, text)
    return single(limit) if scope.is_single(element.need("field")) else limit


class _Literals:
    """Turns texts of a document into numbers: what they say, or their place among labels."""

    def __init__(self, kind: str) -> None:
        self.labels: list[str] | None = [] if kind == "text" else None

    def __call__(self, element: Element, text: str) -> float:
        return as_number(element, text) if self.labels is None else float(self.place(text))

    def place(self, text: str) -> int:
        """Return the place of a label, a new one if it has none."""
        if self.labels is None:
            raise AssertionError("numbers have no places")
        if text not in self.labels:
            self.labels.append(text)
        return self.labels.index(text)
