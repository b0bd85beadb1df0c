"""A fit verdict: what a model takes on a board, measured before anything is flashed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlopsc.schema.common import Frozen
from mlopsc.schema.timeline import ArenaBlock, LayerNode

Count = Annotated[int, Field(ge=0)]
FitVerdict = Literal["fits", "does not fit", "no limits"]


class FlashUse(Frozen):
    """Flash in bytes.

    Attributes:
        code: Instructions.
        weights: Weights of the model.
        constants: All other read-only data.
        initial: First content of writable data.
        measured: ``linked``: what a linker keeps of the library in a program that runs the model,
            with the compiler's support routines; ``objects``: all that the library holds.
        limit: What the board has, if that is known.
    """

    code: Count
    weights: Count
    constants: Count
    initial: Count
    measured: Literal["linked", "objects"]
    limit: int | None

    @property
    def total(self) -> int:
        """All of it."""
        return self.code + self.weights + self.constants + self.initial


class RamUse(Frozen):
    """RAM in bytes.

    Attributes:
        arena: Scratch memory of a call.
        io: Inputs and outputs.
        stack: Deepest use of the stack by a call, measured; None if it could not be.
        writable: Static data of the library.
        limit: What the board has, if that is known.
    """

    arena: Count
    io: Count
    stack: int | None
    writable: Count
    limit: int | None

    @property
    def total(self) -> int:
        """All of it that is known."""
        return self.arena + self.io + (self.stack or 0) + self.writable


class Latency(Frozen):
    """An estimate of the time of an inference: instructions times cycles each, over the clock.

    Attributes:
        milliseconds: The estimate.
        clock_hz: Of the target file.
        cycles_per_instruction: Of the target file.
        assumptions: What it takes for granted, for people.
    """

    milliseconds: float
    clock_hz: int
    cycles_per_instruction: float
    assumptions: tuple[str, ...]


class LayerUse(Frozen):
    """What one step takes.

    Attributes:
        name: The names of its nodes, or what it does.
        kind: As in ``timeline``.
        kernel: C name of the kernel, or empty.
        nodes: What it computes.
        calls: How often it runs in an inference.
        macs: Multiply-accumulate operations of an inference.
        instructions: Of an inference, with the functions that it calls; None if not counted.
        weights: Bytes of constants that it reads.
        ram: Bytes of the arena that are needed while it runs.
    """

    name: str
    kind: Literal["kernel", "copy", "loop", "if", "end"]
    kernel: str
    nodes: tuple[LayerNode, ...]
    calls: Count
    macs: Count
    instructions: int | None
    weights: Count
    ram: Count


class Largest(Frozen):
    """Numbers of the layers that take most; None if no layer takes any, or it is not known."""

    ram: int | None
    weights: int | None
    instructions: int | None


class Advice(Frozen):
    """Something to change.

    Attributes:
        what: For people.
        memory: What it is about.
        saves: Bytes that it saves, about; None if that is not known before it is done.
        enough: Whether that is enough; None if that is not known.
        option: The option of ``build`` that it is about, or empty.
    """

    what: str
    memory: Literal["flash", "ram"]
    saves: int | None = None
    enough: bool | None = None
    option: str = ""


class BoardFit(Frozen):
    """A board with known limits and whether it would do.

    Attributes:
        target: Its name.
        description: Its line of the target file.
        fits: Whether flash and RAM are enough.
        same_build: Whether it runs this very build; otherwise it needs one of its own, whose code
            and stack differ from what is measured here.
        flash_left: Bytes of flash that are left, or missing if less than 0; None if not limited.
        ram_left: The same of RAM.
        milliseconds: Estimated time of an inference, if it runs this very build.
    """

    target: str
    description: str
    fits: bool
    same_build: bool
    flash_left: int | None
    ram_left: int | None
    milliseconds: float | None


class FitReport(Frozen):
    """What ``mlopsc fit`` says, schema version 1.

    Attributes:
        model: Name of the model.
        version: Its version.
        target: Name of the target that it was judged for.
        verdict: ``no limits`` if the target says neither how much flash nor how much RAM it has.
        missing: Bytes that are missing, by kind of memory.
        runner: What ran it, with version; None if nothing could.
        instructions: Of an inference; None if they were not counted.
        layers: Every step, in the order they are written.
        blocks: The arena: what lives where and when, by number of the layer.
        notes: What could not be measured and why.
    """

    schema_version: Literal[1] = 1
    model: str
    version: str
    target: str
    verdict: FitVerdict
    missing: dict[Literal["flash", "ram"], int]
    flash: FlashUse
    ram: RamUse
    runner: str | None
    instructions: int | None
    macs: Count
    latency: Latency | None
    largest: Largest
    layers: tuple[LayerUse, ...]
    blocks: tuple[ArenaBlock, ...]
    advice: tuple[Advice, ...]
    boards: tuple[BoardFit, ...]
    notes: tuple[str, ...]
