"""Checks a model against the flash and RAM of its target, and says what to change.

Takes what a build needs in bytes and what its steps take; gives advice, the known boards, or a
``LimitError`` with both. ``fit`` judges with the same functions what it has measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from mlopsc.errors import LimitError
from mlopsc.package.linked import measure_static
from mlopsc.package_reader import LoadedPackage
from mlopsc.schema.fit import Advice, BoardFit
from mlopsc.schema.target import Target
from mlopsc.schema.timeline import Layer, Timeline
from mlopsc.targets import load_target, target_names

Kind = Literal["flash", "ram"]
MEMORY: dict[Kind, str] = {"flash": "flash", "ram": "RAM"}
ARENA_LIMIT = "--arena-limit"
_SHOWN_BOARDS = 3
_NAME_WIDTH = 48
# What a board may change without a build of its own.
_NOT_OF_CODE = {"cores", "l1_bytes", "l2_bytes", "cpu_flags", "clock_hz", "cycles_per_instruction"}


@dataclass(frozen=True)
class Needs:
    """What a model takes of its board, in bytes.

    Attributes:
        flash: Code, constants, and the first content of writable data.
        ram: Arena, inputs, outputs, writable data, and the stack as far as it is known.
        arena: Of that, the arena.
        io: Of that, inputs and outputs, if they are outside of the arena.
        timeline: What its steps take.
    """

    flash: int
    ram: int
    arena: int = 0
    io: int = 0
    timeline: Timeline = field(default_factory=Timeline)


def needs_of(package: LoadedPackage) -> Needs:
    """Return what a package takes, as far as that is known before it runs: without the stack.

    Raises:
        BrokenPackageError: It cannot be linked.
    """
    memory = package.info.memory
    static = measure_static(package, None)
    return Needs(
        flash=static.flash.total,
        ram=memory.arena + memory.io + static.writable,
        arena=memory.arena,
        io=memory.io,
        timeline=package.info.timeline,
    )


def check_limits(target: Target, needs: Needs, *, what: str, hint: str = "") -> None:
    """Compare needs with the target's limits.

    Args:
        target: Whose limits.
        needs: What is needed.
        what: Whose needs, for the message.
        hint: What to do, instead of advice.

    Raises:
        LimitError: One is exceeded; the message gives both numbers, the hint what would help.
    """
    for kind, missing in missing_bytes(target, needs).items():
        need = needs.flash if kind == "flash" else needs.ram
        advice = [a.what for a in advise(target, needs) if a.memory == kind]
        raise LimitError(
            f"{what} needs {need} bytes of {MEMORY[kind]}; target '{target.name}' has "
            f"{need - missing}, {missing} too few",
            hint=hint or "; or ".join(advice),
        )


def missing_bytes(target: Target, needs: Needs) -> dict[Kind, int]:
    """Return how many bytes the target lacks, by kind of memory; nothing if it has enough."""
    limits = target.limits
    found: dict[Kind, int] = {}
    if limits.flash_bytes is not None and needs.flash > limits.flash_bytes:
        found["flash"] = needs.flash - limits.flash_bytes
    if limits.ram_bytes is not None and needs.ram > limits.ram_bytes:
        found["ram"] = needs.ram - limits.ram_bytes
    return found


def advise(target: Target, needs: Needs) -> tuple[Advice, ...]:
    """Return what would make the model fit: what saves most first, then boards that have room."""
    missing = missing_bytes(target, needs)
    found = []
    for kind, size in missing.items():
        found += _quantise(kind, size, needs)
        if kind == "ram":
            found += [*_move_io(size, needs), *_shrink_arena(target, size, needs)]
        found += _largest(kind, needs.timeline)
    if missing:
        kind = next(iter(missing))
        found.append(Advice(what=_boards_text(target, needs), memory=kind))
    return tuple(found)


def _quantise(kind: Kind, missing: int, needs: Needs) -> list[Advice]:
    """Advise to make floating-point weights and activations integers of 8 bits."""
    floats = sum(layer.weights.get("float32", 0) for layer in needs.timeline.layers)
    if 2 * floats <= sum(sum(layer.weights.values()) for layer in needs.timeline.layers):
        return []
    saves = (floats if kind == "flash" else needs.arena) * 3 // 4
    what = "weights" if kind == "flash" else "activations"
    enough = saves >= missing
    return [
        Advice(
            what=f"quantise the model to int8 with 'mlopsc quantize', whose {what} take a quarter: "
            f"that saves about {saves} bytes"
            + (", which is enough" if enough else f" of the {missing} that are missing"),
            memory=kind,
            saves=saves,
            enough=enough,
        )
    ]


def _move_io(missing: int, needs: Needs) -> list[Advice]:
    """Advise to let inputs and outputs lie where other values do."""
    if not needs.io:
        return []
    enough = needs.io >= missing
    text = (
        "let inputs and outputs lie in the arena ('--io-in-arena'), where other values take their "
        f"place: that saves at most {needs.io} bytes" + ("" if enough else f" of {missing}")
    )
    return [
        Advice(what=text, memory="ram", enough=None if enough else False, option="--io-in-arena")
    ]


def _shrink_arena(target: Target, missing: int, needs: Needs) -> list[Advice]:
    """Advise to ask for a smaller arena, if the build had no reason to make one."""
    limit = target.limits.ram_bytes
    if limit is None or needs.arena + needs.io > limit or needs.arena <= missing:
        return []  # the build has tried, or it is not about the arena
    text = (
        f"leave room for the stack with '{ARENA_LIMIT} {needs.arena - missing}': the first layers "
        "are computed patch by patch then, if that makes the arena small enough"
    )
    return [Advice(what=text, memory="ram", saves=missing, option=ARENA_LIMIT)]


def _largest(kind: Kind, timeline: Timeline) -> list[Advice]:
    """Name the layer that takes most."""
    if not timeline.layers:
        return []
    if kind == "flash":
        index, layer = max(
            enumerate(timeline.layers), key=lambda item: sum(item[1].weights.values())
        )
        size = sum(layer.weights.values())
        text = f"it reads {size} bytes of constants"
    else:
        alive = ram_by_layer(timeline)
        index = max(range(len(alive)), key=lambda i: alive[i])
        layer, size = timeline.layers[index], alive[index]
        text = f"{size} bytes of the arena are needed while it runs"
    name = short_name(layer_name(layer))
    what = f"make layer '{name}' smaller: {text}, the most of all layers"
    return [Advice(what=what, memory=kind)] if size else []


def layer_name(layer: Layer) -> str:
    """Return how people call a layer: by its nodes, else by what it does."""
    if layer.nodes:
        return " + ".join(node.name for node in layer.nodes)
    return layer.kernel or layer.kind


def short_name(name: str) -> str:
    """Return the end of a long name, which tells nodes apart."""
    return name if len(name) <= _NAME_WIDTH else "..." + name[3 - _NAME_WIDTH :]


def ram_by_layer(timeline: Timeline) -> list[int]:
    """Return how many bytes of the arena are needed while each layer runs.

    What is computed in place shares its bytes with what it is computed of: they count once.
    """
    alive: list[list[tuple[int, int]]] = [[] for _ in timeline.layers]
    for block in timeline.blocks:
        for index in range(block.first, min(block.last + 1, len(alive))):
            alive[index].append((block.offset, block.offset + block.nbytes))
    return [_covered(ranges) for ranges in alive]


def _covered(ranges: Sequence[tuple[int, int]]) -> int:
    """Return how many bytes lie in at least one of ``ranges``."""
    total = reached = 0
    for start, end in sorted(ranges):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


@cache
def known_boards() -> tuple[Target, ...]:
    """Return the bundled targets that say how much memory they have."""
    loaded = [load_target(name) for name in target_names()]
    return tuple(t for t in loaded if t.limits.flash_bytes or t.limits.ram_bytes)


def judge_boards(
    target: Target, needs: Needs, instructions: int | None = None
) -> tuple[BoardFit, ...]:
    """Return every known board of the target's family, those that fit first, small ones first.

    Args:
        target: What was built for.
        needs: What was measured.
        instructions: Of an inference, if they were counted.
    """
    found = []
    for board in known_boards():
        if board.family != target.family:
            continue
        same = same_machine(board, target)
        found.append(
            BoardFit(
                target=board.name,
                description=board.description,
                fits=not missing_bytes(board, needs),
                same_build=same,
                flash_left=_left(board.limits.flash_bytes, needs.flash),
                ram_left=_left(board.limits.ram_bytes, needs.ram),
                milliseconds=milliseconds(board, instructions) if same else None,
            )
        )
    return tuple(sorted(found, key=lambda b: (not b.fits, b.ram_left or 0, b.target)))


def milliseconds(target: Target, instructions: int | None) -> float | None:
    """Return the estimated time of an inference, if the target says what it takes."""
    clock, cycles = target.hardware.clock_hz, target.hardware.cycles_per_instruction
    if instructions is None or clock is None or cycles is None:
        return None
    return instructions * cycles / clock * 1000


def _left(limit: int | None, need: int) -> int | None:
    return None if limit is None else limit - need


def same_machine(one: Target, other: Target) -> bool:
    """Whether the same build runs on both."""

    def machine(target: Target) -> tuple[object, ...]:
        hardware = target.hardware.model_dump(exclude=_NOT_OF_CODE)
        return target.compile, target.toolchain, hardware

    return machine(one) == machine(other)


def _boards_text(target: Target, needs: Needs) -> str:
    boards = [b.target for b in judge_boards(target, needs) if b.fits and b.target != target.name]
    if not boards:
        return "no known board of this kind has enough: choose a smaller model"
    more = f" and {len(boards) - _SHOWN_BOARDS} more" if len(boards) > _SHOWN_BOARDS else ""
    return f"choose a larger board: {', '.join(boards[:_SHOWN_BOARDS])}{more} would fit"
