"""Frontend *sklearn*: estimators and Pipelines of scikit-learn, in skops files or in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc.errors import SourceError, UnsafeSourceError
from mlopsc.frontends.base import Array, Exported, LoadOptions, Original, type_names, versions_of
from mlopsc.frontends.content import Content
from mlopsc.schema.export import MODEL_FILE

TITLE = "scikit-learn"
EXTRA = "sklearn"
MODULES = ("sklearn", "skops", "skl2onnx")


def recognise(content: Content) -> str | None:
    """Return what it is: a zip archive with the schema of skops."""
    return "scikit-learn model (skops)" if "schema.json" in content.members else None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a skops file.

    Raises:
        SourceError: It is damaged.
        UnsafeSourceError: It holds types that are not trusted.
    """
    from skops import io

    try:
        unknown = sorted(set(io.get_untrusted_types(file=path)) - set(options.trust))
        if unknown:
            raise UnsafeSourceError(
                f"'{path}' holds types that nobody vouches for: {', '.join(unknown)}",
                hint=f"if you trust them: {' '.join(f'--trust {name}' for name in unknown)}",
            )
        model = io.load(path, trusted=sorted(options.trust))
    except UnsafeSourceError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' cannot be read as a skops file: {type(error).__name__}: {text[:300]}"
        ) from error
    return Estimator(model)


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return an estimator that is in memory; ``example`` is not needed."""
    del example, options
    if "sklearn.base.BaseEstimator" not in type_names(model):
        return None
    return Estimator(model)


class Estimator(Original):
    """A fitted estimator."""

    def __init__(self, model: Any) -> None:
        """Take a fitted estimator."""
        self._model = model
        self.version = versions_of("scikit-learn")

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        features = int(self._model.n_features_in_)
        proto = to_onnx(
            self._model,
            initial_types=[("X", FloatTensorType([None, features]))],
            options={"zipmap": False} if hasattr(self._model, "classes_") else None,
        )
        self._outputs = [value.name for value in proto.graph.output]
        (folder / MODEL_FILE).write_bytes(proto.SerializeToString())
        return Exported(folder / MODEL_FILE, converter=versions_of("skl2onnx"))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        (features,) = inputs.values()
        answers = [self._model.predict(features)]
        if len(self._outputs) > 1:
            answers.append(self._model.predict_proba(features))
        return dict(zip(self._outputs, map(np.asarray, answers), strict=True))
