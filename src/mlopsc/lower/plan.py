"""One storage plan: offsets in the arena for every temporary and every kernel's scratch.

Takes blocks, which are alive for a range of steps, and pairs of blocks that may share an address;
gives an offset for each. Blocks that are alive at one step never share bytes, but for an input and
an output of a kernel that works in place, which then start at one offset. Offline placement is
NP-hard (dynamic storage allocation); ``placement`` has the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlopsc.lower.placement import Item, place

Key = tuple[str, int, int]
_MOST_TRIED: Final = 60  # blocks for which pairs are taken apart one by one


@dataclass(frozen=True)
class Block:
    """Bytes that are alive from step ``first`` to step ``last``, both included."""

    key: Key
    size: int
    first: int
    last: int

    def rounded(self, align: int) -> Block:
        """Return the block with a size that is a multiple of ``align``."""
        return Block(self.key, -(-self.size // align) * align, self.first, self.last)


@dataclass(frozen=True, order=True)
class Sharing:
    """Two blocks that may start at one offset: a kernel reads one and writes the other there.

    Attributes:
        source: Key of the block whose last step is that kernel's.
        result: Key of the block whose first step it is.
    """

    source: Key
    result: Key


@dataclass(frozen=True)
class StoragePlan:
    """Where every block lies.

    Attributes:
        offsets: By key.
        size: Bytes of the arena.
        lower_bound: Largest sum of bytes alive at one step, where what may be written in place
            counts once; no plan of this order of steps is smaller.
        shared: The pairs that lie at one offset.
    """

    offsets: dict[Key, int]
    size: int
    lower_bound: int
    shared: frozenset[Sharing] = frozenset()


def plan_storage(
    blocks: Sequence[Block], align: int, sharings: Sequence[Sharing] = ()
) -> StoragePlan:
    """Place ``blocks``; every offset and size is a multiple of ``align``.

    Args:
        blocks: What to place.
        align: Of offsets and sizes.
        sharings: Pairs that may share; they share where that makes the arena no larger.
    """
    rounded = sorted((b.rounded(align) for b in blocks), key=lambda b: b.key)
    bound = lower_bound(rounded, sharings)
    best = _placed(rounded, _matched(rounded, sharings), bound)
    if not best.shared or best.size == bound:
        return best
    # What must start at one offset is harder to place: is some of it better apart?
    best = min(best, _placed(rounded, frozenset(), bound), key=lambda plan: plan.size)
    for sharing in sorted(best.shared) if len(blocks) <= _MOST_TRIED else ():
        if best.size == bound:
            break
        trial = _placed(rounded, best.shared - {sharing}, bound)
        best = min(best, trial, key=lambda plan: plan.size)
    return best


def lower_bound(blocks: Sequence[Block], sharings: Sequence[Sharing]) -> int:
    """Return the largest sum of sizes alive at one step, each pair that may share counted once."""
    by_key = {b.key: b for b in blocks}
    changes: dict[int, int] = {}
    for block in blocks:
        changes[block.first] = changes.get(block.first, 0) + block.size
        changes[block.last + 1] = changes.get(block.last + 1, 0) - block.size
    at_step: dict[int, list[Sharing]] = {}
    for sharing in sharings:
        at_step.setdefault(by_key[sharing.result].first, []).append(sharing)
    sizes = {b.key: b.size for b in blocks}
    most = alive = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive - _saved(at_step.get(step, []), sizes))
    return most


def _saved(sharings: Sequence[Sharing], sizes: dict[Key, int]) -> int:
    """Return the most bytes that pairs of one step can save; each block is in one pair at most."""
    if not sharings:
        return 0
    first, *rest = sharings
    apart = [s for s in rest if s.source != first.source and s.result != first.result]
    both = min(sizes[first.source], sizes[first.result])
    return max(both + _saved(apart, sizes), _saved(rest, sizes) if apart != rest else 0)


def _matched(blocks: Sequence[Block], sharings: Sequence[Sharing]) -> frozenset[Sharing]:
    """Return pairs in which a block gives and takes its place at most once, the largest first."""
    sizes = {b.key: b.size for b in blocks}
    given: set[Key] = set()
    taken: set[Key] = set()
    chosen: set[Sharing] = set()

    def order(sharing: Sharing) -> tuple[int, int, Sharing]:
        both = sizes[sharing.source], sizes[sharing.result]
        return -min(both), max(both), sharing

    for sharing in sorted(sharings, key=order):
        if sharing.source not in given and sharing.result not in taken:
            given.add(sharing.source)
            taken.add(sharing.result)
            chosen.add(sharing)
    return frozenset(chosen)


def _placed(blocks: Sequence[Block], shared: frozenset[Sharing], bound: int) -> StoragePlan:
    """Return the best plan found in which the pairs of ``shared`` lie at one offset."""
    before = {sharing.result: sharing.source for sharing in shared}
    groups: dict[Key, list[Block]] = {}
    for block in blocks:
        start = block.key
        while start in before:
            start = before[start]
        groups.setdefault(start, []).append(block)
    items = [
        Item(start, tuple((b.size, b.first, b.last) for b in group))
        for start, group in sorted(groups.items())
    ]
    offsets: dict[Key, int] = {}
    size = 0
    for item, offset in zip(items, place(items, bound), strict=True):
        offsets.update({block.key: offset for block in groups[item.name]})
        size = max(size, offset + item.height)
    return StoragePlan(offsets, size, bound, shared)
