"""Frontend *lightgbm*: models that LightGBM saves as text, whatever language wrote them.

Read here, without LightGBM; that is needed to run the original only.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array, LoadOptions, Original, type_names, versions_of
from mlopsc.frontends.boosting import lightgbm_model
from mlopsc.frontends.boosting.forest import Ensemble, read_checked
from mlopsc.frontends.boosting.labels import plain_labels
from mlopsc.frontends.boosting.original import Boosted, fitted, outputs_of
from mlopsc.frontends.content import Content

TITLE = "LightGBM"
EXTRA = "lightgbm"
MODULES: tuple[str, ...] = ()
_TEXT: Final = re.compile(r"tree\r?\nversion=(v\d+)\r?\n")
_DUMP: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"tree"\s*,\s*"version"\s*:')
_ABSENT: Final = "LightGBM is not installed here: pip install 'mlopsc[lightgbm]'"


def recognise(content: Content) -> str | None:
    """Return what it is: text with LightGBM's first two lines."""
    if found := _TEXT.match(content.text):
        return f"LightGBM model (text, {found[1]})"
    if _DUMP.match(content.text):
        raise SourceError(
            f"'{content.path}' is a dump of LightGBM (JSON), which LightGBM itself cannot load; "
            "expected a saved model",
            hint="save the model: booster.save_model('model.txt'), in R lgb.save(model, "
            "'model.txt')",
        )
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Read a model, and load it in LightGBM if that is there.

    Raises:
        SourceError: It is damaged.
        ConversionError: It holds what cannot be exported.
    """
    del options
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"'{path}' is not UTF-8: {error.reason}") from error
    return _read(path, text, None, None)


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a ``Booster`` or an estimator that is in memory; ``example`` is not needed.

    Raises:
        SourceError: It is not fitted.
        ConversionError: It holds what cannot be exported.
    """
    del example, options
    names = type_names(model)
    estimator: Any = model if "lightgbm.sklearn.LGBMModel" in names else None
    if estimator is None and "lightgbm.basic.Booster" not in names:
        return None
    with fitted(model):
        booster: Any = model if estimator is None else estimator.booster_
        text = booster.model_to_string()
    return _read(None, text, booster, estimator)


def _read(path: Path | None, text: str, booster: Any, estimator: Any) -> Boosted:
    ensemble = read_checked(path, TITLE, lambda: lightgbm_model.read(text))
    classes = getattr(estimator, "classes_", None)
    if classes is not None and ensemble.labels is not None:
        ensemble.labels = plain_labels(classes)
    if booster is None and importlib.util.find_spec("lightgbm") is None:
        return Boosted(ensemble, TITLE, _ABSENT)
    from lightgbm import Booster

    if booster is None:
        try:
            booster = Booster(model_str=lightgbm_model.without_sizes(text))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise SourceError(f"'{path}' cannot be loaded by LightGBM: {reason[:300]}") from error

    def answer(x: Array) -> dict[str, Array]:
        return _predict(ensemble, booster, estimator, x)

    return Boosted(ensemble, versions_of("lightgbm"), answer)


def _predict(ensemble: Ensemble, booster: Any, estimator: Any, x: Array) -> dict[str, Array]:
    labels = None
    if estimator is not None and ensemble.labels is not None:
        labels = estimator.predict(x, validate_features=False)
    return outputs_of(ensemble, booster.predict(x), labels)
