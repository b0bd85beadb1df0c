"""Chooses whether, and how, the first layers are computed patch by patch.

Takes a function that lowers a model with given patches, and what the arena may take; gives what
that function made. Estimates order the ways: the one with the least work that should fit is lowered
first, and only what was lowered decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from mlopsc.errors import InputError, LimitError
from mlopsc.lower.patches import Patches
from mlopsc.schema.program import Program

MOST_TRIED: Final = 6
_NEARLY: Final = 1.1  # times the least memory: less work is worth that much


class _Made(Protocol):
    @property
    def program(self) -> Program: ...


T = TypeVar("T", bound=_Made)


@dataclass(frozen=True)
class ArenaLimit:
    """What the arena may take.

    Attributes:
        nbytes: How much, or None for any size.
        strict: Whether more is an error here; else whoever packages the model decides.
    """

    nbytes: int | None = None
    strict: bool = False


def lower_to_fit(
    lower: Callable[[Patches | None], T],
    ways: Callable[[], Sequence[Patches]],
    limit: ArenaLimit,
    count: int | None,
) -> T:
    """Lower with the patches that the limit asks for.

    Args:
        lower: Lowers the model.
        ways: Returns the possible patches, the least work first.
        limit: Of the arena.
        count: How many patches there have to be; None for as few as the limit allows.

    Raises:
        InputError: No layers can be computed in ``count`` patches.
        LimitError: A strict limit is exceeded whatever the patches.
    """
    best: T | None = None
    if count is None or count == 1:
        best = lower(None)
        if count == 1 or _fits(best, limit):
            return _checked(best, limit)
    chosen = [way for way in ways() if count in (None, way.count)]
    if not chosen and count is not None:
        raise InputError(
            f"no layers of this model can be computed in {count} patches",
            hint="choose a product of divisors of the height and width of an early layer, or leave "
            "the number out and give '--arena-limit'",
        )
    smallest = min(chosen, key=lambda way: (way.arena, way.work), default=None)
    if limit.nbytes is None:
        least = min(way.arena for way in chosen)
        return lower(next(way for way in chosen if way.arena <= least * _NEARLY))
    allowed: float = limit.nbytes
    for _ in range(MOST_TRIED):
        chosen = [way for way in chosen if way.arena <= allowed]
        if not chosen:
            break
        way = chosen.pop(0)
        made = lower(way)
        if best is None or made.program.arena_bytes < best.program.arena_bytes:
            best = made
        if _fits(made, limit):
            return made
        # Kernels want scratch, too: estimates of this model are too small by so much.
        allowed = min(allowed, way.arena * limit.nbytes / made.program.arena_bytes)
    if best is None:
        best = lower(smallest)
    return _checked(best, limit)


def _fits(made: _Made, limit: ArenaLimit) -> bool:
    return limit.nbytes is None or made.program.arena_bytes <= limit.nbytes


def _checked(made: T, limit: ArenaLimit) -> T:
    if limit.strict and not _fits(made, limit):
        inside = made.program.arena_io is not None
        other = "leave out '--io-in-arena'" if inside else "give '--io-in-arena'"
        raise LimitError(
            f"the arena takes {made.program.arena_bytes} bytes at least, patch by patch, too; "
            f"expected at most {limit.nbytes}",
            hint=f"allow more, or {other}",
        )
    return made
