"""Keras's frontend: what is refused before Keras sees it, and what becomes of preprocessing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases_keras import _dense, _image_head, _keras, _stir

import mlopsc
from mlopsc.errors import MissingToolError, SourceError, UnsafeSourceError
from mlopsc.frontends import recognise
from mlopsc.frontends.keras import archive

_needs = pytest.mark.framework("keras", "tensorflow", "tf2onnx")


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAA"}}
SYSTEM = {"class_name": "function", "module": "os", "config": "system"}


def write(path: Path, layer: Any, **top: Any) -> Path:
    """Write a ``.keras`` file whose only layer is ``layer``."""
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}, **top}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", b"")
    return path


def layer(kind: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": "it", **config}}


def test_it_is_known_by_its_members(tmp_path: Path) -> None:
    path = write(tmp_path / "model.zip", layer("Dense"))
    assert recognise(path).what == "Keras model (.keras)"


def test_the_name_alone_makes_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(SourceError, match=r"named \.keras, but is"):
        recognise(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            layer("Lambda", function={"class_name": "__lambda__", "config": {}}),
            "Lambda layer, 'it'",
        ),
        (layer("Dense", activation={"class_name": "__lambda__", "config": {}}), "a lambda in 'it'"),
        (layer("Mine", module=None), "custom class Mine"),
        (layer("System", module="os"), "custom class System"),
        (layer("TFSMLayer", filepath="/etc"), "another model"),
        (layer("TorchModuleWrapper", module="keras.src.utils.torch_utils"), "unpickles"),
        (
            layer(
                "Dense", activation={"class_name": "function", "module": "os", "config": "system"}
            ),
            "custom function system",
        ),
        (
            {**layer("Dense"), "registered_name": "mine>Dense"},
            "custom class mine>Dense",
        ),
        (layer("StringLookup", vocabulary="/etc/passwd"), "reads the file '/etc/passwd'"),
    ],
)
def test_code_is_refused_by_name(tmp_path: Path, entry: Any, words: str) -> None:
    with pytest.raises(UnsafeSourceError, match=words):
        archive.read(write(tmp_path / "m.keras", entry))


def test_what_trained_it_needs_no_code(tmp_path: Path) -> None:
    mine = {"class_name": "function", "module": "mine", "config": "loss"}
    found = archive.read(write(tmp_path / "m.keras", layer("Dense"), compile_config={"loss": mine}))
    assert found.keras == "3.15.1"
    assert found.training == {"training": {"loss": mine}}


@pytest.mark.parametrize("config", ["[]", "{", '"text"', "[" * 100_000])
def test_a_configuration_that_is_none_is_one_error(tmp_path: Path, config: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config)
    with pytest.raises(SourceError, match="cannot be read"):
        archive.read(tmp_path / "m.keras")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    _stir(_dense(_keras())).save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


@_needs
@pytest.mark.slow
@pytest.mark.parametrize("member", ["model.weights.h5", "config.json"])
def test_a_damaged_member_is_one_error(saved: Path, tmp_path: Path, member: str) -> None:
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data[: len(data) // 2] if name == member else data)
    with pytest.raises(SourceError):
        mlopsc.import_model(damaged, tmp_path / "m.mlb")


@_needs
@pytest.mark.slow
def test_what_trained_it_is_in_the_lineage(saved: Path, tmp_path: Path) -> None:
    mlopsc.import_model(saved, tmp_path / "m.mlb")
    with zipfile.ZipFile(tmp_path / "m.mlb") as bundle:
        lineage = json.loads(bundle.read("lineage.json"))["predicate"]
    assert lineage["configuration"]["training"]["loss"] == "categorical_crossentropy"
    assert lineage["frameworks"][0]["name"] == "Keras"


@_needs
@pytest.mark.slow
def test_preprocessing_stays_inside_on_demand(tmp_path: Path) -> None:
    model = _stir(_image_head(_keras()))
    whole = mlopsc.import_model(model, tmp_path / "whole.mlb", split=False)
    parts = mlopsc.import_model(model, tmp_path / "parts.mlb")
    assert [stage.name for stage in whole.manifest.stages] == ["model"]
    assert [stage.name for stage in parts.manifest.stages] == ["preprocess", "model"]
    assert parts.manifest.inputs == whole.manifest.inputs
    check = parts.manifest.framework
    assert check is not None
    assert [text.split()[0].rstrip(":") for text in check.preprocessing] == [
        "Resizing",
        "Rescaling",
        "Normalization",
    ]


@_needs
@pytest.mark.slow
def test_raw_inputs_are_drawn_where_the_model_is_awake() -> None:
    """What is drawn is about standard normal behind the preprocessing, not in front of it."""
    from mlopsc.frontends import LoadOptions
    from mlopsc.frontends.base import RawInput
    from mlopsc.frontends.keras import wrap

    original = wrap(_image_head(_keras()), None, LoadOptions())
    assert original is not None
    rng = np.random.default_rng(5)
    drawn = original.draw(rng, [RawInput("image", "float32", (1, 24, 20, 3))], last=False)
    assert 100 < drawn["image"].mean() < 160
    assert 30 < drawn["image"].std() < 110


@_needs
@pytest.mark.slow
def test_a_model_without_shapes_asks_for_an_example(tmp_path: Path) -> None:
    keras = _keras()
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(SourceError, match="has not seen any input"):
        mlopsc.import_model(model, tmp_path / "m.mlb")
    example = np.zeros((1, 3), np.float32)
    done = mlopsc.import_model(model, tmp_path / "m.mlb", example=example)
    assert done.manifest.inputs[0].shape == (1, 3)


@_needs
def test_keras_that_reads_files_of_others_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from mlopsc.frontends import LoadOptions, frontend

    monkeypatch.setattr(keras, "__version__", "3.13.1")
    path = write(tmp_path / "m.keras", layer("Dense", units=1))
    with pytest.raises(MissingToolError, match=r"expected 3\.13\.2 or newer"):
        frontend("keras").load(path, LoadOptions())
