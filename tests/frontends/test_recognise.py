"""Sources are recognised by their content; what must not be read is refused by name."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path

import pytest
from models import model, node, value
from support import check_refused, check_words, run_cli

import mlopsc
from mlopsc.errors import MlopscError, SourceError, UnsafeSourceError
from mlopsc.frontends import LoadOptions, recognise, wrap

PAYLOAD = b"cposix\nsystem\n(S'touch /tmp/mlopsc-was-here'\ntR."


def archive(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return data.getvalue()


def plain() -> bytes:
    made = model([node("Neg", ["x"], ["y"])], [value("x", [1, 2])], [value("y", [1, 2])])
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("name", ["m.onnx", "m.bin", "m"])
def test_onnx_is_known_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(plain())
    assert recognise(tmp_path / name).framework == "onnx"
    made = mlopsc.import_model(tmp_path / name, tmp_path / "out.mlb")
    assert made.manifest.framework is None
    assert made.manifest.stages[0].source.framework == "onnx"


def test_a_folder_of_one_onnx_model_is_that_model(tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(plain())
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    run_cli("import", folder, "-o", tmp_path / "m.mlb")
    (folder / "decoder.onnx").write_bytes(plain())
    failed = run_cli("import", folder, "-o", tmp_path / "n.mlb")
    check_refused(failed, SourceError, "decoder.onnx, model.onnx")


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"),
    [
        ("m.pkl", pickle.dumps({"a": 1}), UnsafeSourceError, ("pickle",)),
        ("m.onnx", pickle.dumps([1], protocol=2), UnsafeSourceError, ("pickle",)),
        ("m.joblib", zlib.compress(pickle.dumps([1] * 99)), UnsafeSourceError, ("compressed",)),
        ("m.pkl", PAYLOAD, UnsafeSourceError, ("pickle",)),
        ("m.pt", archive(**{"m/data.pkl": PAYLOAD}), UnsafeSourceError,
         ("checkpoint",)),
        ("m.pt", archive(**{"m/data.pkl": b"", "m/code/__torch__.py": b"x"}), UnsafeSourceError,
         ("TorchScript",)),
        ("m.ort", b"\x18\0\0\0ORTM" + bytes(64), SourceError, ("ONNX Runtime",)),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), SourceError, ("HDF5", "marshal")),
        ("m.gguf", b"GGUF" + bytes(64), SourceError, ("GGUF",)),
        ("m.rds", b"\x1f\x8b\x08" + bytes(64), SourceError, ("gzip",)),
        ("m.pdmodel", b"\x0a\x05abc", SourceError, ("PaddlePaddle",)),
        ("m.xml", b"<?xml version='1.0'?><net name='a'><layers></layers></net>", SourceError,
         ("OpenVINO",)),
        ("m.safetensors", (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1]}}' +
         bytes(64), SourceError, ("safetensors", "weights")),
        ("m.bin", b"", SourceError, ("an empty file",)),
        ("m.bin", b"\x01\x02\x03", SourceError, ("3 bytes", "recognises")),
        ("m.bin", b"\x80\x81" * 9, SourceError, ("18 bytes of binary data",)),
        ("m.txt", b"hello", SourceError, ("5 bytes of text",)),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(
    name: str, data: bytes, kind: type[MlopscError], words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(kind) as caught:
        mlopsc.import_model(tmp_path / name, tmp_path / "out.mlb")
    check_words(caught.value.message, caught.value.hint, *words)
    assert not (tmp_path / "out.mlb").exists()
    assert not Path("/tmp/mlopsc-was-here").exists()  # noqa: S108 - what the payload would make


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(SourceError):
            recognise(path)
    with pytest.raises(SourceError, match="a folder with nothing"):
        recognise(tmp_path)


def test_frameworks_are_named_where_they_are_found(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"hello")
    with pytest.raises(SourceError) as caught:
        recognise(tmp_path / "m")
    assert "TFLite" in caught.value.message
    assert "JAX" not in caught.value.message
    with pytest.raises(SourceError) as caught:
        wrap(3, None, LoadOptions())
    assert caught.value.message.endswith(
        "a model of XGBoost, LightGBM, CatBoost, scikit-learn, PyTorch, Keras, TensorFlow, JAX"
    )


def test_check_says_what_it_was_taken_for(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(plain())
    assert "ONNX model; ok" in run_cli("import", "--check", tmp_path / "m").stdout
