"""What a ``.pt2`` archive may hold, and what is refused before PyTorch sees it. No PyTorch here."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import check_words

from mlopsc.errors import MlopscError, SourceError, UnsafeSourceError
from mlopsc.frontends import recognise
from mlopsc.frontends.torch_archive import Archive, clean

SYMBOL = "Symbol('s31', positive=True, integer=True)"
TENSOR = {
    "dtype": 7,
    "sizes": [{"as_expr": {"expr_str": SYMBOL, "hint": {"as_int": 2}}}, {"as_int": 4}],
    "device": {"type": "cpu", "index": None},
}
LEAF = {"type": None, "context": None, "children_spec": []}
TREE = json.dumps([1, {"type": "builtins.dict", "context": '["a"]', "children_spec": [LEAF]}])
PROGRAM: dict[str, Any] = {
    "graph_module": {
        "graph": {
            "inputs": [{"as_tensor": {"name": "x"}}],
            "nodes": [
                {
                    "target": "torch.ops.aten.einsum.default",
                    "inputs": [
                        {"name": "equation", "arg": {"as_string": "i, j -> ij"}, "kind": 1},
                        {"name": "tensors", "arg": {"as_tensor": {"name": "x"}}, "kind": 1},
                    ],
                    "outputs": [{"as_tensor": {"name": "y"}}],
                    "metadata": {"stack_trace": 'File "model.py", line 1, in forward'},
                }
            ],
            "tensor_values": {"x": TENSOR, "target": TENSOR},
        },
        "module_call_graph": [{"fqn": "", "signature": {"in_spec": TREE, "out_spec": TREE}}],
        "metadata": {"note": "anything (at all)"},
    },
    "guards_code": ["__import__('os').system('true')"],
    "torch_version": "2.13.0+cpu",
}
WEIGHTS = {"config": {"0.weight": {"path_name": "weight_0", "use_pickle": False,
                                   "tensor_meta": TENSOR}}}  # fmt: skip


def save(
    path: Path,
    program: Any = PROGRAM,
    weights: Any = WEIGHTS,
    compression: int = zipfile.ZIP_STORED,
    **members: bytes,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/model_weights_config.json", json.dumps(weights))
        archive.writestr("m/data/weights/weight_0", bytes(32))
        if program is not None:
            archive.writestr("m/models/model.json", json.dumps(program))
        for name, data in members.items():
            archive.writestr(f"m/{name}", data)
    return path


def read(path: Path, tensors: Callable[[bytes], bool] = lambda data: False) -> Archive:
    return clean(path, path.with_name("clean.pt2"), tensors)


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    program = copy.deepcopy(PROGRAM)
    change(program)
    return program


def node(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]["nodes"][0]  # type: ignore[no-any-return]


def size(text: str) -> dict[str, Any]:
    program = copy.deepcopy(PROGRAM)
    sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = text
    return program


def tree(**spec: Any) -> dict[str, Any]:
    program = copy.deepcopy(PROGRAM)
    text = json.dumps([1, LEAF | spec])
    program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text
    return program


def test_what_pytorch_writes_passes_without_guards_and_metadata(tmp_path: Path) -> None:
    path = save(tmp_path / "m.pt2", **{
        "extra/run.json": b'{"epochs": 3}', "extra/note.txt": b"hello", "extra/blob": b"\xff",
        "data/sample_inputs/model.pt": b"tensors",
    })  # fmt: skip
    assert recognise(path).framework == "torch"
    found = read(path, lambda data: data == b"tensors")
    assert found.version == "2.13.0+cpu"
    assert found.extra == {"run.json": {"epochs": 3}, "note.txt": "hello"}
    assert found.sample == b"tensors"
    with zipfile.ZipFile(tmp_path / "clean.pt2") as archive:
        kept = json.loads(archive.read("model/models/model.json"))
        assert archive.read("model/data/sample_inputs/model.pt") == b""
        assert archive.read("model/data/weights/weight_0") == bytes(32)
        assert "model/extra/run.json" not in archive.namelist()
    assert kept["guards_code"] == []
    assert node(kept)["metadata"] == {}
    assert kept["graph_module"]["graph"]["tensor_values"]["target"] == TENSOR
    assert read(path).sample == b""


@pytest.mark.parametrize("text", [
    "s31", "2*s31 + 1", "Max(1, Symbol('u0'))", "FloorDiv(Add(Symbol('s0'), Integer(-1)), 2)",
    "-int_oo", "Eq(s0, 2)",
])  # fmt: skip
def test_sizes_may_be_expressions(text: str, tmp_path: Path) -> None:
    read(save(tmp_path / "m.pt2", size(text)))


@pytest.mark.parametrize("text", [
    "__import__('os').system('touch x')", "Symbol('x').__class__", "eval('1')", "open", "lambda: 0",
    "Max('__import__(\"os\")', 1)", "Symbol('s0', Symbol)('x')", "[x for x in (1,)]", "s0; s1",
    "Symbol(name='a b')", "Symbol('a b')", "(" * 5000, "f'{1}'", "Symbol",
])  # fmt: skip
def test_expressions_that_python_would_run_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeSourceError, match="expression"):
        read(save(tmp_path / "m.pt2", size(text)))


@pytest.mark.parametrize(("target", "kind", "words"), [
    ("torch.load", UnsafeSourceError, "torch.load"),
    ("torch.hub.load", UnsafeSourceError, "torch.hub"),
    ("torch.ops.load_library", UnsafeSourceError, "load_library"),
    ("torch.ops.aten.from_file.default", UnsafeSourceError, "from_file"),
    ("torch.ops.aten.add.Tensor.__class__", UnsafeSourceError, "__class__"),
    ("_operator.methodcaller", UnsafeSourceError, "methodcaller"),
    ("builtins.eval", UnsafeSourceError, "eval"),
    ("#aoti:kernel", UnsafeSourceError, "#aoti"),
    ("torch.ops.mine.fancy.default", SourceError, "mine.fancy"),
])  # fmt: skip
def test_operators_outside_of_pytorch_are_refused(
    target: str, kind: type[MlopscError], words: str, tmp_path: Path
) -> None:
    program = changed(lambda p: node(p).update(target=target))
    with pytest.raises(kind) as caught:
        read(save(tmp_path / "m.pt2", program))
    check_words(caught.value.message, caught.value.hint, words)
    if kind is UnsafeSourceError:
        program = changed(lambda p: node(p)["inputs"][0].update(arg={"as_operator": target}))
        with pytest.raises(kind):
            read(save(tmp_path / "n.pt2", program))


@pytest.mark.parametrize("name", ["x): import os #", "x\ny", "x'", "x=eval(y)", "x;y"])
def test_names_that_would_become_python_are_refused(name: str, tmp_path: Path) -> None:
    for change in (
        lambda p: node(p)["outputs"][0]["as_tensor"].update(name=name),
        lambda p: p["graph_module"]["graph"]["tensor_values"].update({name: TENSOR}),
        lambda p: node(p)["inputs"][0].update(name=name),
    ):
        with pytest.raises(UnsafeSourceError, match="name"):
            read(save(tmp_path / "m.pt2", changed(change)))


@pytest.mark.parametrize("program", [
    tree(type="collections.defaultdict", context='{"default_factory_module": "os"}'),
    tree(type="builtins.dict", context='[{"__enum__": true, "fqn": "os:system", "name": "x"}]'),
    tree(type="builtins.dict", context='{"__enum__": true, "fqn": "os:system", "name": "x"}'),
])  # fmt: skip
def test_trees_that_import_modules_are_refused(program: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected tensors"):
        read(save(tmp_path / "m.pt2", program))


@pytest.mark.parametrize("entry", [
    {"path_name": "weight_0", "use_pickle": True}, {"path_name": "custom_obj_0"},
    {"path_name": "opaque_obj_0"},
])  # fmt: skip
def test_pickled_weights_and_objects_are_refused(entry: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "m.pt2", weights={"config": {"0.weight": entry}})
    with pytest.raises(UnsafeSourceError, match=r"'0\.weight' is a pickle"):
        read(path)


def test_weights_of_older_versions_may_hold_tensors_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "m.pt2", **{"data/weights/model.pt": pickle.dumps(1)})
    read(path, lambda data: True)
    with pytest.raises(UnsafeSourceError, match="more than tensors"):
        read(path)


def test_other_archives_are_refused_with_the_way_back(tmp_path: Path) -> None:
    for path, kind, words in (
        (save(tmp_path / "a.pt2", None, **{"data/aotinductor/model/a.so": b"\x7fELF"}),
         UnsafeSourceError, "AOTInductor"),
        (save(tmp_path / "b.pt2", None, **{"models/other.json": b"{}"}), SourceError, "other"),
        (save(tmp_path / "c.pt2", compression=zipfile.ZIP_DEFLATED), SourceError, "compressed"),
        (save(tmp_path / "d.pt2", byteorder=b"big"), SourceError, "big-endian"),
        (save(tmp_path / "e.pt2", []), SourceError, "damaged"),
        (save(tmp_path / "f.pt2", weights=[]), SourceError, "damaged"),
        (save(tmp_path / "g.pt2", **{"../../evil": b""}), SourceError, "evil"),
    ):  # fmt: skip
        assert recognise(path).framework == "torch"
        with pytest.raises(kind) as caught:
            read(path)
        check_words(caught.value.message, caught.value.hint, words)


def test_old_files_are_recognised(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(SourceError, match=r"before 2\.8"):
        recognise(tmp_path / "m.pt2")
