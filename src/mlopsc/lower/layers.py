"""A flat program and its storage → its ``Timeline``: what each step computes, what lives when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mlopsc.dtypes import DTypeName
from mlopsc.lower.flatten import (
    FlatIf,
    FlatLoop,
    FlatProgram,
    FlatStep,
    KernelCall,
    Tensor,
    TensorCopy,
)
from mlopsc.lower.plan import Block, Key
from mlopsc.schema.program import Kernel, Step, calls_in
from mlopsc.schema.timeline import ArenaBlock, Layer, LayerNode


def layers_of(
    flat: FlatProgram, steps: Sequence[Step], kernels: Mapping[str, Kernel]
) -> Iterator[Layer]:
    """Yield one layer for each step, in the order in which ``lifetimes`` numbers them.

    Args:
        flat: The program.
        steps: What was made of it.
        kernels: What the steps call, by symbol.
    """
    yield from _layers(flat.steps, flat, (kernels[call.kernel] for call in calls_in(steps)), 1)


def _layers(
    steps: Sequence[FlatStep], flat: FlatProgram, called: Iterator[Kernel], times: int
) -> Iterator[Layer]:
    for step in steps:
        match step:
            case KernelCall():
                kernel = next(called)
                yield Layer(
                    kind="kernel",
                    kernel=kernel.symbol,
                    function=kernel.micro.function if kernel.micro else kernel.symbol,
                    nodes=tuple(LayerNode(name=o.name, op=o.op) for o in step.origins),
                    calls=times,
                    macs=sum(origin.macs for origin in step.origins),
                    weights=_weights(flat, step.arguments),
                )
            case TensorCopy():
                yield Layer(kind="copy", calls=times)
            case FlatIf():
                yield Layer(kind="if", calls=times)
                yield from _layers([*step.then, *step.otherwise], flat, called, times)
            case FlatLoop():
                trips = step.trip_count if isinstance(step.trip_count, int) else 1
                yield Layer(kind="loop", calls=times)
                yield from _layers(step.body, flat, called, times * trips)
                yield Layer(kind="end", calls=times)


def _weights(flat: FlatProgram, arguments: Sequence[Tensor]) -> dict[DTypeName, int]:
    """Return the bytes of constants among the arguments of a call, each once, by element type."""
    found: dict[DTypeName, int] = {}
    for place in {place.id: place for place in map(flat.resolve, arguments)}.values():
        if place.dtype is not None:
            found[place.dtype] = found.get(place.dtype, 0) + place.nbytes
    return found


def blocks_of(
    blocks: Sequence[Block], offsets: Mapping[Key, int], layers: int
) -> tuple[ArenaBlock, ...]:
    """Return the blocks with their places, in the order in which they are needed.

    Args:
        blocks: As ``lifetimes`` gives them; inputs and outputs are there before the first step and
            after the last.
        offsets: Where they lie.
        layers: Number of steps.
    """

    def step(number: int) -> int:
        return max(0, min(number, layers - 1))

    made = [
        ArenaBlock(
            kind="scratch" if block.key[0] == "scratch" else "tensor",
            offset=offsets[block.key],
            nbytes=block.size,
            first=step(block.first),
            last=step(block.last),
        )
        for block in blocks
    ]
    return tuple(sorted(made, key=lambda b: (b.first, b.last, b.offset, b.nbytes)))
