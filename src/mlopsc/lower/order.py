"""The order of the steps that keeps least memory alive at once.

Takes a flat program; gives one whose steps are in another order that its dependences allow, or the
same one if none is found that needs less. Loops and conditionals move as a whole. All orders are
looked at level by level (which steps have run decides what is alive, whatever their order was); the
best ones of a level are kept, all of them in small graphs. Always the same way, in bounded time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from mlopsc.lower.flatten import FlatProgram, FlatStep, KernelCall, Tensor, TensorCopy, tensors_of
from mlopsc.lower.lifetimes import ArenaIO, key_of, lifetimes, root_of
from mlopsc.lower.plan import Key, lower_bound

MOST_TRIED: Final = 60_000  # next steps of sets of steps that are looked at
WIDEST: Final = 256  # sets of one size
MOST_READY: Final = 64  # steps that may run next, the first ones in the order of the program
MOST_STEPS: Final = 2_000


def reorder(
    flat: FlatProgram, scratch: Mapping[str, tuple[int, ...]], io: ArenaIO | None, align: int
) -> FlatProgram:
    """Return ``flat`` with its steps in an order whose largest sum of bytes alive is smaller.

    Args:
        flat: The program.
        scratch: Bytes of each scratch parameter, by kernel.
        io: The inputs and outputs, if they lie in the arena.
        align: Of every block.
    """
    if not 3 <= len(flat.steps) <= MOST_STEPS:
        return flat
    before = _needed(flat, scratch, io, align)
    order = _Search(flat, scratch, io, align).best(before)
    if order is None:
        return flat
    changed = replace(flat, steps=[flat.steps[number] for number in order])
    return changed if _needed(changed, scratch, io, align) < before else flat


def _needed(
    flat: FlatProgram, scratch: Mapping[str, tuple[int, ...]], io: ArenaIO | None, align: int
) -> int:
    alive = lifetimes(flat, scratch, io)
    return lower_bound([b.rounded(align) for b in alive.blocks], alive.sharings)


@dataclass(frozen=True)
class _Value:
    """Bytes that several steps touch.

    Attributes:
        size: How many.
        steps: Who touches them, as a set of bits.
        given: Whether they are there from the start.
        kept: Whether they stay to the end.
    """

    size: int
    steps: int
    given: bool
    kept: bool


@dataclass(frozen=True)
class _State:
    """Steps that have run.

    Attributes:
        done: Which, as a set of bits.
        ready: Which may run next, likewise.
        peak: Most bytes alive at one of them.
        alive: Bytes alive after them.
        last: The step that ran last.
        before: The state before that.
    """

    done: int
    ready: int
    peak: int
    alive: int
    last: int
    before: _State | None

    def order(self) -> list[int]:
        steps: list[int] = []
        state: _State | None = self
        while state is not None and state.last >= 0:
            steps.append(state.last)
            state = state.before
        return steps[::-1]


class _Search:
    def __init__(
        self,
        flat: FlatProgram,
        scratch: Mapping[str, tuple[int, ...]],
        io: ArenaIO | None,
        align: int,
    ) -> None:
        self._flat = flat
        self._count = len(flat.steps)
        touched: dict[int, list[tuple[int, Tensor]]] = {}  # by root: the steps, what they touch
        roots: dict[int, Tensor] = {}
        for number, step in enumerate(flat.steps):
            for tensor in tensors_of(step):
                root = root_of(flat, tensor)
                roots[root.id] = root
                touched.setdefault(root.id, []).append((number, tensor))
        self._before = _dependences(flat.steps, roots, touched)
        self._after: list[list[int]] = [[] for _ in flat.steps]
        for number, before in enumerate(self._before):
            for earlier in _bits(before):
                self._after[earlier].append(number)
        alone = {
            id_
            for id_, uses in touched.items()
            if len({n for n, _ in uses}) == 1 and not isinstance(flat.steps[uses[0][0]], KernelCall)
        }
        self._own = [_inside(flat, step, alone, scratch, align) for step in flat.steps]
        self._values: dict[Key, _Value] = {}
        self._touches: list[list[Key]] = [[] for _ in flat.steps]
        for id_, uses in touched.items():
            root, numbers = roots[id_], sorted({number for number, _ in uses})
            key = key_of(root)
            if key is None or not (id_ not in alone if root.kind == "temporary" else io):
                continue  # elsewhere, or counted with its only step
            size = -(-root.nbytes // align) * align
            bits = sum(1 << number for number in numbers)
            known = self._values.get(key)
            if known is not None:  # an input that is two tensors
                bits |= known.steps
            given, kept = root.kind == "input", root.kind == "output"
            self._values[key] = _Value(size, bits, given, kept)
            for number in numbers:
                if key not in self._touches[number]:
                    self._touches[number].append(key)
        self._pairs = [list(self._sharing(step)) for step in flat.steps]

    def _sharing(self, step: FlatStep) -> Iterator[tuple[Key, Key]]:
        if not isinstance(step, KernelCall):
            return
        for source, result in step.in_place:
            ends = [root_of(self._flat, step.arguments[i]) for i in (source, result)]
            a, b = (key_of(root) for root in ends)
            if a in self._values and b in self._values:
                yield a, b

    def best(self, limit: int) -> list[int] | None:
        """Return the order that needs least, if that is less than ``limit`` bytes."""
        tried = 0
        start = sum(value.size for value in self._values.values() if value.given)
        ready = sum(1 << n for n, before in enumerate(self._before) if not before)
        states = [_State(0, ready, start, start, -1, None)]
        for number in range(self._count):
            found: dict[int, _State] = {}
            for state in states:
                for step in islice(_bits(state.ready), MOST_READY):
                    tried += 1
                    after = self._run(state, step)
                    if after.peak >= limit:
                        continue
                    known = found.get(after.done)
                    if known is None or after.peak < known.peak:
                        found[after.done] = after
            if not found:
                return None
            # What is left of the budget, for what is left to do.
            each = max(1, tried // (number + 1) // len(states))
            width = (MOST_TRIED - tried) // (each * (self._count - number))
            width = max(1, min(WIDEST, width))
            states = sorted(found.values(), key=lambda s: (s.peak, s.alive, s.done))[:width]
        return states[0].order()

    def _run(self, state: _State, step: int) -> _State:
        done = state.done | 1 << step
        made = dead = 0
        for key in self._touches[step]:
            value = self._values[key]
            if not value.given and not value.steps & state.done:
                made += value.size
            if not value.kept and not value.steps & ~done:
                dead += value.size
        saved = 0
        for source, result in self._pairs[step]:
            a, b = self._values[source], self._values[result]
            if not a.steps & ~done and not a.kept and not b.steps & state.done and not b.given:
                saved = max(saved, min(a.size, b.size))
        peak = max(state.peak, state.alive + made + self._own[step] - saved)
        ready = state.ready & ~(1 << step)
        for number in self._after[step]:
            if not self._before[number] & ~done:
                ready |= 1 << number
        return _State(done, ready, peak, state.alive + made - dead, step, state)


def _bits(number: int) -> Iterator[int]:
    while number:
        yield (number & -number).bit_length() - 1
        number &= number - 1


def _inside(
    flat: FlatProgram,
    step: FlatStep,
    alone: set[int],
    scratch: Mapping[str, tuple[int, ...]],
    align: int,
) -> int:
    """Return the bytes that one step alone touches, at most at once.

    Args:
        flat: The program.
        step: One of its steps.
        alone: Tensors that one loop or conditional touches only, by id.
        scratch: Bytes of each scratch parameter, by kernel.
        align: Of every block.
    """
    own = lifetimes(replace(flat, steps=[step]), scratch)
    blocks = [b for b in own.blocks if b.key[0] == "scratch" or b.key[1] in alone]
    kept = {b.key for b in blocks}
    pairs = [s for s in own.sharings if s.source in kept and s.result in kept]
    return lower_bound([b.rounded(align) for b in blocks], pairs)


def _dependences(
    steps: Sequence[FlatStep],
    roots: Mapping[int, Tensor],
    touched: Mapping[int, list[tuple[int, Tensor]]],
) -> list[int]:
    """Return for each step those that must run before it, as a set of bits.

    What one kernel computes and others only read ties the readers to that kernel alone. Whatever is
    written more than once keeps the order of all that touch it.
    """
    before = [0] * len(steps)
    for id_, uses in touched.items():
        if roots[id_].kind in ("input", "constant"):
            continue
        first = uses[0][0]
        once = len({tensor.id for _, tensor in uses}) == 1 and all(
            isinstance(steps[number], KernelCall)
            or (isinstance(steps[number], TensorCopy) and steps[number].destination is not tensor)  # type: ignore[union-attr]
            for number, tensor in uses
            if number != first
        )
        numbers = sorted({number for number, _ in uses})
        for place, number in enumerate(numbers[1:]):
            before[number] |= 1 << (first if once else numbers[place])
    return before
