"""Random graphs on paper: whatever the planner does to them, every output is what it was.

A kernel's result is the tuple of its name and what it read. The program is run once with a place of
its own for every tensor, and once in the arena as planned: reordered, in place, with the inputs and
outputs in the arena or outside.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mlopsc.lower.flatten import FlatProgram, FlatStep, KernelCall, Tensor, TensorCopy
from mlopsc.lower.lifetimes import ArenaIO, Lifetimes, key_of, lifetimes
from mlopsc.lower.order import reorder
from mlopsc.lower.plan import StoragePlan, lower_bound, plan_storage

ALIGN = 4
Scratch = dict[str, tuple[int, ...]]


@dataclass
class Graph:
    """A random program without control flow."""

    rng: random.Random
    inputs: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    steps: list[FlatStep] = field(default_factory=list)
    places: dict[int, Tensor] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)
    scratch: Scratch = field(default_factory=dict)

    def make(self, calls: int) -> FlatProgram:
        size = lambda: self.rng.choice([4, 8, 8, 16, 24, 64])  # noqa: E731
        number = itertools.count()
        self.inputs = [Tensor(next(number), "input", size(), index=i) for i in range(2)]
        self.values = list(self.inputs)
        for call in range(calls):
            reads = self.rng.sample(self.values, min(len(self.values), self.rng.randint(1, 3)))
            made = Tensor(next(number), "temporary", size())
            name = f"k{call}"
            self.scratch[name] = (self.rng.choice([4, 32]),) if self.rng.random() < 0.3 else ()
            pairs = [(i, len(reads)) for i in range(len(reads)) if self.rng.random() < 0.6]
            self.steps.append(KernelCall(name, (*reads, made), tuple(pairs)))
            self.values.append(made)
        wanted = self.rng.sample(self.values, min(len(self.values), 2))
        for index, tensor in enumerate(wanted):
            output = Tensor(next(number), "output", tensor.nbytes, index=index)
            self.outputs.append(output)
            if tensor.kind == "temporary":
                self.places[tensor.id] = output
            else:
                self.steps.append(TensorCopy(tensor, output))
        return FlatProgram(self.steps, self.places)


def expected(flat: FlatProgram, outputs: list[Tensor]) -> list[Any]:
    """Return the outputs of a run in which every tensor has a place of its own."""
    values: dict[int, Any] = {}

    def value(tensor: Tensor) -> Any:
        place = flat.resolve(tensor)
        return ("input", place.index) if place.kind == "input" else values[place.id]

    for step in flat.steps:
        if isinstance(step, KernelCall):
            *reads, made = step.arguments
            values[flat.resolve(made).id] = (step.kernel, *map(value, reads))
        elif isinstance(step, TensorCopy):
            values[step.destination.id] = value(step.source)
    return [values[tensor.id] for tensor in outputs]


def computed(flat: FlatProgram, plan: StoragePlan, graph: Graph, *, io: bool) -> list[Any]:
    """Return the outputs of a run in the arena; every byte carries what was written there."""
    memory: dict[tuple[str, int], Any] = {}

    def bytes_of(tensor: Tensor) -> list[tuple[str, int]]:
        place = flat.resolve(tensor)
        key = key_of(place)
        if key in plan.offsets:
            start, block = plan.offsets[key], "arena"
            assert start + tensor.nbytes <= plan.size
        else:
            assert not io
            start, block = 0, f"{place.kind}{place.index}"
        return [(block, start + i) for i in range(tensor.nbytes)]

    def write(tensor: Tensor, value: Any) -> None:
        for place in bytes_of(tensor):
            memory[place] = value

    def read(tensor: Tensor) -> Any:
        found = {memory.get(place) for place in bytes_of(tensor)}
        assert len(found) == 1, "torn"
        return found.pop()

    for tensor in graph.inputs:
        write(tensor, ("input", tensor.index))
    calls = 0
    for step in flat.steps:
        if isinstance(step, KernelCall):
            *reads, made = step.arguments
            result = (step.kernel, *map(read, reads))
            for index, size in enumerate(graph.scratch[step.kernel]):
                start = plan.offsets["scratch", calls, index]
                memory.update({("arena", start + i): "scratch" for i in range(size)})
            # What a kernel may not do in place it reads while it writes.
            pairs = {source for source, _ in step.in_place}
            written = set(bytes_of(made))
            for number, tensor in enumerate(reads):
                shared = written & set(bytes_of(tensor))
                assert not shared or (
                    number in pairs and bytes_of(tensor)[0] == bytes_of(made)[0]
                ), (step, tensor)
                assert read(tensor) == result[1 + number], "scratch over an input"
            write(made, result)
            calls += 1
        elif isinstance(step, TensorCopy):
            write(step.destination, read(step.source))
    return [read(tensor) for tensor in graph.outputs]


def planned(flat: FlatProgram, graph: Graph, io: ArenaIO | None) -> tuple[Lifetimes, StoragePlan]:
    alive = lifetimes(flat, graph.scratch, io)
    return alive, plan_storage(alive.blocks, ALIGN, alive.sharings)


@pytest.mark.parametrize("io", [False, True], ids=["outside", "in the arena"])
@pytest.mark.parametrize("seed", range(100))
def test_outputs_are_those_of_the_program_without_a_plan(seed: int, io: bool) -> None:
    graph = Graph(random.Random(seed))  # noqa: S311 - choices of a test
    flat = graph.make(3 + seed % 12)
    sizes = ArenaIO(tuple(t.nbytes for t in graph.inputs), tuple(t.nbytes for t in graph.outputs))
    given = sizes if io else None
    changed = reorder(flat, graph.scratch, given, ALIGN)
    assert sorted(map(repr, changed.steps)) == sorted(map(repr, flat.steps))
    _, plan = planned(changed, graph, given)
    assert computed(changed, plan, graph, io=io) == expected(flat, graph.outputs)
    _, before = planned(flat, graph, given)
    assert plan.lower_bound <= before.lower_bound


def needed(flat: FlatProgram, graph: Graph) -> int:
    alive = lifetimes(flat, graph.scratch)
    return lower_bound([b.rounded(ALIGN) for b in alive.blocks], alive.sharings)


@pytest.mark.parametrize("seed", range(30))
def test_no_order_of_a_small_graph_needs_less(seed: int) -> None:
    graph = Graph(random.Random(1000 + seed))  # noqa: S311
    flat = graph.make(6)
    best = needed(flat, graph)
    for order in itertools.permutations(flat.steps):
        made = set()
        for step in order:
            if isinstance(step, KernelCall):
                reads = {t.id for t in step.arguments[:-1] if t.kind == "temporary"}
                if not reads <= made:
                    break
                made.add(step.arguments[-1].id)
        else:
            best = min(best, needed(replace(flat, steps=list(order)), graph))
    assert needed(reorder(flat, graph.scratch, None, ALIGN), graph) == best


def test_the_branch_that_frees_more_runs_first() -> None:
    x = Tensor(0, "input", 8)
    wide = [Tensor(n, "temporary", 64) for n in (1, 2)]
    narrow = [Tensor(n, "temporary", 8) for n in (3, 4)]
    out = Tensor(5, "output", 8)
    # Both wide tensors first, then both narrow ones: 128 bytes; one branch after the other: 72.
    calls = [
        KernelCall("a", (x, wide[0])),
        KernelCall("b", (x, wide[1])),
        KernelCall("c", (wide[0], narrow[0])),
        KernelCall("d", (wide[1], narrow[1])),
        KernelCall("e", (*narrow, out)),
    ]
    flat = FlatProgram(list(calls), {})
    scratch: Scratch = {call.kernel: () for call in calls}
    changed = reorder(flat, scratch, None, 8)
    blocks = lifetimes(changed, scratch).blocks
    assert plan_storage(lifetimes(flat, scratch).blocks, 8).size == 136
    assert plan_storage(blocks, 8).size == 80
    assert reorder(changed, scratch, None, 8) == changed
