"""Frontend *catboost*: models that CatBoost saves as ``.cbm`` or JSON, from any language.

JSON is read here, without CatBoost; ``.cbm`` is turned into JSON by CatBoost.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.base import (
    Array,
    LoadOptions,
    Original,
    require_modules,
    type_names,
    versions_of,
)
from mlopsc.frontends.boosting import catboost_model, forest
from mlopsc.frontends.boosting.forest import Ensemble, read_checked
from mlopsc.frontends.boosting.original import Boosted, fitted, outputs_of
from mlopsc.frontends.content import Content

TITLE = "CatBoost"
EXTRA = "catboost"
MODULES: tuple[str, ...] = ()
_MAGIC: Final = b"CBM1"
_JSON: Final = re.compile(r'\s*\{\s*"(ctr_data|features_info)"\s*:')
_ABSENT: Final = "CatBoost is not installed here: pip install 'mlopsc[catboost]'"


def recognise(content: Content) -> str | None:
    """Return what it is: by the magic of ``.cbm``, or by the first key of the JSON."""
    if content.head.startswith(_MAGIC):
        return "CatBoost model (cbm)"
    return "CatBoost model (JSON)" if _JSON.match(content.text) else None


def load(path: Path, options: LoadOptions) -> Original:
    """Read a model, and load it in CatBoost if that is there.

    Raises:
        SourceError: It is damaged.
        ConversionError: It holds what cannot be exported.
        MissingToolError: It is a ``.cbm``, and CatBoost is not there.
    """
    del options
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        ensemble = read_checked(path, TITLE, lambda: catboost_model.read(data))
        if importlib.util.find_spec("catboost") is None:
            return Boosted(ensemble, TITLE, _ABSENT)
        return _original(ensemble, _load(path, "json"))
    require_modules(("catboost",), TITLE, EXTRA)
    size = int.from_bytes(data[4:8], "little")
    if size + 8 > len(data):
        raise SourceError(
            f"'{path}' is cut off: its model takes {size} bytes, {len(data) - 8} are there"
        )
    return _read(path, _load(path, "cbm"))


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return an estimator that is in memory; ``example`` is not needed.

    Raises:
        SourceError: It is not fitted.
        ConversionError: It holds what cannot be exported.
    """
    del example, options
    return _read(None, model) if "catboost.core.CatBoost" in type_names(model) else None


def _load(path: Path, form: str) -> Any:
    from catboost import CatBoost

    model = CatBoost()
    try:
        model.load_model(str(path), format=form)
    except Exception as error:  # it raises whatever comes
        text = " ".join(str(error).split())
        raise SourceError(f"'{path}' cannot be loaded by CatBoost: {text[:300]}") from error
    return model


def _read(path: Path | None, model: Any) -> Boosted:
    """Return a model that CatBoost has loaded."""
    with fitted(model):
        categories = model.get_cat_feature_indices()
    if categories:
        catboost_model.refuse_features(catboost_model.CATEGORIES)
    with tempfile.TemporaryDirectory(prefix="mlopsc-catboost-") as folder:
        file = Path(folder) / "model.json"
        try:
            model.save_model(str(file), format="json")
        except Exception as error:  # it raises whatever comes
            text = " ".join(str(error).split())
            what = "the model" if path is None else f"'{path}'"
            raise ConversionError(
                f"{versions_of('catboost')} cannot write {what} as JSON: {text[:300]}"
            ) from error
        data = file.read_bytes()
    ensemble = read_checked(path, TITLE, lambda: catboost_model.read(data))
    return _original(ensemble, model)


def _original(ensemble: Ensemble, model: Any) -> Boosted:
    def answer(x: Array) -> dict[str, Array]:
        return _predict(ensemble, model, x)

    return Boosted(ensemble, versions_of("catboost"), answer)


def _predict(ensemble: Ensemble, model: Any, x: Array) -> dict[str, Array]:
    if ensemble.labels is None:
        kind = "Exponent" if ensemble.link == forest.EXP else "RawFormulaVal"
        return outputs_of(ensemble, model.predict(x, prediction_type=kind))
    # CatBoost rather than the subclasses: they have other parameters.
    chances = model.predict(x, prediction_type="Probability")
    if ensemble.many:
        return outputs_of(ensemble, chances)
    return outputs_of(ensemble, chances, model.predict(x, prediction_type="Class"))
