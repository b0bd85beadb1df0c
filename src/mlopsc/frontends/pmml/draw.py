"""Frontend *pmml*: draws inputs that exercise a document's model.

Numbers lie around those that the document compares the field with, or within the margins it
declares; texts are those it knows; values are missing only where it says what happens then.
"""

from __future__ import annotations

import numpy as np

from mlopsc.frontends.base import Array, RawInput
from mlopsc.frontends.pmml.convert import Converted
from mlopsc.frontends.pmml.element import Element
from mlopsc.frontends.pmml.fields import DataField, tests_missing

_MISSING = 0.15  # share of missing values, where they may be
_OPEN_STRATEGIES = ("lastPrediction", "defaultChild", "nullPrediction")


class Drawer:
    """Draws the inputs of one document."""

    def __init__(self, document: Element, converted: Converted) -> None:
        """Read what the document says of its fields."""
        self._converted = converted
        self._points: dict[str, list[float]] = {}
        self._lossy = tests_missing(document)
        trees = [e for e in document.walk() if e.tag == "TreeModel"]
        others = [e for e in document.walk() if e.tag in ("NumericPredictor", "PPCell", "Neuron")]
        self._all_lossy = (
            not others
            and bool(trees)
            and all(t.get("missingValueStrategy") in _OPEN_STRATEGIES for t in trees)
        )
        for element in document.walk():
            self._read(element)

    def _read(self, element: Element) -> None:
        name = element.get("field") or element.get("name")
        points = self._points.setdefault(name, [])
        if element.tag == "SimplePredicate" and "value" in element.attributes:
            points += _numbers(element.get("value"))
        elif element.tag == "NormContinuous":
            points += [x for p in element.all("LinearNorm") for x in _numbers(p.get("orig"))]
        elif element.tag == "Discretize":
            for interval in (e for e in element.walk() if e.tag == "Interval"):
                points += _numbers(interval.get("leftMargin")) + _numbers(
                    interval.get("rightMargin")
                )
        elif element.tag == "MiningField":
            points += _numbers(element.get("lowValue")) + _numbers(element.get("highValue"))
            if "missingValueReplacement" in element.attributes:
                self._lossy.add(name)

    def draw(self, rng: np.random.Generator, wanted: RawInput) -> Array:
        """Return values of one input."""
        data = self._converted.inputs[wanted.name]
        missing = self._all_lossy or data.name in self._lossy
        lost = rng.random(wanted.shape) < (_MISSING if missing else 0)
        if data.kind == "text":
            known = self._converted.labels.get(data.name) or ["?"]
            found = np.array(known, object)[rng.integers(0, len(known), wanted.shape)]
            return np.where(lost, "?", found).astype(str)
        numbers = self._numbers(rng, data, wanted.shape)
        return np.where(lost, np.nan, numbers).astype(wanted.dtype)

    def _numbers(self, rng: np.random.Generator, data: DataField, shape: tuple[int, ...]) -> Array:
        known = [x for text in data.values for x in _numbers(text)]
        if known:
            return np.array(known)[rng.integers(0, len(known), shape)]
        points = np.array(self._points.get(data.name) or [], float)
        if points.size:
            spread = float(np.ptp(points)) or max(1.0, abs(float(points[0])))
            drawn = points[rng.integers(0, points.size, shape)]
            drawn = drawn + rng.standard_normal(shape) * spread * rng.choice([0.01, 0.3])
        elif data.margins is not None:
            drawn = rng.uniform(*data.margins, shape)
        else:
            drawn = rng.standard_normal(shape)
        return np.round(drawn) if data.integral else drawn


def _numbers(text: str) -> list[float]:
    try:
        number = float(text)
    except ValueError:
        return []
    return [number] if np.isfinite(number) else []
