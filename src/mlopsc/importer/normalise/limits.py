"""What no graph may exceed, checked before anything is computed with it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from mlopsc.errors import OpenShapeError
from mlopsc.importer.normalise.constants import constant_of

MAX_ELEMENTS = (1 << 31) - 1  # indices are 32 bits wide


def check_sizes(values: Iterable[ir.Value]) -> None:
    """Check that the values whose shapes are known can be indexed.

    Raises:
        OpenShapeError: One has too many elements.
    """
    for value in values:
        problem = too_large(value)
        if problem is not None:
            raise problem


def check_ranges(nodes: Iterable[ir.Node]) -> None:
    """Check what ``Range`` counts to: ONNX's inference takes a number that overflows for none.

    Raises:
        OpenShapeError: It has too many elements.
    """
    for node in nodes:
        limits = [constant_of(value) for value in node.inputs]
        if node.op_type != "Range" or node.domain or any(v is None or v.size != 1 for v in limits):
            continue
        start, limit, step = (float(np.asarray(v).reshape(-1)[0]) for v in limits)
        count = (limit - start) / step if step else 0.0
        if not count <= MAX_ELEMENTS:  # NaN, too
            raise OpenShapeError(
                f"node '{node.name}' (Range) counts from {start:g} to {limit:g} by {step:g}; "
                f"expected at most {MAX_ELEMENTS} elements",
                hint="bind dimensions to other sizes with --bind, or change the model",
            )


def too_large(value: ir.Value) -> OpenShapeError | None:
    """Return the error of a value whose shape no tensor has, or one of too many elements."""
    if value.shape is None:
        return None
    sizes = [d for d in value.shape if isinstance(d, int)]
    static = len(sizes) == len(value.shape)
    if min(sizes, default=0) >= 0 and not (static and math.prod(sizes) > MAX_ELEMENTS):
        return None
    return OpenShapeError(
        f"tensor '{value.name}' has shape {sizes[:8]}; expected sizes from 0 on and at most "
        f"{MAX_ELEMENTS} elements",
        hint="bind its dimensions to other sizes with --bind, or change the model",
    )
