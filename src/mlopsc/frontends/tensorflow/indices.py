"""Finds inputs that are places in a table (token ids), and draws such numbers for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from mlopsc.frontends.base import Array

# What leaves a number what it is, puts it elsewhere, or makes a negative place a positive one.
_CARRIES: Final = frozenset(
    {
        "Add", "Cast", "Clip", "Expand", "Flatten", "Identity", "Less", "Max", "Min", "Mul", "Not",
        "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip


def index_limits(path: Path) -> dict[str, int]:
    """Return how many rows the smallest table has that an input of an ONNX file is a place in."""
    graph = onnx.load_model(path).graph
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    origin = {value.name: value.name for value in graph.input}
    limits: dict[str, int] = {}
    for node in graph.node:
        known = [origin[name] for name in node.input if name in origin]
        if node.op_type in _CARRIES and known:
            origin[node.output[0]] = known[0]
        if node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in origin:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            name, rows = origin[node.input[1]], sizes[node.input[0]][axis]
            limits[name] = min(rows, limits.get(name, rows))
    return limits


def draw_indices(
    rng: np.random.Generator, drawn: Mapping[str, Array], limits: Mapping[str, int]
) -> dict[str, Array]:
    """Return drawn inputs with places in tables where the model looks something up."""
    found: dict[str, Any] = dict(drawn)
    for name, rows in limits.items():
        if name in found:
            found[name] = rng.integers(0, rows, found[name].shape).astype(found[name].dtype)
    return found
