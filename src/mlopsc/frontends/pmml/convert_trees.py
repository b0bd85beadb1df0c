"""Frontend *pmml*: trees and scorecards as one ``TreeEnsemble``.

A node of PMML has any number of children, of which the first whose predicate holds is taken; here
each is a chain of comparisons. Two children that exclude each other are one comparison. A compound
predicate is computed beside the trees and is a feature of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import numpy_helper

from mlopsc.frontends.pmml.convert_fields import Columns, limit_of, single
from mlopsc.frontends.pmml.convert_logic import as_number_of
from mlopsc.frontends.pmml.element import Element, array_of, as_number, malformed, unsupported
from mlopsc.frontends.pmml.fields import Scope
from mlopsc.frontends.pmml.graph import LARGEST, ML, NAN, Column, Graph, as_float32
from mlopsc.frontends.rounding import above, below

PREDICATES: Final = (
    "True", "False", "SimplePredicate", "SimpleSetPredicate", "CompoundPredicate",
)  # fmt: skip
MAX_NODES: Final = 1 << 20
_LEQ, _LT, _GTE, _GT, _EQ, _MEMBER = 0, 1, 2, 3, 4, 6
_MODES: Final = {
    "lessOrEqual": _LEQ, "lessThan": _LT, "greaterOrEqual": _GTE, "greaterThan": _GT,
    "equal": _EQ, "notEqual": _EQ,
}  # fmt: skip
_OPPOSITES: Final = (
    {"lessThan", "greaterOrEqual"}, {"lessOrEqual", "greaterThan"}, {"equal", "notEqual"},
)  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """The end of a tree: a weight for each target."""

    weights: tuple[float, ...]


@dataclass(frozen=True)
class Split:
    """A comparison of a feature; ``missing`` is taken if it has no value.

    Attributes:
        feature: Its number.
        mode: As ``TreeEnsemble`` numbers comparisons.
        limits: What it is compared with.
        yes: Taken if the comparison holds.
        no: Taken if not.
        missing: Whether ``yes`` is taken for NaN.
    """

    feature: int
    mode: int
    limits: tuple[float, ...]
    yes: Leaf | Split
    no: Leaf | Split
    missing: bool = False


@dataclass(frozen=True)
class _Test:
    """A predicate as one comparison, ``swapped`` if it holds where the comparison does not.

    ``sure`` says that it is never unknown.
    """

    feature: int
    mode: int
    limits: tuple[float, ...]
    swapped: bool = False
    sure: bool = False


class Matrix:
    """What trees or a linear model use: the features of the model, and columns beside them."""

    def __init__(self, graph: Graph, features: str, known: dict[str, int], width: int) -> None:
        """Take the tensor of the model's features and the place of each of its columns."""
        self._graph, self._features, self._known, self._width = graph, features, known, width
        self._extra: list[str] = []

    def place(self, tensor: str) -> int:
        """Return the place of a column."""
        if tensor in self._known:
            return self._known[tensor]
        if tensor not in self._extra:
            self._extra.append(tensor)
        return self._width + self._extra.index(tensor)

    @property
    def tensor(self) -> str:
        """The matrix: [N, places]."""
        if not self._extra:
            return self._features
        return self._graph.op("Concat", self._features, *self._extra, axis=1)

    @property
    def width(self) -> int:
        """How many places it has."""
        return self._width + len(self._extra)


Weigh = Callable[[Element | None], tuple[float, ...]]


class Trees:
    """Collects trees and makes one ensemble of them."""

    def __init__(self, columns: Columns, matrix: Matrix, targets: int) -> None:
        """Start without trees; each leaf has ``targets`` weights."""
        self._columns, self._matrix, self._targets = columns, matrix, targets
        self._trees: list[Leaf | Split] = []
        self.misses = columns.misses

    def add_tree(self, model: Element, scope: Scope[Column], weigh: Weigh) -> None:
        """Add a ``TreeModel``; ``weigh`` gives the weights of a node, and of no result."""
        strategy = model.get("missingValueStrategy", "none")
        if strategy not in ("none", "nullPrediction", "lastPrediction", "defaultChild"):
            unsupported(model, f"has the missing value strategy {strategy!r}")
        root = model.must("Node")
        if root.must(*PREDICATES).tag != "True":
            unsupported(root, "is a root with a condition")
        last = model.get("noTrueChildStrategy", "returnNullPrediction") == "returnLastPrediction"
        self._trees.append(_Walk(self, scope, weigh, strategy, last).subtree(root))

    def add_characteristic(self, element: Element, scope: Scope[Column]) -> None:
        """Add the chain of attributes of a scorecard's characteristic."""
        chain: Leaf | Split = Leaf((NAN,))
        for attribute in reversed(element.all("Attribute")):
            if attribute.one("ComplexPartialScore") is not None:
                unsupported(attribute, "computes its partial score")
            score = Leaf((attribute.number("partialScore"),))
            test = self.test(attribute.must(*PREDICATES), scope)
            chain = score if test is True else chain if test is False else (
                self.branch(test, score, chain, chain)
            )  # fmt: skip
        self._trees.append(chain)

    def test(self, element: Element, scope: Scope[Column]) -> _Test | bool:
        """Return a predicate as a comparison, or whether it always or never holds."""
        if element.tag in ("True", "False"):
            return element.tag == "True"
        if element.tag == "CompoundPredicate":
            truth = as_number_of(self._columns.graph, self._columns.truth(element, scope))
            return _Test(self._matrix.place(truth), _GT, (0.5,))
        column = scope.look_up(element.need("field"), element)
        feature = self._matrix.place(column.tensor)
        if element.tag == "SimpleSetPredicate":
            words = dict.fromkeys(array_of(element.must("Array")))
            codes = [
                float(column.place(w)) if column.labels is not None else as_number(element, w)
                for w in words
            ]
            inside = element.need("booleanOperator") == "isIn"
            mode = _EQ if len(codes) == 1 else _MEMBER
            if not codes:
                malformed(element, "has an empty set")
            return _Test(feature, mode, tuple(sorted(codes)), swapped=not inside)
        operator = element.need("operator")
        if operator in ("isMissing", "isNotMissing"):
            return _Test(feature, _LEQ, (LARGEST,), swapped=operator == "isMissing", sure=True)
        if operator not in _MODES:
            malformed(element, f"has the operator {operator!r}")
        limit, mode = limit_of(element, column, scope), _MODES[operator]
        exact = below(limit) if mode in (_LEQ, _GT) else above(limit)
        limit = single(limit) if mode == _EQ else exact
        return _Test(feature, mode, (limit,), swapped=operator == "notEqual")

    def branch(
        self, test: _Test, yes: Leaf | Split, no: Leaf | Split, unknown: Leaf | Split
    ) -> Leaf | Split:
        """Return a node that goes where the predicate holds, does not, or is unknown."""
        first, second = (no, yes) if test.swapped else (yes, no)
        if test.sure or unknown is second or unknown is first:
            missing = not test.sure and unknown is not second
            return Split(test.feature, test.mode, test.limits, first, second, missing)
        inner = Split(test.feature, test.mode, test.limits, first, second)
        return Split(test.feature, _LEQ, (LARGEST,), inner, unknown)

    def tensor(self) -> str:
        """Return the sums of the weights: [N, targets]."""
        graph, bias = self._columns.graph, np.zeros(self._targets)
        writer = _Writer()
        for tree in self._trees:
            if isinstance(tree, Leaf):
                bias += tree.weights
            else:
                writer.add(tree, self._targets)
        if not writer.roots:
            base = graph.op("Mul", self._matrix.tensor, graph.constant(0.0))
            first = graph.op("Gather", base, graph.constant([0], np.int64), axis=1)
            clean = graph.where(graph.missing(first), 0.0, first)
            return graph.op("Add", clean, graph.constant(bias))
        attributes = writer.attributes()
        sums = graph.op(
            "TreeEnsemble", self._matrix.tensor, domain=ML,
            aggregate_function=1, post_transform=0, n_targets=self._targets, **attributes,
        )  # fmt: skip
        return graph.op("Add", sums, graph.constant(bias)) if bias.any() else sums


@dataclass
class _Walk:
    """Turns one ``TreeModel`` into comparisons."""

    trees: Trees
    scope: Scope[Column]
    weigh: Weigh
    strategy: str
    last: bool

    def subtree(self, node: Element) -> Leaf | Split:
        """Return what a node is."""
        children = node.all("Node")
        if not children:
            return Leaf(self.weigh(node))
        parts: dict[int, Leaf | Split] = {}

        def part(child: Element) -> Leaf | Split:
            if id(child) not in parts:
                parts[id(child)] = self.subtree(child)
            return parts[id(child)]

        nothing = Leaf(self.weigh(None))
        end = Leaf(self.weigh(node)) if self.last else nothing
        unknown: Leaf | Split | None = None
        if self.strategy == "lastPrediction":
            unknown = Leaf(self.weigh(node))
        elif self.strategy == "defaultChild" and "defaultChild" in node.attributes:
            named = [c for c in children if c.get("id") == node.get("defaultChild")]
            if not named:
                malformed(node, "has a default child that is not there")
            unknown = part(named[0])
        tests = [self.trees.test(c.must(*PREDICATES), self.scope) for c in children]
        chain: Leaf | Split = end
        for number in reversed(range(len(children))):
            child, test = children[number], tests[number]
            if isinstance(test, bool):
                chain = part(child) if test else chain
                continue
            if number == len(children) - 2 and self._exclude(child, children[-1]):
                # A missing value without a strategy has no result: any will do, unless the
                # document asks for missing values.
                no = part(children[-1])
                exact = self.trees.misses or (self.last and self.strategy == "none")
                lost = end if exact else no
            else:
                no = lost = chain
            if self.strategy == "nullPrediction":
                lost = nothing
            chain = self.trees.branch(test, part(child), no, unknown or lost)
        return chain

    def _exclude(self, one: Element, other: Element) -> bool:
        """Whether, where a field has a value, exactly one of two predicates holds."""
        a, b = one.must(*PREDICATES), other.must(*PREDICATES)
        if a.get("field") != b.get("field") or not a.get("field"):
            return False
        if a.tag == b.tag == "SimplePredicate" and a.get("value") == b.get("value"):
            return {a.get("operator"), b.get("operator")} in _OPPOSITES
        sets = [_values(e) for e in (a, b)]
        if sets[0] is None or sets[1] is None or sets[0] & sets[1]:
            return False
        column = self.scope.look_up(a.need("field"), a)
        known = column.labels is not None and not column.open
        return known and sets[0] | sets[1] >= set(column.labels or ())


def _values(element: Element) -> set[str] | None:
    if element.tag == "SimpleSetPredicate" and element.get("booleanOperator") == "isIn":
        return set(array_of(element.must("Array")))
    equal = element.tag == "SimplePredicate" and element.get("operator") == "equal"
    return {element.need("value")} if equal else None


class _Writer:
    """Writes trees as the attributes of ``TreeEnsemble``."""

    def __init__(self) -> None:
        self.roots: list[int] = []
        self._features: list[int] = []
        self._modes: list[int] = []
        self._splits: list[float] = []
        self._members: list[float] = []
        self._branches: list[list[int]] = []  # of each node: yes, whether it is a leaf; no, ...
        self._missing: list[int] = []
        self._targets: list[int] = []
        self._weights: list[float] = []

    def add(self, tree: Split, targets: int) -> None:
        """Add a tree; one whose leaves have several weights once for each target."""
        leaves = list(_leaves(tree))
        weights = np.array([leaf.weights for leaf in leaves])
        used = (weights != 0) | np.isnan(weights)
        single = (used.sum(1) <= 1).all()
        for target in [None] if single else range(targets):
            if target is None or used[:, target].any():
                self.roots.append(len(self._features))
                self._write(tree, target)

    def _write(self, node: Split, target: int | None) -> int:
        place = len(self._features)
        if place >= MAX_NODES:
            unsupported(Element("TreeModel", {}), f"has more than {MAX_NODES:,} comparisons")
        self._features.append(node.feature)
        self._modes.append(node.mode)
        self._missing.append(int(node.missing))
        if node.mode == _MEMBER:
            self._splits.append(0.0)
        else:
            self._splits.append(node.limits[0])
        self._branches.append([])
        members = [*node.limits, NAN] if node.mode == _MEMBER else []
        self._members += members
        for branch in (node.yes, node.no):
            leaf = isinstance(branch, Leaf)
            found = (
                self._leaf(branch, target)
                if isinstance(branch, Leaf)
                else self._write(branch, target)
            )
            self._branches[place] += [found, int(leaf)]
        return place

    def _leaf(self, leaf: Leaf, target: int | None) -> int:
        if target is None:
            weights = enumerate(leaf.weights)
            target = next((n for n, w in weights if w != 0 or np.isnan(w)), 0)
        self._targets.append(target)
        self._weights.append(leaf.weights[target])
        return len(self._targets) - 1

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the node."""
        f = np.float32
        yes, yes_leaf, no, no_leaf = (list(part) for part in zip(*self._branches, strict=True))
        found: dict[str, Any] = {
            "tree_roots": self.roots,
            "nodes_featureids": self._features,
            "nodes_modes": numpy_helper.from_array(np.array(self._modes, np.uint8), "modes"),
            "nodes_splits": numpy_helper.from_array(np.array(self._splits, f), "splits"),
            "nodes_truenodeids": yes,
            "nodes_trueleafs": yes_leaf,
            "nodes_falsenodeids": no,
            "nodes_falseleafs": no_leaf,
            "nodes_missing_value_tracks_true": self._missing,
            "leaf_targetids": self._targets,
            "leaf_weights": numpy_helper.from_array(as_float32(self._weights), "weights"),
        }
        if self._members:
            members = np.array(self._members, f)
            found["membership_values"] = numpy_helper.from_array(members, "members")
        return found


def _leaves(tree: Leaf | Split) -> Sequence[Leaf]:
    found: list[Leaf] = []
    waiting: list[Leaf | Split] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Leaf):
            found.append(node)
        else:
            waiting += [node.yes, node.no]
        if len(found) > MAX_NODES:
            unsupported(Element("TreeModel", {}), f"has more than {MAX_NODES:,} leaves")
    return found
