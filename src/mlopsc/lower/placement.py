"""The search for offsets: items with lifetimes are stacked as low as possible.

Takes items, each of which has one offset; gives the offsets. First fit is run over several orders
and the lowest result is kept (the approach of Pisarchyk and Lee, "Efficient Memory Management for
Deep Neural Net Inference", 2020). Where that misses the lower bound, a few items are placed by
branch and bound, which finds the best there is unless it runs out of its budget; a local search
improves what is left. The same items always get the same offsets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_PLACEMENTS: Final = 300_000  # comparisons of pairs that the local search may spend
EXACT_ITEMS: Final = 30  # branch and bound is tried up to this number
EXACT_NODES: Final = 3_000  # what it may look at

Part = tuple[int, int, int]  # size, first and last step
Near = list[tuple[int, int, int]]  # another item, bytes that it keeps free below and above itself


@dataclass(frozen=True)
class Item:
    """Blocks that start at one offset, one after the other or in the place of each other.

    Attributes:
        name: To order items by, where nothing else tells them apart.
        parts: Size, first and last step of each block.
    """

    name: tuple[str, int, int]
    parts: tuple[Part, ...]

    @property
    def height(self) -> int:
        """Size of the largest block."""
        return max(size for size, _, _ in self.parts)

    @property
    def first(self) -> int:
        """First step at which it is alive."""
        return min(first for _, first, _ in self.parts)

    @property
    def last(self) -> int:
        """Last step at which it is alive."""
        return max(last for _, _, last in self.parts)


def place(items: Sequence[Item], lower_bound: int) -> list[int]:
    """Return an offset for each item: those alive at one step share no byte.

    Args:
        items: What to place.
        lower_bound: No arena is smaller: the search ends when it reaches this.
    """
    near = neighbours(items)
    heights = [item.height for item in items]
    orders: list[Callable[[Item], tuple[int, ...]]] = [
        lambda i: (-i.height, i.first),
        lambda i: (-i.height * (i.last - i.first + 1), i.first),
        lambda i: (i.first, -i.height),
        lambda i: (-(i.last - i.first), -i.height, i.first),
        lambda i: (i.last, -i.height),
    ]
    best: _Found | None = None
    for order in orders:
        keys = [(*order(item), item.name) for item in items]
        trial = _fitted(sorted(range(len(items)), key=keys.__getitem__), heights, near)
        if best is None or trial.size < best.size:
            best = trial
    if best is None:
        return []
    if lower_bound < best.size and len(items) <= EXACT_ITEMS:
        best = _Exact(items, heights, near, best).search(lower_bound)
    return _improved(best, heights, near, lower_bound).offsets


def neighbours(items: Sequence[Item]) -> list[Near]:
    """Return for each item the others that are alive at one of its steps.

    The offset of an item must not lie strictly between the other's offset less ``below`` and the
    other's offset plus ``above``.
    """
    found: list[dict[int, tuple[int, int]]] = [{} for _ in items]
    parts = sorted(
        (first, last, size, number)
        for number, item in enumerate(items)
        for size, first, last in item.parts
    )
    alive: list[tuple[int, int, int]] = []
    for first, last, size, number in parts:
        alive = [part for part in alive if part[0] >= first]
        for _, other_size, other in alive:
            if other != number:
                below, above = found[number].get(other, (0, 0))
                found[number][other] = max(below, size), max(above, other_size)
                below, above = found[other].get(number, (0, 0))
                found[other][number] = max(below, other_size), max(above, size)
        alive.append((last, size, number))
    return [[(other, *room) for other, room in sorted(near.items())] for near in found]


@dataclass(frozen=True)
class _Found:
    size: int
    offsets: list[int]
    order: list[int]


def _fitted(order: list[int], heights: Sequence[int], near: Sequence[Near]) -> _Found:
    """Place the items one by one, each as low as it goes."""
    offsets: list[int] = [-1] * len(order)
    size = 0
    for item in order:
        taken = sorted(
            (offsets[other] - below, offsets[other] + above)
            for other, below, above in near[item]
            if offsets[other] >= 0
        )
        offset = 0
        for start, end in taken:
            if offset <= start:
                break
            offset = max(offset, end)
        offsets[item] = offset
        size = max(size, offset + heights[item])
    return _Found(size, offsets, order)


def _improved(
    best: _Found, heights: Sequence[int], near: Sequence[Near], lower_bound: int
) -> _Found:
    """Search near the best order: swap two items, keep what is not worse. Always the same way."""
    rng = random.Random(0)  # noqa: S311 - a search, not a secret
    budget = MAX_PLACEMENTS // max(1, len(heights) + sum(map(len, near)))
    for _ in range(min(budget, 100 * len(heights) ** 2)):
        if best.size == lower_bound or len(heights) < 2:
            break
        order = list(best.order)
        i, j = rng.sample(range(len(order)), 2)
        order[i], order[j] = order[j], order[i]
        trial = _fitted(order, heights, near)
        if trial.size <= best.size:
            best = trial
    return best


class _Exact:
    """Branch and bound over plans in which no item can move down.

    In such a plan every item lies at 0 or on top of another. Placed in the order of their offsets,
    each lies as low as those below it allow. So only orders in which offsets do not fall are looked
    at, and a branch ends where an item, or what is left to stack at one step, is too high.
    """

    def __init__(
        self, items: Sequence[Item], heights: Sequence[int], near: Sequence[Near], best: _Found
    ) -> None:
        self._heights, self._near, self._best = heights, near, best
        self._nodes = 0
        self._bound = 0
        self._tried = sorted(
            range(len(items)),
            key=lambda i: (-heights[i] * (items[i].last - items[i].first + 1), items[i].name),
        )
        steps = sorted({first for item in items for _, first, _ in item.parts})
        # By step: the items alive then, with the size of what they hold.
        self._alive: list[dict[int, int]] = []
        for step in steps:
            now: dict[int, int] = {}
            for number, item in enumerate(items):
                for size, first, last in item.parts:
                    if first <= step <= last:
                        now[number] = max(now.get(number, 0), size)
            self._alive.append(now)

    def search(self, lower_bound: int) -> _Found:
        """Return the best plan; it is the best there is if the budget lasts."""
        self._bound = lower_bound
        self._branch({}, dict.fromkeys(range(len(self._heights)), 0), 0)
        return self._best

    def _branch(self, placed: dict[int, int], low: dict[int, int], level: int) -> None:
        self._nodes += 1
        if not low:
            size = max(placed[i] + self._heights[i] for i in placed)
            if size < self._best.size:
                offsets = [placed[i] for i in range(len(placed))]
                self._best = _Found(size, offsets, list(placed))
            return
        if self._too_high(low):
            return
        for item in self._tried:
            if self._nodes > EXACT_NODES or self._best.size <= self._bound:
                return
            if low.get(item, -1) < level:
                continue
            offset = low[item]
            left = {i: at for i, at in low.items() if i != item}
            for other, _, _ in self._near[item]:
                if other in left:
                    # Seen from the other item: how much room this one takes above its offset.
                    left[other] = max(left[other], offset + self._above(other, item))
            self._branch({**placed, item: offset}, left, offset)

    def _above(self, item: int, other: int) -> int:
        return next(above for number, _, above in self._near[item] if number == other)

    def _too_high(self, low: dict[int, int]) -> bool:
        """Whether no plan from here is smaller than the best."""
        if any(at + self._heights[i] >= self._best.size for i, at in low.items()):
            return True
        for alive in self._alive:
            left = [(low[i], size) for i, size in alive.items() if i in low]
            if left and min(left)[0] + sum(size for _, size in left) >= self._best.size:
                return True
        return False
