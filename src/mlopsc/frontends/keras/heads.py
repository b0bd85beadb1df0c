"""Finds preprocessing layers at the head of a Keras model, and takes the model apart there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlopsc.frontends.base import Array

_KINDS: Final = ("CenterCrop", "Normalization", "Rescaling", "Resizing")
_AUGMENTS: Final = "Random"  # RandomFlip and so on do nothing outside training


@dataclass(frozen=True)
class Head:
    """The preprocessing of one input.

    Attributes:
        layers: In the order in which they run; without those that do nothing.
        end: The symbolic tensor behind them; the input itself if there are none.
    """

    layers: tuple[Any, ...]
    end: Any

    def describe(self) -> tuple[str, ...]:
        """Return what each layer does, as its author knows it."""
        return tuple(map(_describe, self.layers))

    def invert(self, array: Array) -> Array:
        """Return raw values that become about ``array``, as far as layers scale and shift."""
        for layer in reversed(self.layers):
            kind = type(layer).__name__
            if kind == "Rescaling":
                scale = np.asarray(layer.scale, np.float64)
                array = (array - np.asarray(layer.offset)) / np.where(scale == 0, 1, scale)
            elif kind == "Normalization":
                mean, variance = _statistics(layer)
                shifted = (array - mean) / np.sqrt(variance) if layer.invert else None
                shifted = array * np.sqrt(variance) + mean if shifted is None else shifted
                array = shifted if shifted.shape == array.shape else array
        return array


def find(model: Any) -> list[Head]:
    """Return the head of each input of a functional or Sequential model."""
    graph = _graph_of(model)
    if graph is None:
        return [Head((), tensor) for tensor in model.inputs]
    ends = {id(tensor) for tensor in graph.outputs}
    consumers: dict[int, list[Any]] = {}
    for node in _nodes(graph):
        for tensor in node.arguments.keras_tensors:
            consumers.setdefault(id(tensor), []).append(node)
    heads = []
    for tensor in graph.inputs:
        layers: list[Any] = []
        while id(tensor) not in ends:
            nodes = consumers.get(id(tensor), [])
            found = _steps(nodes[0].operation) if len(nodes) == 1 else None
            if found is None or len(nodes[0].outputs) != 1 or id(nodes[0].outputs[0]) in ends:
                break
            layers.extend(found)
            tensor = nodes[0].outputs[0]
        heads.append(Head(tuple(layers), tensor))
    return heads


def split(model: Any, heads: Sequence[Head]) -> tuple[Any, Any]:
    """Return the preprocessing and what is behind it, as two models."""
    import keras

    graph = _graph_of(model)
    ends = [head.end for head in heads]
    return keras.Model(list(graph.inputs), ends), keras.Model(ends, list(graph.outputs))


def _graph_of(model: Any) -> Any:
    """Return the functional model behind a model, or None if it has none."""
    graph = getattr(model, "_functional", model)
    return graph if hasattr(graph, "_nodes_by_depth") and hasattr(graph, "inputs") else None


def _nodes(graph: Any) -> list[Any]:
    """Return the calls of layers that a functional model consists of."""
    return [node for nodes in graph._nodes_by_depth.values() for node in nodes]


def _steps(layer: Any) -> list[Any] | None:
    """Return the preprocessing layers that ``layer`` is or consists of, or None."""
    name, module = type(layer).__name__, type(layer).__module__
    inner = _graph_of(layer)
    if inner is not None and len(inner.inputs) == 1 and len(inner.outputs) == 1:
        steps: list[Any] = []
        for part in layer.layers:
            if type(part).__name__ != "InputLayer":
                found = _steps(part)
                if found is None:
                    return None
                steps.extend(found)
        chain = len(_nodes(inner)) == len(inner.operations)
        return steps if chain else None
    if not module.startswith("keras.src.layers."):
        return None
    if name.startswith(_AUGMENTS) and ".preprocessing." in module:
        return []
    return [layer] if name in _KINDS else None


def _describe(layer: Any) -> str:
    kind = type(layer).__name__
    if kind == "Rescaling":
        return f"Rescaling: x * {_short(layer.scale)} + {_short(layer.offset)}"
    if kind == "Normalization":
        mean, variance = _statistics(layer)
        way = "back to" if layer.invert else "by"
        return (
            f"Normalization of {mean.size} value{'s' if mean.size > 1 else ''} {way} mean "
            f"{_short(mean)} and variance {_short(variance)}"
        )
    size = f"{layer.height}x{layer.width}"
    if kind == "Resizing":
        return f"Resizing to {size} ({layer.interpolation})"
    return f"CenterCrop to {size}"


def _statistics(layer: Any) -> tuple[Array, Array]:
    return np.asarray(layer.mean, np.float64), np.maximum(
        np.asarray(layer.variance, np.float64), 1e-14
    )


def _short(value: Any) -> str:
    """Return up to four numbers as text."""
    numbers = np.asarray(value, np.float64).ravel()
    text = ", ".join(f"{number:.6g}" for number in numbers[:4])
    if numbers.size == 1:
        return text
    return f"[{text}{', ...' if numbers.size > 4 else ''}]"


def draw(heads: Mapping[str, Head], name: str, array: Array) -> Array:
    """Return a drawn input as raw data: what its head makes of it is about what was drawn."""
    head = heads.get(name)
    if head is None or not head.layers or array.dtype.kind not in "fiu":
        return array
    if array.dtype.kind != "f":
        return array
    return head.invert(array.astype(np.float64)).astype(array.dtype)
