"""Which inputs the graphs have: one matrix, or one column each where types or transformers differ.

Types and names come from what the model was fitted on: encoders know their categories, estimators
the names of a DataFrame's columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError
from mlopsc.frontends.base import CannotRun

Array = np.ndarray[Any, Any]
FLOAT: Final = "float"  # float32 or float64, as the graphs compute
MATRIX: Final = "X"
PASSED: Final = "passthrough"
DROPPED: Final = "drop"


@dataclass(frozen=True)
class Column:
    """A feature of the model.

    Attributes:
        label: What the model calls it: a name of a DataFrame's column, or its number.
        name: Of the graph's input, an identifier.
        kind: ``FLOAT``, ``int64`` or ``string``.
        used: Whether the model looks at it; a ColumnTransformer drops columns.
    """

    label: str | int
    name: str
    kind: str
    used: bool = True


@dataclass(frozen=True)
class Inputs:
    """All features.

    Attributes:
        columns: In the order of the model.
        matrix: Whether they are one input, named ``MATRIX``; otherwise each is one.
        named: Whether the model knows their names.
    """

    columns: tuple[Column, ...]
    matrix: bool
    named: bool

    def types(self, wide: bool) -> list[tuple[str, Any]]:
        """Return names and types as skl2onnx takes them; ``wide`` makes floats float64.

        Columns have the names that the model knows them by, which it looks them up by.
        """
        from skl2onnx.common import data_types

        kinds = {
            FLOAT: data_types.DoubleTensorType if wide else data_types.FloatTensorType,
            "int64": data_types.Int64TensorType,
            "string": data_types.StringTensorType,
        }
        if self.matrix:
            return [(MATRIX, kinds[self.columns[0].kind]([None, len(self.columns)]))]
        return [(str(c.label), kinds[c.kind]([None, 1])) for c in self.columns]

    def names(self) -> list[str | None]:
        """Return the names of the graph's inputs, in the order of ``types``; None is no input."""
        return [MATRIX] if self.matrix else [c.name if c.used else None for c in self.columns]

    def another(self, name: str) -> str:
        """Return a name like ``name`` that no input has."""
        while name in self.names():
            name += "_"
        return name

    def table(self, inputs: Mapping[str, Array]) -> Any:
        """Return what the model takes: float64 as scikit-learn computes, or a DataFrame.

        Raises:
            CannotRun: It must be a DataFrame, and pandas is not there.
        """
        if self.matrix:
            array = inputs[MATRIX]
            wide = array.astype(np.float64) if array.dtype.kind == "f" else array
            rows = wide.astype(object) if wide.dtype.kind in "US" else wide
            return self._frame(dict(enumerate(rows.T))) if self.named else rows
        values = {}
        count = max(np.size(array) for array in inputs.values())
        for place, column in enumerate(self.columns):
            array = np.asarray(inputs[column.name] if column.used else [0] * count).reshape(-1)
            if column.kind == FLOAT:
                array = array.astype(np.float64)
            values[place] = array.astype(object) if array.dtype.kind in "US" else array
        return self._frame(values)

    def _frame(self, values: Mapping[int, Array]) -> Any:
        try:
            import pandas
        except ImportError:
            raise CannotRun(
                "the model was fitted on a DataFrame, and pandas is not installed"
            ) from None
        frame = pandas.DataFrame(dict(values))
        frame.columns = [column.label for column in self.columns]
        return frame


def find_inputs(model: Any, example: Any, outputs: Sequence[str] = ()) -> Inputs:
    """Return the features of a fitted model.

    Args:
        model: An estimator.
        example: An array or a DataFrame like those it was fitted on, or None.
        outputs: Names that no column may have.

    Raises:
        SourceError: The model is not fitted, or ``example`` has another number of columns.
    """
    names = _names(model)
    count = _count(model, names)
    if example is not None and np.ndim(example) == 2 and np.shape(example)[1] != count:
        raise SourceError(
            f"the example has {np.shape(example)[1]} columns; the model was fitted on {count}",
            hint="give an example with the columns that the model was fitted on",
        )
    labels: list[str | int] = [str(n) for n in names] if names is not None else list(range(count))
    kinds = [FLOAT] * count
    used: set[int] = set()
    for step, columns in first_steps(model, labels):
        used.update(columns)
        if step == PASSED:
            continue
        for place, kind in zip(columns, kinds_of(step, len(columns)), strict=True):
            kinds[place] = kind
    _refine(kinds, example)
    given = tuple(
        Column(label, name, kind, place in used)
        for place, (label, name, kind) in enumerate(
            zip(labels, _identifiers(labels, outputs), kinds, strict=True)
        )
    )
    split = has_column_transformer(model) and names is not None
    return Inputs(given, matrix=len(set(kinds)) == 1 and not split, named=names is not None)


def first_steps(model: Any, labels: Sequence[str | int]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the estimators that meet the features first, each with the places of its columns.

    ``PASSED`` stands for none; columns that are dropped are not among them.
    """
    kind = type(model).__name__
    if kind == "Pipeline":
        steps = [step for _, step in model.steps if step not in (None, PASSED)]
        yield from first_steps(steps[0] if steps else PASSED, labels)
    elif kind == "ColumnTransformer":
        for _, step, columns in model.transformers_:
            places = _places(columns, labels)
            if step == DROPPED or not places:
                continue
            for inner, inside in first_steps(step, [labels[i] for i in places]):
                yield inner, [places[i] for i in inside]
    elif kind == "FeatureUnion":
        for _, step in model.transformer_list:
            if step != DROPPED:
                yield from first_steps(step, labels)
    else:
        yield model, list(range(len(labels)))


def has_column_transformer(model: Any) -> bool:
    """Whether a ColumnTransformer meets the features first."""
    if type(model).__name__ == "Pipeline":
        return bool(model.steps) and has_column_transformer(model.steps[0][1])
    return type(model).__name__ == "ColumnTransformer"


def kinds_of(step: Any, count: int) -> list[str]:
    """Return the kinds of the columns of one estimator."""
    categories = getattr(step, "categories_", None)
    if type(step).__name__.endswith("Encoder") and isinstance(categories, list):
        return [_kind(values) for values in categories]
    statistics = getattr(step, "statistics_", None)
    if statistics is not None and any(isinstance(value, str) for value in statistics):
        return ["string"] * count
    return [FLOAT] * count


def _kind(values: Any) -> str:
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        known = [v for v in array.tolist() if v is not None and v == v]
        if all(isinstance(v, (bool, int)) for v in known):
            return "int64"
        return "string" if any(isinstance(v, str) for v in known) else FLOAT
    return "int64" if array.dtype.kind in "iub" else FLOAT


def _refine(kinds: list[str], example: Any) -> None:
    """Take the kinds of columns of strings from an example."""
    dtypes = getattr(example, "dtypes", None)
    if dtypes is None or not hasattr(dtypes, "items"):
        return
    for place, dtype in enumerate(dtypes):
        strings = str(dtype) in ("object", "string", "str", "category")
        if strings and kinds[place] == FLOAT:
            values = np.asarray(example.iloc[:, place])
            kinds[place] = "string" if any(isinstance(v, str) for v in values) else FLOAT


def _names(model: Any) -> list[Any] | None:
    for part in _chain(model):
        names = getattr(part, "feature_names_in_", None)
        if names is not None:
            return list(names)
    return None


def _count(model: Any, names: list[Any] | None) -> int:
    if names is not None:
        return len(names)
    for part in _chain(model):
        count = getattr(part, "n_features_in_", None)
        if count is not None:
            return int(count)
    raise SourceError(
        f"this {type(model).__name__} is not fitted: it does not know its features; expected a "
        "fitted model",
        hint="call fit before it is saved",
    )


def _chain(model: Any) -> Iterator[Any]:
    yield model
    for _, step in getattr(model, "steps", ()):
        yield step


def _places(columns: Any, labels: Sequence[str | int]) -> list[int]:
    """Return the places of columns that a ColumnTransformer has chosen."""
    if isinstance(columns, slice):
        return list(range(len(labels)))[columns]
    if isinstance(columns, (str, int, np.integer)):
        columns = [columns]
    chosen = list(columns)
    if chosen and all(isinstance(c, (bool, np.bool_)) for c in chosen):
        return [place for place, yes in enumerate(chosen) if yes]
    return [labels.index(c) if isinstance(c, str) else int(c) for c in chosen]


def _identifiers(labels: Sequence[str | int], others: Sequence[str]) -> list[str]:
    """Return a C identifier for each label, all different and none of ``others``.

    A label that may be one stays as it is, whatever the others are.
    """
    names = []
    for label in labels:
        name = re.sub(r"\W", "_", f"x{label}" if isinstance(label, int) else label, flags=re.A)
        names.append(name if re.match(r"[A-Za-z]", name) else f"x{name}")
    taken = set(others)
    stay = [name == label and name not in taken for name, label in zip(names, labels, strict=True)]
    for place in sorted(range(len(names)), key=lambda place: not stay[place]):
        while names[place] in taken:
            names[place] += "_"
        taken.add(names[place])
    return names
