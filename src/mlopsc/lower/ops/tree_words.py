"""Decision trees as words, for the functions of ``mlopsc_tree_words.h``, in the fewest bytes.

The two ways of a comparison are adjacent: nodes of the tree, or leaves. Equal pairs of leaves are
held once, in all trees if the words have room for such numbers, else in each tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlopsc.lower.ops.node import Array
from mlopsc.lower.ops.tree_keys import Keys, possible_keys
from mlopsc.lower.ops.tree_reader import Tree

_WORD = 32
_ENTRY_BITS = 15  # of a target and the number of a weight
_MAX_NODES = 1 << 24  # above is the first target
_MAX_TARGETS = 1 << 8
_WORTH = 0.9  # what is slower has to take less than this
Row = tuple[tuple[int, Any], ...]


class _Slot(NamedTuple):
    """A node: a comparison of the tree or, below zero, none; and its two ways.

    ``ways`` is the slot of the first one, or below zero where both are the leaves ``then`` and
    ``other``.
    """

    comparison: int
    ways: int
    then: int
    other: int


@dataclass(frozen=True)
class Words:
    """The tables of a function.

    Attributes:
        function: The function that walks.
        keys: What it compares.
        key_shift: How far keys are shifted.
        tables: Its tables.
        place_shift: Lowest bit of a place.
        leaf_form: Width of a leaf, or bits of the number of a weight.
    """

    function: str
    keys: Keys
    key_shift: int
    tables: tuple[Array, ...]
    place_shift: int
    leaf_form: int

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return sum(t.nbytes for t in (*self.tables, *self.keys.tables, self.keys.features))


@dataclass(frozen=True)
class _Leaves:
    """Leaves by number, and what they hold.

    Attributes:
        form: ``direct`` or ``shared``.
        rows: Per tree and leaf what it holds, so that equal ones are equal.
        first: Per tree, the first target of its leaves.
        leaf_form: As in ``Words``.
    """

    form: str
    rows: list[list[Row]]
    first: list[int]
    leaf_form: int


def pack(trees: Sequence[Tree], targets: int) -> Words | None:
    """Return the smallest tables for trees that are added; None if there are none.

    Args:
        trees: At least one.
        targets: Number of targets.
    """
    slots = [_slots(tree) for tree in trees]
    if sum(map(len, slots)) >= _MAX_NODES or targets > _MAX_TARGETS:
        return None
    best: Words | None = None
    for leaves in (_direct(trees, targets), _shared(trees)):
        for keys in possible_keys(trees) if leaves else ():
            for words in _forms(trees, slots, keys, leaves):  # type: ignore[arg-type]
                if best is None or words.nbytes < _WORTH * best.nbytes:
                    best = words
    return best


def _slots(tree: Tree) -> list[_Slot]:
    """Return the nodes of a tree, ways beside each other."""
    ways = tree.words[:, 3:].tolist()
    slots = [_Slot(-1, -1, 0, 0)]
    pending = [(0, tree.root)]
    while pending:
        slot, place = pending.pop()
        if place < 0:
            slots[slot] = _Slot(-1, -1, ~place, ~place)
            continue
        then, other = ways[place]
        if then < 0 and other < 0:
            slots[slot] = _Slot(place, -1, ~then, ~other)
            continue
        slots[slot] = _Slot(place, len(slots), 0, 0)
        pending += [(len(slots) + 1, other), (len(slots), then)]
        slots += [slots[slot]] * 2
    return slots


def _direct(trees: Sequence[Tree], targets: int) -> _Leaves:
    """Leaves as rows of weights."""
    spans = [(min(map(min, t.rows)), max(map(max, t.rows))) for t in trees]
    width = max(last - first + 1 for first, last in spans)
    first = [min(lowest, targets - width) for lowest, _ in spans]
    rows = [
        [tuple((start + i, row.get(start + i, 0.0)) for i in range(width)) for row in tree.rows]
        for tree, start in zip(trees, first, strict=True)
    ]
    return _Leaves("direct", rows, first, width)


def _shared(trees: Sequence[Tree]) -> _Leaves | None:
    """Leaves as entries, without weights that are zero."""
    rows = [
        [
            tuple((t, w) for t, w in sorted(row.items()) if w) or ((min(row), 0.0),)
            for row in tree.rows
        ]
        for tree in trees
    ]
    weights = {w for tree in rows for row in tree for _, w in row}
    last = max(t for tree in rows for row in tree for t, _ in row)
    bits = (len(weights) - 1).bit_length()
    fits = last.bit_length() + bits <= _ENTRY_BITS and not any(w != w for w in weights)
    return _Leaves("shared", rows, [0] * len(trees), bits) if fits else None


def _forms(
    trees: Sequence[Tree], slots: list[list[_Slot]], keys: Keys, leaves: _Leaves
) -> Iterator[Words]:
    """Yield the forms that have room for the keys and places."""
    dtype = trees[0].splits.dtype
    name = f"{leaves.form}_{dtype.name.replace('float', 'f')}"
    largest = max(map(len, slots))
    for length in ("short", "long"):
        key_bits = keys.highest.bit_length() if length == "short" else 0
        shift = keys.column_bits + key_bits
        places = 1 << max(_WORD - shift - 1, 0)
        whole = keys.numbers and keys.numbers[-1] == 0  # all bits, so that long words are worth it
        if largest > places or (length == "long" and not (whole and dtype == np.float32)):
            continue
        for groups in ([list(range(len(trees)))], [[i] for i in range(len(trees))]):
            numbered = _numbered(slots, leaves, groups)
            if max(numbered.counts) <= places:
                break
        else:
            continue
        tail = _leaf_tables(leaves, numbered.rows, dtype)
        if tail is None:
            continue
        sizes = [0, *np.cumsum([len(own) for own in slots])[:-1].tolist()]
        heads = [
            (size + (first << 24), (base + places) % (1 << _WORD))
            for size, first, base in zip(sizes, leaves.first, numbered.bases, strict=True)
        ]
        nodes = _nodes(trees, slots, keys, numbered.leaves, key_bits)
        yield Words(
            f"mlopsc_tree_{length}_{name}",
            keys,
            keys.column_bits if key_bits else 0,
            (np.array(heads, np.uint32), nodes, *tail),
            shift,
            leaves.leaf_form,
        )


class _Numbered(NamedTuple):
    """Leaves in order.

    Attributes:
        rows: What each holds.
        bases: Per tree, the number that its own start at.
        counts: Per group of trees, how many there are.
        leaves: Per tree and slot the number, less the base, of its (first) leaf; else zero.
    """

    rows: list[Row]
    bases: list[int]
    counts: list[int]
    leaves: list[list[int]]


def _numbered(slots: list[list[_Slot]], leaves: _Leaves, groups: list[list[int]]) -> _Numbered:
    """Number the leaves so that those of a pair are adjacent; groups of trees share theirs."""
    rows: list[Row] = []
    bases = [0] * len(slots)
    counts = []
    numbers: list[list[int]] = [[] for _ in slots]
    for group in groups:
        base = len(rows)
        pairs: dict[tuple[Row, Row], int] = {}
        singles: dict[Row, int] = {}

        def add(*held: Row, known: Any, key: Any, base: int = base, singles: Any = singles) -> int:
            if key not in known:
                known[key] = len(rows) - base
                for row in held:
                    singles.setdefault(row, len(rows) - base)
                    rows.append(row)
            return int(known[key])

        for tree in group:
            bases[tree] = base
            own = leaves.rows[tree]
            numbers[tree] = [
                add(own[s.then], own[s.other], known=pairs, key=(own[s.then], own[s.other]))
                if s.ways < 0 <= s.comparison
                else 0
                for s in slots[tree]
            ]
        for tree in group:
            own = leaves.rows[tree]
            for index, s in enumerate(slots[tree]):
                if s.comparison < 0:
                    row = own[s.then]
                    numbers[tree][index] = add(row, known=singles, key=row)
        counts.append(len(rows) - base)
    return _Numbered(rows, bases, counts, numbers)


def _leaf_tables(leaves: _Leaves, rows: list[Row], dtype: Any) -> tuple[Array, ...] | None:
    if leaves.form == "direct":
        return (np.array([[w for _, w in row] for row in rows], dtype).reshape(-1),)
    weights: dict[Any, int] = {}
    starts: dict[Row, int] = {}
    entries: list[int] = []
    for row in rows:
        if row in starts:
            continue
        starts[row] = len(entries)
        entries += [(t << leaves.leaf_form) + weights.setdefault(w, len(weights)) for t, w in row]
        entries[-1] -= 1 << _ENTRY_BITS
    if len(entries) > 1 << 16:
        return None
    places = np.array([starts[row] for row in rows], np.uint16)
    return places, np.array(entries, np.int16), np.array(list(weights), dtype)


def _nodes(
    trees: Sequence[Tree], slots: list[list[_Slot]], keys: Keys, leaves: list[list[int]], bits: int
) -> Array:
    """Return the nodes of all trees; ``bits`` are those of a key, or 0 for long nodes."""
    shift = keys.column_bits + bits
    sign = 1 << (_WORD - 1)
    columns, values = keys.columns.tolist(), keys.keys.tolist()
    always = 0 if bits else (1 << _WORD) - 1  # what stands for a key that no feature exceeds
    words, offset = [], 0
    for tree, own, numbers in zip(trees, slots, leaves, strict=True):
        for slot, leaf in zip(own, numbers, strict=True):
            word = (slot.ways << shift) if slot.ways >= 0 else sign + (leaf << shift)
            key = always
            if slot.comparison >= 0:
                word += columns[offset + slot.comparison]
                key = values[offset + slot.comparison]
                key = (1 << bits) - 1 - key if bits else key
            words += [word + (key << keys.column_bits)] if bits else [word, key]
        offset += len(tree.words)
    return np.array(words, np.uint32)
