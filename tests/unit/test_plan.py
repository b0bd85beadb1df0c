"""The storage plan: no two blocks that are alive together share a byte, and little is wasted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlopsc.lower.placement import Item, place
from mlopsc.lower.plan import Block, Sharing, StoragePlan, plan_storage

ALIGNMENTS = st.sampled_from([1, 4, 16, 64])


@st.composite
def block_lists(draw: st.DrawFn) -> list[Block]:
    spans = draw(
        st.lists(
            st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 6)), max_size=24
        )
    )
    return [
        Block(("tensor", number, 0), size, first, first + length)
        for number, (size, first, length) in enumerate(spans)
    ]


def check(plan: StoragePlan, blocks: Sequence[Block], align: int) -> None:
    assert set(plan.offsets) == {b.key for b in blocks}
    for block in blocks:
        offset = plan.offsets[block.key]
        assert offset >= 0
        assert offset % align == 0
        assert offset + block.size <= plan.size
    assert plan.size % align == 0
    for a, b in itertools.combinations(blocks, 2):
        together = a.first <= b.last and b.first <= a.last
        p, q = plan.offsets[a.key], plan.offsets[b.key]
        apart = p + a.size <= q or q + b.size <= p
        assert apart or not together, (a, b, p, q)


def alive_at_once(blocks: Sequence[Block], align: int) -> int:
    """Return the most bytes alive at any step, by looking at every step."""
    last = max((b.last for b in blocks), default=-1)
    return max(
        (
            sum(-(-b.size // align) * align for b in blocks if b.first <= step <= b.last)
            for step in range(last + 1)
        ),
        default=0,
    )


@settings(max_examples=300, deadline=None)
@given(block_lists(), ALIGNMENTS)
def test_no_two_live_blocks_overlap(blocks: list[Block], align: int) -> None:
    plan = plan_storage(blocks, align)
    check(plan, blocks, align)


@settings(max_examples=200, deadline=None)
@given(block_lists(), ALIGNMENTS)
def test_size_lies_between_the_lower_bound_and_the_sum(blocks: list[Block], align: int) -> None:
    plan = plan_storage(blocks, align)
    assert plan.lower_bound == alive_at_once(blocks, align)
    assert plan.lower_bound <= plan.size <= sum(-(-b.size // align) * align for b in blocks)


@settings(max_examples=100, deadline=None)
@given(block_lists(), ALIGNMENTS, st.randoms(use_true_random=False))
def test_plan_does_not_depend_on_the_order_of_the_blocks(
    blocks: list[Block], align: int, rng: random.Random
) -> None:
    shuffled = list(blocks)
    rng.shuffle(shuffled)
    assert plan_storage(shuffled, align) == plan_storage(blocks, align)


def test_nothing_needs_nothing() -> None:
    assert plan_storage([], 16) == StoragePlan({}, 0, 0)


def block(name: int, size: int, first: int, last: int) -> Block:
    return Block(("tensor", name, 0), size, first, last)


@pytest.mark.parametrize(
    ("blocks", "size"),
    [
        # A chain: each tensor lives until the next is made.
        ([block(i, 64, i, i + 1) for i in range(9)], 128),
        # One after the other: all share the same bytes.
        ([block(i, 64 * (i + 1), i, i) for i in range(5)], 320),
        # A skip connection over a chain of growing and shrinking tensors.
        (
            [block(0, 128, 0, 4), block(1, 64, 1, 2), block(2, 192, 2, 3), block(3, 64, 3, 4)],
            384,
        ),
        # All at once: nothing can be shared.
        ([block(i, 100, 0, 3) for i in range(4)], 4 * 112),
    ],
    ids=["chain", "sequence", "skip", "together"],
)
def test_known_plans_reach_the_lower_bound(blocks: list[Block], size: int) -> None:
    plan = plan_storage(blocks, 16)
    check(plan, blocks, 16)
    assert plan.size == plan.lower_bound == size


def test_more_than_one_order_is_tried() -> None:
    # Largest first puts the second 32 bytes above the first and needs 128; another order does not.
    blocks = [block(0, 64, 2, 2), block(1, 32, 1, 3), block(2, 48, 3, 3), block(3, 32, 3, 3)]
    plan = plan_storage(blocks, 16)
    check(plan, blocks, 16)
    assert plan.size == plan.lower_bound == 112


def test_scratch_and_tensors_of_the_same_number_are_different_blocks() -> None:
    blocks = [Block(("tensor", 1, 0), 16, 0, 0), Block(("scratch", 1, 0), 16, 0, 0)]
    assert sorted(plan_storage(blocks, 16).offsets.values()) == [0, 16]


@st.composite
def blocks_with_pairs(draw: st.DrawFn) -> tuple[list[Block], list[Sharing]]:
    """Blocks, and pairs of which one ends where the other begins."""
    blocks = draw(block_lists())
    pairs = [
        Sharing(a.key, b.key)
        for a, b in itertools.permutations(blocks, 2)
        if a.last == b.first and a.first < b.first
    ]
    return blocks, [p for p in pairs if draw(st.booleans())][:8]


@settings(max_examples=200, deadline=None)
@given(blocks_with_pairs(), ALIGNMENTS)
def test_pairs_share_only_where_one_ends_and_the_other_begins(
    given_: tuple[list[Block], list[Sharing]], align: int
) -> None:
    blocks, pairs = given_
    plan = plan_storage(blocks, align, pairs)
    assert plan.shared <= set(pairs)
    assert len({s.source for s in plan.shared}) == len({s.result for s in plan.shared})
    for sharing in plan.shared:
        assert plan.offsets[sharing.source] == plan.offsets[sharing.result]
    for a, b in itertools.combinations(blocks, 2):
        if {Sharing(a.key, b.key), Sharing(b.key, a.key)} & plan.shared:
            continue
        together = a.first <= b.last and b.first <= a.last
        p, q = plan.offsets[a.key], plan.offsets[b.key]
        assert not together or p + a.size <= q or q + b.size <= p, (a, b, p, q)
    apart = plan_storage(blocks, align)
    assert plan.lower_bound <= plan.size <= apart.size
    assert plan.lower_bound <= apart.lower_bound


def smallest(items: Sequence[Item]) -> int:
    """Return the size of the best placement: first fit in some order finds it."""
    best = sum(item.height for item in items)
    for order in itertools.permutations(items):
        placed: list[tuple[int, Item]] = []
        for item in order:
            starts = [0, *(at + size for at, other in placed for size, _, _ in other.parts)]
            placed.append(
                (min(s for s in starts if all(apart(s, item, p, o) for p, o in placed)), item)
            )
        best = min(best, max(at + item.height for at, item in placed))
    return best


def apart(p: int, a: Item, q: int, b: Item) -> bool:
    return all(
        s[2] < t[1] or t[2] < s[1] or p + s[0] <= q or q + t[0] <= p
        for s in a.parts
        for t in b.parts
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 9), st.integers(0, 6), st.integers(0, 3)),
            min_size=1,
            max_size=2,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_few_items_are_placed_as_well_as_can_be(
    given_: list[list[tuple[int, int, int]]],
) -> None:
    items = [
        Item(("tensor", n, 0), tuple((size, first, first + more) for size, first, more in parts))
        for n, parts in enumerate(given_)
    ]
    offsets = place(items, 0)
    for (i, a), (j, b) in itertools.combinations(enumerate(items), 2):
        assert apart(offsets[i], a, offsets[j], b)
    assert max(o + i.height for o, i in zip(offsets, items, strict=True)) == smallest(items)


def test_residual_chain_in_place_needs_two_tensors() -> None:
    # y = f(g(x)) + x, twice, with scratch: the sum takes the place of x.
    blocks = [block(0, 64, 0, 3), block(1, 64, 1, 2), block(2, 64, 2, 3), block(3, 64, 3, 4)]
    pair = Sharing(("tensor", 0, 0), ("tensor", 3, 0))
    assert plan_storage(blocks, 16).size == 192
    plan = plan_storage(blocks, 16, [pair])
    assert (plan.size, plan.lower_bound, plan.shared) == (192, 192, {pair})
    small = [block(0, 64, 0, 3), block(2, 16, 2, 3), block(3, 64, 3, 4)]
    assert plan_storage(small, 16).size == 144
    assert plan_storage(small, 16, [pair]).size == 80
