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
