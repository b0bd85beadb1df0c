"""Chooses a register tile for a reduction by counting loads. Pure arithmetic; knows no operator.

A reduction keeps a tile of accumulators in registers while it walks the reduced axes. What an
operand costs per step depends only on which axes its address moves along: an operand that does not
move along a tiled axis is loaded once and used by every accumulator of that axis. The chosen tile
is the one with the fewest loads per multiply that fits the registers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlopsc.lower.accesses import Axis

MAX_FACTOR = 16
_BUSY = 10  # accumulators that keep two pipelined multiply-add units busy
_LOADS = 0.75  # loads per multiply-add that do not slow it down
_NEW_VECTOR = 0.7  # what loading a vector costs that others could share, in multiply-adds
_SCATTERED = 3  # times that, if its neighbours in memory belong to another tile
MAX_STATEMENTS = 256  # unrolled multiply-adds in the innermost body: keeps code small


@dataclass(frozen=True)
class Tile:
    """Accumulators kept in registers.

    Attributes:
        factors: Per spatial axis, how many iterations are in the tile.
        vector_axis: Which axis is vectorised, or None; its factor is a multiple of ``lanes``.
        lanes: Elements per vector.
    """

    factors: tuple[int, ...]
    vector_axis: int | None = None
    lanes: int = 1

    def __str__(self) -> str:
        """Render as ``tile 1x4x2, 8 lanes on axis 2``."""
        text = "tile " + "x".join(map(str, self.factors))
        return (
            text
            if self.vector_axis is None
            else f"{text}, {self.lanes} lanes on axis {self.vector_axis}"
        )


def choose_tile(axes: Sequence[Axis], *, registers: int, lanes: int, ragged: bool = False) -> Tile:
    """Return the best tile for spatial ``axes``.

    Args:
        axes: The spatial loops, outermost first.
        registers: Registers that hold accumulators and operands.
        lanes: Elements of a full vector register; 1 forbids vectors.
        ragged: Whether a factor need not divide its axis: the last tile then overlaps the one
            before, and what is computed twice counts as a cost.
    """
    best = Tile(factors=(1,) * len(axes))
    best_score: tuple[float, ...] = (math.inf,)
    for tile in _candidates(axes, lanes, ragged=ragged):
        score = _score(axes, tile, registers)
        if score is not None and score < best_score:
            best, best_score = tile, score
    return best


def unrolled_axes(extents: Sequence[int], accumulators: int) -> int:
    """Return how many of the innermost reduced loops are unrolled completely."""
    statements = max(accumulators, 1)
    count = 0
    for extent in reversed(extents):
        statements *= extent
        if statements > MAX_STATEMENTS:
            break
        count += 1
    return count


def _factors(extent: int, multiple_of: int = 1, *, ragged: bool = False) -> list[int]:
    """Return the factors to try: divisors and, if ragged, the least for each number of tiles."""
    limit = min(extent, MAX_FACTOR * multiple_of)
    found = {f for f in range(multiple_of, limit + 1, multiple_of) if extent % f == 0}
    if ragged:
        units = -(-extent // multiple_of)
        least = {-(-units // tiles) * multiple_of for tiles in range(1, units + 1)}
        found |= {f for f in least if f <= limit}
    return sorted(found)


def _whole(axis: Axis, factors: list[int]) -> list[int]:
    """Keep the factors that do not cut what lies together.

    An operand without a stride along an axis has its elements in groups, of two or four (pairs of
    blocks of features, for example); a tile that begins inside a group has no dense vectors.
    """
    if all(stride is not None for stride in axis.strides):
        return factors
    return [f for f in factors if f & (f - 1) == 0]


def _candidates(axes: Sequence[Axis], lanes: int, *, ragged: bool) -> Iterator[Tile]:
    scalar = [_whole(a, _factors(a.extent, ragged=ragged)) for a in axes]
    for factors in itertools.product(*scalar):
        if math.prod(factors) <= 2 * MAX_FACTOR:
            yield Tile(factors)
    width = lanes
    while width >= 4:
        for index, axis in enumerate(axes):
            if axis.store_stride != 1 or any(s not in (0, 1) for s in axis.strides):
                continue
            choices = list(scalar)
            choices[index] = _factors(axis.extent, width, ragged=ragged)
            for factors in itertools.product(*choices):
                if math.prod(factors) <= 2 * MAX_FACTOR * width:
                    yield Tile(factors, index, width)
        width //= 2


def _score(axes: Sequence[Axis], tile: Tile, registers: int) -> tuple[float, ...] | None:
    """Return what a tile costs, for comparison, or None if it does not fit the registers.

    Without vectors a machine issues one instruction after the other: what counts are loads and
    multiplies per result. With vectors it issues two loads and two multiply-adds together, and a
    multiply-add waits for the one before it in the same register: loads cost where they are more
    than three for four multiply-adds, and fewer than ten accumulators leave units idle. Vectors,
    unlike single numbers, lie in other lines of memory in each step, which the first-level cache
    seldom holds: whoever loads fewer of them wins a little.
    """
    groups = [
        f // tile.lanes if index == tile.vector_axis else f for index, f in enumerate(tile.factors)
    ]
    accumulators = math.prod(groups)
    operands = len(axes[0].strides) if axes else 0
    loads = [
        math.prod(g for g, a in zip(groups, axes, strict=True) if a.strides[operand] != 0)
        for operand in range(operands)
    ]
    # The smallest operand stays in registers while the others stream past it; with more than two
    # of it, compilers keep one more of the others waiting.
    resident = min(loads, default=0)
    used = accumulators + resident + (2 if resident <= 2 else 3)
    if used > registers:
        return None
    waste = math.prod(
        -(-a.extent // f) * f / a.extent for a, f in zip(axes, tile.factors, strict=True)
    )
    if tile.vector_axis is None:
        return (waste * (sum(loads) + accumulators) / accumulators, float(used))
    new = sum(
        n * (_SCATTERED if _is_scattered(axes, tile, operand) else 1)
        for operand, n in enumerate(loads)
        if axes[tile.vector_axis].strides[operand] != 0
        and any(a.strides[operand] == 0 and a.extent > 1 for a in axes)
    )
    time = max(1.0, sum(loads) / accumulators / _LOADS) + new / accumulators * _NEW_VECTOR
    rate = min(1.0, accumulators / _BUSY) / time
    return (round(waste / rate / tile.lanes, 3), -float(accumulators), float(sum(loads)))


def _is_scattered(axes: Sequence[Axis], tile: Tile, operand: int) -> bool:
    """Whether a tile takes parts of several rows of vectors instead of the whole of some."""
    return any(
        index != tile.vector_axis and factor > 1 and axes[index].strides[operand] != 0
        for index, factor in enumerate(tile.factors)
    ) and any(
        factor < axes[index].extent
        for index, factor in enumerate(tile.factors)
        if index == tile.vector_axis
    )
