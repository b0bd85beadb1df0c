"""How packages are made: what a user chooses, recorded so that they can be made again."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from mlopsc.schema.common import Frozen
from mlopsc.schema.target import Accuracy, Generator, Schedule

Layout = Literal["source", "cmsis-pack", "zephyr", "arduino"]
LAYOUT_NAMES: Final[tuple[Layout, ...]] = ("source", "cmsis-pack", "zephyr", "arduino")
UNSIGNED = "unsigned"
UNCHECKED = "unchecked"


class BuildOptions(Frozen):
    """How packages are made.

    Attributes:
        generator: Of the kernels; each target's own by default.
        schedule: ``none`` leaves loops unscheduled.
        accuracy: ``strict`` forbids algorithms that trade accuracy for speed.
        source_code: Whether generated C is delivered too.
        layouts: Forms for firmware that are delivered too, below ``layouts/``.
        io_in_arena: Whether inputs and outputs lie in the arena, at fixed offsets.
        patches: Number of patches in which the first layers are computed; by default as few as the
            limit of the arena, or else the target's RAM, asks for.
        arena_limit: Bytes that the arena may take; by default what the target has.
        bundle_signer: Key whose signature of the bundle was checked, or ``unsigned``, or
            ``unchecked``.
        allowed: What was allowed that is not safe, by the flag that allowed it.
    """

    generator: Generator | None = None
    schedule: Schedule = "tiled"
    accuracy: Accuracy = "fast"
    source_code: bool = False
    layouts: tuple[Layout, ...] = ()
    io_in_arena: bool = False
    patches: Annotated[int, Field(ge=1)] | None = None
    arena_limit: Annotated[int, Field(ge=0)] | None = None
    bundle_signer: str = UNSIGNED
    allowed: tuple[str, ...] = ()
