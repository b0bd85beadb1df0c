"""Bundles: the same bytes each time, aligned, and refused when anything in them is not whole."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from mlopsc.bundle import Bundle, load_graph, pack, read_bundle, write_bundle
from mlopsc.bundle.container import read_container, write_container
from mlopsc.errors import BrokenBundleError
from mlopsc.external_data import nbytes
from mlopsc.importer import ImportOptions, import_bundle
from mlopsc.reference import Reference
from mlopsc.schema.common import canonical_json
from mlopsc.schema.graph import ALIGN

EPOCH = (1980, 1, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = models.save(models.several(), tmp_path_factory.mktemp("model") / "several.onnx")
    return import_bundle(source, ImportOptions(version="7"))


@pytest.fixture(scope="module")
def written(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "several.mlb"
    write_bundle(bundle, path)
    return path.read_bytes()


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def spans(path: Path, data: bytes) -> dict[str, tuple[int, int]]:
    """Return where the content of every member begins and ends in the file."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            header = data[info.header_offset :]
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(
                header[28:30], "little"
            )
            start = info.header_offset + 30 + lengths
            found[info.filename] = (start, start + info.file_size)
    return found


def rewrite(path: Path, data: bytes, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Write a container with the members of ``data`` after ``change`` has been at them."""
    path.write_bytes(data)
    content = members(path)
    change(content)
    write_container(path, {name: [member] for name, member in content.items()})
    return path


def equal(a: Bundle, b: Bundle) -> bool:
    same = a.manifest == b.manifest and a.stages == b.stages and len(a.vectors) == len(b.vectors)
    return same and all(
        np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
        and one[name].dtype == other[name].dtype
        for v, w in zip(a.vectors, b.vectors, strict=True)
        for one, other in ((v.inputs, w.inputs), (v.outputs, w.outputs))
        for name in one
    )


def test_round_trip(bundle: Bundle, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    again = read_bundle(path)
    assert equal(again, bundle)
    assert again.digest == bundle.digest
    assert (again.manifest.name, again.manifest.version) == ("several", "7")
    assert len(again.manifest.files) == len(members(path)) - 1


def test_same_bundle_gives_the_same_bytes(bundle: Bundle, written: bytes, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "a.mlb")
    assert (tmp_path / "a.mlb").read_bytes() == written
    write_bundle(read_bundle(tmp_path / "a.mlb"), tmp_path / "b.mlb")
    assert (tmp_path / "b.mlb").read_bytes() == written


def test_members_are_stored_aligned_and_without_time(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    content, places = members(path), spans(path, written)
    assert ALIGN == 64
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            start, end = places[info.filename]
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == EPOCH
            assert start % ALIGN == 0, info.filename
            assert written[start:end] == content[info.filename]


def weighty(folder: Path, *, external: bool) -> Path:
    """Save a model with two equal large weights and a small one."""
    large = np.arange(1024, dtype=np.float32).reshape(16, 64) / 64
    made = models.model(
        [
            models.node("Add", ["x", "a"], ["p"]),
            models.node("Mul", ["p", "b"], ["q"]),
            models.node("Mul", ["q", "s"], ["y"]),
        ],
        [models.value("x", [16, 64])],
        [models.value("y", [16, 64])],
        {"a": large, "b": large.copy(), "s": np.full(64, 2, np.float32)},
    )
    path = folder / "weighty.onnx"
    onnx.save(made, path, save_as_external_data=external, location="w.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])
def test_large_weights_are_a_member_of_their_own(external: bool, tmp_path: Path) -> None:
    bundle = import_bundle(weighty(tmp_path, external=external), ImportOptions())
    write_bundle(bundle, tmp_path / "a.mlb")
    content = members(tmp_path / "a.mlb")
    expected = np.arange(1024, dtype=np.float32) / 64
    assert content["model.weights"] == expected.tobytes(), "once, and nothing else"
    again = read_bundle(tmp_path / "a.mlb")
    assert equal(again, bundle)
    (weight,) = again.stages[0].weights.values()
    assert weight.file == (tmp_path / "a.mlb").resolve()
    with (tmp_path / "a.mlb").open("rb") as file:
        file.seek(weight.offset)
        assert file.read(len(weight.data)) == weight.data
    tensors = load_graph(again.stages[0]).graph.initializers.values()
    assert sorted(t.const_value.nbytes for t in tensors) == [256, 4096]
    assert all(np.array_equal(t.const_value.numpy().ravel(), expected)
               for t in tensors if t.const_value.nbytes == 4096)  # fmt: skip
    inputs = again.vectors[0].inputs
    computed = Reference(again.stages).run(inputs)["y"]
    x = inputs["x"]
    np.testing.assert_array_equal(
        computed, (x + expected.reshape(16, 64)) * expected.reshape(16, 64) * 2
    )


def test_unpacked_bundle_is_a_model_for_other_tools(tmp_path: Path) -> None:
    bundle = import_bundle(weighty(tmp_path, external=False), ImportOptions())
    write_bundle(bundle, tmp_path / "a.mlb")
    with zipfile.ZipFile(tmp_path / "a.mlb") as archive:
        archive.extractall(tmp_path / "unpacked")
    onnx.checker.check_model(tmp_path / "unpacked" / "model.onnx", full_check=True)
    session = ort.InferenceSession(tmp_path / "unpacked" / "model.onnx")
    for vector in bundle.vectors:
        (got,) = session.run(["y"], vector.inputs)
        np.testing.assert_array_equal(got, vector.outputs["y"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("location", "other.weights"), ("location", "../model.weights"), ("offset", "64"),
        ("offset", "-64"), ("offset", "99999999999999999999"), ("length", "4095"),
        ("length", "-1"), ("length", "8192"),
    ],
)  # fmt: skip
def test_graph_that_refers_to_other_data(key: str, value: str, tmp_path: Path) -> None:
    bundle = import_bundle(weighty(tmp_path, external=False), ImportOptions())
    graph = onnx.load_model_from_string(bundle.stages[0].model)
    (tensor,) = (t for t in graph.graph.initializer if t.external_data)
    next(e for e in tensor.external_data if e.key == key).value = value
    stage = replace(bundle.stages[0], model=graph.SerializeToString())
    packed = pack(bundle.manifest, [stage], bundle.vectors, bundle.documents)
    write_bundle(packed, tmp_path / "a.mlb")
    with pytest.raises(BrokenBundleError, match="weights"):
        read_bundle(tmp_path / "a.mlb")


def test_manifest_comes_first_and_lists_the_rest_in_order(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    names = list(members(path))
    assert names[0] == "manifest.json"
    assert names[1:] == sorted(names[1:])


def test_standard_tools_find_no_fault(written: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mlb").write_bytes(written)
    with zipfile.ZipFile(tmp_path / "a.mlb") as archive:
        assert archive.testzip() is None


def test_digest_of_a_stage_is_that_of_its_members(tmp_path: Path) -> None:
    weights = {"w": models.random(40, 40), "v": models.random(40, 41)}
    nodes = [
        models.node("MatMul", ["x", "w"], ["h"]),
        models.node("MatMul", ["h", "v"], ["y"]),
    ]
    model = models.model(nodes, [models.value("x", [1, 40])], [models.value("y", [1, 41])], weights)
    bundle = import_bundle(models.save(model, tmp_path / "m.onnx"), ImportOptions())
    write_bundle(bundle, tmp_path / "m.mlb")
    with zipfile.ZipFile(tmp_path / "m.mlb") as members:
        data = members.read("model.onnx") + members.read("model.weights")
    assert bundle.stages[0].digest == read_bundle(tmp_path / "m.mlb").stages[0].digest
    assert bundle.stages[0].digest == "sha256:" + hashlib.sha256(data).hexdigest()


def test_truncated_at_any_length(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    step = max(1, len(written) // 300)
    for length in [*range(0, len(written), step), *range(len(written) - 30, len(written))]:
        path.write_bytes(written[:length])
        with pytest.raises(BrokenBundleError) as caught:
            read_bundle(path)
        assert str(path) in caught.value.message
        assert "mlopsc import" in caught.value.hint


def test_flipped_byte_inside_any_member(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    for name, (start, end) in spans(path, written).items():
        for position in {start, end - 1, *range(start, end, max(1, (end - start) // 9))}:
            for mask in (0x01, 0x80):
                damaged = bytearray(written)
                damaged[position] ^= mask
                path.write_bytes(damaged)
                with pytest.raises(BrokenBundleError):
                    read_bundle(path)
                    pytest.fail(f"flip at {position} in {name} was not noticed")


def test_flipped_byte_between_members(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    inside = {at for span in spans(path, written).values() for at in range(*span)}
    outside = [at for at in range(len(written)) if at not in inside]
    assert len(outside) > 1000
    for number, position in enumerate(outside):
        damaged = bytearray(written)
        damaged[position] ^= (0x01, 0x08, 0x20, 0xFF)[number % 4]
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_container(path)
            pytest.fail(f"flip at {position} was not noticed")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\3\4", b"PK\5\6" + bytes(18), bytes(4096)])
def test_file_that_is_no_bundle(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mlb").write_bytes(data)
    with pytest.raises(BrokenBundleError, match=r"a\.mlb"):
        read_bundle(tmp_path / "a.mlb")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.mlb", tmp_path):
        with pytest.raises(BrokenBundleError, match=path.name):
            read_bundle(path)


@pytest.mark.parametrize(
    "name",
    ["evil.bin", "vectors/extra.pb", "model.onnx.bak", "lineage.json.exe", "sbom.cdx.jsonx",
     "signature", "Signature/x", "lineage.json/x", "signature/cosign.bundle"],
)  # fmt: skip
def test_foreign_member_is_refused_by_name(name: str, written: bytes, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "a.mlb", written, lambda m: m.update({name: b"x"}))
    with pytest.raises(BrokenBundleError) as caught:
        read_bundle(path)
    assert name in caught.value.message


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "lineage.json"])
def test_member_that_is_there_twice_is_refused(name: str, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    content = members(path)
    with zipfile.ZipFile(path, "a") as archive:
        for _ in range(2 if name not in content else 1):
            archive.writestr(name, content.get(name, b"x"))
    with pytest.raises(BrokenBundleError):
        read_bundle(path)


def test_missing_member_is_named(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    for name in members(path):
        rewrite(path, written, lambda m, name=name: m.pop(name))
        with pytest.raises(BrokenBundleError) as caught:
            read_bundle(path)
        assert name in caught.value.message


def test_changed_member_with_a_valid_checksum_is_named(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    for name in set(members(path)) - {"manifest.json"}:
        rewrite(path, written, lambda m, name=name: m.update({name: m[name] + b"\0"}))
        with pytest.raises(BrokenBundleError) as caught:
            read_bundle(path)
        assert name in caught.value.message


def test_compressed_members_are_refused(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    content = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    with pytest.raises(BrokenBundleError, match="compressed"):
        read_bundle(path)


def test_other_zips_with_the_same_members_are_refused(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mlb"
    path.write_bytes(written)
    content = members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    with pytest.raises(BrokenBundleError, match="header"):
        read_bundle(path)


@pytest.mark.slow
def test_containers_of_any_size_are_read_by_other_tools(tmp_path: Path) -> None:
    """Sizes beyond 1 GiB and places beyond 2 GiB are written with 64 bits."""
    path = tmp_path / "a.mlb"
    block = memoryview(bytes(1 << 26))
    content = {"a.weights": [block] * 17, "b.weights": [block] * 33, "c.txt": [b"hello"]}
    write_container(path, content)
    found = read_container(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            assert info.file_size == found[info.filename].size
        assert archive.read("c.txt") == b"hello"
    path.unlink()


def change_manifest(change: Callable[[dict[str, object]], object]) -> Callable[..., None]:
    def apply(content: dict[str, bytes]) -> None:
        manifest = json.loads(content["manifest.json"])
        change(manifest)
        content["manifest.json"] = canonical_json(manifest).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "mention"),
    [
        (lambda m: m.update(schema_version="2"), "schema_version"),
        (lambda m: m.update(schema_version=True), "schema_version"),
        (lambda m: m.update(schema_version=0), "schema_version"),
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m.pop("inputs"), "inputs"),
        (lambda m: m.update(name="not an identifier"), "name"),
        (lambda m: m["inputs"][0].update(dtype="float8"), "dtype"),
        (lambda m: m["inputs"][0].update(shape=[-1]), "shape"),
        (lambda m: m["inputs"][0].update(shape=[9, 9]), "signature"),
        (lambda m: m["outputs"][0].update(dtype="int32"), "signature"),
        (lambda m: m["vectors"].update(count=0), "count"),
        (lambda m: m["vectors"].update(count=99), "test_data_set_4"),
        (lambda m: m["vectors"].update(count=10**18), "test_data_set_4"),
        (lambda m: m["stages"].append({**m["stages"][0], "name": "postprocess"}), "postprocess"),
        (lambda m: m["files"].pop(1), "model.onnx"),
        (lambda m: m["files"].append({**m["files"][0], "path": "nowhere.bin"}), "nowhere.bin"),
        (lambda m: m["files"][0].update(digest="md5:1"), "digest"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], mention: str, written: bytes, tmp_path: Path
) -> None:
    path = rewrite(tmp_path / "a.mlb", written, change_manifest(change))
    with pytest.raises(BrokenBundleError) as caught:
        read_bundle(path)
    assert mention in caught.value.message


def test_manifest_that_is_no_json(written: bytes, tmp_path: Path) -> None:
    for text in (b"", b"{", b"[]", b"\xff\xfe", b"null"):
        path = rewrite(
            tmp_path / "a.mlb", written, lambda m, t=text: m.update({"manifest.json": t})
        )
        with pytest.raises(BrokenBundleError, match=r"manifest\.json"):
            read_bundle(path)


def test_sizes_of_all_types_are_known() -> None:
    for code in onnx.TensorProto.DataType.values():
        tensor = onnx.TensorProto(data_type=code, dims=[3, 3])
        if code in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            with pytest.raises(ValueError, match="no raw data"):
                nbytes(tensor)
        else:
            assert nbytes(tensor) == -(-9 * ir.DataType(code).bitwidth // 8)
