"""Labels of classes as ONNX has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlopsc.frontends.boosting.forest import Label


def plain_labels(classes: Iterable[Any]) -> tuple[Label, ...]:
    """Return integers, if all classes are whole numbers or truth values; else floats or strings."""
    labels = [c.item() if hasattr(c, "item") else c for c in classes]
    if all(isinstance(c, int | float) for c in labels):
        whole = all(float(c).is_integer() for c in labels)
        return tuple(int(c) if whole else float(c) for c in labels)
    return tuple(str(c) for c in labels)
