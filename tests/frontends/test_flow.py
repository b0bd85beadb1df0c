"""What every frontend shares: split, parity with the origin, records. No framework is needed."""

from __future__ import annotations

from pathlib import Path

import linear_frontend
import numpy as np
import onnx
import pytest
from linear_frontend import Linear
from models import model, node, value
from support import check_words, run_cli

import mlopsc
from mlopsc.documents import lineage_of
from mlopsc.dtypes import to_file
from mlopsc.errors import DivergenceError, MissingToolError, SourceError
from mlopsc.frontends import FRONTENDS, require_modules


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FRONTENDS, "linear", linear_frontend.__name__)


def test_what_is_found_becomes_a_stage_and_the_original_is_compared(tmp_path: Path) -> None:
    bundle = mlopsc.import_model(Linear(), tmp_path / "m.mlb")
    manifest = bundle.manifest
    assert [stage.name for stage in manifest.stages] == ["preprocess", "model"]
    check = manifest.framework
    assert check is not None
    assert check.compared
    assert (check.vectors, check.drawn) == (0, 20)
    assert check.preprocessing == ("mean of 4 features",)
    assert (check.framework, check.written_by) == ("linear 1.0", "linear 0.9")
    assert check.converter == "linear2onnx 2.0"
    assert check.relative_to_max < check.tolerance == 1e-4
    lineage = lineage_of(bundle.documents)
    assert lineage is not None
    assert lineage.configuration == {"steps": 7}
    assert [(f.name, f.version) for f in lineage.frameworks] == [("linear", "0.9")]
    shown = run_cli("inspect", tmp_path / "m.mlb").stdout
    assert "mean of 4 features" in shown
    assert "linear2onnx 2.0" in shown


def test_no_split_leaves_it_in_the_model(tmp_path: Path) -> None:
    manifest = mlopsc.import_model(Linear(), tmp_path / "m.mlb", split=False).manifest
    assert [stage.name for stage in manifest.stages] == ["model"]
    assert manifest.framework is not None
    assert manifest.framework.preprocessing == ()


def test_divergence_is_refused_unless_a_reason_is_given(tmp_path: Path) -> None:
    wrong = Linear(wrong=0.1)
    with pytest.raises(DivergenceError) as caught:
        mlopsc.import_model(wrong, tmp_path / "m.mlb")
    check_words(
        caught.value.message, caught.value.hint, "linear 1.0", "output 'y'", "linear2onnx 2.0"
    )
    assert not (tmp_path / "m.mlb").exists()
    accepted = mlopsc.import_model(wrong, tmp_path / "m.mlb", accept_divergence="a known offset")
    check = accepted.manifest.framework
    assert check is not None
    assert check.accepted == "a known offset"
    assert check.relative_to_max > check.tolerance


def test_a_reason_that_was_not_needed_is_not_recorded(tmp_path: Path) -> None:
    made = mlopsc.import_model(Linear(), tmp_path / "m.mlb", accept_divergence="just in case")
    assert made.manifest.framework is not None
    assert made.manifest.framework.accepted == ""


def test_originals_that_cannot_run_are_told(tmp_path: Path) -> None:
    check = mlopsc.import_model(Linear(silent=True), tmp_path / "m.mlb").manifest.framework
    assert check is not None
    assert not check.compared
    assert check.reason == "linear runs on Sundays only"


def test_vectors_of_the_user_are_compared(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=np.full((3, 4), 7, np.float32))
    made = mlopsc.import_model(Linear(), tmp_path / "m.mlb", vectors=tmp_path / "v.npz")
    assert made.manifest.framework is not None
    assert made.manifest.framework.vectors == 3
    assert made.manifest.vectors.origin == "given"
    assert np.array_equal(made.vectors[0].inputs["x"], np.full((1, 4), 7, np.float32))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "uint4"])
def test_inputs_of_types_that_numpy_lacks_are_compared(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "v.npz", x=to_file(np.full((3, 4), 6, dtype)))
    for vectors in (None, tmp_path / "v.npz"):
        linear = Linear(takes=dtype)
        made = mlopsc.import_model(linear, tmp_path / "m.mlb", vectors=vectors, force=True)
        check = made.manifest.framework
        assert check is not None
        assert check.compared
        assert check.relative_to_max < 1e-6
        assert made.vectors[0].inputs["x"].dtype == np.dtype(dtype)


def test_preprocessing_of_the_user_replaces_what_is_found(tmp_path: Path) -> None:
    shape = ["batch", 4]
    doubled = model(
        [node("Add", ["raw", "raw"], ["x"])], [value("raw", shape)], [value("x", shape)]
    )
    onnx.save(doubled, tmp_path / "pre.onnx")
    np.savez(tmp_path / "v.npz", raw=np.ones((2, 4), np.float32))
    made = mlopsc.import_model(
        Linear(), tmp_path / "m.mlb", preprocess=tmp_path / "pre.onnx", vectors=tmp_path / "v.npz"
    )
    assert [spec.name for spec in made.manifest.inputs] == ["raw"]
    check = made.manifest.framework
    assert check is not None
    assert check.compared
    assert (check.vectors, check.preprocessing) == (2, ())
    assert np.array_equal(made.vectors[0].outputs["y"], np.full((1, 4), 4.5, np.float32))


def test_objects_of_no_framework_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"builtins\.list"):
        mlopsc.import_model([1, 2], tmp_path / "m.mlb")


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(MissingToolError) as caught:
        require_modules(("no_such_framework",), "Such", "such")
    check_words(caught.value.message, caught.value.hint, "no_such_framework")
    assert "pip install 'mlopsc[such]'" in caught.value.hint
