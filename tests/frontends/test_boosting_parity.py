"""What is exported computes what XGBoost, LightGBM and CatBoost compute, for every objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from boosting_data import ROWS, Data, make_data

import mlopsc
from mlopsc.errors import ConversionError, DivergenceError
from mlopsc.frontends import LoadOptions, Original, RawInput, frontend, recognise, wrap
from mlopsc.frontends.boosting import write
from mlopsc.frontends.boosting.original import Boosted

XGBOOST = pytest.mark.framework("xgboost", "sklearn")
LIGHTGBM = pytest.mark.framework("lightgbm", "sklearn")
CATBOOST = pytest.mark.framework("catboost")
RUNS = 60
CLOSE = 5e-5  # relative to the largest of all runs
QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1, "iterations": 6, "depth": 4}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> Data:
    return make_data()


def load(path: Path) -> Original:
    return frontend(recognise(path).framework).load(path, LoadOptions())


def held(model: object) -> Original:
    return wrap(model, None, LoadOptions())[1]


def agree(original: Original, folder: Path) -> None:
    """Assert that the graph gives what the framework gives, where its trees compare."""
    session = onnxruntime.InferenceSession(str(original.export(folder, LoadOptions()).model))
    inputs = [RawInput("X", "float32", (1, session.get_inputs()[0].shape[1]))]
    names = [value.name for value in session.get_outputs()]
    rng = np.random.default_rng(3)
    got: dict[str, list[Any]] = {name: [] for name in names}
    wanted: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(RUNS):
        drawn = original.draw(rng, inputs, last=False)
        for name, value in zip(names, session.run(None, drawn), strict=True):
            got[name].append(value)
        for name, value in original.run(drawn).items():
            wanted[name].append(value)
    for name in names:
        mine, theirs = np.concatenate(got[name]), np.concatenate(wanted[name])
        assert mine.shape == theirs.shape
        if mine.dtype.kind == "f":
            assert np.abs(mine - theirs).max() <= CLOSE * np.abs(theirs).max(), name
        else:
            assert (mine.astype(str) == theirs.astype(str)).all(), name


@XGBOOST
@pytest.mark.parametrize(
    "objective",
    ["binary:hinge", "binary:logistic", "binary:logitraw", "count:poisson", "multi:softmax",
     "multi:softprob", "rank:map", "rank:pairwise", "reg:absoluteerror", "reg:gamma",
     "reg:logistic", "reg:pseudohubererror", "reg:quantileerror", "reg:squaredlogerror",
     "reg:tweedie", "survival:cox"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["json", "ubj"])
def test_objectives_of_xgboost(objective: str, form: str, data: Data, tmp_path: Path) -> None:
    import xgboost

    label = np.abs(data.number) + 0.1
    options: dict[str, Any] = {"objective": objective, "max_depth": 4, "nthread": 1}
    if objective.startswith("multi:"):
        label, options["num_class"] = data.group, 4
    elif objective.startswith(("binary:", "reg:logistic", "rank:map")):
        label = (data.group > 1).astype(int)
    elif objective == "reg:quantileerror":
        options["quantile_alpha"] = [0.1, 0.5, 0.9]
    matrix = xgboost.DMatrix(data.gaps, label)
    if objective.startswith("rank:"):
        matrix.set_group([10] * (ROWS // 10))
    xgboost.train(options, matrix, 6).save_model(tmp_path / f"m.{form}")
    agree(load(tmp_path / f"m.{form}"), tmp_path)


@XGBOOST
@pytest.mark.parametrize(
    "options",
    [
        {"booster": "dart", "rate_drop": 0.5},
        {"booster": "gblinear"},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"multi_strategy": "multi_output_tree", "tree_method": "hist"},
        {"base_score": 0.3},
    ],
    ids=str,
)
def test_boosters_of_xgboost(options: dict[str, Any], data: Data, tmp_path: Path) -> None:
    from xgboost import XGBClassifier

    features = data.plain if options.get("booster") == "gblinear" else data.gaps
    for label in (data.group, np.stack([data.group > 1, data.group > 2], 1).astype(int)):
        model = XGBClassifier(n_estimators=5, n_jobs=1, **options)
        agree(held(model.fit(features, label)), tmp_path)


@XGBOOST
def test_rounds_after_the_best_are_left_out(data: Data, tmp_path: Path) -> None:
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=60, max_depth=5, learning_rate=0.9, early_stopping_rounds=3)
    held_out = [(data.gaps[200:], data.group[200:])]
    model.fit(data.gaps[:200], data.group[:200], eval_set=held_out, verbose=False)
    assert model.get_booster().num_boosted_rounds() > model.best_iteration + 1
    model.save_model(tmp_path / "m.ubj")
    original = load(tmp_path / "m.ubj")
    agree(original, tmp_path)
    x = data.gaps[:1]
    expected = model.predict_proba(x)
    assert np.allclose(original.run({"X": x})["probabilities"], expected, rtol=1e-5)
    notes = original.export(tmp_path, LoadOptions()).notes
    assert any("stopped early" in note for note in notes)


@LIGHTGBM
@pytest.mark.parametrize(
    "objective",
    ["binary", "cross_entropy", "cross_entropy_lambda", "fair", "gamma", "huber", "lambdarank",
     "mape", "multiclass", "multiclassova", "poisson", "quantile", "rank_xendcg", "regression",
     "regression_l1", "tweedie"],
)  # fmt: skip
def test_objectives_of_lightgbm(objective: str, data: Data, tmp_path: Path) -> None:
    import lightgbm

    label = np.abs(data.number) + 0.1
    options: dict[str, Any] = {"objective": objective}
    group = None
    if objective.startswith("multiclass"):
        label, options["num_class"] = data.group, 4
    elif objective == "binary" or objective.startswith("cross"):
        label = (data.group > 1).astype(int)
    elif objective in ("lambdarank", "rank_xendcg"):
        label, group = data.group, [10] * (ROWS // 10)
    _train(lightgbm, data.gaps, label, options, tmp_path, group=group)


@LIGHTGBM
@pytest.mark.parametrize(
    "options",
    [
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "binary", "sigmoid": 2.0},
        {"objective": "binary", "boosting": "dart"},
        {"objective": "multiclass", "num_class": 4, "boosting": "rf", "bagging_freq": 1,
         "bagging_fraction": 0.5},
        {"objective": "regression", "use_missing": False},
        {"objective": "regression", "zero_as_missing": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["plain", "gaps", "mixed"])
def test_options_of_lightgbm(
    options: dict[str, Any], kind: str, data: Data, tmp_path: Path
) -> None:
    import lightgbm

    label = data.group if options["objective"] == "multiclass" else data.group > 1
    categories = [0, 1] if kind == "mixed" else []
    features = getattr(data, kind)
    _train(lightgbm, features, label, options, tmp_path, categorical_feature=categories)


def _train(
    lightgbm: Any, features: Any, label: Any, options: Any, folder: Path, **more: Any
) -> None:
    quiet = {"verbose": -1, "num_leaves": 12, "min_data_in_leaf": 5, "num_threads": 1}
    model = lightgbm.train({**quiet, **options}, lightgbm.Dataset(features, label, **more), 6)
    model.save_model(folder / "m.txt")
    agree(load(folder / "m.txt"), folder)


@CATBOOST
@pytest.mark.parametrize(
    "loss", ["Huber:delta=1", "MAE", "MultiRMSE", "Poisson", "RMSE", "Tweedie:variance_power=1.5"]
)
@pytest.mark.parametrize("form", ["cbm", "json"])
def test_losses_of_catboost(loss: str, form: str, data: Data, tmp_path: Path) -> None:
    from catboost import CatBoostRegressor

    label = np.abs(data.number) + 0.1
    label = np.stack([label, label**2], 1) if loss == "MultiRMSE" else label
    model = CatBoostRegressor(loss_function=loss, **QUIET).fit(data.gaps, label)
    model.save_model(str(tmp_path / "m"), format=form)
    agree(load(tmp_path / "m"), tmp_path)


@CATBOOST
@pytest.mark.parametrize("loss", ["MultiClass", "MultiClassOneVsAll", "MultiLogloss", "Logloss"])
@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide", "Depthwise"])
@pytest.mark.parametrize("nans", ["Min", "Max"])
def test_classifiers_of_catboost(
    loss: str, policy: str, nans: str, data: Data, tmp_path: Path
) -> None:
    from catboost import CatBoostClassifier

    label = {
        "Logloss": np.array(["no", "yes"])[(data.group > 1).astype(int)],
        "MultiLogloss": np.stack([data.group > 1, data.group > 2], 1).astype(int),
    }.get(loss, data.group * 3)
    model = CatBoostClassifier(loss_function=loss, grow_policy=policy, nan_mode=nans, **QUIET)
    if loss == "MultiLogloss" and policy != "SymmetricTree":
        pytest.skip("CatBoost cannot train this")
    agree(held(model.fit(data.gaps, label)), tmp_path)


@CATBOOST
def test_categories_of_catboost_are_refused(data: Data, tmp_path: Path) -> None:
    from catboost import CatBoostRegressor

    features = data.mixed[:, [0, 2]].astype(object)
    features[:, 0] = [str(int(value)) for value in data.mixed[:, 0]]
    model = CatBoostRegressor(**QUIET).fit(features, data.number, cat_features=[0])
    model.save_model(str(tmp_path / "m.cbm"))
    with pytest.raises(ConversionError, match="categorical features"):
        load(tmp_path / "m.cbm")


@XGBOOST
@pytest.mark.parametrize("fault", ["missing", "threshold", "order"])
def test_a_wrong_graph_is_found(
    fault: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgboost import XGBRegressor

    model = XGBRegressor(n_estimators=8, max_depth=4, n_jobs=1).fit(data.gaps, data.number)
    right = write._columns

    def wrong(trees: Any, targets: int) -> dict[str, Any]:
        columns = right(trees, targets)
        if fault == "missing":
            columns.pop("nodes_missing_value_tracks_true")
        elif fault == "threshold":  # x <= t in place of x < t
            modes = onnx.numpy_helper.to_array(columns["nodes_modes"]) * 0
            columns["nodes_modes"] = onnx.numpy_helper.from_array(modes, "modes")
        else:
            columns["nodes_featureids"] = [
                f ^ 1 if f < 4 else f for f in columns["nodes_featureids"]
            ]
        return columns

    monkeypatch.setattr(write, "_columns", wrong)
    with pytest.raises(DivergenceError, match="xgboost"):
        mlopsc.import_model(model, tmp_path / "m.mlb")


@pytest.mark.framework("xgboost", "sklearn", "skl2onnx")
def test_membership_is_a_chain_of_equalities_in_older_graphs(data: Data) -> None:
    from xgboost import XGBClassifier

    kinds = ["c", "c", "q", "q", "q"]
    model = XGBClassifier(n_estimators=5, max_depth=4, enable_categorical=True, feature_types=kinds)
    original = held(model.fit(data.mixed, data.group))
    assert isinstance(original, Boosted)
    graph = write.Graph("old_", tabular=3)
    names = write.add_answers(graph, original.ensemble, "X", named=True)
    made = onnx.helper.make_graph(
        graph.nodes, "old",
        [onnx.helper.make_tensor_value_info("X", 1, [None, 5])],
        [onnx.helper.make_empty_tensor_value_info(name) for name in names],
        graph.initializers,
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    proto = onnx.helper.make_model(made, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    got = session.run(["probabilities"], {"X": data.mixed})[0]
    assert np.abs(got - original.run({"X": data.mixed})["probabilities"]).max() < 1e-6


@pytest.mark.framework("xgboost", "lightgbm", "catboost", "sklearn", "skl2onnx")
@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "catboost"])
def test_pipelines_end_with_them(kind: str, data: Data) -> None:
    from catboost import CatBoostClassifier
    from lightgbm import LGBMClassifier
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    from mlopsc.frontends.boosting.pipeline import register_converters

    register_converters()
    last: Any = {
        "xgboost": XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1),
        "lightgbm": LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1),
        "catboost": CatBoostClassifier(**QUIET),
    }[kind]
    label = data.group if kind == "xgboost" else np.array(["a", "b", "c", "d"])[data.group]
    model = make_pipeline(StandardScaler(), last).fit(data.gaps, label)
    proto = to_onnx(
        model,
        initial_types=[("X", FloatTensorType([None, 5]))],
        options={id(last): {"zipmap": False}},
        target_opset={"": 21, "ai.onnx.ml": 3},
    )
    x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    chosen, chances = session.run(None, {"X": x})
    assert (chosen.ravel() == np.asarray(model.predict(x)).ravel()).all()
    assert np.abs(chances - model.predict_proba(x)).max() < 1e-5
