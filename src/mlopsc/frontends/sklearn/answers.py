"""What a model answers, by kind: the names of the outputs and the methods that give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError

Array = np.ndarray[Any, Any]
FUNCTIONS: Final = ("predict_proba", "decision_function", "predict", "transform")


@dataclass(frozen=True)
class Answer:
    """An output of the graphs.

    Attributes:
        name: Of the output.
        method: Of the model, which computes it.
    """

    name: str
    method: str


def answers_of(model: Any, function: str | None) -> tuple[Answer, ...]:
    """Return what a fitted estimator answers.

    Args:
        model: The whole model.
        function: One of ``FUNCTIONS`` that the user asks for, or None for what is usual.

    Raises:
        SourceError: The model has no such function.
    """
    if function is not None and (function not in FUNCTIONS or not hasattr(model, function)):
        known = [name for name in FUNCTIONS if hasattr(model, name)]
        raise SourceError(
            f"the {type(model).__name__} has no function '{function}'; it has {', '.join(known)}",
            hint=f"--signature {known[0]}" if known else "import a model that predicts",
        )
    scores = {"predict_proba": "probabilities", "decision_function": "scores"}
    if hasattr(model, "predict") and function != "transform":
        if _is(model, "regressor"):
            return (Answer("prediction", "predict"),)
        label = Answer("label", "predict")
        if function == "predict":
            return (label,)
        if _is(model, "clusterer"):
            has = hasattr(model, "transform")
            return (label, Answer("distances", "transform")) if has else (label,)
        for method, name in scores.items():
            if function in (None, method) and hasattr(model, method):
                return (label, Answer(name, method))
        return (label,)
    if hasattr(model, "transform"):
        return (Answer("features", "transform"),)
    raise SourceError(
        f"the {type(model).__name__} neither predicts nor transforms",
        hint="import a model that does",
    )


def compute(model: Any, table: Any, answers: Sequence[Answer]) -> dict[str, Array]:
    """Return what the model answers to the rows of ``table``, by name."""
    found = {}
    for answer in answers:
        value = getattr(model, answer.method)(table)
        value = value.toarray() if hasattr(value, "toarray") else value
        array = np.asarray(value)
        if array.dtype.kind == "b" or (answer.name == "label" and array.dtype.kind == "f"):
            array = array.astype(np.int64)
        found[answer.name] = array
    return found


def undecided(answer: dict[str, Array], scale: float) -> bool:
    """Whether two classes are so near each other that rounding may choose between them.

    Classes that are exactly equal are decided: the first one wins. A lone score decides by its
    sign, so it is undecided below a hundredth of ``scale``: how large scores are.
    """
    if "label" not in answer or len(answer) == 1:
        return False
    (scores,) = (v for name, v in answer.items() if name != "label")
    rows = np.asarray(scores, np.float64).reshape(len(answer["label"]), -1)
    if rows.shape[1] == 1:
        return bool((np.abs(rows) < 1e-2 * scale).any())
    ordered = np.sort(rows, axis=1)
    gaps = np.minimum(ordered[:, -1] - ordered[:, -2], ordered[:, 1] - ordered[:, 0])
    return bool(((gaps > 0) & (gaps < 1e-5 * (np.abs(rows).max(axis=1) + 1e-30))).any())


def _is(model: Any, kind: str) -> bool:
    from sklearn import base

    return bool(getattr(base, f"is_{kind}")(model))
