"""Draws inputs like those a model was fitted on, as far as it still knows them.

Scalers know means and ranges, encoders their categories, trees their thresholds, neighbours and
support vectors are samples themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from mlopsc.drawing import draw_array
from mlopsc.errors import SourceError
from mlopsc.frontends.base import RawInput
from mlopsc.frontends.sklearn.columns import FLOAT, MATRIX, Column, Inputs, first_steps, kinds_of
from mlopsc.frontends.tree_inputs import Splits, draw_value, read_splits

Array = np.ndarray[Any, Any]
_UNKNOWN = "something else"


@dataclass(frozen=True)
class _Values:
    """What one column may hold.

    Attributes:
        known: Values that occur; None if any number in the range does.
        low: Of the range.
        high: Of the range.
        unknown: Whether other values are allowed.
        missing: Whether NaN is.
        counts: Whether only whole numbers make sense.
    """

    known: Array | None = None
    low: float = 0.0
    high: float = 0.0
    unknown: bool = False
    missing: bool = False
    counts: bool = False

    def draw(self, rng: np.random.Generator, kind: str, missing: bool) -> Any:
        if self.missing and missing and kind == FLOAT and rng.random() < 0.2:
            return np.nan
        if self.known is None:
            value = rng.uniform(self.low, self.high)
            return np.floor(value) if self.counts else value
        if self.unknown and rng.random() < 0.15:
            numbers = kind != "string"
            return max(float(v) for v in self.known if v == v) + 7 if numbers else _UNKNOWN
        return rng.choice(self.known)


class Drawing:
    """Where inputs of one model come from.

    Attributes:
        missing: Whether NaN may be drawn where a model seems to know what to do with it.
    """

    def __init__(self, model: Any, inputs: Inputs, example: Any) -> None:
        """Look for what the model knows of its features.

        Args:
            model: Fitted.
            inputs: Its features.
            example: Rows that are like those it was fitted on, or None.

        Raises:
            SourceError: They hold something else than numbers where there must be some.
        """
        self.missing = True
        self._inputs = inputs
        self._splits: dict[str, dict[int, Splits]] = {}
        self._values: dict[int, _Values] = {}
        self._rows = _rows(model, inputs, example)
        labels = [column.label for column in inputs.columns]
        for step, places in first_steps(model, labels):
            found = _values_of(step, len(places))
            self._values.update(
                {place: one for place, one in zip(places, found, strict=True) if one is not None}
            )

    def look_at(self, graphs: Sequence[onnx.ModelProto]) -> None:
        """Take the thresholds of trees that read the graphs' inputs."""
        self._splits = read_splits(graphs[0])

    def draw(self, rng: np.random.Generator, inputs: Sequence[RawInput]) -> dict[str, Array]:
        """Return inputs for one run."""
        names = {c.name: place for place, c in enumerate(self._inputs.columns)}
        drawn = {}
        for one in inputs:
            matrix = one.name == MATRIX and self._inputs.matrix
            places = list(range(one.shape[-1])) if matrix else [names[one.name]]
            kinds = np.dtype(object if one.dtype == "string" else one.dtype)
            rows = np.zeros((int(np.prod(one.shape)) // len(places), len(places)), kinds)
            for row in rows:
                row[:] = self._draw_row(rng, one, places)
            strings = rows.astype(str) if one.dtype == "string" else rows
            drawn[one.name] = strings.reshape(one.shape)
        return drawn

    def _draw_row(
        self, rng: np.random.Generator, one: RawInput, places: Sequence[int]
    ) -> list[Any]:
        if self._rows is not None and rng.random() < 0.5:
            row = self._rows[rng.integers(len(self._rows))]
            noise = rng.choice([0.0, 0.01, 0.1])
            return [
                value * (1 + noise * rng.standard_normal()) if isinstance(value, float) else value
                for value in (row[place] for place in places)
            ]
        found = []
        for column, place in enumerate(places):
            splits = self._splits.get(one.name, {}).get(column)
            values = self._values.get(place)
            if splits is not None:
                splits.missing &= self.missing
                found.append(draw_value(rng, splits, np.dtype(one.dtype)))
            elif values is not None:
                found.append(values.draw(rng, self._inputs.columns[place].kind, self.missing))
            elif one.dtype == "string":
                found.append(_UNKNOWN)
            else:
                found.append(draw_array(rng, one.dtype, ()).item())
        return found


def _rows(model: Any, inputs: Inputs, example: Any) -> Any:
    """Return samples that are known: given, or kept by the model."""
    if example is not None and np.ndim(example) == 2 and len(example):
        rows = np.asarray(example, object)[:1000]
        return [
            [_given(column, value) for column, value in zip(inputs.columns, row, strict=True)]
            for row in rows
        ]
    for name in ("_fit_X", "support_vectors_", "cluster_centers_"):
        kept = getattr(model, name, None)
        if isinstance(kept, np.ndarray) and kept.ndim == 2 and len(kept):
            return kept[:1000].astype(float).tolist()
    return None


def _given(column: Column, value: Any) -> Any:
    """Return a value of an example as the graphs take it."""
    if column.kind != FLOAT or not column.used:
        return value
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"the example has {value!r} in column {column.label!r}; expected a number",
            hint="give an example with rows like those that the model was fitted on",
        ) from error


def _values_of(step: Any, count: int) -> list[_Values | None]:
    """Return what an estimator knows of the columns that it meets."""
    kind = type(step).__name__
    categories = getattr(step, "categories_", None)
    if kind.endswith("Encoder") and isinstance(categories, list):
        lenient = getattr(step, "handle_unknown", "error") != "error"
        return [_Values(_known(values), unknown=lenient) for values in categories]
    if kind == "SimpleImputer" and "string" in kinds_of(step, count):
        return [_Values(np.asarray([value])) for value in step.statistics_]
    spans = _spans(step, kind)
    if spans is None:
        return [None] * count
    missing = kind in ("SimpleImputer", "KNNImputer")
    counts = kind in ("MultinomialNB", "ComplementNB", "BernoulliNB")
    return [
        _Values(low=float(a), high=float(b), missing=missing, counts=counts)
        for a, b in zip(*spans, strict=True)
    ]


def _known(values: Any) -> Array:
    known = [v for v in np.asarray(values).tolist() if v is not None and v == v]
    return np.asarray(known, dtype=object)


def _spans(step: Any, kind: str) -> tuple[Array, Array] | None:
    """Return least and largest values to draw, or None if nothing is known."""
    if kind == "StandardScaler":
        mean = np.zeros(step.n_features_in_) if step.mean_ is None else step.mean_
        scale = np.ones(step.n_features_in_) if step.scale_ is None else step.scale_
        return mean - 2.5 * scale, mean + 2.5 * scale
    if kind == "RobustScaler":
        center = np.zeros(step.n_features_in_) if step.center_ is None else step.center_
        scale = np.ones(step.n_features_in_) if step.scale_ is None else step.scale_
        return center - 2 * scale, center + 2 * scale
    if kind == "MinMaxScaler":
        beyond = 0.1 * (step.data_max_ - step.data_min_)
        return step.data_min_ - beyond, step.data_max_ + beyond
    if kind == "MaxAbsScaler":
        return -step.max_abs_, step.max_abs_
    if kind == "SimpleImputer":
        middle = step.statistics_.astype(float)
        return middle - np.abs(middle) - 1, middle + np.abs(middle) + 1
    if kind == "KNNImputer":
        rows = np.nan_to_num(step._fit_X)
        return rows.min(axis=0), rows.max(axis=0)
    if kind == "KBinsDiscretizer":
        edges = [(e[0], e[-1]) for e in step.bin_edges_]
        return np.asarray([a for a, _ in edges]), np.asarray([b for _, b in edges])
    if kind == "GaussianNB":
        spread = 2 * np.sqrt(step.var_.max(axis=0))
        return step.theta_.min(axis=0) - spread, step.theta_.max(axis=0) + spread
    if kind in ("MultinomialNB", "ComplementNB", "BernoulliNB"):
        width = step.feature_count_.shape[1]
        return np.zeros(width), np.full(width, 2.0 if kind == "BernoulliNB" else 8.0)
    if kind == "PowerTransformer" and step.standardize:
        return step.inverse_transform([[-2.0] * len(step.lambdas_)])[0], step.inverse_transform(
            [[2.0] * len(step.lambdas_)]
        )[0]
    if kind == "PCA":
        spread = 2 * np.sqrt((step.components_**2 * step.explained_variance_[:, None]).sum(axis=0))
        return step.mean_ - spread, step.mean_ + spread
    return None
