"""Imports and builds that have not changed come from the cache, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from models import model, node, value
from onnx import numpy_helper
from support import HANG_S, check_refused, run_cli, tree, unchanged

import mlopsc
from mlopsc import import_job, pipeline
from mlopsc.errors import BrokenBundleError, InputError, OutputError
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.import_options import ImportOptions


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, switched on."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MLOPSC_CACHE_DIR", str(folder))
    monkeypatch.delenv("MLOPSC_CACHE_BYTES")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that workers were called for, in order."""
    called: list[str] = []
    for module in (pipeline, import_job):
        original = module.run_worker

        def record(function: str, *given: Any, _run: Any = original, **more: Any) -> Any:
            called.append(function.partition(":")[2])
            return _run(function, *given, **more)

        monkeypatch.setattr(module, "run_worker", record)
    return called


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model with a symbolic dimension, and files around it."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_scaled(folder / "m.onnx", 2.0)
    shift = [node("Add", ["raw", "one"], ["x"])]
    one = {"one": np.float32(1)}
    models.save(
        model(shift, [value("raw", ["n", 4])], [value("x", ["n", 4])], one), folder / "pre.onnx"
    )
    return folder / "m.onnx"


def save_scaled(path: Path, factor: float) -> None:
    made = model(
        [node("Mul", ["x", "factor"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        {"factor": np.float32(factor)},
    )
    models.save(made, path)


def build(source: Path, output: Path, **options: Any) -> dict[str, bool]:
    """Build and return what came from the cache, by target, or "import"."""
    found: dict[str, bool] = {}

    def progress(target: str, what: str) -> None:
        if what != pipeline.NOT_SIGNED:
            found[target] = what == pipeline.UNCHANGED

    targets = options.pop("targets", ["host"])
    how = {name: options.pop(name) for name in BuildOptions.model_fields if name in options}
    pipeline.build(source, targets, output, how=BuildOptions(**how), progress=progress, **options)
    return found


# What has not changed ----------------------------------------------------------------------------


def test_unchanged_build_has_the_same_bytes_and_compiles_nothing(
    digits_folder: Path, cache: Path, calls: list[str], tmp_path: Path
) -> None:
    options = ImportOptions(
        preprocess=digits_folder / "preprocess.onnx", vectors=digits_folder / "vectors.npz"
    )
    given: dict[str, Any] = {
        "targets": ["host", "cortex-m7"], "options": options, "source_code": True
    }  # fmt: skip
    digits = digits_folder / "digits.onnx"
    plain = build(digits, tmp_path / "plain", cache=False, **given)
    first = build(digits, tmp_path / "first", **given)
    assert not any((*plain.values(), *first.values()))
    calls.clear()
    assert build(digits, tmp_path / "again", **given) == {
        "import": True, "host": True, "cortex-m7": True
    }  # fmt: skip
    assert calls == []
    assert tree(tmp_path / "again") == tree(tmp_path / "first") == tree(tmp_path / "plain")
    assert mlopsc.conform(tmp_path / "again" / "host").verdict == "pass"


def test_unchanged_import_has_the_same_bytes(
    source: Path, cache: Path, calls: list[str], tmp_path: Path
) -> None:
    first = mlopsc.import_model(source, tmp_path / "first.mlb")
    calls.clear()
    again = mlopsc.import_model(source, tmp_path / "again.mlb")
    assert calls == []
    assert again.digest == first.digest
    plain = mlopsc.import_model(source, tmp_path / "plain.mlb", cache=False)
    assert plain.digest == first.digest
    data = {(tmp_path / f"{name}.mlb").read_bytes() for name in ("first", "again", "plain")}
    assert len(data) == 1


def test_only_what_is_new_is_made(source: Path, cache: Path, calls: list[str]) -> None:
    out = source.parent.parent / "out"
    assert build(source, out) == {"host": False}
    calls.clear()
    found = build(source, out, targets=["wasm32-simd", "host"], force=True)
    assert found == {"import": True, "host": True, "wasm32-simd": False}
    assert calls == ["compile_model"]
    assert all(mlopsc.conform(out / name).verdict == "pass" for name in ("host", "wasm32-simd"))


def test_bundle_and_onnx_file_share_packages(source: Path, cache: Path, tmp_path: Path) -> None:
    mlopsc.import_model(source, tmp_path / "m.mlb")
    assert build(tmp_path / "m.mlb", tmp_path / "one") == {"host": False}
    assert build(source, tmp_path / "two") == {"import": True, "host": True}
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_cached_paths_load_no_compiler_and_no_reference(
    source: Path, cache: Path, tmp_path: Path
) -> None:
    build(source, tmp_path / "out")
    program = (
        "import sys\n"
        "from mlopsc.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('tvm', 'onnxruntime', 'onnx_ir', 'unicorn') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, "build", source, "-t", "host", "-o", "again"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "again" / "host").is_dir()


# What has changed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"generator": "c"},
        {"schedule": "none"},
        {"accuracy": "strict"},
        {"source_code": True},
        {"options": ImportOptions(name="other")},
        {"options": ImportOptions(version="2")},
        {"options": ImportOptions(bind={"n": 2})},
    ],
    ids=lambda changed: next(iter(changed)) if "options" not in changed else "option of import",
)
def test_other_options_are_another_build(
    changed: dict[str, Any], source: Path, cache: Path, tmp_path: Path
) -> None:
    build(source, tmp_path / "first")
    assert build(source, tmp_path / "other", **changed)["host"] is False
    build(source, tmp_path / "plain", cache=False, **changed)
    assert tree(tmp_path / "other") == tree(tmp_path / "plain")
    assert tree(tmp_path / "other") != tree(tmp_path / "first")
    assert build(source, tmp_path / "again") == {"import": True, "host": True}


def test_the_name_of_the_file_counts_where_it_names_the_model(
    source: Path, cache: Path, tmp_path: Path
) -> None:
    other = source.with_name("other.onnx")
    other.write_bytes(source.read_bytes())
    for options in (ImportOptions(), ImportOptions(name="")):
        for path in (source, other):
            bundle = pipeline.import_model(path, tmp_path / "out.mlb", options, force=True)
            assert bundle.manifest.name == path.stem
    given = ImportOptions(name="given")
    assert build(source, tmp_path / "one", options=given)["host"] is False
    assert build(other, tmp_path / "two", options=given) == {"import": True, "host": True}


def test_targets_are_told_by_what_they_say(source: Path, cache: Path, tmp_path: Path) -> None:
    target = tmp_path / "board.toml"
    text = 'name = "board"\nextends = "cortex-m7"\ndescription = "{}"\n'
    target.write_text(text.format("one"))
    assert build(source, tmp_path / "one", targets=[str(target)])["board"] is False
    assert build(source, tmp_path / "two", targets=[str(target)])["board"] is True
    target.write_text(text.format("other"))
    assert build(source, tmp_path / "three", targets=[str(target)])["board"] is False


def change_model(source: Path) -> ImportOptions:
    save_scaled(source, 3.0)
    return ImportOptions()


def change_preprocess(source: Path) -> ImportOptions:
    path = source.parent / "pre.onnx"
    made = onnx.load(path)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(5), "one"))
    onnx.save(made, path)
    return ImportOptions(preprocess=path)


def change_vectors(source: Path) -> ImportOptions:
    path = source.parent / "v.npz"
    np.savez(path, x=np.full((2, 1, 4), 7.0, np.float32))
    return ImportOptions(vectors=path)


@pytest.mark.parametrize("change", [change_model, change_preprocess, change_vectors])
def test_other_files_are_another_import(
    change: Callable[[Path], ImportOptions], source: Path, cache: Path, tmp_path: Path
) -> None:
    np.savez(source.parent / "v.npz", x=np.ones((2, 1, 4), np.float32))
    before = {
        change_model: ImportOptions(),
        change_preprocess: ImportOptions(preprocess=source.parent / "pre.onnx"),
        change_vectors: ImportOptions(vectors=source.parent / "v.npz"),
    }[change]
    first = pipeline.import_model(source, tmp_path / "first.mlb", before)
    options = change(source)
    other = pipeline.import_model(source, tmp_path / "other.mlb", options)
    plain = pipeline.import_model(source, tmp_path / "plain.mlb", options, cache=False)
    assert other.digest == plain.digest != first.digest


def test_external_data_counts(cache: Path, calls: list[str], tmp_path: Path) -> None:
    weights = np.arange(2048, dtype=np.float32).reshape(4, 512)
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", [1, 4])],
        [value("y", [1, 512])],
        {"w": weights},
    )
    path = tmp_path / "m.onnx"
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model_bytes = path.read_bytes()
    first = mlopsc.import_model(path, tmp_path / "first.mlb")
    assert calls == ["find_external", "import_file"]
    calls.clear()
    assert mlopsc.import_model(path, tmp_path / "again.mlb").digest == first.digest
    assert calls == []
    (tmp_path / "w.bin").write_bytes((weights + 1).tobytes())
    assert path.read_bytes() == model_bytes
    other = mlopsc.import_model(path, tmp_path / "other.mlb")
    assert calls == ["import_file"]
    assert other.digest != first.digest
    (tmp_path / "w.bin").write_bytes(weights.tobytes())
    calls.clear()
    assert mlopsc.import_model(path, tmp_path / "back.mlb").digest == first.digest
    assert calls == []


@pytest.mark.parametrize("stage", ["import_file", "compile_model"])
def test_what_changes_while_it_is_read_is_not_kept(
    stage: str, source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker reads the file as it is, whatever it was when the key was made."""
    bundle = tmp_path / "m.mlb"
    mlopsc.import_model(source, bundle)
    mlopsc.import_model(source, tmp_path / "other.mlb", version="2")
    path = source if stage == "import_file" else bundle
    before = path.read_bytes()
    module = import_job if stage == "import_file" else pipeline
    original = module.run_worker

    def disturbed(function: str, *given: Any, **more: Any) -> Any:
        if function.endswith(stage):
            if path == source:
                save_scaled(source, 9.0)
            else:
                bundle.write_bytes((tmp_path / "other.mlb").read_bytes())
        return original(function, *given, **more)

    options = None if path == bundle else ImportOptions(name="fresh")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_worker", disturbed)
        if path == source:
            build(path, tmp_path / "one", options=options)
        else:  # a bundle that was judged is the one that is built, or none
            with pytest.raises(BrokenBundleError, match="replaced"):
                build(path, tmp_path / "one", options=options)
    path.write_bytes(before)
    again = build(path, tmp_path / "two", options=options)
    assert not any(again.values())
    build(path, tmp_path / "plain", options=options, cache=False)
    assert tree(tmp_path / "two") == tree(tmp_path / "plain")


def test_damaged_cache_only_costs_time(source: Path, cache: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "first")
    for path in cache.rglob("content/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    for path in cache.glob("*/content"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert build(source, tmp_path / "again") == {"host": False}
    assert tree(tmp_path / "again") == tree(tmp_path / "first")
    assert build(source, tmp_path / "third") == {"import": True, "host": True}


# What else holds on the short way ----------------------------------------------------------------


def test_outputs_are_protected_and_replaced_as_ever(
    source: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(source, out)
    with unchanged(out), pytest.raises(OutputError, match="exists already"):
        build(source, out)
    (out / "host" / "stray").write_text("old")
    assert build(source, out, force=True) == {"import": True, "host": True}
    assert not (out / "host" / "stray").exists()
    with pytest.raises(InputError, match="import options do not apply"):
        mlopsc.import_model(source, tmp_path / "m.mlb")
        build(tmp_path / "m.mlb", tmp_path / "new", options=ImportOptions(name="x"))
    assert not (tmp_path / "new").exists()


def test_damaged_bundle_is_refused(source: Path, cache: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "m.mlb"
    mlopsc.import_model(source, bundle)
    build(bundle, tmp_path / "out")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BrokenBundleError):
        build(bundle, tmp_path / "other")


@pytest.mark.parametrize("at", ["import", "host"])
def test_interrupt_leaves_nothing(
    at: str, source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(source, tmp_path / "out")
    work = tmp_path / "work"
    (work / "temporary").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(work / "temporary"))

    def progress(target: str, what: str) -> None:
        if target == at:
            raise KeyboardInterrupt

    with unchanged(work), pytest.raises(KeyboardInterrupt):
        pipeline.build(source, ["host"], work / "new" / "out", progress=progress)


def test_processes_may_share_the_cache(source: Path, cache: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"out{number}" for number in range(3)]
    command = [sys.executable, "-m", "mlopsc", "build", str(source), "-t", "host", "-o"]
    running = [subprocess.Popen([*command, str(output)]) for output in outputs]
    assert [process.wait(HANG_S) for process in running] == [0, 0, 0]
    assert tree(outputs[0]) == tree(outputs[1]) == tree(outputs[2])
    assert not list(cache.glob("*.part"))
    assert build(source, tmp_path / "again") == {"import": True, "host": True}
    assert tree(tmp_path / "again") == tree(outputs[0])


def test_command_line_says_what_is_unchanged_and_shows_and_clears_the_cache(
    source: Path, cache: Path, tmp_path: Path
) -> None:
    options = ("--target", "host", "-o", tmp_path / "out", "--force")
    assert "unchanged" not in run_cli("build", source, *options).stderr
    assert run_cli("build", source, *options).stderr.splitlines() == [
        "import: unchanged (cache)", "host: unchanged (cache)"
    ]  # fmt: skip
    assert run_cli("build", source, *options, "--no-cache").stderr == ""
    imported = run_cli("import", source, "-o", tmp_path / "m.mlb")
    assert imported.stderr == "import: unchanged (cache)\n"
    assert run_cli("import", source, "-o", tmp_path / "n.mlb", "--no-cache").stderr == ""

    shown = json.loads(run_cli("cache", "--json").stdout)
    assert (shown["folder"], shown["entries"], shown["limit"]) == (str(cache), 3, 4 << 30)
    kept = sum(p.stat().st_size for p in cache.rglob("content/**/*") if p.is_file())
    kept += sum(p.stat().st_size for p in cache.glob("*/content") if p.is_file())
    assert shown["bytes"] == kept
    assert str(cache) in run_cli("cache").stdout
    assert run_cli("cache", "clear").stdout.startswith("removed 3 entries")
    assert list(cache.iterdir()) == []
    assert run_cli("build", source, *options).stderr == ""


def test_cache_is_disabled_by_a_size_of_0_and_refuses_other_words(
    source: Path, cache: Path, tmp_path: Path
) -> None:
    options = ("--target", "host", "-o", tmp_path / "out")
    result = run_cli("build", source, *options, env={"MLOPSC_CACHE_BYTES": "0"})
    assert result.returncode == 0, result.stderr
    assert not cache.exists()
    wrong = run_cli("build", source, *options, "--force", env={"MLOPSC_CACHE_BYTES": "4 GiB"})
    check_refused(wrong, InputError, "MLOPSC_CACHE_BYTES", "4 GiB")
