"""Frontend *pmml*: expressions and predicates, computed one value at a time in double precision.

This is the reading of the standard that the converted graph is compared with; it shares no
arithmetic with the converter. ``None`` is a missing value, and an unknown truth.
Source: PMML 4.4, *Transformations*, *Functions* and *TreeModel* (predicates).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mlopsc.frontends.pmml.element import (
    Element,
    array_of,
    as_number,
    malformed,
    rows_of,
    unsupported,
)
from mlopsc.frontends.pmml.fields import DataField, Scope, Treatment, kind_of

Value = float | str | None
_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equal": lambda a, b: a == b,
    "notEqual": lambda a, b: a != b,
    "lessThan": lambda a, b: a < b,
    "lessOrEqual": lambda a, b: a <= b,
    "greaterThan": lambda a, b: a > b,
    "greaterOrEqual": lambda a, b: a >= b,
}
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b=None: -a if b is None else a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "threshold": lambda a, b: float(a > b),
    "log10": math.log10,
    "ln": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "exp": math.exp,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda a: math.floor(a + 0.5),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "tanh": math.tanh,
    "atan": math.atan,
}
_FOLDS: Final[dict[str, Callable[[Sequence[Any]], float]]] = {
    "min": min,
    "max": max,
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "product": math.prod,
}


class Values:
    """The values of one sample: the backend of a scope."""

    def __init__(self, given: Mapping[str, Value]) -> None:
        """Take numbers and texts by the names of fields."""
        self._given = given

    def raw(self, data: DataField) -> Value:
        """See ``Backend``; a text that is not declared is missing."""
        value = self._given.get(data.name)
        if isinstance(value, str):
            return value if not data.values or value in data.values else None
        if value is None or math.isnan(value) or value in data.missing:
            return None
        return value

    def treated(self, value: Value, treatment: Treatment, single: bool) -> Value:
        """See ``Backend``."""
        del single
        if isinstance(value, float):
            if treatment.outliers == "asExtremeValues":
                value = min(max(value, treatment.low), treatment.high)
            elif treatment.outliers == "asMissingValues":
                value = value if treatment.low <= value <= treatment.high else None
        if value is None and treatment.replacement is not None:
            # The replacement of a text is a text, which the field's own values tell.
            return self._literal(treatment.replacement)
        return value

    @staticmethod
    def _literal(text: str) -> Value:
        try:
            return as_number(Element("MiningField", {}), text)
        except Exception:
            return text

    def derived(self, element: Element, scope: Scope[Value]) -> Value:
        """See ``Backend``."""
        (expression,) = _expressions(element)
        return _cast(evaluate(expression, scope, kind_of(element)), kind_of(element), element)


def _expressions(element: Element) -> list[Element]:
    found = [c for c in element.children if c.tag not in ("Value", "Interval", "ParameterField")]
    if len(found) != 1:
        malformed(element, f"holds {len(found)} expressions; expected one")
    return found


def _cast(value: Value, kind: str, element: Element) -> Value:
    if value is None or (kind == "text") == isinstance(value, str):
        return value
    if kind == "number":
        return as_number(element, str(value))
    return f"{value:g}"


def _literal(element: Element, text: str, kind: str) -> Value:
    return text if kind == "text" else as_number(element, text)


def evaluate(element: Element, scope: Scope[Value], kind: str = "number") -> Value:
    """Return the value of an expression whose constants are of ``kind``."""
    if element.tag == "FieldRef":
        value = scope.look_up(element.need("field"), element)
        return _mapped_missing(element, kind) if value is None else value
    if element.tag == "Constant":
        given = element.get("dataType")
        wanted = kind_of(element) if given else kind
        return _literal(element, element.text, wanted)
    rules: dict[str, Callable[[Element, Scope[Value], str], Value]] = {
        "NormContinuous": _norm_continuous,
        "NormDiscrete": _norm_discrete,
        "Discretize": _discretize,
        "MapValues": _map_values,
        "Apply": _apply,
    }
    if element.tag not in rules:
        unsupported(element, "is an expression that is not converted")
    return rules[element.tag](element, scope, kind)


def _mapped_missing(element: Element, kind: str) -> Value:
    text = element.attributes.get("mapMissingTo")
    return None if text is None else _literal(element, text, kind)


def _norm_continuous(element: Element, scope: Scope[Value], kind: str) -> Value:
    value = scope.look_up(element.need("field"), element)
    if value is None:
        return _mapped_missing(element, "number")
    points = [(p.number("orig"), p.number("norm")) for p in element.all("LinearNorm")]
    return interpolate(element, float(value), points)


def interpolate(
    element: Element, x: float, points: list[tuple[float, float]], outliers: str = ""
) -> Value:
    """Return the value at ``x`` of the line through ``points``, extended as the element says."""
    if len(points) < 2:
        malformed(element, "has fewer than two points LinearNorm")
    outliers = outliers or element.get("outliers", "asIs")
    if not points[0][0] <= x <= points[-1][0]:
        if outliers == "asMissingValues":
            return _mapped_missing(element, "number")
        if outliers == "asExtremeValues":
            return points[0][1] if x < points[0][0] else points[-1][1]
    inner = [number for number, (at, _) in enumerate(points[1:-1], 1) if x > at]
    (x0, y0), (x1, y1) = points[len(inner)], points[len(inner) + 1]
    return y0 + (x - x0) / (x1 - x0) * (y1 - y0)


def _norm_discrete(element: Element, scope: Scope[Value], kind: str) -> Value:
    del kind
    value = scope.look_up(element.need("field"), element)
    if value is None:
        return _mapped_missing(element, "number")
    return float(same(element, value, element.need("value")))


def same(element: Element, value: float | str, text: str) -> bool:
    """Whether a value is the one that ``text`` says; numbers are compared as float32."""
    if isinstance(value, str):
        return value == text
    return bool(np.float32(value) == np.float32(as_number(element, text)))


def _discretize(element: Element, scope: Scope[Value], kind: str) -> Value:
    value = scope.look_up(element.need("field"), element)
    if value is None:
        return _mapped_missing(element, kind)
    for part in element.all("DiscretizeBin"):
        interval = part.must("Interval")
        closure = interval.need("closure")
        left = interval.number("leftMargin", -math.inf)
        right = interval.number("rightMargin", math.inf)
        above = value >= left if closure.startswith("closed") else value > left  # type: ignore[operator]
        below = value <= right if closure.endswith("Closed") else value < right  # type: ignore[operator]
        if above and below:
            return _literal(part, part.need("binValue"), kind)
    default = element.attributes.get("defaultValue")
    return None if default is None else _literal(element, default, kind)


def _map_values(element: Element, scope: Scope[Value], kind: str) -> Value:
    pairs, rows, wanted = rows_of(element)
    given = [(scope.look_up(name, element), column) for name, column in pairs]
    if any(value is None for value, _ in given):
        return _mapped_missing(element, kind)
    for row in rows:
        if all(same(element, v, row[c]) for v, c in given if v is not None):
            return _literal(element, row[wanted], kind)
    default = element.attributes.get("defaultValue")
    return None if default is None else _literal(element, default, kind)


def _apply(element: Element, scope: Scope[Value], kind: str) -> Value:
    name = element.need("function")
    if name in ("isMissing", "isNotMissing"):
        (argument,) = element.children
        return float((evaluate(argument, scope) is None) == (name == "isMissing"))
    if name == "if":
        test = evaluate(element.children[0], scope)
        if test is None:
            return _mapped_missing(element, kind)
        branches = element.children[1:] if test else element.children[2:]
        value = evaluate(branches[0], scope, kind) if branches else None
        return _mapped_missing(element, kind) if value is None else value
    compares = name in _COMPARED or name in ("isIn", "isNotIn")
    values = _arguments(element, scope, compares)
    if name in ("and", "or"):
        truth = _logic(name, [None if v is None else bool(v) for v in values])
        return None if truth is None else float(truth)
    if name in scope.functions:
        function = scope.functions[name]
        names = [p.need("name") for p in function.all("ParameterField")]
        inner = scope.with_known(dict(zip(names, values, strict=True)))
        (body,) = _expressions(function)
        return evaluate(body, inner, kind)
    if name in _FOLDS:
        present = [v for v in values if v is not None]
        return float(_FOLDS[name](present)) if present else _mapped_missing(element, kind)
    if any(v is None for v in values):
        return _mapped_missing(element, kind)
    if name == "not":
        return float(not values[0])
    if compares:
        return float(_compared(element, name, values))
    if name not in _FUNCTIONS:
        unsupported(element, f"calls the function {name!r}, which is not converted")
    try:
        return float(_FUNCTIONS[name](*values))
    except (ValueError, OverflowError, ZeroDivisionError):
        default = element.attributes.get("defaultValue")
        return None if default is None else _literal(element, default, kind)


def _arguments(element: Element, scope: Scope[Value], compares: bool) -> list[Value]:
    """Return the arguments; constants that are compared with a text are texts."""
    texts = compares and any(
        isinstance(scope.look_up(c.need("field"), c), str)
        for c in element.children
        if c.tag == "FieldRef"
    )
    return [evaluate(child, scope, "text" if texts else "number") for child in element.children]


def _compared(element: Element, name: str, values: list[Value]) -> bool:
    first, *others = values
    if name in ("isIn", "isNotIn"):
        return (first in others) == (name == "isIn")
    return _COMPARED[name](first, others[0])


def _logic(name: str, truths: list[bool | None]) -> bool | None:
    if name == "xor":
        return None if None in truths else functools.reduce(lambda a, b: a != b, truths)
    if name == "surrogate":
        return next((t for t in truths if t is not None), None)
    decisive = name == "or"
    if decisive in truths:
        return decisive
    return None if None in truths else not decisive


def is_true(element: Element, scope: Scope[Value]) -> bool | None:
    """Return whether a predicate holds, or None if that is unknown."""
    if element.tag in ("True", "False"):
        return element.tag == "True"
    if element.tag == "CompoundPredicate":
        parts = [is_true(part, scope) for part in element.children]
        return _logic(element.need("booleanOperator"), parts)
    value = scope.look_up(element.need("field"), element)
    if element.tag == "SimpleSetPredicate":
        words = array_of(element.must("Array"))
        inside = element.need("booleanOperator") == "isIn"
        return None if value is None else any(same(element, value, w) for w in words) == inside
    if element.tag != "SimplePredicate":
        malformed(element, "stands where a predicate was expected")
    operator = element.need("operator")
    if operator in ("isMissing", "isNotMissing"):
        return (value is None) == (operator == "isMissing")
    if value is None:
        return None
    if operator in ("equal", "notEqual"):
        return same(element, value, element.need("value")) == (operator == "equal")
    if operator not in _COMPARED or isinstance(value, str):
        malformed(element, f"has the operator {operator!r}")
    limit = as_number(element, element.need("value"))
    if scope.is_single(element.need("field")):
        with np.errstate(over="ignore"):
            limit = float(np.float32(limit))
    return _COMPARED[operator](value, limit)
