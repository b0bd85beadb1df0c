"""A flat program and its storage plan → the steps of a ``Program``, and the weights block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlopsc.errors import CompilerError
from mlopsc.lower.flatten import (
    FlatIf,
    FlatLoop,
    FlatProgram,
    FlatStep,
    KernelCall,
    Tensor,
    TensorCopy,
    tensors_of,
)
from mlopsc.lower.lifetimes import key_of
from mlopsc.lower.plan import Key
from mlopsc.schema.program import Call, Copy, If, Location, Loop, State, Step, Stride


@dataclass(frozen=True)
class Variant:
    """A kernel that works in place: its symbol, and the arguments that it does not take."""

    symbol: str
    dropped: frozenset[int] = frozenset()


def pack_weights(flat: FlatProgram, align: int) -> tuple[bytes, dict[int, int]]:
    """Lay the constants that are used one after the other, each aligned; equal ones once.

    Returns:
        The block, and the offset of each constant by the tensor's id.
    """
    data = bytearray()
    offsets: dict[int, int] = {}
    seen: dict[bytes, int] = {}
    for tensor in (t for step in flat.steps for t in tensors_of(step)):
        if tensor.constant is None or tensor.id in offsets:
            continue
        raw = tensor.constant
        if raw not in seen:
            data.extend(b"\0" * (-len(data) % align))
            seen[raw] = len(data)
            data.extend(raw)
        offsets[tensor.id] = seen[raw]
    if offsets and not data:
        data.append(0)  # all of them are without elements, and C has no arrays without any
    return bytes(data), offsets


def emit_steps(
    flat: FlatProgram,
    symbols: Mapping[str, str],
    arena: Mapping[Key, int],
    weights: Mapping[int, int],
    variants: Mapping[int, Variant] | None = None,
) -> tuple[Step, ...]:
    """Return the steps with every tensor replaced by where it lies.

    Args:
        flat: The program.
        symbols: C names by kernel.
        arena: Offsets by key, see ``lifetimes``.
        weights: Offsets of constants by id.
        variants: What is called instead of a kernel, by number of the call.

    Raises:
        CompilerError: A tensor is used that nothing computes.
    """
    return tuple(_Emitter(flat, symbols, arena, weights, variants or {}).emit(flat.steps))


@dataclass
class _Emitter:
    flat: FlatProgram
    symbols: Mapping[str, str]
    arena: Mapping[Key, int]
    weights: Mapping[int, int]
    variants: Mapping[int, Variant]
    calls: int = 0

    def emit(self, steps: Sequence[FlatStep]) -> Iterator[Step]:
        for step in steps:
            match step:
                case KernelCall():
                    variant = self.variants.get(self.calls, Variant(self.symbols[step.kernel]))
                    arguments = [
                        self.locate(tensor)
                        for number, tensor in enumerate(step.arguments)
                        if number not in variant.dropped
                    ]
                    arguments += self.scratch()
                    yield Call(kernel=variant.symbol, arguments=tuple(arguments))
                case TensorCopy() if step.source.nbytes == 0:
                    pass  # an output without elements
                case TensorCopy():
                    yield Copy(
                        source=self.locate(step.source),
                        destination=self.locate(step.destination),
                        nbytes=step.source.nbytes,
                    )
                case FlatIf():
                    yield If(
                        condition=self.locate(step.condition),
                        then=tuple(self.emit(step.then)),
                        otherwise=tuple(self.emit(step.otherwise)),
                    )
                case FlatLoop():
                    count = step.trip_count
                    yield Loop(
                        index=step.index,
                        trip_count=self.locate(count) if isinstance(count, Tensor) else count,
                        condition=step.condition,
                        states=tuple(
                            State(
                                index=value.index,
                                home=self.locate(value.home),
                                other=self.locate(value.other),
                                nbytes=value.home.nbytes,
                            )
                            for value in step.carried
                        ),
                        body=tuple(self.emit(step.body)),
                    )

    def scratch(self) -> Iterator[Location]:
        """Yield the scratch arguments of the next call."""
        index = 0
        while (key := ("scratch", self.calls, index)) in self.arena:
            yield Location(place="arena", offset=self.arena[key])
            index += 1
        self.calls += 1

    def locate(self, tensor: Tensor) -> Location:
        place = self.flat.resolve(tensor)
        if place.stack is not None:
            base = self.locate(place.stack)
            stride = Stride(loop=place.index, nbytes=place.nbytes)
            return base.model_copy(update={"strides": (*base.strides, stride)})
        if place.kind == "constant":
            return Location(place="weights", offset=self.weights[place.id])
        key = key_of(place)
        if key is not None and key in self.arena:
            return Location(place="arena", offset=self.arena[key])
        if place.kind == "temporary":
            raise CompilerError("a tensor is used that nothing computes")
        if place.kind == "element":
            raise CompilerError("an element of no stack")
        return Location(place=place.kind, index=place.index)
