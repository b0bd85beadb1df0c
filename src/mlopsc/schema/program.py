"""A lowered model: a list of kernel calls, loops and conditionals over one storage plan.

Made by ``lower``, turned into objects or C by ``codegen``, linked by ``package``. Every tensor
lives in exactly one place: a caller's buffer, the arena, or the read-only weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from mlopsc.dtypes import DTypeName
from mlopsc.schema.common import ArenaOffsets, Digest, Frozen, TensorSpec
from mlopsc.schema.target import Accuracy, Generator, Schedule
from mlopsc.schema.timeline import Timeline

PROGRAM_FILE = "program.json"  # what the compile worker leaves in its folder
WEIGHTS_FILE = "weights.bin"

Place = Literal["input", "output", "arena", "weights", "state", "next", "counter"]


class Stride(Frozen):
    """A distance that is added once per iteration of a loop.

    Attributes:
        loop: Number of the loop.
        nbytes: Bytes per iteration.
    """

    loop: int
    nbytes: int


class Location(Frozen):
    """Where the bytes of an argument lie.

    Attributes:
        place: Which block of memory. ``state`` is what an iteration reads of a carried value and
            ``next`` what it writes; ``counter`` is the number of the iteration, an int64.
        index: Which input, output, carried value or loop; 0 otherwise.
        offset: Bytes from the start of the block.
        strides: What the loops around add to that.
    """

    place: Place
    index: int = 0
    offset: Annotated[int, Field(ge=0)] = 0
    strides: tuple[Stride, ...] = ()


class Phase(Frozen):
    """One function of a kernel that threads share; it takes the kernel's parameters.

    Attributes:
        symbol: Its C name.
        tasks: If not 0, it takes the first and the end of a range of that many independent tasks
            as two more parameters, and threads may run ranges at the same time.
        grain: Tasks that are worth a thread.
    """

    symbol: str
    tasks: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    grain: Annotated[int, Field(ge=1)] = 1


class MicroUse(Frozen):
    """A call of a hand-written kernel of ``kernels/micro``.

    Attributes:
        function: Its C name.
        source: Its file.
        structure: C type of what describes the call, taken by pointer; none for plain numbers.
        values: Its members, in order.
        takes_scratch: Whether it takes scratch; a null pointer if it needs none.
    """

    function: Annotated[str, Field(pattern=r"^mlopsc_\w+$")]
    source: Annotated[str, Field(pattern=r"^mlopsc_\w+\.c$")]
    structure: Annotated[str, Field(pattern=r"^(mlopsc_\w+)?$")]
    values: tuple[int, ...]
    takes_scratch: bool


class Kernel(Frozen):
    """One generated function, or several in order, or the use of a hand-written one.

    Attributes:
        symbol: Its C name.
        parameters: Element type of each pointer parameter, scratch last.
        scratch: Bytes of each trailing scratch parameter.
        schedule: The rule that scheduled it, and its tile, for people to read.
        phases: The functions that compute it; none if the one of its own name does.
        micro: The hand-written kernel that computes it instead.
    """

    symbol: str
    parameters: tuple[DTypeName, ...]
    scratch: tuple[int, ...]
    schedule: str
    phases: tuple[Phase, ...] = ()
    micro: MicroUse | None = None


class Call(Frozen):
    """One step of the program: ``kernel(arguments...)``."""

    kind: Literal["call"] = "call"
    kernel: str
    arguments: tuple[Location, ...]


class Copy(Frozen):
    """A plain copy, for what is an input, a constant or another value that a kernel computed."""

    kind: Literal["copy"] = "copy"
    source: Location
    destination: Location
    nbytes: int


class State(Frozen):
    """A carried value of a loop: two buffers that change places after every iteration.

    Attributes:
        index: Number, unique in the program; ``state`` and ``next`` locations name it.
        home: The buffer that holds it before the loop and after it.
        other: The second buffer.
        nbytes: Size of each.
    """

    index: int
    home: Location
    other: Location
    nbytes: int


class Loop(Frozen):
    """Steps that run again and again.

    Attributes:
        index: Number, unique in the program; ``counter`` locations and strides name it.
        trip_count: Largest number of iterations: a constant, where an int64 lies, or None for no
            limit.
        condition: Number of the state, one byte, that ends the loop when it is 0; None if none.
        states: Carried values; they are initialised by the steps before.
        body: Steps of one iteration.
    """

    kind: Literal["loop"] = "loop"
    index: int
    trip_count: int | Location | None
    condition: int | None
    states: tuple[State, ...]
    body: tuple[Step, ...]


class If(Frozen):
    """Steps of which one branch runs.

    Attributes:
        condition: Where the byte lies that decides.
        then: Steps if it is not 0.
        otherwise: Steps if it is 0.
    """

    kind: Literal["if"] = "if"
    condition: Location
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


Step = Annotated[Call | Copy | Loop | If, Field(discriminator="kind")]


def calls_in(steps: Iterable[Step]) -> Iterator[Call]:
    """Yield every call, those inside loops and branches included, in the order they are written."""
    for step in steps:
        if isinstance(step, Call):
            yield step
        elif isinstance(step, Loop):
            yield from calls_in(step.body)
        elif isinstance(step, If):
            yield from calls_in((*step.then, *step.otherwise))


class Program(Frozen):
    """The lowered model without its kernels' bodies.

    Attributes:
        inputs: Raw inputs in the order of the C function's parameters.
        outputs: Outputs, likewise.
        kernels: By symbol.
        steps: In order.
        arena_bytes: Size of the arena, scratch included.
        arena_align: Alignment of the arena and of every offset in it.
        arena_lower_bound: Largest sum of bytes alive at one step: no plan can be smaller.
        arena_io: Where inputs and outputs lie in the arena, or None if they are the caller's.
        weights_bytes: Size of the weights block.
        weights_digest: Digest of the weights block.
        runtime_symbols: Functions of ``kernels/runtime`` that the kernels and their phases need.
        timeline: Which nodes the steps compute, and when the blocks of the arena are needed.
    """

    schema_version: Literal[1] = 1
    name: str
    generator: Generator
    schedule: Schedule
    accuracy: Accuracy
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: dict[str, Kernel]
    steps: tuple[Step, ...]
    arena_bytes: int
    arena_align: int
    arena_lower_bound: int
    arena_io: ArenaOffsets | None = None
    weights_bytes: int
    weights_digest: Digest
    runtime_symbols: tuple[str, ...]
    timeline: Timeline = Timeline()
