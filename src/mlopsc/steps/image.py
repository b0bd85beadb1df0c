"""Steps on images: resize, crop, pad, colour. They find H, W and C in the layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlopsc.schema.image_steps import Colour, Crop, Pad, Resize
from mlopsc.steps.graph import Graph
from mlopsc.steps.value import Refusal, Value

# Of the cubic kernel: what Pillow has, and what OpenCV has, which does not widen it.
_ANTIALIASED_CUBIC = -0.5
_PLAIN_CUBIC = -0.75
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
_HINT = "give the input a layout, such as NHWC"


def resize(b: Graph, x: Value, step: Resize) -> Value:
    """Resize the axes H and W."""
    axes = _image_axes(x)
    before = [x.size(axis) for axis in axes]
    sizes = _fitting(before, [step.height, step.width], step.fit)
    if sizes == before:
        return x if step.mode == "nearest" else b.as_float(x)
    if step.mode == "nearest":
        return _resize(b, x, axes, sizes, step)
    x = b.as_float(x)
    # Runtimes know linear and cubic interpolation of images in four axes, H and W together.
    if step.mode == "linear" and x.rank == 4 and axes in ((1, 2), (2, 3)):
        return _resize(b, x, axes, sizes, step)
    others = [a for a in range(x.rank) if a not in axes]
    order = [*others, *axes]
    moved = b.transpose(x, order)
    kept = [size for size in moved.shape[:-2] if isinstance(size, int)]
    batch = moved.shape[0] if isinstance(moved.shape[0], str) else 1
    flat = b.reshape(moved, (batch, math.prod(kept), *moved.shape[-2:]))
    done = _resize(b, flat, (2, 3), sizes, step)
    back = b.reshape(done, (*moved.shape[:-2], *sizes), moved.layout)
    return b.transpose(back, [order.index(a) for a in range(x.rank)])


def _resize(b: Graph, x: Value, axes: tuple[int, int], sizes: Sequence[int], step: Resize) -> Value:
    special: dict[str, Any] = {}
    if step.mode == "nearest":
        special["nearest_mode"] = "round_prefer_ceil"
    elif step.antialias:
        special.update(antialias=1, exclude_outside=1)
    if step.mode == "cubic":
        special["cubic_coeff_a"] = _ANTIALIASED_CUBIC if step.antialias else _PLAIN_CUBIC
    return b.op(
        "Resize", x, None, None, np.array(sizes, np.int64), axes=axes, mode=step.mode,
        coordinate_transformation_mode="half_pixel", **special,
    )  # fmt: skip


def _fitting(before: Sequence[int], wanted: Sequence[int], fit: str) -> list[int]:
    if fit == "stretch":
        return list(wanted)
    # In whole numbers, so that the side that decides gets exactly what is wanted.
    height, width = before
    by_height = (wanted[0] * width < wanted[1] * height) == (fit == "inside")
    if by_height:
        return [wanted[0], max(1, (2 * width * wanted[0] + height) // (2 * height))]
    return [max(1, (2 * height * wanted[1] + width) // (2 * width)), wanted[1]]


def crop(b: Graph, x: Value, step: Crop) -> Value:
    """Keep a rectangle."""
    for axis, size, start, what in zip(
        _image_axes(x), (step.height, step.width), (step.top, step.left), ("height", "width"),
        strict=True,
    ):  # fmt: skip
        whole = x.size(axis)
        first = (whole - size) // 2 if start is None else start
        if size > whole or first + size > whole:
            raise Refusal(f"{what} is {size} from {max(first, 0)} on, and the image has {whole}")
        x = b.part(x, axis, first, first + size)
    return x


def pad(b: Graph, x: Value, step: Pad) -> Value:
    """Add elements."""
    before, after = [0] * x.rank, [0] * x.rank
    if step.axis is not None:
        axis = x.axis(step.axis)
        before[axis], after[axis] = step.before or 0, step.after or 0
    else:
        rows, columns = _image_axes(x)
        before[rows], after[rows] = step.top or 0, step.bottom or 0
        before[columns], after[columns] = step.left or 0, step.right or 0
        for axis, size in ((rows, step.height), (columns, step.width)):
            if size is not None:
                missing = size - x.size(axis)
                if missing < 0:
                    raise Refusal(f"the image has {x.size(axis)} and is padded to {size}",
                                  "crop it, or resize it with 'fit: inside'")  # fmt: skip
                before[axis], after[axis] = missing // 2, missing - missing // 2
    for axis in range(x.rank):
        most = max(before[axis], after[axis])
        if most and step.mode == "reflect" and most >= x.size(axis):
            raise Refusal(f"{most} elements are added to {x.size(axis)}; 'reflect' adds fewer than "
                          "there are")  # fmt: skip
    if not any(before) and not any(after):
        return x
    value = b.number_like(x, step.value, "value") if step.mode == "constant" else None
    return b.op("Pad", x, np.array([*before, *after], np.int64), value, mode=step.mode)


def colour(b: Graph, x: Value, step: Colour) -> Value:
    """Change the order or number of channels."""
    axis = x.axis("C")
    channels = 1 if step.source == "GREY" else 3
    if x.size(axis) != channels:
        raise Refusal(f"from is {step.source} and {x} has {x.size(axis)} channels; "
                      f"expected {channels}")  # fmt: skip
    if step.source == step.to:
        return x
    if step.source == "GREY":
        return b.op("Gather", x, np.zeros(3, np.int64), axis=axis)
    if step.to != "GREY":
        return b.op("Gather", x, np.array([2, 1, 0], np.int64), axis=axis)
    x = b.as_float(x)
    weights = _GREY if step.source == "RGB" else _GREY[::-1]
    shape = [-1 if a == axis else 1 for a in range(x.rank)]
    weighted = b.op("Mul", x, np.array(weights, x.dtype).reshape(shape))
    return b.op("ReduceSum", weighted, np.array([axis], np.int64), keepdims=1)


def _image_axes(x: Value) -> tuple[int, int]:
    if x.layout is None or "H" not in x.layout or "W" not in x.layout:
        raise Refusal(f"the value is {x}; expected a layout with H and W", _HINT)
    return x.axis("H"), x.axis("W")
