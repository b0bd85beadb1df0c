"""Models of XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from boosting_data import ROWS, make_data
from matrix import Case, Source

SMALL = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1}
TEXT = {"verbose": -1, "num_leaves": 8, "min_data_in_leaf": 5, "num_threads": 1}
QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1, "iterations": 8, "depth": 3}


def _xgboost_binary(folder: Path) -> Source:
    from xgboost import XGBClassifier

    data = make_data()
    XGBClassifier(**SMALL).fit(data.gaps, data.group > 1).save_model(folder / "binary.json")
    return Source(folder / "binary.json")


def _xgboost_categories(folder: Path) -> Source:
    from xgboost import XGBClassifier

    data = make_data()
    kinds = ["c", "c", "q", "q", "q"]
    model = XGBClassifier(enable_categorical=True, feature_types=kinds, **SMALL)
    model.fit(data.mixed, data.group).save_model(folder / "multi.ubj")
    return Source(folder / "multi.ubj")


def _xgboost_poisson(folder: Path) -> Source:
    from xgboost import XGBRegressor

    data = make_data()
    model = XGBRegressor(objective="count:poisson", booster="dart", rate_drop=0.4, **SMALL)
    model.fit(data.plain, data.count).save_model(folder / "dart.json")
    return Source(folder / "dart.json")


def _xgboost_ranker(folder: Path) -> Source:
    from xgboost import XGBRanker

    data = make_data()
    model = XGBRanker(objective="rank:ndcg", **SMALL)
    model.fit(data.gaps, data.group, qid=np.repeat(np.arange(ROWS // 10), 10))
    model.save_model(folder / "rank.ubj")
    return Source(folder / "rank.ubj")


def _xgboost_vectors(folder: Path) -> Source:
    from xgboost import XGBRegressor

    data = make_data()
    model = XGBRegressor(multi_strategy="multi_output_tree", tree_method="hist", **SMALL)
    model.fit(data.gaps, np.stack([data.number, data.number**2], 1))
    model.save_model(folder / "vectors.json")
    return Source(folder / "vectors.json")


def _xgboost_linear(folder: Path) -> Source:
    from xgboost import XGBRegressor

    data = make_data()
    model = XGBRegressor(booster="gblinear", n_estimators=5).fit(data.plain, data.number)
    model.save_model(folder / "linear.json")
    return Source(folder / "linear.json")


def _xgboost_forest(folder: Path) -> Source:
    from xgboost import XGBRFClassifier

    data = make_data()
    return Source(XGBRFClassifier(n_estimators=8, max_depth=3, n_jobs=1).fit(data.gaps, data.group))


def _pipeline(folder: Path) -> Source:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    data = make_data()
    model = make_pipeline(StandardScaler(), XGBClassifier(**SMALL))
    return Source(model.fit(data.gaps, data.group))


def _lightgbm(folder: Path, features: Any, label: Any, rounds: int = 8, **options: Any) -> Source:
    import lightgbm

    with_groups = {k: options.pop(k) for k in ("group", "categorical_feature") if k in options}
    data = lightgbm.Dataset(features, label, **with_groups)
    lightgbm.train({**TEXT, **options}, data, rounds).save_model(folder / "model.txt")
    return Source(folder / "model.txt")


def _lightgbm_binary(folder: Path) -> Source:
    data = make_data()
    return _lightgbm(folder, data.gaps, data.group > 1, objective="binary")


def _lightgbm_categories(folder: Path) -> Source:
    data = make_data()
    options = {"objective": "multiclass", "num_class": 4, "categorical_feature": [0, 1]}
    return _lightgbm(folder, data.mixed, data.group, **options)


def _lightgbm_zeros(folder: Path) -> Source:
    data = make_data()
    features = np.nan_to_num(data.gaps)
    label = np.abs(data.number) + 3 * (features[:, 0] == 0)
    return _lightgbm(folder, features, label, objective="tweedie", zero_as_missing=True)


def _lightgbm_ranker(folder: Path) -> Source:
    data = make_data()
    options = {"objective": "lambdarank", "group": [10] * (ROWS // 10)}
    return _lightgbm(folder, data.plain.astype(np.float64) / 3, data.group, **options)


def _lightgbm_forest(folder: Path) -> Source:
    data = make_data()
    options = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
    return _lightgbm(folder, data.gaps, data.number, objective="regression", **options)


def _lightgbm_strings(folder: Path) -> Source:
    from lightgbm import LGBMClassifier

    data = make_data()
    model = LGBMClassifier(n_estimators=6, **TEXT)
    return Source(model.fit(data.gaps, np.array(["ash", "beech", "cedar", "dogwood"])[data.group]))


def _catboost_regressor(folder: Path) -> Source:
    from catboost import CatBoostRegressor

    data = make_data()
    CatBoostRegressor(**QUIET).fit(data.gaps, data.number).save_model(str(folder / "trees.cbm"))
    return Source(folder / "trees.cbm")


def _catboost_strings(folder: Path) -> Source:
    from catboost import CatBoostClassifier

    data = make_data()
    labels = np.array(["ash", "beech", "cedar", "dogwood"])[data.group]
    model = CatBoostClassifier(nan_mode="Max", **QUIET).fit(data.gaps, labels)
    model.save_model(str(folder / "trees.json"), format="json")
    return Source(folder / "trees.json")


def _catboost_lossguide(folder: Path) -> Source:
    from catboost import CatBoostClassifier

    data = make_data()
    model = CatBoostClassifier(grow_policy="Lossguide", **QUIET)
    return Source(model.fit(data.gaps, (data.group > 1).astype(int)))


_XGBOOST, _LIGHTGBM, _CATBOOST = ("xgboost", "sklearn"), ("lightgbm", "sklearn"), ("catboost",)
CASES = (
    Case("xgboost_binary", "xgboost", "binary classifier, values missing, JSON", _xgboost_binary,
         needs=_XGBOOST),
    Case("xgboost_categories", "xgboost", "classifier with categories, UBJSON",
         _xgboost_categories, needs=_XGBOOST),
    Case("xgboost_poisson", "xgboost", "counts, DART", _xgboost_poisson, needs=_XGBOOST),
    Case("xgboost_ranker", "xgboost", "ranking", _xgboost_ranker, needs=_XGBOOST),
    Case("xgboost_vectors", "xgboost", "trees of several outputs", _xgboost_vectors,
         needs=_XGBOOST),
    Case("xgboost_linear", "xgboost", "linear (gblinear)", _xgboost_linear, needs=_XGBOOST),
    Case("xgboost_forest", "xgboost", "random forest, in memory", _xgboost_forest, needs=_XGBOOST),
    Case("xgboost_pipeline", "sklearn", "Pipeline that ends with XGBoost", _pipeline,
         needs=_XGBOOST),
    Case("lightgbm_binary", "lightgbm", "binary classifier, values missing", _lightgbm_binary,
         needs=_LIGHTGBM),
    Case("lightgbm_categories", "lightgbm", "classifier with categories", _lightgbm_categories,
         needs=_LIGHTGBM),
    Case("lightgbm_zeros", "lightgbm", "Tweedie regression, zeros missing", _lightgbm_zeros,
         needs=_LIGHTGBM),
    Case("lightgbm_ranker", "lightgbm", "ranking", _lightgbm_ranker, needs=_LIGHTGBM),
    Case("lightgbm_forest", "lightgbm", "random forest", _lightgbm_forest, needs=_LIGHTGBM),
    Case("lightgbm_strings", "lightgbm", "classifier of strings, in memory", _lightgbm_strings,
         needs=_LIGHTGBM),
    Case("catboost_regressor", "catboost", "regression, values missing, cbm", _catboost_regressor,
         needs=_CATBOOST),
    Case("catboost_strings", "catboost", "classifier of strings, JSON", _catboost_strings,
         needs=_CATBOOST),
    Case("catboost_lossguide", "catboost", "trees of any shape, in memory", _catboost_lossguide,
         needs=_CATBOOST),
)  # fmt: skip
