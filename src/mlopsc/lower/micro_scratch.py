"""How much scratch the hand-written kernels get: what is free while they run.

A convolution gathers the taps of its kernel in parts where there is no room for all of them; parts
cost time, room costs RAM. So the storage is planned with the smallest parts, and then each call
gets the largest that fits into the gaps which the plan leaves at its step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mlopsc.lower.flatten import FlatIf, FlatLoop, FlatProgram, FlatStep, KernelCall, calls_of
from mlopsc.lower.lifetimes import Lifetimes
from mlopsc.lower.micro import NARROW, fit_taps
from mlopsc.lower.micro_calls import MicroCall
from mlopsc.lower.plan import Block, StoragePlan

# The arena may grow by this share for the sake of larger parts.
_GROWTH: Final = 0.0075
_IN_PARTS: Final = ("conv", NARROW["conv"])


def scratch_of(flat: FlatProgram) -> dict[str, tuple[int, ...]]:
    """Return the bytes of scratch of each hand-written kernel, by kernel."""
    return {
        call.kernel: (call.micro.scratch_bytes,) if call.micro.scratch_bytes else ()
        for call in calls_of(flat.steps)
        if call.micro is not None
    }


def with_least_scratch(flat: FlatProgram) -> FlatProgram:
    """Return ``flat`` with convolutions in the parts that need the least scratch."""
    return _changed(flat, lambda call, micro: _fitted(micro, 0))


def use_free_scratch(
    flat: FlatProgram, alive: Lifetimes, plan: StoragePlan, align: int
) -> tuple[FlatProgram, Lifetimes, StoragePlan]:
    """Give each call the largest parts that fit; return all three with what has changed."""
    limit = int(plan.size * (1 + _GROWTH)) // align * align
    offsets, size = dict(plan.offsets), plan.size
    first = {block.key: block.first for block in alive.blocks}
    sizes: dict[Any, int] = {}
    found: dict[str, MicroCall] = {}
    for number, call in enumerate(calls_of(flat.steps)):
        key = ("scratch", number, 0)
        if call.micro is None or call.micro.operator not in _IN_PARTS or key not in offsets:
            continue
        start, room = _largest_gap(alive.blocks, plan.offsets, first[key], limit, align)
        made = _fitted(call.micro, room)
        if call.micro.scratch_bytes < made.scratch_bytes <= room:
            found[call.kernel] = made
            offsets[key], sizes[key] = start, made.scratch_bytes
            size = max(size, start + -(-made.scratch_bytes // align) * align)
    blocks = [replace(b, size=sizes.get(b.key, b.size)) for b in alive.blocks]
    bound = size if size > plan.size else plan.lower_bound
    return (
        _changed(flat, lambda call, micro: found.get(call.kernel, micro)),
        replace(alive, blocks=blocks),
        replace(plan, offsets=offsets, size=size, lower_bound=bound),
    )


def _fitted(call: MicroCall, limit: int) -> MicroCall:
    if call.operator not in _IN_PARTS:
        return call
    return replace(call, shape=fit_taps(call.kernel, call.shape, limit))


def _largest_gap(
    blocks: Sequence[Block], offsets: Mapping[Any, int], step: int, limit: int, align: int
) -> tuple[int, int]:
    """Return start and size of the largest free range below ``limit`` at ``step``."""
    taken = sorted(
        (offsets[b.key], offsets[b.key] + -(-b.size // align) * align)
        for b in blocks
        if b.first <= step <= b.last and b.key[0] != "scratch"
    )
    best, end = (0, 0), 0
    for start, stop in [*taken, (limit, limit)]:
        if start - end > best[1]:
            best = (end, start - end)
        end = max(end, stop)
    return best


def _changed(
    flat: FlatProgram, change: Callable[[KernelCall, MicroCall], MicroCall]
) -> FlatProgram:
    """Return ``flat`` with what ``change`` makes of each call of a hand-written kernel."""

    def walk(steps: Sequence[FlatStep]) -> list[FlatStep]:
        made: list[FlatStep] = []
        for step in steps:
            match step:
                case KernelCall() if step.micro is not None:
                    made.append(replace(step, micro=change(step, step.micro)))
                case FlatLoop():
                    made.append(replace(step, body=walk(step.body)))
                case FlatIf():
                    made.append(replace(step, then=walk(step.then), otherwise=walk(step.otherwise)))
                case _:
                    made.append(step)
        return made

    return replace(flat, steps=walk(flat.steps))
