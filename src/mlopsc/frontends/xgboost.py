"""Frontend *xgboost*: models that XGBoost saves as JSON or UBJSON, whatever language wrote them.

Read here, without XGBoost; that is needed to run the original only.
"""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array, LoadOptions, Original, type_names, versions_of
from mlopsc.frontends.boosting import xgboost_model
from mlopsc.frontends.boosting.forest import Ensemble, read_checked
from mlopsc.frontends.boosting.original import Boosted, fitted, outputs_of
from mlopsc.frontends.content import Content

TITLE = "XGBoost"
EXTRA = "xgboost"
MODULES: tuple[str, ...] = ()
_JSON: Final = re.compile(r'\s*\{\s*("version"\s*:\s*\[[^\]]*\]\s*,\s*)?"learner"\s*:\s*\{')
_DUMP: Final = re.compile(r'\s*\[\s*\{\s*"(nodeid|leaf)"\s*:')
_UBJSON: Final = re.compile(rb"\{(L.{8}|[iU].|I..|l....)learner\{", re.DOTALL)
_OLD: Final = re.compile(rb"binf|bs64|CONFIG-offset:")
_OBJECTIVE: Final = re.compile(rb"(reg|binary|multi|rank|count|survival):[a-z]+")
_ABSENT: Final = "XGBoost is not installed here: pip install 'mlopsc[xgboost]'"


def recognise(content: Content) -> str | None:
    """Return what it is: a document whose first part is XGBoost's ``learner``."""
    if _JSON.match(content.text):
        return "XGBoost model (JSON)"
    if _UBJSON.match(content.head):
        return "XGBoost model (UBJSON)"
    if _DUMP.match(content.text) and '"children"' in content.text:
        raise SourceError(
            f"'{content.path}' is a dump of XGBoost's trees, for people to read: it lacks the "
            "objective and the base score; expected a saved model",
            hint="save the model: booster.save_model('model.json'), in R xgb.save(model, "
            "'model.json')",
        )
    # The parameters of the learner take 136 bytes, then comes the length of the objective's name.
    old = len(content.head) > 160 and _OBJECTIVE.match(content.head, 144)
    if _OLD.match(content.head) or old:
        raise SourceError(
            f"'{content.path}' is of XGBoost's old binary format, or a snapshot of its memory, "
            "which only some versions of XGBoost read; expected JSON or UBJSON",
            hint="load it with the version that wrote it and save it again: "
            "xgboost.Booster(model_file='old.model').save_model('model.ubj')",
        )
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Read a model, and load it in XGBoost if that is there.

    Raises:
        SourceError: It is damaged.
        ConversionError: It holds what cannot be exported.
    """
    del options
    data = path.read_bytes()
    return _read(path, data, None, None)


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a ``Booster`` or an estimator that is in memory; ``example`` is not needed.

    Raises:
        SourceError: It is not fitted.
        ConversionError: It holds what cannot be exported.
    """
    del example, options
    names = type_names(model)
    estimator: Any = model if "xgboost.sklearn.XGBModel" in names else None
    if estimator is None and "xgboost.core.Booster" not in names:
        return None
    with fitted(model):
        booster: Any = model if estimator is None else estimator.get_booster()
        data = bytes(booster.save_raw("ubj"))
    return _read(None, data, booster, estimator)


def _read(path: Path | None, data: bytes, booster: Any, estimator: Any) -> Boosted:
    document: dict[str, Any] = {}

    def read() -> Ensemble:
        document.update(xgboost_model.parse(data))
        return xgboost_model.read(document)

    ensemble = read_checked(path, TITLE, read)
    if estimator is not None:
        _note_missing(ensemble, estimator)
    if booster is None and importlib.util.find_spec("xgboost") is None:
        return Boosted(ensemble, TITLE, _ABSENT)
    from xgboost import Booster

    if booster is None:
        own = versions_of("xgboost")
        if xgboost_model.has_old_vectors(document) and int(version("xgboost").split(".")[0]) > 2:
            reason = f"{own} crashes on trees of several outputs that {ensemble.written_by} saved"
            return Boosted(ensemble, own, reason)
        booster = Booster()
        try:
            booster.load_model(bytearray(data))
        except Exception as error:
            text = " ".join(str(error).split())
            raise SourceError(f"'{path}' cannot be loaded by XGBoost: {text[:300]}") from error
    kinds = xgboost_model.feature_types(document)
    used = _rounds(document)

    def answer(x: Array) -> dict[str, Array]:
        return _predict(ensemble, booster, x, kinds, used)

    return Boosted(ensemble, versions_of("xgboost"), answer)


def _rounds(document: dict[str, Any]) -> tuple[int, int]:
    """Return which rounds count, as XGBoost wants to know it; (0, 0) is all."""
    best = document["learner"].get("attributes", {}).get("best_iteration")
    linear = document["learner"]["gradient_booster"]["name"] == "gblinear"
    return (0, 0) if best is None or linear else (0, int(best) + 1)


def _note_missing(ensemble: Ensemble, estimator: Any) -> None:
    missing = getattr(estimator, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        ensemble.notes += (
            f"missing={missing!r} of the estimator is not part of the model: give NaN for what is "
            "missing",
        )


def _predict(
    ensemble: Ensemble, booster: Any, x: Array, kinds: tuple[str, ...], rounds: tuple[int, int]
) -> dict[str, Array]:
    from xgboost import DMatrix

    matrix = DMatrix(
        x,
        feature_names=booster.feature_names,
        feature_types=list(kinds) or None,
        enable_categorical=True,
    )
    if ensemble.objective != "multi:softmax":
        return outputs_of(ensemble, booster.predict(matrix, iteration_range=rounds))
    labels = booster.predict(matrix, iteration_range=rounds).astype(np.int64)
    sums = booster.predict(matrix, iteration_range=rounds, output_margin=True).astype(np.float64)
    chances = np.exp(sums - sums.max(axis=1, keepdims=True))
    return outputs_of(ensemble, chances / chances.sum(axis=1, keepdims=True), labels)
