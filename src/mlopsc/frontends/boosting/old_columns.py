"""Writes trees as ``TreeEnsembleRegressor``, for graphs of ``ai.onnx.ml`` before version 5.

Membership is a chain of equalities there, which the importer joins again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from mlopsc.frontends.boosting.forest import GT, LEQ, LT, MEMBER, Leaf, Split, Tree, limit_of

_MODES: Final = {LEQ: "BRANCH_LEQ", LT: "BRANCH_LT", GT: "BRANCH_GT", MEMBER: "BRANCH_EQ"}
_NODES: Final = (
    "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
    "missing_value_tracks_true",
)  # fmt: skip


class _Row(NamedTuple):
    """A node of a tree, as the operator's columns have it."""

    treeids: int
    nodeids: int
    featureids: int = 0
    modes: str = "LEAF"
    values: float = 0.0
    truenodeids: int = 0
    falsenodeids: int = 0
    missing_value_tracks_true: int = 0


def old_columns(trees: Sequence[Tree], targets: int) -> dict[str, Any]:
    """Return the attributes of a ``TreeEnsembleRegressor`` that adds ``trees``."""
    rows = list[_Row]()
    ids: dict[str, list[Any]] = {
        f"target_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")
    }
    for number, tree in enumerate(trees):
        free = max(tree.nodes) + 1  # numbers of what is added to chains
        for place, node in tree.reached():
            if isinstance(node, Leaf):
                rows.append(_Row(number, place))
                for index, value in enumerate(node.values):
                    entry = (number, place, tree.target + index, value)
                    for column, item in zip(ids.values(), entry, strict=True):
                        column.append(item)
                continue
            added = list(_rows_of(number, place, node, free))
            free += len(added) - 1
            rows += added
    return {
        **{f"nodes_{name}": [getattr(row, name) for row in rows] for name in _NODES},
        **ids,
        "n_targets": targets,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def _rows_of(tree: int, place: int, node: Split, free: int) -> Iterator[_Row]:
    """Yield a comparison, or the chain that stands for membership; ``free`` numbers its rest."""
    values = node.members if node.mode == MEMBER else (float(limit_of(node.threshold, node.mode)),)
    last = len(values) - 1
    for index, value in enumerate(values):
        yield _Row(
            tree,
            place if index == 0 else free + index - 1,
            node.feature,
            _MODES[node.mode],
            value,
            node.then,
            node.other if index == last else free + index,
            int(node.missing),
        )
