"""Hyperparameters of an estimator as JSON values, for the lineage."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

_MOST: Final = 64  # elements of a parameter that is an array


def plain_parameters(model: Any) -> dict[str, Any]:
    """Return ``get_params()`` as JSON: what has no JSON is named by its type."""
    return {str(name): _plain(value) for name, value in sorted(model.get_params().items())}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value[:_MOST]]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in list(value.items())[:_MOST]}
    return getattr(value, "__name__", None) or type(value).__name__
