"""Divides a model into preprocessing and the rest, and says in words what each step does."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

# Steps that prepare features rather than being fitted to the answer.
_PREPARES: Final = {
    "Binarizer", "ColumnTransformer", "FeatureUnion", "FunctionTransformer", "IterativeImputer",
    "KBinsDiscretizer", "KNNImputer", "MaxAbsScaler", "MinMaxScaler", "MissingIndicator",
    "Normalizer", "OneHotEncoder", "OrdinalEncoder", "PolynomialFeatures", "PowerTransformer",
    "QuantileTransformer", "RobustScaler", "SimpleImputer", "SplineTransformer", "StandardScaler",
    "TargetEncoder", "VarianceThreshold",
}  # fmt: skip


def unwrap(model: Any) -> Any:
    """Return what a search over parameters has found, or ``model``."""
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    return model


def divide(model: Any) -> tuple[Any | None, Any]:
    """Return the preprocessing at the head of a Pipeline, or None, and what follows it."""
    if type(model).__name__ != "Pipeline":
        return None, model
    from sklearn.pipeline import Pipeline

    steps = [(name, step) for name, step in model.steps if step not in (None, "passthrough")]
    count = 0
    while count < len(steps) - 1 and _prepares(steps[count][1]):
        count += 1
    if not count:
        return None, model
    head, rest = steps[:count], steps[count:]
    return (
        head[0][1] if len(head) == 1 else Pipeline(head),
        rest[0][1] if len(rest) == 1 else Pipeline(rest),
    )


def _prepares(step: Any) -> bool:
    if type(step).__name__ == "Pipeline":
        return all(_prepares(inner) for _, inner in step.steps)
    return type(step).__name__ in _PREPARES


def final(model: Any) -> Any:
    """Return the estimator that answers."""
    while type(model).__name__ == "Pipeline":
        model = model.steps[-1][1]
    return model


def in_words(step: Any, columns: int | None = None) -> list[str]:
    """Return a phrase for each step, such as ``StandardScaler of 4 features``."""
    kind = type(step).__name__
    if kind == "Pipeline":
        return [phrase for _, inner in step.steps for phrase in in_words(inner, columns)]
    if kind == "ColumnTransformer":
        found = []
        for _, inner, chosen in step.transformers_:
            if inner == "drop" or (isinstance(chosen, (list, np.ndarray)) and not len(chosen)):
                continue
            where = _where(chosen)
            phrases = ["passed through"] if isinstance(inner, str) else _parts(inner)
            found += [f"{phrase}{where}" for phrase in phrases]
        return found
    if kind == "FeatureUnion":
        return [phrase for _, inner in step.transformer_list for phrase in in_words(inner)]
    return [phrase + f" of {_features(step)}" for phrase in _parts(step)]


def _parts(step: Any) -> list[str]:
    if type(step).__name__ == "Pipeline":
        return [phrase for _, inner in step.steps for phrase in _parts(inner)]
    kind = type(step).__name__
    if kind == "FunctionTransformer" and step.func is None:
        return ["passed through"]
    if kind == "SimpleImputer":
        return [f"SimpleImputer ({step.strategy})"]
    if kind in ("OneHotEncoder", "OrdinalEncoder"):
        return [f"{kind} with {sum(len(c) for c in step.categories_)} categories"]
    return [kind]


def _features(step: Any) -> str:
    count = getattr(step, "n_features_in_", None)
    return "its features" if count is None else f"{count} feature{'s' if count != 1 else ''}"


def _where(chosen: Any) -> str:
    if isinstance(chosen, (str, int)):
        return f" of {chosen}"
    if isinstance(chosen, slice):
        return " of a range of columns"
    names = [str(one) for one in chosen]
    shown = ", ".join(names[:4])
    return f" of {shown}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")
