"""Decision trees, read from any operator of ``ai.onnx.ml`` that holds them, and written as one.

What is written is a ``TreeEnsemble`` that adds, or takes the least or largest; all else about an
ensemble is arithmetic on its result. A leaf there has one weight; a tree whose leaves have several
is written once for each, and lowering joins these again. Order is kept: it decides the last bits of
sums. Source: the ONNX operator schemas and ONNX Runtime's ``tree_ensemble_common.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Refusal, Tensor

DOMAIN: Final = "ai.onnx.ml"
VERSION: Final = 5  # of the operator set, that has TreeEnsemble
CHECKED: Final = "mlopsc.forest"  # marks nodes that were written here
LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
MODES: Final = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
SUM, MIN, MAX = 1, 2, 3
_SMALL = 31  # the reference runtime compares members as integers unless all are below this


@dataclass
class Node:
    """One comparison; ``then`` and ``other`` are nodes, or leaves as ``~number``.

    A set (``members``) that is ``exact`` stands for equalities.
    """

    feature: int
    mode: int
    split: float
    missing: bool
    then: int
    other: int
    members: list[float] = field(default_factory=list)
    exact: bool = False


@dataclass
class Forest:
    """Trees.

    Attributes:
        nodes: Of all trees.
        leaves: Per leaf its targets and weights, in the order they are added.
        roots: Per tree a node, or a leaf as ``~number``.
    """

    nodes: list[Node]
    leaves: list[list[tuple[int, float]]]
    roots: list[int]

    @property
    def is_plain(self) -> bool:
        """Whether it may stay as it is, though ``write`` did not make it."""
        nodes = (self.nodes[root] for root in self.roots)
        large = any(n.mode == MEMBER and not _is_small(n.members) for n in self.nodes)
        return not large and all(n.then != n.other or n.then >= 0 for n in nodes)

    def check(self, features: int, targets: int) -> None:
        """Make sure that every walk ends and reads what is there.

        Raises:
            Refusal: The trees are none, or name a feature or target that does not exist.
        """
        seen: set[int] = set()
        for number, root in enumerate(self.roots):
            pending = [root]
            while pending:
                place = pending.pop()
                if place in seen and place >= 0:
                    raise Refusal(f"node {place} of tree {number} is reached twice")
                seen.add(place)
                if not -len(self.leaves) <= place < len(self.nodes):
                    raise Refusal(f"tree {number} leads to a node that does not exist")
                if place < 0:
                    self._check_leaf(~place, targets)
                    continue
                node = self.nodes[place]
                if not 0 <= node.feature < features:
                    raise Refusal(f"tree {number} reads feature {node.feature} of {features}")
                pending += [node.then, node.other]
        if not self.roots:
            raise Refusal("it holds no trees")

    def _check_leaf(self, leaf: int, targets: int) -> None:
        if not self.leaves[leaf]:
            raise Refusal(f"leaf {leaf} has no weight")
        for target, _ in self.leaves[leaf]:
            if not 0 <= target < targets:
                raise Refusal(f"leaf {leaf} names target {target} of {targets}")


def write(b: Builder, x: Tensor, forest: Forest, targets: int, rule: int = SUM) -> Tensor:
    """Return what the trees give for ``x`` (samples x features), as samples x targets.

    Args:
        b: Of the node that holds the trees.
        x: float32 or float64.
        forest: Checked.
        targets: Number of targets.
        rule: How the trees' weights become one: ``SUM``, ``MIN`` or ``MAX``.
    """
    x, forest = _with_integers(b, x, forest)
    dtype = x.dtype.numpy()
    columns: dict[str, list[int]] = {
        name: []
        for name in (
            "nodes_featureids", "nodes_missing_value_tracks_true", "nodes_truenodeids",
            "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs", "leaf_targetids",
            "tree_roots",
        )
    }  # fmt: skip
    modes: list[int] = []
    splits: list[float] = []
    weights: list[float] = []
    members: list[float] = []

    def leaf(row: Sequence[tuple[int, float]], copy: int) -> int:
        # A leaf with fewer weights than others adds nothing, or its last weight again.
        target, weight = row[min(copy, len(row) - 1)]
        weights.append(weight if copy < len(row) or rule != SUM else 0.0)
        columns["leaf_targetids"].append(target)
        return len(weights) - 1

    def node(of: Node) -> int:
        columns["nodes_featureids"].append(of.feature)
        columns["nodes_missing_value_tracks_true"].append(int(of.missing))
        modes.append(of.mode)
        splits.append(of.split)
        members.extend([*of.members, np.nan] if of.mode == MEMBER else [])
        for way in ("true", "false"):
            columns[f"nodes_{way}nodeids"].append(0)
            columns[f"nodes_{way}leafs"].append(0)
        return len(modes) - 1

    for root in forest.roots:
        for copy in range(max(len(row) for row in reachable_rows(forest, root))):
            columns["tree_roots"].append(len(modes))
            # A tree that is one leaf is a comparison whose two ways are alike.
            pending: list[tuple[int, int, str]] = []
            if root < 0:
                number = node(Node(0, LEQ, 0.0, False, root, root))
                pending = [(number, root, "false"), (number, root, "true")]
            else:
                pending = [(-1, root, "")]
            while pending:
                parent, place, way = pending.pop()
                if place < 0:
                    number = leaf(forest.leaves[~place], copy)
                else:
                    of = forest.nodes[place]
                    number = node(of)
                    pending += [(number, of.other, "false"), (number, of.then, "true")]
                if parent >= 0:
                    columns[f"nodes_{way}nodeids"][parent] = number
                    columns[f"nodes_{way}leafs"][parent] = int(place < 0)
    attributes: dict[str, Any] = {
        **columns,
        "n_targets": targets,
        "aggregate_function": rule,
        "nodes_modes": ir.tensor(np.array(modes, np.uint8)),
        "nodes_splits": ir.tensor(np.array(splits, dtype)),
        "leaf_weights": ir.tensor(np.array(weights, dtype)),
    }
    if members:
        attributes["membership_values"] = ir.tensor(np.array(members, dtype))
    if not any(columns["nodes_missing_value_tracks_true"]):
        del attributes["nodes_missing_value_tracks_true"]
    b.imports[DOMAIN] = VERSION
    result = b.op("TreeEnsemble", x, domain=DOMAIN, **attributes)
    b.nodes[-1].meta[CHECKED] = True
    return result


def reachable_rows(forest: Forest, root: int) -> list[list[tuple[int, float]]]:
    """Return the weights of the leaves of a tree."""
    rows, pending = [], [root]
    while pending:
        place = pending.pop()
        if place < 0:
            rows.append(forest.leaves[~place])
        else:
            pending += [forest.nodes[place].then, forest.nodes[place].other]
    return rows


def _with_integers(b: Builder, x: Tensor, forest: Forest) -> tuple[Tensor, Forest]:
    """Let large sets be looked up for integers of 32 bits, in columns added to ``x``.

    The reference runtime looks up the integer part of a feature. So is ours, but for a set that
    stood for equalities, in which no fraction is. NaN stays.
    """
    large = [n for n in forest.nodes if n.mode == MEMBER and not _is_small(n.members)]
    keys = sorted({(n.feature, n.exact) for n in large})
    if not keys:
        return x, forest
    taken = {member for n in large for member in n.members}
    free = next(v for v in range(len(taken) + 1) if v not in taken)
    columns = [x]
    for feature, exact in keys:
        y = x.part(1, feature, feature + 1)
        whole = b.where(y < 0.0, b.op("Ceil", y), b.op("Floor", y))
        usable = b.op("Abs", y) < float(1 << 31)
        usable = usable & y.equals(whole) if exact else usable
        columns.append(b.where(usable | b.op("IsNaN", y), whole, float(free)))
    chosen = {id(n) for n in large}
    nodes = [
        replace(n, feature=x.shape[1] + keys.index((n.feature, n.exact))) if id(n) in chosen else n
        for n in forest.nodes
    ]
    return b.concat(columns, 1), replace(forest, nodes=nodes)


def _is_small(members: Sequence[float]) -> bool:
    return len(members) < _SMALL and all(0 <= v < _SMALL for v in members)
