"""Frontend *pmml*: conditions of three values - they hold, do not, or that is unknown - as tensors.

Source: PMML 4.4, *TreeModel*, the tables of ``CompoundPredicate``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlopsc.frontends.pmml.element import Element, malformed
from mlopsc.frontends.pmml.graph import NAN, Graph


@dataclass(frozen=True)
class Truth:
    """A condition for every sample.

    Attributes:
        holds: Where it is known to hold, a tensor of booleans.
        known: Where it is known, or None if everywhere.
    """

    holds: str
    known: str | None = None


def as_number_of(graph: Graph, truth: Truth) -> str:
    """Return 1 where a condition holds, 0 where not, NaN where that is unknown."""
    number = graph.number(truth.holds)
    return number if truth.known is None else graph.where(truth.known, number, NAN)


@dataclass(frozen=True)
class Logic:
    """Combines conditions.

    Attributes:
        graph: Where nodes go.
    """

    graph: Graph

    def combined(self, name: str, parts: list[Truth], element: Element) -> Truth:
        """Return what an operator makes of conditions: and, or, xor, surrogate."""
        if name not in ("and", "or", "xor", "surrogate"):
            malformed(element, f"has the operator {name!r}")
        first, *others = parts
        for part in others:
            first = {"and": self._and, "or": self._or, "xor": self._xor, "surrogate": self._else}[
                name
            ](first, part)
        return first

    def _known(self, truth: Truth) -> str:
        return truth.known or self.graph.constant([[True]], np.bool_)

    def _and(self, a: Truth, b: Truth) -> Truth:
        g = self.graph
        false = [g.op("And", self._known(t), g.op("Not", t.holds)) for t in (a, b)]
        both = g.op("And", self._known(a), self._known(b))
        known = g.op("Or", both, g.op("Or", *false))
        return Truth(g.op("And", a.holds, b.holds), known)

    def _or(self, a: Truth, b: Truth) -> Truth:
        g = self.graph
        holds = g.op("Or", a.holds, b.holds)
        both = g.op("And", self._known(a), self._known(b))
        return Truth(holds, g.op("Or", both, holds))

    def _xor(self, a: Truth, b: Truth) -> Truth:
        g = self.graph
        known = g.op("And", self._known(a), self._known(b))
        return Truth(g.op("And", g.op("Xor", a.holds, b.holds), known), known)

    def _else(self, a: Truth, b: Truth) -> Truth:
        g, known = self.graph, self._known(a)
        holds = g.op("Or", a.holds, g.op("And", g.op("Not", known), b.holds))
        return Truth(holds, g.op("Or", known, self._known(b)))
