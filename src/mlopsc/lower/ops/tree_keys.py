"""Features of decision trees as integers of the same order, for ``mlopsc_tree_keys_*``.

A *column* is a feature with one rule for NaN; a feature whose comparisons send NaN both ways is two
columns. A feature is at most a split exactly if its key is at most the split's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlopsc.lower.ops.node import Array
from mlopsc.lower.ops.tree_reader import Tree

_MAX_FEATURES = 1 << 16
_MAX_DROP = 23  # bits of a float's fraction: more are never alike


@dataclass(frozen=True)
class Keys:
    """How keys are computed, and what the comparisons of all trees become.

    Attributes:
        function: What computes them.
        features: Per column, those with NaN after all splits first (uint16).
        missing: Number of the first column that has NaN before all splits.
        highest: The greatest key that a feature can get.
        tables: For the function, after ``features``.
        numbers: For the function, after ``missing``; the shift of keys follows.
        columns: Per comparison, of all trees in order.
        keys: Per comparison, that of its split.
    """

    function: str
    features: Array
    missing: int
    highest: int
    tables: tuple[Array, ...]
    numbers: tuple[int, ...]
    columns: Array
    keys: Array

    @property
    def column_bits(self) -> int:
        """Bits of the number of a column."""
        return (len(self.features) - 1).bit_length()


def possible_keys(trees: Sequence[Tree]) -> Iterator[Keys]:
    """Yield ways to compute keys; none if a comparison has no place in an order."""
    words = np.concatenate([tree.words for tree in trees])
    splits = np.concatenate([tree.splits for tree in trees])
    features, equal, missing = words[:, 0], words[:, 1], words[:, 2]
    if equal.any() or np.isnan(splits).any() or features.max() >= _MAX_FEATURES:
        return
    found, columns = np.unique(missing * _MAX_FEATURES + features, return_inverse=True)
    named = (found % _MAX_FEATURES).astype(np.uint16), int((found < _MAX_FEATURES).sum())
    if splits.dtype == np.float32:
        yield _bits(*named, columns, splits)
    yield _rank(*named, columns, splits)


def _bits(features: Array, missing: int, columns: Array, splits: Array) -> Keys:
    """Keys from the bits of floats, without those that are zero in all splits."""
    bits = splits.view(np.uint32).astype(np.int64)
    places = np.where(bits >> 31 == 1, (1 << 31) - bits, bits)
    lowest, highest = int(places.min()), int(places.max())
    used = int(np.bitwise_or.reduce(places - lowest))
    drop = min((used & -used).bit_length() - 1, _MAX_DROP) if used else 0
    return Keys(
        "mlopsc_tree_keys_bits_f32",
        features,
        missing,
        highest=((highest - lowest) >> drop) + 1,
        tables=(),
        numbers=(lowest, highest, drop),
        columns=columns,
        keys=(places - lowest) >> drop,
    )


def _rank(features: Array, missing: int, columns: Array, splits: Array) -> Keys:
    """Keys that count the column's splits below a feature."""
    keys = np.zeros(len(splits), np.int64)
    found = []
    for column in range(len(features)):
        own = columns == column
        values, keys[own] = np.unique(splits[own], return_inverse=True)
        found.append(values)
    counts = [len(values) for values in found]
    return Keys(
        f"mlopsc_tree_keys_rank_{splits.dtype.name.replace('float', 'f')}",
        features,
        missing,
        highest=max(counts),
        tables=(np.cumsum([0, *counts]).astype(np.uint32), np.concatenate(found)),
        numbers=(),
        columns=columns,
        keys=keys,
    )
