"""Draws inputs around the comparisons that trees make, as exported to ONNX.

Standard normal inputs take few paths through a tree whose feature runs from 4 to 8, and never meet
a value that equals a threshold, where an exporter that rounds goes wrong. Here each feature gets
values at its thresholds, just beside them, and between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlopsc.drawing import draw_array
from mlopsc.frontends.base import RawInput

Array = np.ndarray[Any, Any]
_TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble")
_PASSES = ("Cast", "Identity")  # what leaves features where they are
_LEAF = "LEAF"
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
          "BRANCH_MEMBER")  # fmt: skip


@dataclass
class Splits:
    """What trees compare one feature with.

    Attributes:
        thresholds: Of ``<=`` and its like.
        categories: Of ``==`` and of membership.
        missing: Whether a tree sends NaN another way than its comparison would.
    """

    thresholds: set[float] = field(default_factory=set)
    categories: set[float] = field(default_factory=set)
    missing: bool = False


def read_splits(model: onnx.ModelProto) -> dict[str, dict[int, Splits]]:
    """Return what the trees of ``model`` compare its inputs with: by input, by column.

    Only what reaches a tree as it came counts: behind a scaler, a threshold is of another scale.
    """
    graph = model.graph
    inputs = {value.name: _columns(value) for value in graph.input}
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, dict[int, Splits]] = {}
    for node in graph.node:
        if node.op_type not in _TREES:
            continue
        places = _places(node.input[0], makers, inputs)
        if places is None:
            continue
        for feature, mode, values, missing in _comparisons(node):
            if feature >= len(places):
                continue
            name, column = places[feature]
            splits = found.setdefault(name, {}).setdefault(column, Splits())
            exact = mode in ("BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
            (splits.categories if exact else splits.thresholds).update(values)
            splits.missing |= missing
    return found


def draw_around(
    rng: np.random.Generator,
    found: Mapping[str, Mapping[int, Splits]],
    inputs: Sequence[RawInput],
    *,
    last: bool = False,
) -> dict[str, Array]:
    """Return inputs for one run; what no tree compares is drawn as always.

    Args:
        rng: Where randomness comes from.
        found: As ``read_splits`` gives it.
        inputs: The signature; columns are the last axis.
        last: As for ``Original.draw``.
    """
    drawn = {}
    for one in inputs:
        array = draw_array(rng, one.dtype, one.shape, last=last) if one.dtype != "string" else None
        if array is None:
            continue
        rows = array.reshape(-1, one.shape[-1] if one.shape else 1)
        for column, splits in found.get(one.name, {}).items():
            rows[:, column] = [draw_value(rng, splits, rows.dtype) for _ in range(len(rows))]
        drawn[one.name] = rows.reshape(one.shape)
    return drawn


def draw_value(rng: np.random.Generator, splits: Splits, dtype: np.dtype[Any]) -> Any:
    """Return one value of a feature, of type ``dtype``."""
    is_float = dtype.kind == "f"
    if splits.missing and is_float and rng.random() < 0.15:
        return dtype.type(np.nan)
    if splits.categories and (not splits.thresholds or rng.random() < 0.5):
        value = float(rng.choice(sorted(splits.categories)))
        return dtype.type(value + (0 if rng.random() < 0.8 else 1))
    known = np.asarray(sorted(t for t in splits.thresholds if np.isfinite(t)))
    if not known.size:
        return dtype.type(rng.standard_normal() if is_float else rng.integers(0, 2))
    choice, threshold = rng.random(), float(rng.choice(known))
    if choice < 0.4:  # at the threshold, or the next number on either side
        if not is_float:
            return dtype.type(np.floor(threshold) + rng.integers(0, 2))
        near = dtype.type(threshold)
        toward = rng.choice([-np.inf, 0.0, np.inf])
        return near if toward == 0 else np.nextafter(near, dtype.type(toward))
    # between thresholds, and somewhat beyond the outermost
    spread = float(known[-1] - known[0]) or abs(threshold) or 1.0
    return dtype.type(rng.uniform(known[0] - 0.2 * spread, known[-1] + 0.2 * spread))


def _columns(value: onnx.ValueInfoProto) -> int:
    """Return the size of the last axis; 1 for a vector."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if len(dims) > 1 else 1


def _places(
    name: str, makers: Mapping[str, onnx.NodeProto], inputs: Mapping[str, int]
) -> list[tuple[str, int]] | None:
    """Return from which input and column each column of tensor ``name`` comes."""
    if name in inputs:
        return [(name, column) for column in range(inputs[name])]
    node = makers.get(name)
    if node is not None and node.op_type in _PASSES:
        return _places(node.input[0], makers, inputs)
    if node is None or node.op_type != "Concat":
        return None
    parts = [_places(part, makers, inputs) for part in node.input]
    return [place for part in parts if part for place in part] if all(parts) else None


def _comparisons(node: onnx.NodeProto) -> Iterator[tuple[int, str, tuple[float, ...], bool]]:
    """Yield of each comparison the feature, the mode, what it compares with, where NaN goes."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    features = attributes.get("nodes_featureids", ())
    missing = attributes.get("nodes_missing_value_tracks_true") or [0] * len(features)
    if node.op_type == "TreeEnsemble":
        modes = [_MODES[int(code)] for code in numpy_helper.to_array(attributes["nodes_modes"])]
        values = numpy_helper.to_array(attributes["nodes_splits"])
        members = _member_sets(attributes)
    else:
        modes = [mode.decode() for mode in attributes["nodes_modes"]]
        tensor = attributes.get("nodes_values_as_tensor")
        found = attributes.get("nodes_values", ())
        values = np.asarray(found) if tensor is None else numpy_helper.to_array(tensor)
        members = iter(())
    for feature, mode, value, to_true in zip(features, modes, values, missing, strict=True):
        if mode == _LEAF:
            continue
        against = next(members, ()) if mode == "BRANCH_MEMBER" else (float(value),)
        yield int(feature), mode, against, bool(to_true)


def _member_sets(attributes: Mapping[str, Any]) -> Iterator[tuple[float, ...]]:
    """Yield the sets of BRANCH_MEMBER in the order of their nodes; NaN ends each."""
    tensor = attributes.get("membership_values")
    members: list[float] = []
    for value in () if tensor is None else numpy_helper.to_array(tensor):
        if np.isnan(value):
            yield tuple(members)
            members = []
        else:
            members.append(float(value))
