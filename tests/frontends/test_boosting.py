"""XGBoost, LightGBM and CatBoost: what is read without them, and that it computes what they do."""

from __future__ import annotations

import importlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends import CannotRun, LoadOptions, Original, frontend, recognise
from mlopsc.frontends.boosting import forest, write
from mlopsc.frontends.boosting.forest import (
    GT,
    LEQ,
    LT,
    Ensemble,
    Leaf,
    Split,
    Tree,
    check,
    limit_of,
)
from mlopsc.frontends.boosting.ubjson import decode
from mlopsc.importer.framework import Runs, compare_with_framework
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.export import Export

XGBOOST: dict[str, Any] = {
    "learner": {
        "attributes": {},
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": {
            "name": "gbtree",
            "model": {
                "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "1"},
                "iteration_indptr": [0, 1],
                "tree_info": [0],
                "trees": [
                    {
                        "default_left": [1, 0, 0],
                        "left_children": [1, -1, -1],
                        "right_children": [2, -1, -1],
                        "split_conditions": [0.1, -1.5, 2.5],
                        "split_indices": [1, 0, 0],
                        "tree_param": {"num_nodes": "3", "size_leaf_vector": "1"},
                    }
                ],
            },
        },
        "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "2"},
        "objective": {"name": "reg:squarederror"},
    },
    "version": [1, 7, 6],
}
LIGHTGBM = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=a b

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0.10000000000000001 0
decision_type=10 1
left_child=-1 -2
right_child=1 -3
leaf_value=1 -2 0.5
cat_boundaries=0 2
cat_threshold=5 1
is_linear=0
shrinkage=1


end of trees

parameters:
[objective: binary]
end of parameters

pandas_categorical:null
"""
CATBOOST: dict[str, Any] = {
    "features_info": {
        "float_features": [
            {"feature_index": 0, "flat_feature_index": 0, "nan_value_treatment": "AsTrue"},
            {"feature_index": 1, "flat_feature_index": 1, "nan_value_treatment": "AsIs"},
        ]
    },
    "model_info": {
        "class_params": {"class_names": ["no", "yes"]},
        "params": {"loss_function": {"type": "Logloss"}},
    },
    "oblivious_trees": [
        {
            "leaf_values": [1, 2, 4, 8],
            "splits": [
                {"border": 0.5, "float_feature_index": 0, "split_type": "FloatFeature"},
                {"border": 1.5, "float_feature_index": 1, "split_type": "FloatFeature"},
            ],
        }
    ],
    "scale_and_bias": [0.5, [-1]],
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No framework is installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def load(path: Path) -> Original:
    return frontend(recognise(path).framework).load(path, LoadOptions())


def answers(original: Original, x: Any, folder: Path) -> list[Any]:
    model = original.export(folder, LoadOptions()).model
    session = onnxruntime.InferenceSession(str(model))
    return [session.run(None, {"X": np.array([row], np.float32)}) for row in x]


def to_ubjson(value: Any) -> bytes:
    def text(words: str) -> bytes:
        return b"L" + struct.pack(">q", len(words.encode())) + words.encode()

    if isinstance(value, dict):
        return b"{" + b"".join(text(k) + to_ubjson(v) for k, v in value.items()) + b"}"
    if isinstance(value, list) and value and isinstance(value[0], float):
        return b"[$d#L" + struct.pack(f">q{len(value)}f", len(value), *value)
    if isinstance(value, list):
        return b"[" + b"".join(to_ubjson(v) for v in value) + b"]"
    if isinstance(value, str):
        return b"S" + text(value)
    return (
        b"d" + struct.pack(">f", value)
        if isinstance(value, float)
        else b"l" + struct.pack(">i", value)
    )


@pytest.mark.parametrize("form", ["json", "ubj"])
@pytest.mark.usefixtures("alone")
def test_xgboost_is_read_without_xgboost(form: str, tmp_path: Path) -> None:
    data = json.dumps(XGBOOST).encode() if form == "json" else to_ubjson(XGBOOST)
    (tmp_path / "m.bin").write_bytes(data)
    original = load(tmp_path / "m.bin")
    assert original.written_by == "XGBoost 1.7.6"
    limit = np.float32(0.1)  # what lies below goes left, and so does what is missing
    x = [[9, np.nextafter(limit, np.float32(0))], [9, limit], [9, np.nan]]
    assert [float(a[0][0, 0]) for a in answers(original, x, tmp_path)] == [-1.0, 3.0, -1.0]
    with pytest.raises(CannotRun, match="XGBoost is not installed"):
        original.run({"X": np.zeros((1, 2), np.float32)})


def test_vectors_of_older_versions_are_read_but_not_run(tmp_path: Path) -> None:
    document = json.loads(json.dumps(XGBOOST))
    document["learner"]["learner_model_param"]["num_target"] = "2"
    document["learner"]["gradient_booster"]["model"]["trees"][0].update(
        base_weights=[0, 0, 1, 2, 3, 4],
        split_conditions=[0.1, float("nan"), float("nan")],
        tree_param={"size_leaf_vector": "2"},
    )
    (tmp_path / "m.json").write_text(json.dumps(document))
    original = load(tmp_path / "m.json")
    assert [a[0].tolist() for a in answers(original, [[0, 0], [0, 1]], tmp_path)] == [
        [[1.5, 2.5]],
        [[3.5, 4.5]],
    ]
    with pytest.raises(CannotRun, match="XGBoost"):  # which crashes, or is not there
        original.run({"X": np.zeros((1, 2), np.float32)})


@pytest.mark.usefixtures("alone")
def test_lightgbm_is_read_without_lightgbm(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text(LIGHTGBM)
    original = load(tmp_path / "m.bin")
    tenth = np.float32(0.1)  # is above 0.1
    x = [[0.09, 0], [tenth, 0], [tenth, 2], [tenth, 32], [tenth, 1], [tenth, np.nan], [np.nan, 1]]
    got = [float(a[1][0, 1]) for a in answers(original, x, tmp_path)]
    sums = np.array([1, -2, -2, -2, 0.5, 0.5, 1])
    assert got == pytest.approx(1 / (1 + np.exp(-sums)), rel=1e-6)


@pytest.mark.usefixtures("alone")
def test_catboost_json_is_read_without_catboost(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text(json.dumps(CATBOOST))
    original = load(tmp_path / "m.bin")
    x = [[0.5, 1.5], [0.6, 1], [np.nan, np.nan], [0, 2], [1, 2]]
    got = answers(original, x, tmp_path)
    sums = np.array([1, 2, 2, 4, 8]) * 0.5 - 1
    assert [float(a[1][0, 1]) for a in got] == pytest.approx(1 / (1 + np.exp(-sums)), rel=1e-6)
    assert [a[0][0] for a in got] == ["no", "no", "no", "yes", "yes"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[{"nodeid": 0, "split": "f0", "children": [{"nodeid": 1, "leaf": 1}]}]', "a dump"),
        (b'{"name": "tree", "version": "v4", "num_class": 1, "tree_info": []}', "a dump"),
        (b"binf" + bytes(200), "old binary format"),
        (b"CONFIG-offset:" + bytes(200), "old binary format"),
        (bytes(136) + struct.pack("<q", 15) + b"binary:logistic" + bytes(50), "old binary format"),
        (LIGHTGBM.replace("v4", "v9").encode(), "version is v9"),
        (LIGHTGBM.replace("a b", "a b\ntree_sizes=9").encode(), "the header tells of 9"),
        (LIGHTGBM.replace("end of trees", "").encode(), "cut off"),
        (LIGHTGBM[:-60].encode(), "end of parameters"),
        (LIGHTGBM.replace("right_child=1", "right_child=0").encode(), "reached twice"),
        (LIGHTGBM.replace("right_child=1", "right_child=5").encode(), "leads to node 5"),
        (LIGHTGBM.replace("split_feature=0", "split_feature=7").encode(), "feature 7 of 2"),
        (LIGHTGBM.replace("cat_boundaries=0 2", "cat_boundaries=0 3").encode(), "words 0 to 3"),
        (LIGHTGBM.replace("leaf_value=1 ", "leaf_value=").encode(), "2 values; expected 3"),
        (LIGHTGBM.replace("leaf_value=1", "leaf_value=nan").encode(), "not finite"),
        (b"{L" + struct.pack(">q", 7) + b"learner{L\x7f", "ends before"),
        (b'{"learner": {"attributes": {}}}', "'gradient_booster' is missing"),
        (b'{"learner": ' + b'{"learner": ' * 100_000, "nested"),
        (b'{"features_info": {"categorical_features": []', "cannot be read"),
        (b"CBM1\xff\xff\xff\x7f", "cut off"),
    ],
)
def test_what_is_damaged_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(data)
    if data.startswith(b"CBM1"):
        pytest.importorskip("catboost")
    with pytest.raises(SourceError) as caught:
        load(tmp_path / "m.bin")
    assert words in str(caught.value) or words == "nested"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left_children": [0, -1, -1]}, "reached twice"),
        ({"left_children": [9, -1, -1]}, "which is not there"),
        ({"split_indices": [2, 0, 0]}, "reads feature 2 of 2"),
        ({"split_conditions": [0.1, -1.5]}, "its columns have [2, 3] values"),
        ({"split_type": [1, 0, 0]}, "0 is missing"),
        ({"tree_param": {"size_leaf_vector": "3"}}, "3 values for 1 outputs"),
    ],
)
def test_damaged_trees_of_xgboost_are_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    document = json.loads(json.dumps(XGBOOST))
    document["learner"]["gradient_booster"]["model"]["trees"][0].update(change)
    (tmp_path / "m.json").write_text(json.dumps(document))
    with pytest.raises(SourceError) as caught:
        load(tmp_path / "m.json")
    assert words in str(caught.value)


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text(LIGHTGBM.replace("is_linear=0", "is_linear=1"))
    with pytest.raises(ConversionError, match="linear_tree"):
        load(path)
    document = json.loads(json.dumps(CATBOOST))
    document["features_info"]["categorical_features"] = [{"feature_index": 0}]
    path.write_text(json.dumps(document))
    with pytest.raises(ConversionError, match="categorical features"):
        load(path)
    document = json.loads(json.dumps(XGBOOST))
    document["learner"]["objective"]["name"] = "reg:mine"
    path.write_text(json.dumps(document))
    with pytest.raises(ConversionError, match="'reg:mine' is not known"):
        load(path)


def test_ubjson_is_read() -> None:
    data = b"{i\x01a[$i#U\x03\x01\xff\x02U\x01b[TFZ]i\x01cD" + struct.pack(">d", 0.5)
    assert decode(data + b"i\x01dC!}") == {
        "a": [1, -1, 2], "b": [True, False, None], "c": 0.5, "d": "!"
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 100, b"[#L\x7f" + b"\xff" * 7, b"[$Z#U\xff", b"[$i]", b"Si\x05ab", b"x",
     b"Si\xff", b"{U\x01\xff"],
)  # fmt: skip
def test_damaged_ubjson_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError):
        decode(data)


@pytest.mark.parametrize("mode", [LEQ, LT, GT])
def test_float32_features_compare_as_with_the_double(mode: int) -> None:
    rng = np.random.default_rng(0)
    for threshold in [*rng.normal(size=200), 1e-50, -1e-50, 1e300, -1e300, 0.0, 16777217.0]:
        limit = limit_of(float(threshold), mode)
        with np.errstate(over="ignore"):
            near = np.float32(threshold)
        for x in (near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9))):
            compare = {LEQ: np.less_equal, LT: np.less, GT: np.greater}[mode]
            assert compare(x, limit) == compare(np.float64(x), np.float64(threshold))


def test_a_forest_is_checked() -> None:
    stump = {0: Split(0, LEQ, 0.0, False, 1, 2), 1: Leaf((1.0,)), 2: Leaf((2.0,))}
    check(Ensemble(1, trees=[Tree(stump)]))
    with pytest.raises(SourceError, match="from output 1 on"):
        check(Ensemble(1, trees=[Tree(stump, target=1)]))
    with pytest.raises(SourceError, match="not a number"):
        check(Ensemble(1, trees=[Tree({**stump, 0: Split(0, LEQ, np.nan, False, 1, 2)})]))
    with pytest.raises(SourceError, match="features"):
        check(Ensemble(0))


def test_links_are_what_they_are_called(tmp_path: Path) -> None:
    tree = Tree({0: Split(0, LEQ, 0.0, False, 1, 2), 1: Leaf((-2.0,)), 2: Leaf((3.0,))})
    expected = {
        forest.IDENTITY: (-1, 4), forest.EXP: (np.exp(-1), np.exp(4)), forest.SIGN: (0, 1),
        forest.SQUARE: (-1, 16), forest.LOG1P_EXP: (np.log1p(np.exp(-1)), np.log1p(np.exp(4))),
    }  # fmt: skip
    for link, values in expected.items():
        model = write.to_model(Ensemble(1, trees=[tree], base=[1.0], link=link))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        got = [session.run(None, {"X": np.float32([[x]])})[0][0, 0] for x in (-1, 1)]
        assert got == pytest.approx(values, rel=1e-6), link


def test_lone_numbers_near_zero_are_judged_by_the_largest_of_all_runs() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(1, 1))
    export = Export(
        framework="xgboost",
        what="",
        digest="sha256:" + "0" * 64,
        version="x",
        compared=True,
        runs=2,
    )
    answer = iter(np.float32([[[1.0]], [[2e-6]]]))
    runs = Runs(export, ({}, {}), tuple({"y": np.float64([[v]])} for v in (1.0, 1e-6)))
    check = compare_with_framework(runs, lambda _: {"y": next(answer)}, (), [spec], None)
    assert check.relative_to_max == pytest.approx(1e-6, rel=1e-2)


@pytest.mark.framework("xgboost", "lightgbm", "catboost", "sklearn")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("xgboost", "XGBRegressor"),
        ("xgboost", "Booster"),
        ("lightgbm", "LGBMClassifier"),
        ("catboost", "CatBoostRegressor"),
    ],
)
def test_what_is_not_fitted_is_refused(module: str, name: str) -> None:
    model = getattr(importlib.import_module(module), name)()
    with pytest.raises(SourceError, match=f"this {name} is not fitted: .*expected a fitted model"):
        frontend(module).wrap(model, None, LoadOptions())
