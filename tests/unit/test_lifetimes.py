"""Storage of programs with loops and conditionals: run on paper, nothing is overwritten too early.

Random programs are placed by ``lifetimes`` and ``plan_storage`` and then run: a write marks the
bytes of its tensor, and a read checks that they still carry the mark.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from mlopsc.lower.flatten import (
    Carried,
    FlatIf,
    FlatLoop,
    FlatProgram,
    FlatStep,
    KernelCall,
    Tensor,
    TensorCopy,
)
from mlopsc.lower.lifetimes import lifetimes
from mlopsc.lower.order import reorder
from mlopsc.lower.plan import plan_storage

TRIPS = 3


@dataclass
class Maker:
    """Makes a random program; every kernel writes its last argument and reads the others."""

    rng: random.Random
    places: dict[int, Tensor] = field(default_factory=dict)
    tensors: int = 0
    states: int = 0
    loops: int = 0
    scratch: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def tensor(self, kind: str = "temporary", size: int = 0, **rest: object) -> Tensor:
        self.tensors += 1
        return Tensor(self.tensors, kind, size or self.rng.choice([4, 8, 64, 100]), **rest)  # type: ignore[arg-type]

    def call(self, visible: list[Tensor], output: Tensor) -> KernelCall:
        reads = self.rng.sample(visible, min(len(visible), self.rng.randint(0, 3)))
        name = f"k{len(self.scratch)}"
        self.scratch[name] = (64,) if self.rng.random() < 0.2 else ()
        pairs = [(i, len(reads)) for i in range(len(reads)) if self.rng.random() < 0.5]
        return KernelCall(name, (*reads, output), tuple(pairs))

    def steps(self, outer: list[Tensor], depth: int) -> tuple[list[FlatStep], list[Tensor]]:
        """Return steps and what they leave visible besides ``outer``."""
        made: list[FlatStep] = []
        own: list[Tensor] = []
        for _ in range(self.rng.randint(1, 5)):
            kind = self.rng.random()
            if depth and kind < 0.25:
                self.loop(made, own, [*outer, *own], depth)
            elif depth and kind < 0.4:
                self.conditional(made, own, [*outer, *own], depth)
            else:
                own.append(self.tensor())
                made.append(self.call([*outer, *own[:-1]], own[-1]))
        return made, own

    def loop(
        self, made: list[FlatStep], own: list[Tensor], visible: list[Tensor], depth: int
    ) -> None:
        number, self.loops = self.loops, self.loops + 1
        carried, reads, writes = [], [], []
        for _ in range(self.rng.randint(0, 2)):
            home = self.tensor()
            size = home.nbytes
            carried.append(Carried(self.states, home, self.tensor(size=size)))
            reads.append(self.tensor("state", size, index=self.states))
            writes.append(self.tensor("next", size, index=self.states))
            self.states += 1
            made.append(self.call(visible, home))
        stacks = [self.tensor(size=12 * TRIPS) for _ in range(self.rng.randint(0, 2))]
        elements = [self.tensor("element", 12, index=number, stack=s) for s in stacks]
        body, inner = self.steps([*visible, *reads], depth - 1)
        for target in [*writes, *elements]:
            fitting = [t for t in inner if t.nbytes == target.nbytes and t.id not in self.places]
            if fitting and self.rng.random() < 0.5:
                self.places[fitting[0].id] = target
            else:
                body.append(self.call([*visible, *reads, *inner], target))
        made.append(FlatLoop(number, TRIPS, None, tuple(carried), tuple(stacks), body))
        own += [*(c.home for c in carried), *stacks]

    def conditional(
        self, made: list[FlatStep], own: list[Tensor], visible: list[Tensor], depth: int
    ) -> None:
        condition = self.tensor(size=1)
        made.append(self.call(visible, condition))
        result = self.tensor()
        branches = []
        for _ in range(2):
            steps, inner = self.steps(visible, depth - 1)
            steps.append(self.call([*visible, *inner], result))
            branches.append(steps)
        made.append(FlatIf(condition, *branches))
        own.append(result)


@dataclass
class Machine:
    """Runs a program on an arena of marks."""

    flat: FlatProgram
    offsets: dict[tuple[str, int, int], int]
    rng: random.Random
    arena: dict[int, object] = field(default_factory=dict)
    pointers: dict[int, tuple[int, int]] = field(default_factory=dict)  # state: read, write
    counters: dict[int, int] = field(default_factory=dict)
    homes: dict[int, object] = field(default_factory=dict)
    order: dict[int, int] = field(default_factory=dict)  # number of each call

    def address(self, tensor: Tensor) -> int:
        place = self.flat.resolve(tensor)
        if place.stack is not None:
            return self.address(place.stack) + place.nbytes * self.counters[place.index]
        if place.kind in ("state", "next"):
            return self.pointers[place.index][place.kind == "next"]
        return self.offsets["tensor", place.id, 0]

    def mark(self, tensor: Tensor) -> object:
        """Return what the bytes of ``tensor`` carry."""
        place = self.flat.resolve(tensor)
        if place.stack is not None:
            return self.mark(place.stack)
        if place.kind in ("state", "next"):
            return ("state", place.index)
        return self.homes.get(place.id, place.id)

    def access(self, tensor: Tensor, *, write: bool) -> None:
        start, mark = self.address(tensor), self.mark(tensor)
        for byte in range(start, start + tensor.nbytes):
            if write:
                self.arena[byte] = mark
            else:
                assert self.arena.get(byte) == mark, (tensor, byte)

    def run(self, steps: list[FlatStep]) -> None:
        for step in steps:
            match step:
                case KernelCall():
                    for tensor in step.arguments[:-1]:
                        self.access(tensor, write=False)
                    key = ("scratch", self.order[id(step)], 0)
                    if key in self.offsets:
                        for byte in range(self.offsets[key], self.offsets[key] + 64):
                            self.arena[byte] = "scratch"
                    self.access(step.arguments[-1], write=True)
                case FlatIf():
                    self.access(step.condition, write=False)
                    self.run(self.rng.choice([step.then, step.otherwise]))
                case FlatLoop():
                    self.loop(step)
                case TensorCopy():
                    raise AssertionError("none is made")

    def loop(self, loop: FlatLoop) -> None:
        for value in loop.carried:
            self.pointers[value.index] = (self.address(value.home), self.address(value.other))
            root = self.flat.resolve(value.home)
            if root.kind == "temporary":
                self.homes[root.id] = ("state", value.index)
            start = self.address(value.home)
            for byte in range(start, start + value.home.nbytes):
                self.arena[byte] = ("state", value.index)
        for iteration in range(TRIPS):
            self.counters[loop.index] = iteration
            self.run(loop.body)
            for value in loop.carried:
                self.pointers[value.index] = self.pointers[value.index][::-1]
        for value in loop.carried:  # the copy at the end
            start, mark = self.address(value.home), self.mark(value.home)
            for byte in range(start, start + value.home.nbytes):
                self.arena[byte] = mark


@pytest.mark.parametrize("seed", range(80))
def test_nothing_is_overwritten_while_it_is_needed(seed: int) -> None:
    maker = Maker(random.Random(seed))  # noqa: S311 - choices of a test
    steps, own = maker.steps([], depth=3)
    steps.append(maker.call(own, maker.tensor()))
    flat = reorder(FlatProgram(steps, maker.places), maker.scratch, None, 4)
    steps = flat.steps
    alive = lifetimes(flat, maker.scratch)
    plan = plan_storage(alive.blocks, 4, alive.sharings)
    machine = Machine(flat, plan.offsets, maker.rng)
    number = 0

    def count(part: list[FlatStep]) -> None:
        nonlocal number
        for step in part:
            match step:
                case KernelCall():
                    machine.order[id(step)] = number
                    number += 1
                case FlatLoop():
                    count(step.body)
                case FlatIf():
                    count([*step.then, *step.otherwise])

    count(steps)
    machine.run(steps)


def test_what_an_iteration_needs_from_outside_survives_all_iterations() -> None:
    outside, local, later = (Tensor(k, "temporary", 16) for k in (1, 2, 3))
    body: list[FlatStep] = [
        KernelCall("read", (outside, local)),
        KernelCall("more", (local, later)),
    ]
    flat = FlatProgram([KernelCall("make", (outside,)), FlatLoop(0, 5, None, (), (), body)], {})
    scratch: dict[str, tuple[int, ...]] = {"make": (), "read": (), "more": ()}
    blocks = {block.key[1]: block for block in lifetimes(flat, scratch).blocks}
    assert (blocks[1].first, blocks[1].last) == (0, 4)
    assert (blocks[2].first, blocks[2].last) == (2, 3)
