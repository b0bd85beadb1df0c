"""A classifier whose classes are strings: imported, built, run and used from C."""

from __future__ import annotations

import json
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from models import node, value
from onnx import helper
from support import run_cli

import mlopsc
from mlopsc.bundle import read_bundle
from mlopsc.errors import UnsupportedOpError
from mlopsc.reference import run_graph
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.tools import run_program, run_zig

CLASSES = ["Käse", 'say "hi"\\', "", "日本??/"]
X = np.float32([[3, 0, 0], [0, 3, 0], [0, 0, 3], [-1, -1, -1]])
TARGETS = ("host", "cortex-m7", "wasm32-simd")


def classifier() -> onnx.ModelProto:
    """A linear classifier as exporters write it: labels, and a map of scores for each sample."""
    linear = node(
        "LinearClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml",
        classlabels_strings=CLASSES, post_transform="SOFTMAX",
        coefficients=[*np.eye(3, dtype=np.float32).ravel().tolist(), -1.0, -1.0, -1.0],
        intercepts=[0.0, 0.0, 0.0, 0.5],
    )  # fmt: skip
    maps = node("ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", classlabels_strings=CLASSES)
    pairs = helper.make_map_type_proto(
        onnx.TensorProto.STRING, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    )
    scores = helper.make_value_info("scores", helper.make_sequence_type_proto(pairs))
    made = models.model(
        [linear, maps], [value("x", [4, 3])], [value("label", [4], "string"), scores]
    )
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, and a package for each target in ``out``."""
    folder = tmp_path_factory.mktemp("labels")
    models.save(classifier(), folder / "cheese.onnx")
    np.savez(folder / "vectors.npz", x=np.stack([X, -X]))
    mlopsc.import_model(
        folder / "cheese.onnx", folder / "cheese.mlb", vectors=folder / "vectors.npz"
    )
    mlopsc.build(folder / "cheese.mlb", TARGETS, folder / "out")
    np.save(folder / "x.npy", X)
    return folder


def test_the_reference_gives_the_same_strings_and_scores(folder: Path) -> None:
    expected = run_graph(classifier().SerializeToString(), {"x": X})
    model = mlopsc.load(folder / "out" / "host")
    outputs = model(x=X)
    assert outputs["label"].dtype == object
    assert outputs["label"].tolist() == expected["label"].tolist() == CLASSES
    columns = [[expected[f"scores_{row}"][label] for label in CLASSES] for row in range(len(X))]
    np.testing.assert_allclose(outputs["scores"], columns, rtol=1e-6)
    assert [str(spec) for spec in model.outputs] == [
        "label: int64[4] of 4 labels",
        "scores: float32[4, 4]",
    ]


def test_manifest_and_descriptor_hold_the_table(folder: Path) -> None:
    manifest = read_bundle(folder / "cheese.mlb").manifest
    assert manifest.outputs[0].labels == tuple(CLASSES)
    assert manifest.outputs[1].labels is None
    assert manifest.origin.compared
    for target in TARGETS:
        info = json.loads((folder / "out" / target / "model.json").read_text(encoding="utf-8"))
        assert [output["labels"] for output in info["outputs"]] == [CLASSES, None]


@pytest.mark.parametrize("target", TARGETS)
def test_conformance_compares_places(folder: Path, target: str) -> None:
    report: ConformanceReport = mlopsc.conform(
        folder / "out" / target, bundle=folder / "cheese.mlb"
    )
    assert report.verdict == "pass"
    assert (report.outputs[0].name, report.outputs[0].dtype) == ("label", "int64")


@pytest.mark.parametrize("target", TARGETS)
def test_run_prints_and_writes_strings(folder: Path, tmp_path: Path, target: str) -> None:
    package = folder / "out" / target
    arguments = ("run", package, "-i", f"x={folder / 'x.npy'}")
    result = run_cli(*arguments, "-o", "y.npz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "label: string[4] = ['Käse'," in result.stdout
    with np.load(tmp_path / "y.npz", allow_pickle=False) as outputs:
        assert outputs["label"].tolist() == CLASSES
    found = json.loads(run_cli(*arguments, "--json", cwd=tmp_path).stdout)
    assert found["outputs"]["label"] == CLASSES


def test_a_program_in_c_prints_the_strings(folder: Path, tmp_path: Path) -> None:
    package = folder / "out" / "host"
    (tmp_path / "main.c").write_text(
        """
        #include <stdio.h>
        #include "cheese.h"
        static _Alignas(CHEESE_ARENA_ALIGN) unsigned char arena[CHEESE_ARENA_BYTES + 1];
        static const char *const labels[CHEESE_OUTPUT_LABEL_LABEL_COUNT] =
            CHEESE_OUTPUT_LABEL_LABELS;
        int main(void) {
          float x[CHEESE_INPUT_X_ELEMENTS] = {3, 0, 0, 0, 3, 0, 0, 0, 3, -1, -1, -1};
          int64_t label[CHEESE_OUTPUT_LABEL_ELEMENTS];
          float scores[CHEESE_OUTPUT_SCORES_ELEMENTS];
          if (cheese_run(x, label, scores, arena) != MLOPSC_OK) return 1;
          for (int i = 0; i < CHEESE_OUTPUT_LABEL_ELEMENTS; i++) puts(labels[label[i]]);
          return 0;
        }
        """
    )
    library = package / "lib" / "libcheese.a"
    run_zig(
        ["cc", "-Wall", "-Wextra", "-Werror", f"-I{package / 'include'}", "main.c", str(library),
         "-lm", "-o", "main"],
        cwd=tmp_path,
    )  # fmt: skip
    printed = run_program(tmp_path / "main", []).stdout.decode()
    assert printed == "".join(f"{label}\n" for label in CLASSES)


CITIES, SIZES = ["Bern", "Zürich", ""], ["S", "M"]


def encoders() -> onnx.ModelProto:
    """What exporters make of columns of categories: an encoder each, and a sum of weights."""
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        node("OneHotEncoder", ["city"], ["c"], cats_strings=CITIES, zeros=1, **ml),
        node("Reshape", ["c", "row"], ["cr"]),
        node("LabelEncoder", ["size"], ["s"], keys_strings=SIZES, values_floats=[1.0, 2.0],
             default_float=-7.0, **ml),
        node("Equal", ["city", "bern"], ["e"]),
        node("Cast", ["e"], ["b"], to=onnx.TensorProto.FLOAT),
        node("Concat", ["cr", "s", "b", "x"], ["y"], axis=1),
    ]  # fmt: skip
    bern = helper.make_tensor("bern", onnx.TensorProto.STRING, [1, 1], ["Bern"])
    made = models.model(
        nodes,
        [
            value("city", ["n", 1], "string"),
            value("size", ["n", 1], "string"),
            value("x", ["n", 1]),
        ],
        [value("y", ["n", 6])],
        {"row": np.array([1, 3])},
    )
    made.graph.initializer.append(bern)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return made


ROWS = [
    ("Bern", "M", [1, 0, 0, 2, 1]), ("Zürich", "S", [0, 1, 0, 1, 0]),
    ("", "L", [0, 0, 1, -7, 0]), ("Basel", "M", [0, 0, 0, 2, 0]),
]  # fmt: skip


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of ``encoders``, and a package for each target in ``out``."""
    folder = tmp_path_factory.mktemp("encoders")
    models.save(encoders(), folder / "town.onnx")
    columns = {
        "city": np.array([[[city]] for city, _, _ in ROWS]),
        "size": np.array([[[size]] for _, size, _ in ROWS]),
        "x": np.ones((len(ROWS), 1, 1), np.float32),
    }
    np.savez(folder / "vectors.npz", **columns)
    mlopsc.import_model(folder / "town.onnx", folder / "town.mlb", vectors=folder / "vectors.npz")
    mlopsc.build(folder / "town.mlb", TARGETS, folder / "out")
    return folder


def test_inputs_of_strings_are_places_in_a_table(encoded: Path) -> None:
    bundle = read_bundle(encoded / "town.mlb")
    assert [str(spec) for spec in bundle.manifest.inputs] == [
        "city: int64[1, 1] of 3 labels", "size: int64[1, 1] of 2 labels", "x: float32[1, 1]"
    ]  # fmt: skip
    assert bundle.manifest.inputs[0].labels == tuple(CITIES)
    assert bundle.manifest.origin.compared
    assert [int(v.inputs["city"][0, 0]) for v in bundle.vectors] == [0, 1, 2, -1]
    for vector, (_, _, expected) in zip(bundle.vectors, ROWS, strict=True):
        assert vector.outputs["y"].tolist() == [[*expected, 1]]


@pytest.mark.parametrize("target", TARGETS)
def test_packages_look_strings_up(encoded: Path, target: str) -> None:
    report = mlopsc.conform(encoded / "out" / target, bundle=encoded / "town.mlb")
    assert report.verdict == "pass"


def test_python_takes_strings_and_places(encoded: Path) -> None:
    model = mlopsc.load(encoded / "out" / "host")
    x = np.zeros((1, 1), np.float32)
    for city, size, expected in ROWS:
        given = {"city": np.array([[city]]), "size": np.array([[size]], object)}
        assert model(**given, x=x)["y"].tolist() == [[*expected, 0]]
    places = {"city": np.array([[1]]), "size": np.array([[-1]])}
    assert model(**places, x=x)["y"].tolist() == [[0, 1, 0, -7, 0, 0]]


def test_the_command_line_takes_strings(encoded: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "city.npy", np.array([["Zürich"]]))
    np.save(tmp_path / "size.npy", np.array([["S"]]))
    np.save(tmp_path / "x.npy", np.zeros((1, 1), np.float32))
    inputs = [part for n in ("city", "size", "x") for part in ("-i", f"{n}={tmp_path / n}.npy")]
    found = run_cli("run", encoded / "out" / "host", *inputs, "--json")
    assert json.loads(found.stdout)["outputs"]["y"] == [[0, 1, 0, 1, 0, 0]]


def test_vectors_of_strings_are_synthesised(tmp_path: Path) -> None:
    models.save(encoders(), tmp_path / "town.onnx")
    bundle = mlopsc.import_model(tmp_path / "town.onnx", tmp_path / "town.mlb")
    places = {int(v.inputs["city"][0, 0]) for v in bundle.vectors}
    assert places <= {-1, 0, 1, 2}
    assert bundle.manifest.origin.compared


def test_the_header_has_the_tables_of_inputs(encoded: Path) -> None:
    header = (encoded / "out" / "host" / "include" / "town.h").read_text(encoding="utf-8")
    assert "#define TOWN_INPUT_CITY_LABEL_COUNT 3" in header


@pytest.mark.parametrize("case", ["given back", "compared with each other"])
def test_strings_that_no_table_can_tell_apart_are_refused(case: str, tmp_path: Path) -> None:
    city, other = value("city", [1], "string"), value("other", [1], "string")
    made = (
        models.model([node("Identity", ["city"], ["y"])], [city], [value("y", [1], "string")])
        if case == "given back"
        else models.model([node("Equal", ["city", "other"], ["y"])], [city, other],
                          [value("y", [1], "bool")], opset=19)
    )  # fmt: skip
    models.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedOpError):
        mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb")


def test_an_encoder_that_refuses_unknown_strings_is_compared_on_known_ones(tmp_path: Path) -> None:
    encoder = node("OneHotEncoder", ["city"], ["y"], cats_strings=CITIES, zeros=0,
                   domain="ai.onnx.ml")  # fmt: skip
    made = models.model([encoder], [value("city", [2], "string")], [value("y", [2, 3])])
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    models.save(made, tmp_path / "m.onnx")
    bundle = mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb")
    assert bundle.manifest.origin.compared
