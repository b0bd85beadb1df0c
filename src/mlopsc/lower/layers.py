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
from mlopsc.schema.timeline import ArenaBlock, Layer, LayerNode


def layers_of(
    flat: FlatProgram,
    symbols: Mapping[str, str],
    parameters: Mapping[str, Sequence[DTypeName]],
) -> Iterator[Layer]:
    """Yield one layer for each step, in the order in which ``lifetimes`` numbers them.

    Args:
        flat: The program.
        symbols: C names by kernel.
        parameters: Element types of each kernel's parameters, by C name.
    """
    yield from _layers(flat.steps, flat, symbols, parameters, 1)


def _layers(
    steps: Sequence[FlatStep],
    flat: FlatProgram,
    symbols: Mapping[str, str],
    parameters: Mapping[str, Sequence[DTypeName]],
    calls: int,
) -> Iterator[Layer]:
    for step in steps:
        match step:
            case KernelCall():
                symbol = symbols[step.kernel]
                yield Layer(
                    kind="kernel",
                    kernel=symbol,
                    nodes=tuple(LayerNode(name=o.name, op=o.op) for o in step.origins),
                    calls=calls,
                    macs=sum(origin.macs for origin in step.origins),
                    weights=_weights(
                        flat,
                        step.arguments,
                        step.micro.parameters if step.micro else parameters[symbol],
                    ),
                )
            case TensorCopy():
                yield Layer(kind="copy", calls=calls)
            case FlatIf():
                yield Layer(kind="if", calls=calls)
                branches = [*step.then, *step.otherwise]
                yield from _layers(branches, flat, symbols, parameters, calls)
            case FlatLoop():
                times = step.trip_count if isinstance(step.trip_count, int) else 1
                yield Layer(kind="loop", calls=calls)
                yield from _layers(step.body, flat, symbols, parameters, calls * times)
                yield Layer(kind="end", calls=calls)


def _weights(
    flat: FlatProgram, arguments: Sequence[Tensor], types: Sequence[DTypeName]
) -> dict[DTypeName, int]:
    """Return the bytes of constants among the arguments of a call, each once, by element type."""
    found: dict[DTypeName, int] = {}
    constants = {}
    for tensor, dtype in zip(arguments, types, strict=False):  # scratch has no tensor
        place = flat.resolve(tensor)
        if place.kind == "constant":
            constants[place.id] = (dtype, place.nbytes)
    for dtype, nbytes in constants.values():
        found[dtype] = found.get(dtype, 0) + nbytes
    return found


def blocks_of(blocks: Sequence[Block], offsets: Mapping[Key, int]) -> tuple[ArenaBlock, ...]:
    """Return the blocks with their places, in the order in which they are needed."""
    made = [
        ArenaBlock(
            kind="scratch" if block.key[0] == "scratch" else "tensor",
            offset=offsets[block.key],
            nbytes=block.size,
            first=max(block.first, 0),  # inputs are there before the first
            last=block.last,
        )
        for block in blocks
    ]
    return tuple(sorted(made, key=lambda b: (b.first, b.last, b.offset, b.nbytes)))
