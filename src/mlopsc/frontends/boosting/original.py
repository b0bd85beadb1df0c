"""A boosted model with what runs it in its framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc._version import __version__
from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array, CannotRun, Exported, LoadOptions, Original, RawInput
from mlopsc.frontends.boosting import write
from mlopsc.frontends.boosting.forest import MEMBER, Ensemble, Split
from mlopsc.frontends.tree_inputs import Splits, draw_around
from mlopsc.schema.export import MODEL_FILE
from mlopsc.schema.lineage import Framework

_LARGE = 1e30  # thresholds beyond this tell NaN from numbers, and are no place to draw around
_TIE = 1e-6
_TRIES = 8
Answer = Callable[[Array], dict[str, Array]]


@contextmanager
def fitted(model: object) -> Iterator[None]:
    """Turn what a framework raises when it is asked for its trees into one error.

    Raises:
        SourceError: ``model`` is not fitted.
    """
    try:
        yield
    except Exception as error:  # each framework has classes of its own
        text = " ".join(str(error).partition("Stack trace")[0].split())  # XGBoost's, of C++
        raise SourceError(
            f"this {type(model).__name__} is not fitted: {text[:200]}; expected a fitted model",
            hint="call fit before it is imported",
        ) from error


class Boosted(Original):
    """See the module's docstring.

    Attributes:
        ensemble: What it is.
    """

    def __init__(self, ensemble: Ensemble, version: str, answer: Answer | str) -> None:
        """Take a model.

        Args:
            ensemble: What was read, checked.
            version: Name and version of the framework that runs it.
            answer: Computes the outputs of the graph, by name, from a matrix of features; or why
                nothing does.
        """
        self.ensemble = ensemble
        self._answer = answer
        self._splits: dict[int, Splits] | None = None
        self.version = version
        self.written_by = ensemble.written_by
        self.configuration = ensemble.configuration
        name, _, number = ensemble.written_by.partition(" ")
        if name:  # as lineage.yaml calls it: the distribution's name
            number = number if number[:1].isdigit() else ""
            self.frameworks = (Framework(name=name.lower(), version=number),)

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        del options
        model = write.to_model(self.ensemble)
        (folder / MODEL_FILE).write_bytes(model.SerializeToString())
        return Exported(
            folder / MODEL_FILE, notes=self.ensemble.notes, converter=f"mlopsc {__version__}"
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        if isinstance(self._answer, str):
            raise CannotRun(self._answer)
        (x,) = inputs.values()
        try:
            return self._answer(x)
        except Exception as error:  # frameworks raise whatever comes
            text = " ".join(str(error).split())
            raise CannotRun(
                f"{self.version} fails: {type(error).__name__}: {text[:300]}"
            ) from error

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """See ``Original.draw``: around thresholds, among categories, with missing values.

        Where two classes are as likely, rounding chooses; that is no place to compare labels.
        """
        if self._splits is None:
            self._splits = _splits(self.ensemble)
        for _ in range(_TRIES):
            drawn = draw_around(rng, {write.INPUT: self._splits}, inputs, last=last)
            if not self._is_undecided(drawn[write.INPUT]):
                break
        return drawn

    def _is_undecided(self, x: Array) -> bool:
        if self.ensemble.labels is None or isinstance(self._answer, str):
            return False
        try:
            rows = self._answer(x)[write.PROBABILITIES]
        except Exception:  # ``run`` meets the same, and says so
            return False
        if self.ensemble.many:
            return bool((np.abs(rows - 0.5) < _TIE).any())
        ordered = np.sort(rows, axis=1)
        return bool((ordered[:, -1] - ordered[:, -2] < _TIE).any())


def outputs_of(ensemble: Ensemble, answer: Any, labels: Any = None) -> dict[str, Array]:
    """Return what a framework predicts as the graph gives it.

    Args:
        ensemble: The model.
        answer: The prediction; of a classifier the probabilities, those of the second class alone
            if there are two.
        labels: The label that the framework chose; the likeliest if it chooses none.
    """
    values = np.asarray(answer)
    if ensemble.labels is None:
        return {write.PREDICTION: values.reshape(-1, ensemble.targets)}
    rows = values.reshape(len(values), -1)
    if ensemble.many:
        chosen: Array = (rows > 0.5).astype(np.int64)
    else:
        if rows.shape[1] == 1:
            rows = np.hstack([1 - rows, rows])
        places = rows.argmax(axis=1)
        if rows.shape[1] == 2:
            places = (rows[:, 1] > 0.5).astype(np.int64)
        chosen = np.array(ensemble.labels)[places]
    return {
        write.LABEL: chosen if labels is None else np.asarray(labels).reshape(chosen.shape),
        write.PROBABILITIES: rows,
    }


def _splits(ensemble: Ensemble) -> dict[int, Splits]:
    """Return what the trees compare each feature with."""
    found: dict[int, Splits] = {}
    for tree in ensemble.trees:
        for _, node in tree.reached():
            if not isinstance(node, Split):
                continue
            splits = found.setdefault(node.feature, Splits(missing=True))
            if node.mode == MEMBER:
                splits.categories.update(node.members)
            elif abs(node.threshold) < _LARGE:
                splits.thresholds.add(node.threshold)
    for feature in ensemble.zero_is_missing:
        found.setdefault(feature, Splits(missing=True)).thresholds.add(0.0)
    return found
