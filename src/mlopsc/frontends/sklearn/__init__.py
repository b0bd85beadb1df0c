"""Frontend *sklearn*: estimators and Pipelines of scikit-learn, in skops files or in memory.

Takes skops files whose types are trusted, never a pickle; gives ONNX files made with skl2onnx and
the converters of this package. See ``docs/frontends/sklearn.md``.
"""

from __future__ import annotations

from pathlib import Path

from mlopsc.errors import SourceError
from mlopsc.frontends.base import LoadOptions, Original, type_names
from mlopsc.frontends.content import Content

TITLE = "scikit-learn"
EXTRA = "sklearn"
_ELSEWHERE = ("catboost", "lightgbm", "xgboost")  # estimators that have frontends of their own
MODULES = ("sklearn", "skops", "skl2onnx")


def recognise(content: Content) -> str | None:
    """Return what it is: a zip archive with the schema of skops.

    Raises:
        SourceError: It is named so, and is none.
    """
    if "schema.json" in content.members:
        return "scikit-learn model (skops)"
    if content.suffix == ".skops" and not content.is_folder:
        raise SourceError(
            f"'{content.path}' is damaged: {content.describe()}; expected a zip archive with "
            "schema.json, as skops.io.dump writes it",
            hint="save the model again with skops.io.dump",
        )
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a skops file.

    Raises:
        SourceError: It is damaged.
        UnsafeSourceError: It holds types that are not trusted.
    """
    from mlopsc.frontends.sklearn.estimator import Estimator
    from mlopsc.frontends.sklearn.skops_file import read

    model, written_by = read(path, options.trust)
    return Estimator(model, None, options, written_by)


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return an estimator that is in memory.

    ``example`` is an array or a DataFrame like those it was fitted on, for names and types of
    columns; what the model knows of them itself needs none.
    """
    if "sklearn.base.BaseEstimator" not in type_names(model):
        return None
    if type(model).__module__.partition(".")[0] in _ELSEWHERE:
        return None
    from mlopsc.frontends.sklearn.estimator import Estimator

    return Estimator(model, example, options)
