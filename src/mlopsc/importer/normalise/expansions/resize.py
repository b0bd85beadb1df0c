"""Resize as tables: gather the neighbours along an axis, weigh and add them.

Requires: roi, scales and sizes that are constant. Source: the schema of Resize 19; coordinates and
weights are computed in float32, as the reference runtime does, so that a tie between two neighbours
falls on the same side. The last axis comes first. Integers are
summed over all axes at once and truncated, or, with antialiasing, weighed in fixed point.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

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

_FRACTION_BITS = 22  # of the weights of 8-bit integers with antialiasing
_BYTES = {ir.DataType.UINT8: (0, 255), ir.DataType.INT8: (-128, 127)}
f32 = np.float32


@dataclass(frozen=True)
class Axis:
    """How one axis is resized.

    Attributes:
        axis: Position.
        size: Elements before.
        length: Elements after.
        scale: Their ratio, as the model states it.
        roi: First and last position, relative to the axis.
    """

    axis: int
    size: int
    length: int
    scale: Any
    roi: tuple[Any, Any]


@dataclass(frozen=True)
class Table:
    """Neighbours and weights along one axis, each of shape (neighbours, length).

    Attributes:
        axis: Position.
        indices: Of the neighbours.
        weights: Of the neighbours, in float32.
        outside: Which results lie outside the input.
    """

    axis: int
    indices: Array
    weights: Array
    outside: Array


def _expand(b: Builder) -> Tensor:
    x = b.required(0)
    mode = b.attribute("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise Refusal(f"mode is '{mode}'; expected nearest, linear or cubic")
    if not b.attribute("antialias", 0) or mode == "nearest":
        make = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode]
    else:
        make = _antialiased
    tables = [make(b, axis) for axis in _axes(b, x)]
    if mode == "nearest":
        result = x
        for table in tables:
            result = result.gather(table.indices[0], table.axis)
    elif x.is_float:
        result = x.cast(ir.DataType.FLOAT) if x.dtype in HALVES else x
        for table in reversed(tables):
            result = _weigh(b, result, table)
    elif make is _antialiased and x.dtype in _BYTES:
        result = x
        for table in reversed(tables):
            result = _weigh_bytes(b, result, table)
    elif make is _linear:
        result = _weigh_jointly(b, x, tables)
    else:
        raise Refusal(f"{mode} interpolation of {x.dtype.name}; expected a floating-point type")
    if _transformation(b) == "tf_crop_and_resize":
        value = b.attribute("extrapolation_value", 0.0)
        for table in tables:
            if table.outside.any():
                mask = b.constant(_along(table.outside, table.axis, result.rank))
                result = b.where(mask, value, result)
    return result.cast(x.dtype)


def _along(values: Array, axis: int, rank: int) -> Array:
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])


def _transformation(b: Builder) -> str:
    return str(b.attribute("coordinate_transformation_mode", "half_pixel"))


def _axes(b: Builder, x: Tensor) -> list[Axis]:
    """Return the axes that change, in order."""
    chosen = [a % x.rank for a in b.attribute("axes") or range(x.rank)]
    scales, sizes = b.array(2, "scales"), b.array(3, "sizes")
    before = np.array([x.shape[a] for a in chosen], f32)
    if scales is not None and scales.size:
        scales = scales.astype(f32)
        if len(scales) != len(chosen) or not (scales > 0).all():
            raise Refusal(f"scales are {scales.tolist()}; expected {len(chosen)} positive numbers")
        lengths = [int(v) for v in scales * before]
    elif sizes is not None and sizes.size:
        if len(sizes) != len(chosen) or not (sizes > 0).all():
            raise Refusal(f"sizes are {sizes.tolist()}; expected {len(chosen)} positive numbers")
        scales = sizes.astype(f32) / before
        lengths = [int(v) for v in sizes]
        policy = b.attribute("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            common = scales.min() if policy == "not_larger" else scales.max()
            scales = np.full_like(scales, common)
            lengths = [int(np.floor(v + f32(0.5))) for v in scales * before]
    else:
        raise Refusal("neither scales nor sizes are given")
    roi = b.array(1, "roi") if _transformation(b) == "tf_crop_and_resize" else None
    if roi is None or not roi.size:
        roi = np.repeat([0, 1], len(chosen))
    roi = roi.astype(f32).reshape(2, -1)
    found = [
        Axis(axis, x.shape[axis], length, scale, (start, end))
        for axis, length, scale, start, end in zip(chosen, lengths, scales, *roi, strict=True)
        if scale != 1 or length != x.shape[axis]
    ]
    return sorted(found, key=lambda a: a.axis)


def _positions(b: Builder, axis: Axis) -> Any:
    """Return where each result lies on the input's axis, in float32."""
    place = np.arange(axis.length, dtype=f32)
    length, size, scale = f32(axis.length), f32(axis.size), axis.scale
    half, one = f32(0.5), f32(1)
    mode = _transformation(b)
    if mode == "asymmetric":
        return place / scale
    if mode == "half_pixel":
        return (place + half) / scale - half
    if mode == "pytorch_half_pixel":
        return (place + half) / scale - half if axis.length > 1 else np.zeros(1, f32)
    if mode == "tf_half_pixel_for_nn":
        return (place + half) / scale
    if mode == "align_corners":
        return place * (size - one) / (length - one) if axis.length > 1 else np.zeros(1, f32)
    if mode == "tf_crop_and_resize":
        start, end = axis.roi
        if axis.length == 1:
            return np.array([0.5 * (start + end) * (size - one)], f32)
        return start * (size - one) + place * (end - start) * (size - one) / (length - one)
    if mode == "half_pixel_symmetric":
        offset = size / f32(2) * (one - length / (scale * size))
        return np.asarray(offset + (place + 0.5) / np.float64(scale) - 0.5).astype(f32)
    raise Refusal(f"coordinate_transformation_mode '{mode}' is not one of ONNX's")


def _outside(axis: Axis, places: Array) -> Array:
    return np.asarray((places < 0) | (places > axis.size - 1))


def _nearest(b: Builder, axis: Axis) -> Table:
    places = _positions(b, axis)
    rounding = b.attribute("nearest_mode", "round_prefer_floor")
    if rounding == "floor":
        chosen = np.floor(places)
    elif rounding == "ceil":
        chosen = np.ceil(places)
    elif rounding in ("round_prefer_floor", "round_prefer_ceil"):
        away = np.trunc(places + np.copysign(f32(0.5), places))  # halves away from zero
        chosen = away
        if rounding == "round_prefer_floor":
            tie = places == np.trunc(places) + f32(0.5)
            chosen = np.where(tie, np.floor(places), away)
    else:
        raise Refusal(f"nearest_mode '{rounding}' is not one of ONNX's")
    indices = np.clip(chosen, 0, axis.size - 1).astype(np.int64)[None]
    return Table(axis.axis, indices, np.ones(indices.shape, f32), _outside(axis, places))


def _linear(b: Builder, axis: Axis) -> Table:
    places = _positions(b, axis)
    kept = np.clip(places, f32(0), f32(axis.size - 1))
    low = kept.astype(np.int64)
    high = np.minimum(low + 1, axis.size - 1)
    same = low == high
    weights = [
        np.where(same, f32(0.5), np.abs(kept - other.astype(f32))).astype(f32)
        for other in (high, low)
    ]
    return Table(axis.axis, np.stack([low, high]), np.stack(weights), _outside(axis, places))


def _keys(a: Any, distance: Array) -> Array:
    """Return Keys' cubic kernel at ``distance``."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, f32(0))).astype(f32)


def _cubic(b: Builder, axis: Axis) -> Table:
    places = _positions(b, axis)
    base = np.floor(places)
    offsets = np.arange(-1, 3, dtype=np.int64)[:, None]
    weights = _keys(f32(b.attribute("cubic_coeff_a", -0.75)), places - base - offsets.astype(f32))
    indices = base.astype(np.int64) + offsets
    if b.attribute("exclude_outside", 0):
        weights = np.where((indices < 0) | (indices >= axis.size), f32(0), weights)
        weights = weights / weights.sum(0, dtype=f32)
    return Table(axis.axis, np.clip(indices, 0, axis.size - 1), weights, _outside(axis, places))


def _antialiased(b: Builder, axis: Axis) -> Table:
    """Widen the kernel by the factor that the axis shrinks by; edges repeat or are excluded."""
    cubic = b.attribute("mode") == "cubic"
    a = f32(b.attribute("cubic_coeff_a", -0.75))
    scale = f32(1) / axis.scale
    support = f32(2 if cubic else 1) * max(scale, f32(1))
    narrow = f32(1) / scale if scale >= 1 else f32(1)
    identity = axis.scale == 1
    places = np.arange(axis.length, dtype=f32) if identity else _positions(b, axis)
    exclude = bool(b.attribute("exclude_outside", 0))
    rows: list[tuple[Array, Array]] = []
    for center in places + f32(0.5):
        first, last = (int(np.floor(center + s + f32(0.5))) for s in (-support, support))
        taps = np.arange(first, last)
        distance = ((taps.astype(f32) - center + f32(0.5)) * narrow).astype(f32)
        weights = _keys(a, distance) if cubic else np.maximum(f32(1) - np.abs(distance), f32(0))
        if exclude:
            inside = (taps >= 0) & (taps < axis.size)
            taps, weights = taps[inside], weights[inside]
        whole = weights.sum(dtype=f32)
        weights = weights / whole if whole != 0 else weights
        taps = np.clip(taps, 0, axis.size - 1)
        places_used, where = np.unique(taps, return_inverse=True)
        merged = np.zeros(len(places_used), f32)
        np.add.at(merged, where, weights)
        rows.append((places_used, merged))
    width = max(len(taps) for taps, _ in rows)
    indices = np.zeros((width, axis.length), np.int64)
    table = np.zeros((width, axis.length), f32)
    for column, (taps, weights) in enumerate(rows):
        # A row with fewer neighbours repeats its last one, halving the weight each time: a weight
        # of zero would turn an infinity into NaN.
        indices[:, column] = np.pad(taps, (0, width - len(taps)), mode="edge")
        spread = list(weights)
        while len(spread) < width:
            spread[-1] = spread[-1] / f32(2)
            spread.append(spread[-1])
        table[:, column] = spread
    return Table(axis.axis, indices, table, _outside(axis, places))


def _weigh(b: Builder, x: Tensor, table: Table) -> Tensor:
    """Return the weighted sum of the neighbours along one axis."""
    terms = []
    for indices, weights in zip(table.indices, table.weights, strict=True):
        weight = b.constant(_along(weights, table.axis, x.rank), x.dtype)
        terms.append(x.gather(indices, table.axis) * weight)
    return total(terms)


def _weigh_bytes(b: Builder, x: Tensor, table: Table) -> Tensor:
    """Return the weighted sum in fixed point, rounded and kept in the range of the type."""
    low, high = _BYTES[x.dtype]
    unit = 1 << _FRACTION_BITS
    result: Tensor = b.constant(unit // 2, ir.DataType.INT32)
    wide = x.cast(ir.DataType.INT32)
    for indices, weights in zip(table.indices, table.weights, strict=True):
        scaled = np.trunc(weights * f32(unit) + np.copysign(f32(0.5), weights)).astype(np.int32)
        result = result + wide.gather(indices, table.axis) * _along(scaled, table.axis, x.rank)
    whole = (result - b.op("Mod", result, unit)) / unit  # rounds down, also below zero
    return b.op("Min", b.op("Max", whole, low), high).cast(x.dtype)


def _weigh_jointly(b: Builder, x: Tensor, tables: list[Table]) -> Tensor:
    """Return the sum over all combinations of neighbours, each with the product of its weights.

    The sum will be truncated, so every target must round the same way: products are computed in
    float64, where they are exact, and rounded to float32, so that none is fused with an addition.
    """
    terms = []
    wide = x.cast(ir.DataType.FLOAT).cast(ir.DataType.DOUBLE)
    for choice in itertools.product(*(range(len(t.indices)) for t in tables)):
        weight: Array = np.ones([1] * x.rank, f32)
        for number, table in reversed(list(zip(choice, tables, strict=True))):
            weight = weight * _along(table.weights[number], table.axis, x.rank)
        term = wide
        for number, table in zip(choice, tables, strict=True):
            term = term.gather(table.indices[number], table.axis)
        terms.append((term * weight.astype(np.float64)).cast(ir.DataType.FLOAT))
    return total(terms)


EXPANSIONS: Final[dict[str, Expansion]] = {"Resize": _expand}
