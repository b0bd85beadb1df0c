"""When every block of the arena is alive, over the steps in the order they are written.

A loop runs its steps again: what comes from before it, is needed after it or belongs to the loop
itself (carried values, stacks) is alive through all of it. What one iteration computes for itself
lives from step to step as elsewhere. Of two branches one runs; each has steps of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlopsc.lower.flatten import (
    FlatIf,
    FlatLoop,
    FlatProgram,
    FlatStep,
    KernelCall,
    Tensor,
    TensorCopy,
    edges_of,
)
from mlopsc.lower.plan import Block, Key, Sharing

BEFORE = -1  # the step at which inputs are there


@dataclass(frozen=True)
class Lifetimes:
    """What the storage plan needs to know.

    Attributes:
        blocks: Every block of the arena. Keys are ``("tensor", id, 0)``, ``("scratch", number of
            the call, index)`` and, of inputs and outputs that lie in the arena, ``("input", index,
            0)`` and ``("output", index, 0)``.
        in_place: For each call, by number, that could write an output where an input lies: the pair
            of its arguments, and their blocks.
    """

    blocks: list[Block]
    in_place: dict[int, dict[tuple[int, int], Sharing]]

    @property
    def sharings(self) -> list[Sharing]:
        """All pairs of blocks that may share."""
        return [sharing for pairs in self.in_place.values() for sharing in pairs.values()]


@dataclass(frozen=True)
class ArenaIO:
    """Sizes of inputs and outputs that lie in the arena, in bytes."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def lifetimes(
    flat: FlatProgram, scratch: Mapping[str, tuple[int, ...]], io: ArenaIO | None = None
) -> Lifetimes:
    """Return every block of the arena with its size and first and last step.

    Args:
        flat: The program.
        scratch: Bytes of each scratch parameter, by kernel.
        io: The inputs and outputs, if they lie in the arena: inputs are alive from before the first
            step, outputs until after the last.
    """
    recorder = _Recorder(flat, scratch, in_arena=io is not None)
    for index, size in enumerate(io.inputs if io else ()):
        recorder.spans["input", index, 0] = (BEFORE, BEFORE)
        recorder.sizes["input", index, 0] = size
    recorder.walk(flat.steps)
    after = recorder.step + 1
    for index, size in enumerate(io.outputs if io else ()):
        first, _ = recorder.spans.get(("output", index, 0), (after, after))
        recorder.spans["output", index, 0] = (first, after)
        recorder.sizes["output", index, 0] = size
    for first, last in recorder.loops:  # inner loops come first
        for key, (begin, end) in recorder.spans.items():
            apart = end < first or last < begin
            inside = first < begin and end < last
            if not apart and not inside:
                recorder.spans[key] = (min(begin, first), max(end, last))
    tensors = [Block(key, recorder.sizes[key], *span) for key, span in recorder.spans.items()]
    return Lifetimes([*recorder.scratch_blocks, *tensors], recorder.sharings())


def root_of(flat: FlatProgram, tensor: Tensor) -> Tensor:
    """Return the tensor whose storage holds ``tensor``."""
    place = flat.resolve(tensor)
    while place.stack is not None:
        place = flat.resolve(place.stack)
    return place


def key_of(tensor: Tensor) -> Key | None:
    """Return the key of a block that a root may have in the arena."""
    if tensor.kind == "temporary":
        return ("tensor", tensor.id, 0)
    if tensor.kind in ("input", "output"):
        return (tensor.kind, tensor.index, 0)
    return None


@dataclass
class _Recorder:
    flat: FlatProgram
    scratch: Mapping[str, tuple[int, ...]]
    in_arena: bool
    step: int = BEFORE
    spans: dict[Key, tuple[int, int]] = field(default_factory=dict)
    sizes: dict[Key, int] = field(default_factory=dict)
    loops: list[tuple[int, int]] = field(default_factory=list)
    scratch_blocks: list[Block] = field(default_factory=list)
    calls: list[tuple[int, KernelCall]] = field(default_factory=list)  # and at which step

    def walk(self, steps: Sequence[FlatStep]) -> None:
        for step in steps:
            self.step += 1
            match step:
                case KernelCall():
                    self.touch(*step.arguments)
                    for index, size in enumerate(self.scratch[step.kernel]):
                        key = ("scratch", len(self.calls), index)
                        self.scratch_blocks.append(Block(key, size, self.step, self.step))
                    self.calls.append((self.step, step))
                case TensorCopy():
                    self.touch(step.source, step.destination)
                case FlatIf():
                    self.touch(step.condition)
                    self.walk([*step.then, *step.otherwise])
                case FlatLoop():
                    first = self.step
                    self.touch(*edges_of(step))
                    self.walk(step.body)
                    self.step += 1
                    self.touch(*edges_of(step))
                    self.loops.append((first, self.step))

    def touch(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            root = root_of(self.flat, tensor)
            key = key_of(root)
            if key is not None and (self.in_arena or root.kind == "temporary"):
                first, _ = self.spans.get(key, (self.step, self.step))
                self.spans[key] = (first, self.step)
                self.sizes[key] = root.nbytes

    def sharings(self) -> dict[int, dict[tuple[int, int], Sharing]]:
        """Return the pairs of arguments, by call, of which one dies where the other comes to life.

        Whoever else reads the input in that call must be fine with it, too.
        """
        found: dict[int, dict[tuple[int, int], Sharing]] = {}
        for number, (step, call) in enumerate(self.calls):
            roots = [root_of(self.flat, tensor) for tensor in call.arguments]
            for source, result in call.in_place:
                whole = all(
                    self.flat.resolve(call.arguments[i]).id == roots[i].id for i in (source, result)
                )
                uses = [i for i, root in enumerate(roots) if root.id == roots[source].id]
                keys = key_of(roots[source]), key_of(roots[result])
                if (
                    whole
                    and keys[0] in self.spans
                    and keys[1] in self.spans
                    and self.spans[keys[0]][1] == step == self.spans[keys[1]][0]
                    and self.spans[keys[0]][0] < step
                    and all((i, result) in call.in_place for i in uses)
                ):
                    found.setdefault(number, {})[source, result] = Sharing(keys[0], keys[1])
        return found
