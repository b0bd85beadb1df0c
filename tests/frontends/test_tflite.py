"""TFLite files: quantisation is kept exactly, ends become stages, what is damaged is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from cases_tflite import _converted, _int8
from onnx import numpy_helper

import mlopsc
from mlopsc.errors import ConversionError, MlopscError, SourceError
from mlopsc.frontends import recognise

needs_tensorflow = pytest.mark.framework("tensorflow", "tf2onnx")


def test_files_are_recognised_by_their_identifier(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    assert recognise(tmp_path / "m").framework == "tflite"


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in 8-bit integers."""
    return Path(_converted(_int8, tmp_path_factory.mktemp("tflite")).model)


@needs_tensorflow
@pytest.mark.slow
def test_what_the_converter_logs_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import tf2onnx

    from mlopsc.frontends.tflite.convert import to_onnx

    def fail(*args: Any, **options: Any) -> None:
        logging.getLogger("tf2onnx.tfonnx").error("no operator FOO")
        raise ValueError("graph")

    monkeypatch.setattr(tf2onnx.convert, "from_tflite", fail)
    file: Any = SimpleNamespace(path="m.tflite")
    with pytest.raises(ConversionError, match=r"fails on 'm.tflite': ValueError: no operator FOO"):
        to_onnx(file, Path("m.onnx"))


@needs_tensorflow
@pytest.mark.slow
def test_every_scale_and_zero_point_of_the_file_is_in_the_graph(
    integers: Path, tmp_path: Path
) -> None:
    from tf2onnx.tflite.Model import Model

    from mlopsc.frontends.tflite.convert import to_onnx
    from mlopsc.frontends.tflite.file import read

    to_onnx(read(integers, None), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    constants |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t)
        for n in graph.node
        if n.op_type == "Constant"
    }
    kept = set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = constants[node.input[1]].ravel()
            zero = constants[node.input[2]].ravel() if len(node.input) > 2 else np.zeros_like(scale)
            kept.add((scale.tobytes(), tuple(int(z) for z in zero)))
    model = Model.GetRootAsModel(bytearray(integers.read_bytes()), 0)
    tensors = [model.Subgraphs(0).Tensors(k) for k in range(model.Subgraphs(0).TensorsLength())]
    quantised = [t.Quantization() for t in tensors if t.Quantization().ScaleLength()]
    assert len(quantised) > 10
    for found in quantised:
        scale = found.ScaleAsNumpy().astype(np.float32)
        zero = tuple(int(z) for z in found.ZeroPointAsNumpy())
        assert (scale.tobytes(), zero) in kept


@needs_tensorflow
@pytest.mark.slow
def test_ends_become_stages_or_stay_integers(integers: Path, tmp_path: Path) -> None:
    real = mlopsc.import_model(integers, tmp_path / "real.mlb").manifest
    assert [stage.name for stage in real.stages] == ["preprocess", "model", "postprocess"]
    assert (real.inputs[0].dtype, real.outputs[0].dtype) == ("float32", "float32")
    assert real.vectors.arithmetic == "integer"
    check = real.framework
    assert check is not None
    assert "real values -> int8, scale" in check.preprocessing[0]
    whole = mlopsc.import_model(integers, tmp_path / "whole.mlb", split=False).manifest
    assert [stage.name for stage in whole.stages] == ["model"]
    assert (whole.inputs[0].dtype, whole.outputs[0].dtype) == ("int8", "int8")
    assert whole.framework is not None
    assert whole.framework.compared


@needs_tensorflow
@pytest.mark.slow
def test_damaged_files_are_refused(integers: Path, tmp_path: Path) -> None:
    data = integers.read_bytes()
    for number, damaged in enumerate((data[:200], data[: len(data) // 2], b"\xff" * 4 + data[4:])):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(damaged)
        with pytest.raises(SourceError) as caught:
            mlopsc.import_model(path, tmp_path / "m.mlb")
        assert caught.value.hint


@needs_tensorflow
@pytest.mark.slow
def test_a_signature_that_is_not_there_is_refused(integers: Path, tmp_path: Path) -> None:
    with pytest.raises(MlopscError, match="no signature 'other'; it has: serving_default"):
        mlopsc.import_model(integers, tmp_path / "m.mlb", signature="other")


@needs_tensorflow
@pytest.mark.slow
def test_operators_that_the_reference_kernels_lack(tmp_path: Path) -> None:
    """Doubling an image of integers is a version of Tile that TFLite's reference set has not."""
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    tf = import_tensorflow()
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [layers.Input((4, 4, 2)), layers.Conv2D(2, 3), layers.UpSampling2D(2), layers.Conv2D(1, 3)]
    )
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    _int8(converter, tf)
    converter.representative_dataset = lambda: (
        [rng.normal(size=(1, 4, 4, 2)).astype(np.float32)] for _ in range(30)
    )
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    check = mlopsc.import_model(tmp_path / "m.tflite", tmp_path / "m.mlb").manifest.framework
    assert check is not None
    assert check.compared


@needs_tensorflow
@pytest.mark.slow
def test_a_negative_size_is_refused(integers: Path, tmp_path: Path) -> None:
    from tf2onnx.tflite.Model import Model

    data = bytearray(integers.read_bytes())
    graph = Model.GetRootAsModel(data, 0).Subgraphs(0)
    tensor = graph.Tensors(graph.Inputs(0))
    signature = tensor._tab.Vector(tensor._tab.Offset(18))
    assert data[signature : signature + 4] == b"\xff" * 4
    data[signature + 2] = 0xFD
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(SourceError, match="a dimension of -131073"):
        mlopsc.import_model(tmp_path / "m.tflite", tmp_path / "m.mlb")
