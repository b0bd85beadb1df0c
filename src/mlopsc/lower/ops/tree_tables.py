"""Decision trees as tables of any comparison, for the functions of ``mlopsc_trees.h``.

Equal leaves are held once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlopsc.lower.ops.node import Array
from mlopsc.lower.ops.tree_reader import Tree


def tables(trees: Sequence[Tree], targets: int, absent: float) -> tuple[Array, ...]:
    """Return the tables ``trees``, ``nodes``, ``splits`` and ``leaves``, the last one of rows.

    Args:
        trees: At least one.
        targets: Number of targets.
        absent: The weight of a target that a leaf does not name.
    """
    spans = [(min(map(min, t.rows)), max(map(max, t.rows))) for t in trees]
    width = max(last - first + 1 for first, last in spans)
    heads, words, splits = [], [], []
    rows: dict[bytes, int] = {}
    leaves: list[Array] = []
    offset = 0
    for tree, (lowest, _) in zip(trees, spans, strict=True):
        first = min(lowest, targets - width)
        numbers = np.zeros(len(tree.rows), np.int64)
        for index, weights in enumerate(tree.rows):
            row = np.full(width, absent, tree.splits.dtype)
            for target, weight in weights.items():
                row[target - first] = weight
            numbers[index] = rows.setdefault(row.tobytes(), len(leaves))
            if numbers[index] == len(leaves):
                leaves.append(row)
        heads.append((offset + tree.root, first))
        own = tree.words.copy()
        ways = own[:, 3:]
        own[:, 3:] = np.where(ways < 0, ~numbers[np.where(ways < 0, ~ways, 0)], ways + offset)
        words.append(own)
        splits.append(tree.splits)
        offset += len(own)
    return np.array(heads), np.concatenate(words), np.concatenate(splits), np.array(leaves)
