"""Winograd's minimal filtering: convolutions by fewer multiplications, in tiles.

``F(m, r)`` computes ``m`` results of a filter of ``r`` taps with ``n = m + r - 1`` multiplications
instead of ``m r``; nested along both axes it is a convolution: ``Y = A' [(G g G') * (B' d B)] A``
for every tile ``d`` of ``n x n`` inputs. Sources: Winograd, "Arithmetic Complexity of Computations"
(1980); Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). The matrices
are those of Toom and Cook, computed exactly, for the interpolation points with the least error
that Barabasz et al. found, "Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks" (2020).

Here are the matrices, the weights in transformed form and the choice of the tile. What the
convolution computes is in ``ops/winograd.py``, its loops are in ``schedule_winograd.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np

from mlopsc.lower.forms import Array

# Interpolation points; that of infinity is implied. Each further pair costs about one digit.
_POINTS: Final = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))
_TILES: Final = {3: (2, 4), 5: (2,)}  # taps → results per tile: up to six points
_GAIN: Final = 1.1  # less is not worth the weights, which grow

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Transforms:
    """The matrices of ``F(m, r)``.

    Attributes:
        inputs: ``B'``, ``n x n``.
        weights: ``G``, ``n x r``.
        outputs: ``A'``, ``m x n``.
    """

    inputs: Matrix
    weights: Matrix
    outputs: Matrix


@cache
def transforms(results: int, taps: int) -> Transforms:
    """Return the matrices of ``F(results, taps)``."""
    size = results + taps - 1
    points = [Fraction(p) for p in _POINTS[: size - 1]]
    others = [[q for q in points if q != p] for p in points]
    last = (Fraction(0),) * (size - 1)
    return Transforms(
        inputs=tuple(
            tuple(_expand(roots) + [Fraction(0)] * (size - 1 - len(roots)))
            for roots in [*others, points]
        ),
        weights=(
            *(
                tuple(p**k / math.prod(p - q for q in rest) for k in range(taps))
                for p, rest in zip(points, others, strict=True)
            ),
            (*last[: taps - 1], Fraction(1)),
        ),
        outputs=tuple(
            (*(p**k for p in points), Fraction(int(k == results - 1))) for k in range(results)
        ),
    )


def _expand(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the polynomial with these roots, lowest power first."""
    made = [Fraction(1)]
    for root in roots:
        raised, scaled = [Fraction(0), *made], [*(-root * c for c in made), Fraction(0)]
        made = [a + b for a, b in zip(raised, scaled, strict=True)]
    return made


def transform_weights(weights: Array, results: int) -> Array:
    """Return ``[F, C, r, r]`` as ``[n, n, F, C]``, computed in float64 and rounded once."""
    matrix = np.array(transforms(results, weights.shape[-1]).weights, dtype=np.float64)
    wide = weights.astype(np.float64)
    made: Array = np.einsum("ir,fcrs,js->ijfc", matrix, wide, matrix).astype(weights.dtype)
    return made


def choose_results(
    taps: int, channels: int, features: int, sizes: Sequence[int], lanes: int
) -> int:
    """Return the results per tile and axis that cost least, or 0 where direct convolution wins.

    Counts cycles of one core that issues two vector operations together and fetches weights from
    beyond its caches; only their ratios matter.

    Args:
        taps: Of the square kernel.
        channels: Of the input.
        features: Of the output.
        sizes: Height and width of the output.
        lanes: Elements of a vector.
    """
    blocks, depth = -(-features // lanes), -(-channels // lanes)
    direct = _cycles(
        products=taps * taps * channels * blocks * math.prod(sizes),
        weight_bytes=taps * taps * channels * features * 4,
    )
    best, chosen = direct / _GAIN, 0
    for results in _TILES.get(taps, ()):
        size = results + taps - 1
        tiles = math.prod(-(-s // results) for s in sizes)
        points = size * size
        cycles = _cycles(
            products=points * channels * blocks * tiles,
            weight_bytes=points * channels * features * 4,
        )
        # Each point of a tile is made by about six operations, stored and loaded again.
        cycles += tiles * (depth + blocks) * points * 8
        if cycles < best:
            best, chosen = cycles, results
    return chosen


def _cycles(*, products: int, weight_bytes: int) -> float:
    return max(products / 2, weight_bytes / 5)
