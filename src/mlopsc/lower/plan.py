"""One storage plan: offsets in the arena for every temporary and every kernel's scratch.

Blocks whose lifetimes overlap never share bytes. Offline placement is NP-hard (dynamic storage
allocation); first fit is run over several orders, the smallest arena wins (the approach of
Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020) and a local
search improves it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_PLACEMENTS = 1_000_000  # comparisons of pairs that the search may spend

Key = tuple[str, int, int]


@dataclass(frozen=True)
class Block:
    """Bytes that are alive from step ``first`` to step ``last``, both included."""

    key: Key
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class StoragePlan:
    """Where every block lies.

    Attributes:
        offsets: By key.
        size: Bytes of the arena.
        lower_bound: Largest sum of sizes alive at one step; no plan of this order is smaller.
    """

    offsets: dict[Key, int]
    size: int
    lower_bound: int


def plan_storage(blocks: Sequence[Block], align: int) -> StoragePlan:
    """Place ``blocks``; every offset and size is a multiple of ``align``."""
    rounded = [Block(b.key, -(-b.size // align) * align, b.first, b.last) for b in blocks]
    orders: list[Callable[[Block], tuple[int, ...]]] = [
        lambda b: (-b.size, b.first),
        lambda b: (-b.size * (b.last - b.first + 1), b.first),
        lambda b: (b.first, -b.size),
        lambda b: (-(b.last - b.first), -b.size, b.first),
        lambda b: (b.last, -b.size),
    ]
    lower_bound = _lower_bound(rounded)
    plans = []
    for order in orders:
        blocks_in_order = sorted(rounded, key=lambda b, o=order: (*o(b), b.key))  # type: ignore[misc]
        plans.append(_place(blocks_in_order))
    best = min(plans, key=lambda plan: plan[0])
    best = _improve(*best, lower_bound)
    return StoragePlan(best[1], best[0], lower_bound)


def _improve(
    size: int, offsets: dict[Key, int], order: list[Block], lower_bound: int
) -> tuple[int, dict[Key, int], list[Block]]:
    """Search near the best order: swap two blocks, keep what is not worse. Always the same way."""
    best = (size, offsets, order)
    rng = random.Random(0)  # noqa: S311 - a search, not a secret
    budget = MAX_PLACEMENTS // max(len(order), 1) ** 2
    for _ in range(budget):
        if best[0] == lower_bound or len(order) < 2:
            break
        trial = list(best[2])
        i, j = rng.sample(range(len(trial)), 2)
        trial[i], trial[j] = trial[j], trial[i]
        found = _place(trial)
        if found[0] <= best[0]:
            best = found
    return best


def _place(order: list[Block]) -> tuple[int, dict[Key, int], list[Block]]:
    offsets = _first_fit(order)
    return max((offsets[b.key] + b.size for b in order), default=0), offsets, order


def _first_fit(blocks: Sequence[Block]) -> dict[Key, int]:
    placed: list[tuple[int, Block]] = []
    offsets: dict[Key, int] = {}
    for block in blocks:
        offset = 0
        for start, other in sorted(placed, key=lambda p: p[0]):
            if other.last < block.first or block.last < other.first:
                continue
            if offset + block.size <= start:
                break
            offset = max(offset, start + other.size)
        offsets[block.key] = offset
        placed.append((offset, block))
    return offsets


def _lower_bound(blocks: Sequence[Block]) -> int:
    steps = {b.first for b in blocks}
    return max((sum(b.size for b in blocks if b.first <= s <= b.last) for s in steps), default=0)
