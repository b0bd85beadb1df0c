"""One storage plan: offsets in the arena for every temporary and every kernel's scratch.

Blocks whose lifetimes overlap never share bytes. Offline placement is NP-hard (dynamic storage
allocation); first fit is run over several orders and the smallest arena wins (the approach of
Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    best: tuple[int, dict[Key, int]] | None = None
    for order in orders:
        offsets = _first_fit(sorted(rounded, key=lambda b, o=order: (*o(b), b.key)))  # type: ignore[misc]
        size = max((offsets[b.key] + b.size for b in rounded), default=0)
        if best is None or size < best[0]:
            best = (size, offsets)
    size, offsets = best if best is not None else (0, {})
    return StoragePlan(offsets, size, _lower_bound(rounded))


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
