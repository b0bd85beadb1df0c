"""A lowered model: a straight list of kernel calls over one storage plan.

Made by ``lower``, turned into objects or C by ``codegen``, linked by ``package``. Every tensor
lives in exactly one place: a caller's buffer, the arena, or the read-only weights.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlopsc.dtypes import DTypeName
from mlopsc.schema.common import Digest, Frozen, TensorSpec
from mlopsc.schema.target import Generator, Schedule

PROGRAM_FILE = "program.json"  # what the compile worker leaves in its folder
WEIGHTS_FILE = "weights.bin"

Place = Literal["input", "output", "arena", "weights"]


class Location(Frozen):
    """Where the bytes of an argument lie.

    Attributes:
        place: Which block of memory.
        index: Which input or output; 0 otherwise.
        offset: Bytes from the start of the block.
    """

    place: Place
    index: int = 0
    offset: Annotated[int, Field(ge=0)] = 0


class Kernel(Frozen):
    """One generated function.

    Attributes:
        symbol: Its C name.
        parameters: Element type of each pointer parameter, scratch last.
        scratch: Bytes of each trailing scratch parameter.
        schedule: The rule that scheduled it, and its tile, for people to read.
    """

    symbol: str
    parameters: tuple[DTypeName, ...]
    scratch: tuple[int, ...]
    schedule: str


class Call(Frozen):
    """One step of the program: ``kernel(arguments...)``."""

    kernel: str
    arguments: tuple[Location, ...]


class Copy(Frozen):
    """A plain copy, for outputs that are an input, a constant or another output."""

    source: Location
    destination: Location
    nbytes: int


class Program(Frozen):
    """The lowered model without its kernels' bodies.

    Attributes:
        inputs: Raw inputs in the order of the C function's parameters.
        outputs: Outputs, likewise.
        kernels: By symbol.
        steps: Calls in order.
        copies: Copies after the last call.
        arena_bytes: Size of the arena, scratch included.
        arena_align: Alignment of the arena and of every offset in it.
        arena_lower_bound: Largest sum of bytes alive at one step: no plan can be smaller.
        weights_bytes: Size of the weights block.
        weights_digest: Digest of the weights block.
        runtime_symbols: Functions of ``kernels/runtime`` that the kernels call.
    """

    schema_version: Literal[1] = 1
    name: str
    generator: Generator
    schedule: Schedule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: dict[str, Kernel]
    steps: tuple[Call, ...]
    copies: tuple[Copy, ...]
    arena_bytes: int
    arena_align: int
    arena_lower_bound: int
    weights_bytes: int
    weights_digest: Digest
    runtime_symbols: tuple[str, ...]
