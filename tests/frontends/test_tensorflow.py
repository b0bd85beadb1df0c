"""TensorFlow's frontend: what it recognises, what it refuses, and that the comparison can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose

import mlopsc
from mlopsc.errors import (
    ConversionError,
    DivergenceError,
    OpenShapeError,
    SourceError,
    UnsafeSourceError,
)
from mlopsc.frontends import recognise

_needs = pytest.mark.framework("tensorflow", "tf2onnx")
SAVED_MODEL = b"\x08\x01\x12\xc0\x10\x0a\x20" + bytes(2100)
GRAPH = b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder" + b"\x0a\x10\x0a\x01y\x12\x0bPlaceholder"


def test_a_folder_with_a_graph_is_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(SAVED_MODEL)
    assert recognise(tmp_path).framework == "tensorflow"


@pytest.mark.parametrize("name", ["saved_model.pb", "other.bin"])
def test_the_graph_alone_is_refused_with_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SAVED_MODEL)
    with pytest.raises(SourceError, match="without its variables") as caught:
        recognise(tmp_path / name)
    assert str(tmp_path) in (caught.value.hint or "")


def test_a_frozen_graph_is_known_by_its_nodes(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(GRAPH)
    assert recognise(tmp_path / "model").what == "TensorFlow frozen graph"


def test_an_onnx_file_is_none(tmp_path: Path) -> None:
    proto = models.model(
        [models.node("Relu", ["x"], ["y"])], [models.value("x", [1])], [models.value("y", [1])], {}
    )
    onnx.save_model(proto, tmp_path / "m.bin")
    assert recognise(tmp_path / "m.bin").framework == "onnx"


def _tensorflow() -> Any:
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    return import_tensorflow()


def _save(folder: Path, call: Callable[..., Any], *specs: Any) -> Path:
    """Save a module with one variable, and ``call(variable, *inputs)`` as its signature."""
    tf = _tensorflow()
    module = tf.Module()
    module.weights = tf.Variable(np.eye(4, dtype=np.float32) * 3)
    module.call = tf.function(lambda *given: call(module.weights, *given))
    wanted = specs or (tf.TensorSpec((None, 4), name="x"),)
    signature = module.call.get_concrete_function(*wanted)
    tf.saved_model.save(module, str(folder), signatures={"run": signature})
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tf = _tensorflow()
    return _save(tmp_path / "saved", lambda weights, x: {"y": tf.nn.relu(x @ weights)})


@_needs
@pytest.mark.slow
def test_the_record_says_who_wrote_it(saved: Path, tmp_path: Path) -> None:
    check = mlopsc.import_model(saved, tmp_path / "m.mlb").manifest.framework
    assert check is not None
    assert check.written_by.startswith("TensorFlow 2.")
    assert check.converter.startswith("tf2onnx")


@_needs
@pytest.mark.slow
def test_nothing_but_results_is_printed(saved: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlopsc", "import", str(saved), "-o", str(tmp_path / "m.mlb")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "  source   TensorFlow SavedModel\n" in done.stdout
    assert done.stderr == ""


@_needs
@pytest.mark.slow
@pytest.mark.parametrize("damage", ["graph", "index", "data", "gone"])
def test_a_damaged_model_is_one_error(saved: Path, tmp_path: Path, damage: str) -> None:
    index, data = (
        saved / "variables" / f"variables.{end}" for end in ("index", "data-00000-of-00001")
    )
    if damage == "graph":
        path = saved / "saved_model.pb"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "index":
        index.write_bytes(index.read_bytes()[:-9] + bytes(9))
    elif damage == "data":
        data.write_bytes(b"")
    else:
        shutil.rmtree(saved / "variables")
    with pytest.raises(SourceError):
        mlopsc.import_model(saved, tmp_path / "m.mlb")


@_needs
@pytest.mark.slow
def test_a_signature_that_is_not_there_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no signature 'predict'; it has: run"):
        mlopsc.import_model(saved, tmp_path / "m.mlb", signature="predict")


@_needs
@pytest.mark.slow
def test_a_graph_that_writes_files_is_not_run(tmp_path: Path) -> None:
    tf = _tensorflow()
    target = tmp_path / "written"

    def call(weights: Any, x: Any) -> Any:
        tf.io.write_file(str(target), "x")
        return x @ weights

    folder = _save(tmp_path / "saved", call)
    target.unlink(missing_ok=True)
    with pytest.raises(UnsafeSourceError, match="WriteFile"):
        mlopsc.import_model(folder, tmp_path / "m.mlb")
    assert not target.exists()


@_needs
@pytest.mark.slow
def test_python_in_a_graph_is_not_run(tmp_path: Path) -> None:
    tf = _tensorflow()

    def call(weights: Any, x: Any) -> Any:
        return tf.numpy_function(lambda a: a, [x @ weights], tf.float32)

    with pytest.raises(UnsafeSourceError, match="PyFunc"):
        mlopsc.import_model(_save(tmp_path / "saved", call), tmp_path / "m.mlb")


@_needs
@pytest.mark.slow
def test_strings_are_refused_with_the_operator(tmp_path: Path) -> None:
    tf = _tensorflow()

    def call(weights: Any, x: Any) -> Any:
        lengths = tf.strings.length(tf.strings.as_string(x))
        return tf.cast(lengths, tf.float32) @ weights

    with pytest.raises(ConversionError, match=r"works on strings.*AsString"):
        mlopsc.import_model(_save(tmp_path / "saved", call), tmp_path / "m.mlb")


@_needs
@pytest.mark.slow
def test_what_tf2onnx_does_not_know_is_named(tmp_path: Path) -> None:
    tf = _tensorflow()
    folder = _save(tmp_path / "saved", lambda weights, x: tf.math.lgamma(x @ weights))
    with pytest.raises(ConversionError, match=r"tf2onnx .* cannot convert .*Lgamma"):
        mlopsc.import_model(folder, tmp_path / "m.mlb")


@_needs
@pytest.mark.slow
def test_open_dimensions_are_bound_by_place(tmp_path: Path) -> None:
    tf = _tensorflow()
    spec = tf.TensorSpec((None, None, 4), name="x")
    folder = _save(tmp_path / "saved", lambda weights, x: tf.reduce_max(x @ weights, 1), spec)
    with pytest.raises(OpenShapeError) as caught:
        mlopsc.import_model(folder, tmp_path / "m.mlb")
    assert "--bind" in (caught.value.hint or "")
    (name,) = [t.name for t in _inputs(folder, tmp_path / "m.mlb", {"batch": 2})]
    assert name


def _inputs(folder: Path, bundle: Path, bind: dict[str, int]) -> Any:
    from mlopsc.frontends.tensorflow.saved_model import read

    (name,) = read(folder).signatures["run"].inputs
    done = mlopsc.import_model(folder, bundle, bind={**bind, f"{name}:1": 5})
    assert done.manifest.inputs[0].shape == (2, 5, 4)
    return done.manifest.inputs


@_needs
@pytest.mark.slow
def test_a_converter_that_errs_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = _tensorflow()
    from mlopsc.frontends import tensorflow as module
    from mlopsc.frontends.tensorflow.convert import to_onnx

    def wrong(frozen: Any, bind: Any, path: Path, source: str) -> float | None:
        tolerance = to_onnx(frozen, bind, path, source)
        proto = onnx.load_model(path)
        (weights,) = [t for t in proto.graph.initializer if list(t.dims) == [4, 4]]
        array = onnx.numpy_helper.to_array(weights) * np.float32(1.001)
        weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
        onnx.save_model(proto, path)
        return tolerance

    weights = tf.constant(np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32))
    function = tf.function(lambda x: x @ weights)
    example = np.zeros((1, 4), np.float32)
    mlopsc.import_model(function, tmp_path / "right.mlb", example=example)
    monkeypatch.setattr(module, "to_onnx", wrong)
    with pytest.raises(DivergenceError, match="tf2onnx"):
        mlopsc.import_model(function, tmp_path / "wrong.mlb", example=example)


@_needs
@pytest.mark.slow
def test_the_session_computes_what_tensorflow_loads(saved: Path) -> None:
    """The graph is restored without the objects around it: the same numbers come out."""
    from mlopsc.frontends import LoadOptions, frontend

    tf = _tensorflow()
    x = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    wanted = tf.saved_model.load(str(saved)).signatures["run"](x=tf.constant(x))
    original = frontend("tensorflow").load(saved, LoadOptions())
    given = original.run({"x": x})
    assert given.keys() == wanted.keys()
    for name, array in given.items():
        assert_allclose(array, wanted[name].numpy(), rtol=1e-6)


@_needs
@pytest.mark.slow
@pytest.mark.parametrize("where", ["graph", "function"])
def test_variables_of_others_are_not_read(where: str, saved: Path, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    other = shutil.copytree(saved, tmp_path / "other")
    path = saved / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = model.meta_graphs[0].graph_def
    function = next(
        f for f in graph.library.function if any(n.op == "RestoreV2" for n in f.node_def)
    )
    name = str(other / "variables" / "variables").encode()
    constant = (graph.node if where == "graph" else function.node_def).add()
    constant.name, constant.op = "outside", "Const"
    constant.attr["dtype"].type = 7
    constant.attr["value"].tensor.dtype = 7
    constant.attr["value"].tensor.string_val.append(name)
    if where == "graph":
        restoring = model.meta_graphs[0].saver_def.restore_op_name
        next(n for n in graph.node if n.name == restoring).input[0] = "outside"
    else:
        for node in function.node_def:
            if node.op == "RestoreV2":
                node.input[0] = "outside:output:0"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeSourceError, match="names itself"):
        mlopsc.import_model(saved, tmp_path / "m.mlb", signature="run")
