"""Operators that place elements by rules that are known at import.

Requires: shapes and what decides them are constant. Source: the schemas of Col2Im 18, EyeLike 22,
TensorScatter 24 and SpaceToDepth 28.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor


def _eye_like(b: Builder) -> Tensor:
    x = b.required(0)
    rows, columns = x.shape
    dtype = ir.DataType(b.attribute("dtype", int(x.dtype)))
    return b.constant(np.eye(rows, columns, k=int(b.attribute("k", 0))), dtype)


def _col2im(b: Builder) -> Tensor:
    """Sum, for each place of the image, the columns' elements that fall on it."""
    x = b.required(0)
    image, block = b.array(1, "the image's shape"), b.array(2, "the block's shape")
    if image is None or block is None:
        raise Refusal("the shapes of image and block are missing")
    rank = len(image)
    dilations = b.attribute("dilations") or [1] * rank
    strides = b.attribute("strides") or [1] * rank
    pads = b.attribute("pads") or [0] * (2 * rank)
    counts = [
        (int(image[a]) + pads[a] + pads[a + rank] - dilations[a] * (int(block[a]) - 1) - 1)
        // strides[a]
        + 1
        for a in range(rank)
    ]
    kernel, columns = int(np.prod(block)), int(np.prod(counts))
    if x.shape[1] % kernel or x.shape[2] != columns:
        raise Refusal(
            f"its input has shape {list(x.shape)}; expected a multiple of {kernel} rows and "
            f"{columns} columns"
        )
    channels, places = x.shape[1] // kernel, int(np.prod(image))
    sources: list[list[int]] = [[] for _ in range(places)]
    for row, offset in enumerate(itertools.product(*(range(int(k)) for k in block))):
        for column, start in enumerate(itertools.product(*(range(c) for c in counts))):
            at = [
                s * strides[a] - pads[a] + o * dilations[a]
                for a, (s, o) in enumerate(zip(start, offset, strict=True))
            ]
            if all(0 <= i < int(n) for i, n in zip(at, image, strict=True)):
                place = int(np.ravel_multi_index(at, [int(n) for n in image]))
                sources[place].append(row * columns + column)
    flat = x.reshape(x.shape[0], channels, kernel * columns)
    zero = b.constant(np.zeros((x.shape[0], channels, 1)), x.dtype)
    padded = b.concat([flat, zero], 2)
    most = max(1, *(len(s) for s in sources))
    table = np.array([s + [kernel * columns] * (most - len(s)) for s in sources], np.int64)
    summed = padded.gather(table[:, 0], 2)
    for term in range(1, most):
        summed = summed + padded.gather(table[:, term], 2)
    return summed.reshape(x.shape[0], channels, *(int(n) for n in image))


def _tensor_scatter(b: Builder) -> Tensor:
    """Ask each place of the cache which element of the update falls on it, if any."""
    cache, update, starts = b.required(0), b.required(1), b.input(2)
    axis = int(b.attribute("axis", -2)) % cache.rank
    size, length = cache.shape[axis], update.shape[axis]
    place = np.arange(size, dtype=np.int64).reshape(
        [-1 if a == axis else 1 for a in range(cache.rank)]
    )
    at: Tensor = b.constant(place)
    if starts is not None:
        at = at - starts.cast(ir.DataType.INT64).reshape(-1, *[1] * (cache.rank - 1))
    mode = b.attribute("mode", "linear")
    if mode == "circular":
        at = b.op("Mod", at, size)
    elif mode != "linear":
        raise Refusal(f"mode is '{mode}'; expected linear or circular")
    outside = (at < 0) | (at > length - 1)
    index = b.where(outside, 0, at)
    shape = [size if a == axis else n for a, n in enumerate(update.shape)]
    moved = b.op("GatherElements", update, index.expand(*shape), axis=axis)
    return b.where(outside, cache, moved)


def _space_to_depth(b: Builder) -> Tensor | None:
    """Since version 28 the depth may be ordered by channel first; otherwise it is a core one."""
    if b.attribute("mode", "DCR") != "CRD":
        return None
    x, block = b.required(0), int(b.attribute("blocksize"))
    n, c, h, w = x.shape
    cut = x.reshape(n, c, h // block, block, w // block, block).transpose(0, 1, 3, 5, 2, 4)
    return cut.reshape(n, c * block * block, h // block, w // block)


EXPANSIONS: Final[dict[str, Expansion]] = {
    "Col2Im": _col2im,
    "EyeLike": _eye_like,
    "SpaceToDepth": _space_to_depth,
    "TensorScatter": _tensor_scatter,
}
