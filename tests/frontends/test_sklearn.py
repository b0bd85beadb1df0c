"""scikit-learn: what is refused, precision, preprocessing, and inputs that try a model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases_sklearn import columns, people

import mlopsc
from mlopsc.errors import (
    ConversionError,
    DivergenceError,
    SourceError,
    UnsafeSourceError,
)
from mlopsc.frontends import LoadOptions, recognise
from mlopsc.frontends.base import Exported
from mlopsc.frontends.sklearn import load, wrap
from mlopsc.frontends.sklearn.estimator import Estimator

pytestmark = pytest.mark.framework("sklearn", "skops", "skl2onnx")


def _opened(model: Any, example: Any = None, **options: Any) -> Estimator:
    found = wrap(model, example, LoadOptions(**options))
    assert isinstance(found, Estimator)
    return found


def _exported(model: Any, folder: Path, example: Any = None, **options: Any) -> Exported:
    return _opened(model, example, **options).export(folder, LoadOptions(**options))


def _dump(model: Any, folder: Path) -> Path:
    from skops import io

    io.dump(model, folder / "model.skops")
    return folder / "model.skops"


def _forest() -> Any:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(4, max_depth=3, random_state=0).fit(*load_iris(return_X_y=True))


def _double(values: Any) -> Any:
    return values * 2


def _rewritten(path: Path, change: Any) -> Path:
    """Return a copy of a skops file with other arrays or another schema."""
    other = path.with_name("other.skops")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return other


# -- files


def test_a_skops_file_says_what_wrote_it(tmp_path: Path) -> None:
    import sklearn

    path = _dump(_forest(), tmp_path)
    assert recognise(path).framework == "sklearn"
    original = load(path, LoadOptions())
    assert original.written_by.startswith(f"scikit-learn {sklearn.__version__} + skops ")
    assert [(f.name, f.version) for f in original.frameworks] == [
        ("scikit-learn", sklearn.__version__)
    ]
    assert original.configuration["parameters"]["n_estimators"] == 4
    json.dumps(original.configuration)


def test_functions_are_refused_by_name(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = make_pipeline(FunctionTransformer(_double), _forest())
    with pytest.raises(UnsafeSourceError, match=f"functions.*{__name__}._double"):
        load(_dump(model, tmp_path), LoadOptions())


def test_a_harmless_function_is_no_operator(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = make_pipeline(FunctionTransformer(np.log1p), Ridge())
    model.fit(np.arange(12.0).reshape(6, 2), np.arange(6))
    original = load(_dump(model, tmp_path), LoadOptions())
    with pytest.raises(ConversionError, match=r"skl2onnx 1.*FunctionTransformer"):
        original.export(tmp_path, LoadOptions())


def test_types_are_refused_by_name_unless_trusted(tmp_path: Path) -> None:
    from sklearn.preprocessing import SplineTransformer

    model = SplineTransformer().fit(np.arange(10.0).reshape(-1, 1))
    with pytest.raises(UnsafeSourceError, match=r"BSpline"):
        load(_dump(model, tmp_path), LoadOptions())


def test_indices_that_lead_out_of_a_tree_are_refused(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".npy"):
            return data
        import io

        array = np.load(io.BytesIO(data))
        if array.dtype.names and "left_child" in array.dtype.names:
            array["left_child"] = np.where(array["left_child"] >= 0, 1 << 40, -1)
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    path = _rewritten(_dump(_forest(), tmp_path), change)
    with pytest.raises(SourceError, match=r"children_left 1099511627776"):
        load(path, LoadOptions())


@pytest.mark.parametrize(
    "schema", [b"", b"{", b"[]", b"{}", b'{"protocol": 99}', b'{"protocol": 2, "content": {}}']
)
def test_damaged_schemas_are_one_error(schema: bytes, tmp_path: Path) -> None:
    path = _rewritten(
        _dump(_forest(), tmp_path), lambda name, data: schema if name == "schema.json" else data
    )
    with pytest.raises(SourceError):
        load(path, LoadOptions())


def test_what_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = _dump(_forest(), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"is damaged.*skops.io.dump"):
        recognise(path)


def test_what_is_no_estimator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds a dict; expected an estimator"):
        load(_dump({"a": 1}, tmp_path), LoadOptions())


def test_a_model_that_is_not_fitted_is_refused() -> None:
    from sklearn.linear_model import Ridge

    with pytest.raises(SourceError, match="not fitted"):
        _opened(Ridge())


def test_an_example_of_strings_for_numbers_is_refused() -> None:
    from sklearn.linear_model import Ridge

    model = Ridge().fit([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0])
    with pytest.raises(SourceError, match="the example has 'a' in column 1; expected a number"):
        _opened(model, [[1.0, "a"]])


# -- precision


@pytest.mark.parametrize("threshold", [1.65, 0.1, -0.1, 1e-50, -1e-50, 1e300, 16777217.0, 2.0])
def test_thresholds_are_rounded_down(threshold: float) -> None:
    from mlopsc.frontends.rounding import below

    rounded = below(threshold)
    near = np.float32(min(threshold, 3e38))
    most = np.finfo(np.float32).max
    for x in (near, np.nextafter(near, most), np.nextafter(near, -most)):
        assert (float(x) <= threshold) == (float(x) <= rounded)


@pytest.mark.slow
def test_votes_that_are_equal_stay_equal(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    model = RandomForestClassifier(98, random_state=0).fit(features, labels)
    rows = rng.normal(size=(3000, 3)).astype(np.float32)
    tied = rows[model.predict_proba(rows)[:, 0] == 0.5]
    assert len(tied) > 20
    import onnxruntime

    done = _exported(model, tmp_path)
    got = onnxruntime.InferenceSession(done.model).run(["label"], {"X": tied})[0]
    assert (got == model.predict(tied)).all()


def test_float64_is_chosen_where_float32_is_not_enough(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.random.default_rng(0).normal(1e6, 1.0, (100, 3))
    model = make_pipeline(StandardScaler(), Ridge()).fit(features, features.sum(axis=1) - 3e6)
    done = _exported(model, tmp_path)
    assert [note.partition(":")[0] for note in done.notes] == [
        "inputs and computation are float64, as in scikit-learn"
    ]
    import onnxruntime

    assert done.preprocess is not None
    first = onnxruntime.InferenceSession(done.preprocess)
    assert first.get_inputs()[0].type == "tensor(double)"


def test_a_threshold_that_is_rounded_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    from mlopsc.frontends.sklearn import trees

    original = _opened(DecisionTreeClassifier(random_state=0).fit(*load_iris(return_X_y=True)))
    model = original._model
    assert original._error(original._convert(None, model, wide=False)) == 0
    monkeypatch.setattr(trees, "below", lambda threshold: float(np.float32(threshold)))
    assert original._error(original._convert(None, model, wide=False)) > 0.1


@pytest.mark.slow
def test_a_wrong_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlopsc.frontends.sklearn import trees

    monkeypatch.setattr(trees, "below", lambda threshold: 1.1 * threshold)
    with pytest.raises(DivergenceError, match="the bundle computes something else"):
        mlopsc.import_model(_forest(), tmp_path / "wrong.mlb")


# -- stages, functions, columns


def test_scalers_become_preprocessing(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    model = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge())
    model.fit(np.random.default_rng(0).normal(size=(50, 3)), np.arange(50))
    done = _exported(model, tmp_path)
    assert done.preprocess is not None
    assert done.preprocessing == (
        "StandardScaler of 3 features",
        "PolynomialFeatures of 3 features",
    )
    whole = _exported(model, tmp_path, split=False)
    assert whole.preprocess is None


def test_a_search_is_what_it_found(tmp_path: Path) -> None:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=2)
    original = _opened(search.fit(*load_iris(return_X_y=True)))
    original.export(tmp_path, LoadOptions())
    assert original.configuration["estimator"] == "GridSearchCV"


@pytest.mark.parametrize("function", ["decision_function", "predict_proba", "predict"])
def test_a_signature_chooses_the_function(function: str, tmp_path: Path) -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import HistGradientBoostingClassifier

    data, labels = load_breast_cancer(return_X_y=True)
    model = HistGradientBoostingClassifier(max_iter=5).fit(data, labels)
    original = _opened(model, signature=function)
    done = original.export(tmp_path, LoadOptions(signature=function))
    assert not done.notes
    answer = original.run({"X": data[:1].astype(np.float32)})
    second = {"decision_function": "scores", "predict_proba": "probabilities", "predict": None}
    assert set(answer) == {"label", second[function]} - {None}


def test_an_unknown_function_names_those_that_are_there() -> None:
    with pytest.raises(SourceError, match="has no function 'transform'; it has predict_proba"):
        _opened(_forest(), signature="transform")


def test_columns_of_a_frame_are_inputs(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    import onnxruntime
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame, labels = people(coded=False)
    encoder = columns(OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(encoder, LogisticRegression()).fit(frame, labels)
    done = _exported(model, tmp_path, frame)
    first = onnxruntime.InferenceSession(done.preprocess)
    assert [(i.name, i.type) for i in first.get_inputs()] == [
        ("age", "tensor(float)"),
        ("income", "tensor(float)"),
        ("city", "tensor(string)"),
        ("plan_code", "tensor(int64)"),
    ]
    assert not done.notes


def _mixed(names: list[str]) -> Any:
    """Return a DataFrame of three columns of numbers and one, called ``kind``, of strings."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(40, 3)), columns=names)
    frame["kind"] = rng.choice(["x", "y"], 40)
    return frame


def _of_columns(frame: Any, numbers: list[Any], strings: list[Any], last: Any) -> Any:
    """Return a fitted Pipeline that looks at these columns and drops the others."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = make_column_transformer((OneHotEncoder(), strings), (StandardScaler(), numbers))
    return make_pipeline(encoder, last).fit(frame, np.arange(40) % 2)


def _input_names(path: Path) -> list[str]:
    import onnxruntime

    return [value.name for value in onnxruntime.InferenceSession(path).get_inputs()]


@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        (["1stFlrSF", "2ndFlrSF", "_x"], ["x1stFlrSF", "x2ndFlrSF", "x_x"]),
        (["a b", "a.b", "a_b"], ["a_b_", "a_b__", "a_b"]),
        (["première", "variable", "input"], ["premi_re", "variable", "input"]),
        (["features", "label", "probabilities"], ["features", "label", "probabilities"]),
    ],
)
def test_columns_keep_names_that_can_be_inputs(
    names: list[str], inputs: list[str], tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression

    frame = _mixed(names)
    original = _opened(_of_columns(frame, names, ["kind"], LogisticRegression()), frame)
    done = original.export(tmp_path, LoadOptions())
    assert done.preprocess is not None
    assert _input_names(done.preprocess) == [*inputs, "kind"]


def test_in_one_graph_no_column_is_called_like_an_output(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    names = ["features", "label", "label_"]
    model = _of_columns(_mixed(names), names, ["kind"], LogisticRegression())
    done = _exported(model, tmp_path, split=False)
    assert _input_names(done.model) == ["features", "label__", "label_", "kind"]


def test_columns_of_several_types_need_no_names(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    table = _mixed(["a", "b", "c"]).to_numpy(object)
    done = _exported(_of_columns(table, [0, 1, 2], [3], Ridge()), tmp_path, table)
    assert done.preprocess is not None
    assert _input_names(done.preprocess) == ["x0", "x1", "x2", "x3"]


def test_columns_that_are_dropped_are_no_inputs(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    frame = _mixed(["a", "b", "c"])
    frame.insert(0, "name", "someone")
    done = _exported(_of_columns(frame, ["c", "b"], ["kind"], Ridge()), tmp_path, frame)
    assert done.preprocess is not None
    assert _input_names(done.preprocess) == ["b", "c", "kind"]
    table = frame.to_numpy(object)
    done = _exported(_of_columns(table, [2, 3], [4], Ridge()), tmp_path, table)
    assert done.preprocess is not None
    assert _input_names(done.preprocess) == ["x2", "x3", "x4"]


@pytest.mark.parametrize("value", [0, 0.5, -7])
def test_a_constant_number_is_filled_in(value: float, tmp_path: Path) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    features = np.random.default_rng(0).normal(size=(40, 3))
    features[::3, 1] = np.nan
    imputer = SimpleImputer(strategy="constant", fill_value=value)
    original = _opened(make_pipeline(imputer, Ridge()).fit(features, np.arange(40)))
    done = original.export(tmp_path, LoadOptions())
    assert done.preprocess is not None
    import onnxruntime

    first = onnxruntime.InferenceSession(done.preprocess)
    (filled,) = first.run(None, {"X": features[:1].astype(np.float32)})
    assert filled[0, 1] == value


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("options", [{}, {"weights": "distance"}, {"n_neighbors": 40}])
def test_what_is_missing_comes_from_neighbours(
    options: dict[str, Any], empty: bool, tmp_path: Path
) -> None:
    import onnxruntime
    from sklearn.impute import KNNImputer

    rng = np.random.default_rng(0)
    known = rng.normal(size=(30, 4)).astype(np.float32)
    known[rng.random(known.shape) < 0.25] = np.nan
    rows = rng.normal(size=(100, 4)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.5] = np.nan
    rows[0] = np.nan
    rows[1:10] = known[1:10]
    if empty:
        known[:, 2] = np.nan
    model = KNNImputer(**options).fit(known.astype(np.float64))
    done = _exported(model, tmp_path)
    assert not done.notes
    session = onnxruntime.InferenceSession(done.model)
    (filled,) = session.run(None, {"X": rows})
    expected = model.transform(rows.astype(np.float64))
    assert filled.shape == expected.shape
    assert np.abs(filled - expected).max() < 1e-5
