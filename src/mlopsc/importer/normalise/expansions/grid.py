"""Sampling at computed places: GridSample and AffineGrid.

Requires: static shapes; for AffineGrid a constant size. Ensures: no place outside the input is
read, whatever the grid holds. Source: the schemas of GridSample 22 and AffineGrid 20; the order of
sums is the reference runtime's: the last axis innermost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import (
    HALVES,
    Array,
    Builder,
    Expansion,
    Refusal,
    Tensor,
    total,
)

_CUBIC = -0.75
_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # names before version 20


@dataclass(frozen=True)
class _Tap:
    """One neighbour along an axis: its index, its weight, and whether it lies inside."""

    index: Tensor
    weight: Tensor | None
    inside: Tensor | None


def _grid_sample(b: Builder) -> Tensor:
    x, grid = b.required(0), b.required(1)
    mode = b.attribute("mode", "linear")
    mode = _MODES.get(mode, mode)
    if mode not in ("linear", "nearest", "cubic") or (mode != "nearest" and not x.is_float):
        raise Refusal(f"mode is '{mode}' for elements of {x.dtype.name}")
    sizes, places = x.shape[2:], grid.shape[1:-1]
    batch, channels, count = x.shape[0], x.shape[1], int(np.prod(places))
    wide = ir.DataType.DOUBLE if grid.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    where = grid.cast(wide)
    dtype = ir.DataType.FLOAT if x.dtype in HALVES else x.dtype
    image = x.cast(dtype) if mode != "nearest" else x
    flat = image.reshape(batch, channels, int(np.prod(sizes)))
    taps = []
    for axis, size in enumerate(sizes):
        at = where.gather(np.array(len(sizes) - 1 - axis, np.int64), -1).reshape(batch, 1, count)
        taps.append(_taps(b, at, size, mode, dtype))

    def interpolate(axis: int, index: Tensor | None, inside: Tensor | None) -> Tensor:
        """Weigh the neighbours along ``axis`` and all after it."""
        if axis == len(sizes):
            if index is None:
                raise Refusal("its input has no spatial axes")
            read = b.op("GatherElements", flat, index.expand(batch, channels, count), axis=2)
            return read if inside is None else b.where(inside, read, 0)
        terms = []
        for tap in taps[axis]:
            chosen = tap.index if index is None else index * sizes[axis] + tap.index
            both = tap.inside
            if inside is not None:
                both = inside if both is None else inside & both
            value = interpolate(axis + 1, chosen, both)
            terms.append(value if tap.weight is None else tap.weight * value)
        return total(terms)

    return interpolate(0, None, None).cast(x.dtype).reshape(batch, channels, *places)


def _taps(b: Builder, at: Tensor, size: int, mode: str, dtype: ir.DataType) -> list[_Tap]:
    """Return the neighbours of normalised places along one axis."""
    aligned = bool(b.attribute("align_corners", 0))
    place = (at + 1) / 2 * (size - 1) if aligned else ((at + 1) * size - 1) / 2
    if mode == "nearest":
        return [_tap(b, b.op("Round", place), None, size, aligned)]
    base = b.op("Floor", place)
    offset = (place - base).cast(dtype)
    if mode == "linear":
        weights = {0: 1 - offset, 1: offset}
    else:
        a = _CUBIC

        def far(d: Tensor) -> Tensor:
            return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

        def near(d: Tensor) -> Tensor:
            return ((a + 2) * d - (a + 3)) * d * d + 1

        weights = {-1: far(offset + 1), 0: near(offset), 1: near(1 - offset), 2: far(2 - offset)}
    return [
        _tap(b, base + float(step) if step else base, weight, size, aligned)
        for step, weight in weights.items()
    ]


def _tap(b: Builder, at: Tensor, weight: Tensor | None, size: int, aligned: bool) -> _Tap:
    """Return the neighbour at a whole number, with the index that padding gives it."""
    padding = b.attribute("padding_mode", "zeros")
    inside = None
    if padding == "zeros":
        inside = ~((at < 0) | (at > size - 1))
    elif padding == "reflection":
        low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
        at = _reflect(b, at, low, high) if high > low else at * 0
    elif padding != "border":
        raise Refusal(f"padding_mode is '{padding}'; expected zeros, border or reflection")
    above = b.where(at > 0, at, 0)  # NaN too becomes 0
    index = b.where(above < size - 1, above, size - 1).cast(ir.DataType.INT64)
    return _Tap(index, weight, inside)


def _reflect(b: Builder, at: Tensor, low: float, high: float) -> Tensor:
    """Return ``at`` mirrored at both borders until it lies between them."""
    below = at < low
    beyond = b.where(below, low - at, at - high)
    turns = b.op("Floor", beyond / (high - low))
    rest = beyond - turns * (high - low)
    even = (turns - b.op("Floor", turns / 2) * 2).equals(0)
    mirrored = b.where(b.op("Equal", below, even), low + rest, high - rest)
    return b.where(beyond > 0, mirrored, at)


def _affine_grid(b: Builder) -> Tensor:
    theta, size = b.required(0), b.array(1, "the size")
    if size is None:
        raise Refusal("the size is missing")
    sizes = [int(v) for v in size[2:]]
    aligned = bool(b.attribute("align_corners", 0))
    axes = [_normalised(n, aligned) for n in sizes]
    mesh = [np.asarray(m) for m in np.meshgrid(*axes, indexing="ij")]
    base: Array = np.stack([*reversed(mesh), np.ones(sizes)], -1).reshape(-1, len(sizes) + 1)
    points = b.constant(base, theta.dtype)
    grid = b.op("MatMul", points, theta.transpose(0, 2, 1))
    return grid.reshape(theta.shape[0], *sizes, len(sizes))


def _normalised(count: int, aligned: bool) -> Array:
    if aligned:
        return np.linspace(-1, 1, count) if count > 1 else np.array([-1.0])
    return (2 * np.arange(count) + 1) / count - 1


EXPANSIONS: Final[dict[str, Expansion]] = {
    "AffineGrid": _affine_grid,
    "GridSample": _grid_sample,
}
