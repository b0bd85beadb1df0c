"""The storage plan: no two blocks that are alive together share a byte, and little is wasted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlopsc.lower.plan import Block, StoragePlan, plan_storage

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
