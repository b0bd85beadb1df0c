"""Decision trees, read out of the attributes of a ``TreeEnsemble``.

Source: the ONNX operator schema ``ai.onnx.ml::TreeEnsemble``. Every comparison is written as one of
two, exactly: ``x < t`` is ``x <= u`` with ``u`` the number before ``t``, the other comparisons are
those with the ways swapped, and membership is a chain of equalities. Trees of one shape that follow
each other are walked once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlopsc.lower.ops.node import Array, Node

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)  # of nodes_modes
Way = tuple[int, int]  # number of a node or leaf, and whether it is a leaf
_NEXT: Way = (-1, 0)  # the comparison that follows in the same node


class _Comparison(NamedTuple):
    """``x[feature] <= split``, or ``==``; ``missing`` says whether NaN goes where that holds."""

    feature: int
    equal: bool
    missing: bool
    split: float
    then: Way
    other: Way


@dataclass
class Tree:
    """One tree, its comparisons and leaves numbered in the order a walk from the root meets them.

    Attributes:
        words: Per comparison: feature, flags, and the two places to go; leaves are negative.
        splits: Per comparison.
        root: Where the walk starts.
        rows: Per leaf its weights by target.
    """

    words: Array
    splits: Array
    root: int
    rows: list[dict[int, Any]]

    def adds_to(self, other: Tree) -> bool:
        """Whether this tree has the shape of ``other``, and each leaf targets of its own."""
        return (
            np.array_equal(self.words, other.words)
            and np.array_equal(self.splits, other.splits, equal_nan=True)
            and not any(a.keys() & b.keys() for a, b in zip(self.rows, other.rows, strict=True))
        )


class Reader:
    """Reads trees out of the attributes of a ``TreeEnsemble``."""

    def __init__(self, node: Node) -> None:
        """Decode the attributes."""

        def integers(name: str) -> list[int]:
            return [int(v) for v in node.attribute(name) or ()]

        def array(name: str) -> Array:
            tensor = node.attribute(name)
            return np.zeros(0) if tensor is None else np.asarray(tensor.numpy()).reshape(-1)

        self._modes, self._splits = array("nodes_modes"), array("nodes_splits")
        self._weights, self._targets = array("leaf_weights"), integers("leaf_targetids")
        self._features = integers("nodes_featureids")
        tracks = integers("nodes_missing_value_tracks_true")
        self._missing = tracks or [0] * len(self._features)
        self._then, self._other = (
            list(zip(integers(f"nodes_{way}nodeids"), integers(f"nodes_{way}leafs"), strict=True))
            for way in ("true", "false")
        )
        self._members = list(self._sets(array("membership_values")))
        self._roots = integers("tree_roots")

    def trees(self) -> Iterator[Tree]:
        """Yield the trees, those walked at once as one."""
        last: Tree | None = None
        for root in self._roots:
            tree = self._tree(root)
            if last is not None and tree.adds_to(last):
                for row, more in zip(last.rows, tree.rows, strict=True):
                    row.update(more)
                continue
            if last is not None:
                yield last
            last = tree
        if last is not None:
            yield last

    def _sets(self, values: Array) -> Iterator[list[float]]:
        """Yield the set of each node that asks for membership; NaN ends a set."""
        sets = iter(np.split(values, np.flatnonzero(np.isnan(values))))
        for mode in self._modes:
            found = next(sets, np.zeros(0)) if mode == MEMBER else np.zeros(0)
            yield [float(v) for v in found[~np.isnan(found)]]

    def _tree(self, root: int) -> Tree:
        comparisons: list[_Comparison] = []
        rows: list[dict[int, Any]] = []
        places: dict[Way, int] = {}
        pending: list[Way] = [(root, 0)]
        while pending:
            way = pending.pop()
            if way in places:
                continue
            number, is_leaf = way
            if is_leaf:
                places[way] = ~len(rows)
                rows.append({self._targets[number]: self._weights[number]})
            else:
                places[way] = len(comparisons)
                comparisons += self._comparisons(number)
                pending += [self._other[number], self._then[number]]
        words = [
            (
                c.feature, c.equal, c.missing, places[c.then],
                index + 1 if c.other == _NEXT else places[c.other],
            )
            for index, c in enumerate(comparisons)
        ]  # fmt: skip
        splits = np.array([c.split for c in comparisons], self._splits.dtype)
        return Tree(np.array(words, np.int64), splits, places[root, 0], rows)

    def _comparisons(self, number: int) -> Iterator[_Comparison]:
        """Yield what stands for a node."""
        mode, missing = int(self._modes[number]), bool(self._missing[number])
        feature, split = self._features[number], self._splits[number]
        then, other = self._then[number], self._other[number]
        if mode == MEMBER:
            members = self._members[number] or [np.nan]
            for member in members[:-1]:
                yield _Comparison(feature, True, missing, member, then, _NEXT)
            yield _Comparison(feature, True, missing, members[-1], then, other)
            return
        if mode in (LT, GTE):
            split = np.nextafter(split, -split.dtype.type(np.inf)) if split > -np.inf else np.nan
        if mode in (GTE, GT, NEQ):
            then, other = other, then
            missing = mode != NEQ and not missing
        yield _Comparison(feature, mode in (EQ, NEQ), missing, float(split), then, other)
