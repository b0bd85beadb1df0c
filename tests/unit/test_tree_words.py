"""Trees as words: what the tables say is what the trees say, for every float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlopsc.lower.ops.tree_keys import Keys
from mlopsc.lower.ops.tree_reader import Tree
from mlopsc.lower.ops.tree_words import Words, pack

Array = np.ndarray[Any, Any]
FEATURES, TARGETS = 5, 4


def grow(seed: int, splits: Array, leaves: int, targets: int, *, missing: bool) -> Tree:
    """Return a random tree of up to ten levels with so many different leaves."""
    rng, weights = np.random.default_rng(seed), np.random.default_rng(leaves)
    words: list[list[int]] = []
    chosen: list[Any] = []
    rows: list[dict[int, Any]] = []
    held = [
        {(t + i) % TARGETS: splits.dtype.type(weights.normal()) for t in range(targets)}
        for i in range(leaves if targets > 1 else 0)
    ] or [{2: splits.dtype.type(weights.normal())} for _ in range(leaves)]

    def node(depth: int) -> int:
        if depth == 0 or (depth < 9 and rng.random() < 0.2):
            rows.append(held[rng.integers(leaves)])
            return ~(len(rows) - 1)
        number = len(words)
        words.append([int(rng.integers(FEATURES)), 0, int(missing and rng.random() < 0.5), 0, 0])
        chosen.append(rng.choice(splits))
        words[number][3] = node(depth - 1)
        words[number][4] = node(depth - 1)
        return number

    root = node(10)
    return Tree(np.array(words, np.int64), np.array(chosen, splits.dtype), root, rows)


def walked(trees: list[Tree], x: Array) -> Array:
    """Return the sums as the trees define them."""
    sums = np.zeros(TARGETS, x.dtype)
    for tree in trees:
        place = tree.root
        while place >= 0:
            feature, _, missing, then, other = tree.words[place]
            value = x[feature]
            place = then if (missing if np.isnan(value) else value <= tree.splits[place]) else other
        for target, weight in sorted(tree.rows[~place].items()):
            sums[target] += weight
    return sums


def key_of(keys: Keys, column: int, value: Any) -> int:
    """Return what ``mlopsc_tree_keys_*`` computes."""
    if np.isnan(value):
        count = int(np.diff(keys.tables[0])[column]) if keys.tables else keys.highest
        return count if column < keys.missing else 0
    if keys.tables:
        starts, splits = keys.tables
        return int((splits[starts[column] : starts[column + 1]] < value).sum())
    lowest, highest, drop = keys.numbers
    bits = int(np.float32(value).view(np.uint32))
    place = (1 << 31) - bits if bits >> 31 else bits
    if place <= lowest:
        return 0
    return keys.highest if place > highest else ((place - lowest - 1) >> drop) + 1


def computed(words: Words, count: int, x: Array) -> Array:
    """Return the sums as ``mlopsc_tree_words.h`` defines them."""
    keys, mask = words.keys, (1 << words.keys.column_bits) - 1
    found = [key_of(keys, c, x[f]) << words.key_shift for c, f in enumerate(keys.features)]
    heads, nodes, *leaves = words.tables
    assert len(heads) == count
    long, sums = "_long_" in words.function, np.zeros(TARGETS, x.dtype)
    for start, base in heads.tolist():
        place, first = 0, start & 0xFFFFFF
        while place >= 0:
            at = (first + place) * (2 if long else 1)
            word = int(nodes[at])
            add = (found[word & mask] > nodes[at + 1]) << words.place_shift if long else 0
            total = (word + (add if long else found[word & mask])) & 0xFFFFFFFF
            place = (total - (total >> 31 << 32)) >> words.place_shift
        leaf = (base + place) & 0xFFFFFFFF
        if "_direct_" in words.function:
            row = leaves[0].reshape(-1, words.leaf_form)[leaf]
            sums[(start >> 24) : (start >> 24) + words.leaf_form] += row
            continue
        numbers, entries, weights = leaves
        at = int(numbers[leaf])
        while True:
            entry = int(entries[at])
            number = entry & ((1 << words.leaf_form) - 1)
            sums[(entry & 0x7FFF) >> words.leaf_form] += weights[number]
            at += 1
            if entry < 0:
                break
    return sums


GRID = np.arange(-20, 21, dtype=np.float32) / 4
RANDOM = np.random.default_rng(0).normal(size=3000).astype(np.float32)
EDGES = np.array([-np.inf, np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)


@pytest.mark.parametrize(
    ("splits", "trees", "leaves", "targets", "missing", "form", "keys"),
    [
        (GRID, 20, 30, 2, False, "short_shared_f32", "bits_f32"),
        (GRID, 20, 30, 2, True, "short_shared_f32", "bits_f32"),
        (np.abs(GRID), 20, 30_000, 1, False, "short_direct_f32", "bits_f32"),
        (RANDOM[:100], 20, 30, 3, True, "short_shared_f32", "rank_f32"),
        (RANDOM[:100], 20, 30_000, 1, False, "short_direct_f32", "rank_f32"),
        (RANDOM, 4, 30, 4, True, "long_shared_f32", "bits_f32"),
        (RANDOM, 4, 30_000, 1, True, "long_direct_f32", "bits_f32"),
        (EDGES, 4, 30, 4, True, "short_shared_f32", "rank_f32"),
        (EDGES.astype(np.float64), 4, 30_000, 1, True, "short_direct_f64", "rank_f64"),
        (RANDOM.astype(np.float64) + 1e-12, 4, 30, 4, True, "short_shared_f64", "rank_f64"),
    ],
)
def test_words_say_what_trees_say(
    splits: Array, trees: int, leaves: int, targets: int, missing: bool, form: str, keys: str
) -> None:
    forest = [grow(i, splits, leaves, targets, missing=missing) for i in range(trees)]
    words = pack(forest, TARGETS)
    assert words is not None
    assert words.function == f"mlopsc_tree_{form}"
    assert words.keys.function == f"mlopsc_tree_keys_{keys}"
    dtype, rng = splits.dtype, np.random.default_rng(1)
    up, down = np.nextafter(splits, dtype.type(np.inf)), np.nextafter(splits, dtype.type(-np.inf))
    values = np.concatenate([splits, up, down, EDGES.astype(dtype), np.array([np.nan, -np.nan])])
    for _ in range(30):
        x = rng.choice(values, FEATURES).astype(dtype)
        assert np.array_equal(computed(words, trees, x), walked(forest, x)), x


def test_equal_pairs_of_leaves_are_held_once_in_all_trees() -> None:
    words = pack([grow(i, GRID, 3, 1, missing=False) for i in range(20)], TARGETS)
    assert words is not None
    (leaves,) = words.tables[2:]
    assert len(leaves) == 9 * 2  # pairs of three


def test_comparisons_without_an_order_are_no_words() -> None:
    one = np.ones(1, np.float32)
    assert pack([Tree(np.array([[0, 0, 0, ~0, ~0]]), one, 0, [{0: 1.0}])], 1) is not None
    assert pack([Tree(np.array([[0, 1, 0, ~0, ~0]]), one, 0, [{0: 1.0}])], 1) is None
    assert pack([Tree(np.array([[0, 0, 0, ~0, ~0]]), one * np.nan, 0, [{0: 1.0}])], 1) is None
