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
from mlopsc.lower.plan import Block


def lifetimes(flat: FlatProgram, scratch: Mapping[str, tuple[int, ...]]) -> list[Block]:
    """Return every block of the arena with its size and first and last step.

    The keys are ``("tensor", id, 0)`` and ``("scratch", number of the call, index)``.

    Args:
        flat: The program.
        scratch: Bytes of each scratch parameter, by kernel.
    """
    recorder = _Recorder(flat, scratch)
    recorder.walk(flat.steps)
    for first, last in recorder.loops:  # inner loops come first
        for id_, (begin, end) in recorder.spans.items():
            apart = end < first or last < begin
            inside = first < begin and end < last
            if not apart and not inside:
                recorder.spans[id_] = (min(begin, first), max(end, last))
    tensors = [
        Block(("tensor", id_, 0), recorder.sizes[id_], *span)
        for id_, span in recorder.spans.items()
    ]
    return [*recorder.scratch_blocks, *tensors]


def root_of(flat: FlatProgram, tensor: Tensor) -> Tensor:
    """Return the tensor whose storage holds ``tensor``."""
    place = flat.resolve(tensor)
    while place.stack is not None:
        place = flat.resolve(place.stack)
    return place


@dataclass
class _Recorder:
    flat: FlatProgram
    scratch: Mapping[str, tuple[int, ...]]
    step: int = -1
    calls: int = 0
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    loops: list[tuple[int, int]] = field(default_factory=list)
    scratch_blocks: list[Block] = field(default_factory=list)

    def walk(self, steps: Sequence[FlatStep]) -> None:
        for step in steps:
            self.step += 1
            match step:
                case KernelCall():
                    self.touch(*step.arguments)
                    for index, size in enumerate(self.scratch[step.kernel]):
                        key = ("scratch", self.calls, index)
                        self.scratch_blocks.append(Block(key, size, self.step, self.step))
                    self.calls += 1
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
            if root.kind == "temporary":
                first, _ = self.spans.get(root.id, (self.step, self.step))
                self.spans[root.id] = (first, self.step)
                self.sizes[root.id] = root.nbytes
