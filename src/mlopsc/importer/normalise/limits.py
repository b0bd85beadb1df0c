"""What no graph may exceed, checked before anything is computed with it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from mlopsc.errors import OpenShapeError

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


def too_large(value: ir.Value) -> OpenShapeError | None:
    """Return the error of a value with a static shape of too many elements."""
    sizes = [d for d in value.shape or () if isinstance(d, int)]
    if value.shape is None or len(sizes) < len(value.shape) or math.prod(sizes) <= MAX_ELEMENTS:
        return None
    return OpenShapeError(
        f"tensor '{value.name}' has shape {sizes[:8]}; expected at most {MAX_ELEMENTS} elements",
        hint="bind its dimensions to other sizes with --bind, or change the model",
    )
