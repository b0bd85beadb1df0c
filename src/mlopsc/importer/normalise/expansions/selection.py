"""Choosing elements by a constant condition. Source: the ONNX operator schemas."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Tensor


def _compress(b: Builder) -> Tensor | None:
    """Gather the elements, or the slices along an axis, whose condition is true."""
    condition = b.array(1, "the condition")
    if condition is None:
        return None
    x, axis = b.required(0), b.attribute("axis")
    places = np.flatnonzero(condition).astype(np.int64)
    if axis is None:
        return b.op("Gather", x.reshape(-1), places, axis=0)
    return b.op("Gather", x, places, axis=int(axis))


EXPANSIONS: Final[dict[str, Expansion]] = {"Compress": _compress}
