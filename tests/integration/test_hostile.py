"""Models made to harm are refused in our words, within limits of time and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hostile
import models
import numpy as np
import onnx
import pytest
from models import model, node, value
from onnx import TensorProto, helper
from support import check_words

from mlopsc import import_job, pipeline
from mlopsc.errors import MlopscError, SourceError
from mlopsc.importer import ImportOptions, import_bundle
from mlopsc.tools import run_worker

LIMIT_S = 5.0
Make = Callable[[], onnx.ModelProto | bytes]


def save(made: onnx.ModelProto | bytes, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def test_every_worker_that_reads_a_model_is_fenced_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fenced = {}

    def run(function: str, *arguments: Any, **options: Any) -> Any:
        fenced[function] = options.get("sandboxed")
        return run_worker(function, *arguments, **options)

    monkeypatch.setattr(import_job, "run_worker", run)
    path = save(models.one_op(), tmp_path)
    pipeline.import_model(path, tmp_path / "m.mlb", ImportOptions(), timeout=60)
    pipeline.check_model(path, ImportOptions(), timeout=60)
    assert fenced
    assert all(fenced.values()), fenced


@pytest.mark.parametrize("make", hostile.REFUSED.values(), ids=hostile.REFUSED)
def test_hostile_model_is_refused(make: Make, tmp_path: Path) -> None:
    """By its content, at once: not because it ran into the limits."""
    path = save(make(), tmp_path)
    with pytest.raises(MlopscError) as caught:
        pipeline.import_model(path, tmp_path / "m.mlb", ImportOptions(), timeout=60)
    check_words(caught.value.message, caught.value.hint)
    for accident in ("did not finish", "signal", "memory", "MemoryError", "bad_alloc"):
        assert accident not in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("make", hostile.BOUNDED.values(), ids=hostile.BOUNDED)
def test_hostile_model_is_imported_or_stopped(make: Make, tmp_path: Path) -> None:
    path = save(make(), tmp_path)
    try:
        pipeline.import_model(path, tmp_path / "m.mlb", ImportOptions(), timeout=LIMIT_S)
    except MlopscError as error:
        check_words(error.message, error.hint)
        assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_model_that_takes_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlopsc.import_job._MEMORY_BASE", 1 << 30)
    made = hostile.shaped([1 << 28])
    with pytest.raises(SourceError) as caught:
        pipeline.import_model(save(made, tmp_path), tmp_path / "m.mlb", ImportOptions())
    assert "Unable to allocate" in caught.value.message or "memory" in caught.value.message


# External data -----------------------------------------------------------------------------------


def external(location: str, *, shape: Sequence[int] = (4,), **entries: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def in_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])])
    made.graph.initializer.append(tensor)
    return made


def in_attribute(tensor: onnx.TensorProto) -> onnx.ModelProto:
    constant = node("Constant", [], ["w"])
    constant.attribute.append(helper.make_attribute("value", tensor))
    return model([constant, node("Add", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])])


def in_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node("Add", ["x", "w"], [name])], name, [], [value(name, [4])], [tensor]
        )

    return model(
        [node("If", ["c"], ["y"], then_branch=branch("t"), else_branch=branch("e"))],
        [value("x", [4]), value("c", [], "bool")],
        [value("y", [4])],
    )


def in_sparse(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])])
    sparse = made.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3]))
    return made


def in_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.append(helper.make_attribute("value", tensor))
    function = helper.make_function(
        "own", "f", ["a"], ["r"], [constant, helper.make_node("Add", ["a", "w"], ["r"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    call = node("f", ["x"], ["y"], domain="own")
    return model(
        [call], [value("x", [4])], [value("y", [4])], functions=[function], domains=["own"]
    )


PLACES = [in_initializer, in_attribute, in_branch, in_sparse, in_function]
Place = Callable[[onnx.TensorProto], onnx.ModelProto]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, with what lies around it."""
    inside = tmp_path / "model"
    (inside / "deeper").mkdir(parents=True)
    data = np.arange(1024, dtype=np.float32).tobytes()
    for path in (tmp_path / "secret", inside / "w.bin", inside / "deeper" / "w.bin"):
        path.write_bytes(data)
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "folder-link").symlink_to(tmp_path)
    (inside / "circle").symlink_to(inside / "circle")
    (inside / "inner-link").symlink_to(inside / "deeper" / "w.bin")
    os.mkfifo(inside / "pipe")
    return inside


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        pipeline.import_model(path, path.parent / "m.mlb", ImportOptions(), timeout=60)
    check_words(caught.value.message, caught.value.hint)
    assert "did not finish" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location",
    [
        "../secret", "deeper/../../secret", "/etc/passwd", "link", "folder-link/secret",
        "..\\secret", "deeper\\w.bin", "C:/secret", "w.bin\0", "", ".", "deeper", "pipe", "circle",
        "missing", "x" * 5000, "/dev/zero", "deeper/..",
    ],
)  # fmt: skip
def test_external_data_elsewhere(place: Place, location: str, folder: Path) -> None:
    message = refused(save(place(external(location)), folder))
    assert "external data of 'w'" in message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "4090"}, {"offset": "-4"}, {"offset": "9" * 30}, {"offset": "x"},
        {"offset": "1.5"}, {"offset": "4096"}, {"length": "15"}, {"length": "17"},
        {"length": "-16"}, {"length": "0x10"}, {"offset": "9223372036854775807"},
    ],
    ids=str,
)  # fmt: skip
def test_external_data_that_is_not_in_the_file(
    place: Place, entries: dict[str, str], folder: Path
) -> None:
    message = refused(save(place(external("w.bin", **entries)), folder))
    assert "external data of 'w'" in message


def test_external_data_that_is_described_twice(folder: Path) -> None:
    tensor = external("w.bin")
    tensor.external_data.add(key="location", value="../secret")
    assert "twice" in refused(save(in_initializer(tensor), folder))


def test_external_data_of_strings(folder: Path) -> None:
    tensor = external("w.bin")
    tensor.data_type = TensorProto.STRING
    assert "raw data" in refused(save(in_initializer(tensor), folder))


@pytest.mark.parametrize("place", [in_initializer, in_attribute, in_branch, in_function])
@pytest.mark.parametrize("location", ["w.bin", "deeper/w.bin", "inner-link", "./w.bin"])
@pytest.mark.parametrize("size", [4, 1024])
def test_external_data_inside_the_folder(
    place: Place, location: str, size: int, folder: Path
) -> None:
    made = place(external(location, shape=[size // 4, 4], offset="0", length=str(size * 4)))
    for output in (made.graph.output[0], *(v for n in made.graph.node for a in n.attribute
                                           for v in a.g.output)):  # fmt: skip
        output.type.tensor_type.shape.dim[0].dim_value = size // 4
        output.type.tensor_type.shape.dim.add(dim_value=4)
    bundle = import_bundle(save(made, folder), ImportOptions())
    expected = np.arange(size, dtype=np.float32).reshape(size // 4, 4)
    for vector in bundle.vectors:
        np.testing.assert_array_equal(vector.outputs["y"], vector.inputs["x"] + expected)


def test_model_may_be_given_by_a_link(folder: Path, tmp_path: Path) -> None:
    save(in_initializer(external("w.bin")), folder)
    (tmp_path / "linked").symlink_to(folder)
    assert import_bundle(tmp_path / "linked" / "m.onnx", ImportOptions()).vectors


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_as_a_model(tmp_path: Path) -> None:
    """A finding: reading it never ended."""
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="regular file"):
        pipeline.import_model(
            tmp_path / "m.onnx", tmp_path / "m.mlb", ImportOptions(), timeout=LIMIT_S
        )


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(5 << 30)  # sparse
    with pytest.raises(SourceError, match="holds at most"):
        import_bundle(tmp_path / "m.onnx", ImportOptions())


def test_data_that_many_tensors_share(tmp_path: Path) -> None:
    """A finding: a small model and a sparse file became a bundle of gigabytes."""
    count, size = 12, 1 << 20
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
    made = model(
        [node("Sum", ["x", *(f"w{i}" for i in range(count))], ["y"])],
        [value("x", [size // 4])],
        [value("y", [size // 4])],
    )
    for i in range(count):
        tensor = made.graph.initializer.add(name=f"w{i}", dims=[size // 4])
        tensor.data_type = TensorProto.FLOAT
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", "w.bin"), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=text)
    with pytest.raises(SourceError, match="times as many"):
        import_bundle(save(made, tmp_path), ImportOptions())
