"""Whatever a user gets wrong: one clear message, one exit code, and nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from click.testing import CliRunner
from models import model, node, value
from support import (
    HANG_S,
    check_refused,
    check_words,
    copy_package,
    redigest,
    run_cli,
    shipped_library,
    tree,
    unchanged,
)

import mlopsc
from mlopsc import pipeline
from mlopsc.bundle import read_bundle
from mlopsc.cli import cli
from mlopsc.errors import (
    BrokenBundleError,
    BrokenPackageError,
    CompilerError,
    InputError,
    LimitError,
    MismatchError,
    MissingToolError,
    MlopscError,
    OpenShapeError,
    OutputError,
    SourceError,
    TargetDefinitionError,
    UnknownTargetError,
    UnsupportedOpError,
)
from mlopsc.importer import ImportOptions, import_bundle
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.common import canonical_json
from mlopsc.targets import load_target

TARGETS = pytest.mark.parametrize("target", ["host", "cortex-m7", "wasm32-simd"])
INTERRUPTED = 130


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small model in it."""
    models.save(models.two_convs(), tmp_path / "net.onnx")
    return tmp_path


@pytest.fixture
def bundle(folder: Path) -> Path:
    """The bundle of that model, in the same folder."""
    mlopsc.import_model(folder / "net.onnx", folder / "net.mlb")
    return folder / "net.mlb"


def refused(kind: type[MlopscError], cwd: Path, arguments: list[str], *mentions: str) -> None:
    """Check that a command fails as ``kind`` and changes nothing in ``cwd``."""
    with unchanged(cwd):
        check_refused(run_cli(*arguments, cwd=cwd), kind, *mentions)


def refused_here(kind: type[MlopscError], cwd: Path, arguments: list[str], *mentions: str) -> None:
    """Check the same of a command that is run in this process, which takes less time."""
    with unchanged(cwd), contextlib.chdir(cwd):
        result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, MlopscError), (result.exception, result.output)
    assert type(result.exception) is kind, result.exception
    check_words(result.exception.message, result.exception.hint, *mentions)


# Sources -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truncated.onnx", None),
        ("text.onnx", b"This is not a model.\n"),
        ("empty.onnx", b""),
        ("zeros.onnx", bytes(1000)),
        ("picture.onnx", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    ],
)
def test_file_that_is_no_model(name: str, content: bytes | None, folder: Path) -> None:
    whole = (folder / "net.onnx").read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(SourceError, folder, ["import", name, "-o", "out.mlb"], f"'{name}'")
    build = ["build", name, "-t", "host", "-o", "new/out"]
    refused_here(SourceError, folder, build, f"'{name}'")


@pytest.mark.parametrize("name", ["missing.onnx", "net.onnx/x"])
def test_source_that_cannot_be_read(name: str, folder: Path) -> None:
    refused(SourceError, folder, ["import", name, "-o", "out.mlb"], f"'{name}'")


@pytest.mark.parametrize("name", ["missing/net.onnx", "x" * 300])
def test_build_from_a_source_that_cannot_be_read(name: str, folder: Path) -> None:
    arguments = ["build", name, "-t", "host", "-o", "new/out"]
    refused_here(SourceError, folder, arguments, f"'{name}'")


@pytest.mark.parametrize("option", ["--preprocess", "--postprocess"])
def test_stage_that_cannot_be_read_is_named(option: str, folder: Path) -> None:
    (folder / "stage.onnx").write_text("no")
    arguments = ["import", "net.onnx", option, "stage.onnx", "-o", "out.mlb"]
    refused_here(SourceError, folder, arguments, "'stage.onnx'")


def test_stages_that_do_not_fit_are_named(folder: Path) -> None:
    models.save(models.one_op("Relu", [1, 4]), folder / "stage.onnx")
    arguments = ["import", "net.onnx", "--preprocess", "stage.onnx", "-o", "out.mlb"]
    refused_here(SourceError, folder, arguments, "image", "preprocess")


def test_external_data_outside_the_folder_is_not_read(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(bytes(16))
    made = models.add()
    made.graph.node[0].input[1] = "w"
    del made.graph.input[1:]
    for location in ("../secret.bin", str(folder / "secret.bin"), "missing.bin"):
        del made.graph.initializer[:]
        weight = made.graph.initializer.add(name="w", data_type=1, dims=[4], data_location=1)
        weight.external_data.add(key="location", value=location)
        models.save(made, folder / "sub" / "m.onnx")
        refused_here(SourceError, folder, ["import", "sub/m.onnx", "-o", "out.mlb"], location)


def test_damaged_models_give_errors_of_ours_only(tmp_path: Path) -> None:
    """Every truncation and a flip of every byte: refused in our words, or a valid model."""
    whole = models.one_op("LeakyRelu", ["batch", 4], alpha=0.1).SerializeToString()
    path = tmp_path / "m.onnx"
    damaged = [whole[:length] for length in range(len(whole))]
    for position in range(len(whole)):
        for mask in (0x01, 0x08, 0x40):
            flipped = bytearray(whole)
            flipped[position] ^= mask
            damaged.append(bytes(flipped))
    refusals = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            import_bundle(path, ImportOptions())
        except MlopscError:
            refusals += 1
    assert refusals > len(damaged) // 2


# Models ------------------------------------------------------------------------------------------


def test_unsupported_operator(folder: Path) -> None:
    made = model([node("RandomUniformLike", ["x"], ["y"])], [value("x", [4])], [value("y", [4])])
    models.save(made, folder / "m.onnx")
    mentions = ("RandomUniformLike", "make_y", "docs/core-ops.md")
    build = ["build", "m.onnx", "-t", "host", "-o", "new/out"]
    refused(UnsupportedOpError, folder, build, *mentions)
    refused_here(UnsupportedOpError, folder, ["import", "m.onnx", "-o", "m.mlb"], *mentions)


@pytest.mark.shared_models
def test_real_model_truncated_anywhere_is_refused(shared_models: Path, tmp_path: Path) -> None:
    whole = (shared_models / "mlperf-tiny" / "kws_fp32.onnx").read_bytes()
    for part in range(1, 20):
        (tmp_path / "kws.onnx").write_bytes(whole[: len(whole) * part // 20])
        arguments = ["import", "kws.onnx", "-o", "kws.mlb"]
        refused_here(SourceError, tmp_path, arguments, "'kws.onnx'")


def test_open_dimension(folder: Path) -> None:
    models.save(models.one_op("Relu", ["batch", "width"]), folder / "open.onnx")
    arguments = ["build", "open.onnx", "-t", "host", "-o", "new/out"]
    refused(OpenShapeError, folder, arguments, "'width'", "--bind width=")


def test_binding_that_fits_nothing(folder: Path) -> None:
    arguments = ["import", "net.onnx", "-o", "out.mlb", "--bind", "widht=4"]
    refused_here(OpenShapeError, folder, arguments, "widht=4", "batch")


@pytest.mark.parametrize("size", ["0", "99999999999", "99999999999999999999"])
def test_binding_to_an_impossible_size(size: str, folder: Path) -> None:
    arguments = ["import", "net.onnx", "-o", "out.mlb", "--bind", f"batch={size}"]
    refused(OpenShapeError, folder, arguments, size)


def test_binding_for_the_preprocessing_alone(folder: Path) -> None:
    stage = model(
        [node("Reshape", ["raw", "shape"], ["image"])],
        [value("raw", ["count", "length"])],
        [value("image", [1, 2, 8, 8])],
        {"shape": np.int64([1, 2, 8, 8])},
    )
    models.save(stage, folder / "stage.onnx")
    common = ["import", "net.onnx", "--preprocess", "stage.onnx", "-o", "out.mlb", "--bind"]
    wrong = [*common, "length=128", "--bind", "lenght=64"]
    refused_here(OpenShapeError, folder, wrong, "lenght=64", "length")
    result = run_cli(*common, "length=128", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "raw: float32[1, 128]" in result.stdout


def test_nan_weights_are_allowed_and_reported(folder: Path) -> None:
    made = model(
        [node("Mul", ["x", "w"], ["y"])],
        [value("x", [3])],
        [value("y", [3])],
        {"w": np.float32([np.nan, 1, np.inf])},
    )
    models.save(made, folder / "nan.onnx")
    result = run_cli("import", "nan.onnx", "-o", "nan.mlb", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "weight 'w' holds 1 NaN of 3 values" in result.stderr
    assert "weight 'w' holds 1 infinite of 3 values" in result.stderr
    assert run_cli("build", "nan.mlb", "-t", "host", "-o", "out", cwd=folder).returncode == 0
    proven = run_cli("conform", "out/host", cwd=folder)
    assert proven.returncode == 0, proven.stderr


@pytest.mark.parametrize(
    ("limits", "mention"),
    [
        ("flash_bytes = 100", "flash"),  # the weights alone are too large: refused before compiling
        ("flash_bytes = 1800", "flash"),  # weights fit, code does not: refused after
        ("ram_bytes = 100", "RAM"),
        ("ram_bytes = 600", "RAM"),  # inputs and outputs fit, the arena does not
    ],
)
def test_model_that_is_too_large(limits: str, mention: str, bundle: Path) -> None:
    folder = bundle.parent
    text = f'name = "small"\nextends = "cortex-m7"\n[limits]\n{limits}\n'
    (folder / "small.toml").write_text(text)
    arguments = ["build", "net.mlb", "-t", "small.toml", "-o", "new/out"]
    refused(LimitError, folder, arguments, mention, "'small'", "'net'", limits.split()[-1])


def test_one_target_that_is_too_small_leaves_no_package_of_the_others(bundle: Path) -> None:
    folder = bundle.parent
    text = 'name = "small"\nextends = "cortex-m7"\n[limits]\nflash_bytes = 1800\n'
    (folder / "small.toml").write_text(text)
    arguments = ["build", "net.mlb", "-t", "host", "-t", "small.toml", "-o", "out"]
    refused(LimitError, folder, arguments, "'small'")


def test_limits_that_suffice(bundle: Path) -> None:
    text = (
        'name = "large"\nextends = "cortex-m7"\n[limits]\nflash_bytes = 65536\nram_bytes = 65536\n'
    )
    (bundle.parent / "large.toml").write_text(text)
    result = run_cli("build", "net.mlb", "-t", "large.toml", "-o", "out", cwd=bundle.parent)
    assert result.returncode == 0, result.stderr


# Vectors -----------------------------------------------------------------------------------------


def vectors_of(kind: str) -> dict[str, np.ndarray]:
    image = np.zeros((3, 2, 8, 8), np.float32)
    return {
        "type": {"image": image.astype(np.float64)},
        "shape": {"image": image[:, :, :7]},
        "name": {"picture": image},
        "extra": {"image": image, "other": image},
        "none": {"image": image[:0]},
        "label count": {"image": image, "label": np.int64([1, 2])},
        "label text": {"image": image, "label": np.array(["a", "b", "c"])},
        "label nan": {"image": image, "label": np.array([np.nan, 1, 2])},
        "label fraction": {"image": image, "label": np.array([0.5, 1, 2])},
        "object": {"image": np.array([None, {}, 3], dtype=object)},
        "scalar": {"image": np.float32(3)},
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["type", "shape", "name", "extra", "none", "label count", "label text", "label nan",
     "label fraction", "object", "scalar"],
)  # fmt: skip
def test_vectors_that_do_not_fit(kind: str, folder: Path) -> None:
    np.savez(folder / "v.npz", **vectors_of(kind))
    arguments = ["import", "net.onnx", "--vectors", "v.npz", "-o", "out.mlb"]
    named = "'image'" if kind in ("type", "shape") else "v.npz"
    refused_here(InputError, folder, arguments, "label" if "label" in kind else named)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x93NUMPY\1\0", None, "directory", "huge"],
)
def test_vectors_that_cannot_be_read(content: bytes | str | None, folder: Path) -> None:
    path = folder / "v.npz"
    if content == "directory":
        path.mkdir()
    elif content == "huge":
        huge_npz(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    arguments = ["import", "net.onnx", "--vectors", "v.npz", "-o", "out.mlb"]
    refused_here(InputError, folder, arguments, "v.npz")


def npy_of_shape(shape: tuple[int, ...]) -> bytes:
    """Return an array file that claims ``shape`` and holds no data."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def huge_npz(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", npy_of_shape((1 << 40, 2, 8, 8)))


def test_one_input_without_samples_is_refused(folder: Path) -> None:
    models.save(models.several(), folder / "several.onnx")
    np.savez(folder / "v.npz", left=np.zeros((3, 2, 3), np.float32), right=np.float32(1))
    arguments = ["import", "several.onnx", "--vectors", "v.npz", "-o", "out.mlb"]
    refused_here(InputError, folder, arguments, "v.npz")


def test_byte_order_of_vectors_does_not_matter(folder: Path) -> None:
    image = models.random(3, 2, 8, 8)
    np.savez(folder / "little.npz", image=image.astype("<f4"))
    np.savez(folder / "big.npz", image=image.astype(">f4"))
    for name in ("little", "big"):
        arguments = ["import", "net.onnx", "--vectors", f"{name}.npz", "-o", f"{name}.mlb"]
        result = run_cli(*arguments, cwd=folder)
        assert result.returncode == 0, result.stderr
    little, big = (read_bundle(folder / f"{name}.mlb").members() for name in ("little", "big"))
    differing = {name for name in little if little[name] != big[name]}
    assert differing == {"manifest.json", "provenance.json", "sbom.cdx.json"}, (
        "whose digests differ"
    )


# Targets -----------------------------------------------------------------------------------------


def test_unknown_target(bundle: Path) -> None:
    arguments = ["build", "net.mlb", "-t", "host", "-t", "cortex-m8", "-o", "out"]
    mentions = ("'cortex-m8'", "cortex-m7", "mlopsc targets")
    refused(UnknownTargetError, bundle.parent, arguments, *mentions)


def test_missing_target_file(bundle: Path) -> None:
    arguments = ["build", "net.mlb", "-t", "mine.toml", "-o", "out"]
    refused_here(UnknownTargetError, bundle.parent, arguments, "'mine.toml'")


def test_wrong_target_file(bundle: Path) -> None:
    (bundle.parent / "mine.toml").write_text('name = "mine"\nextends = "cortex-m7"\nspeed = 9\n')
    arguments = ["build", "net.mlb", "-t", "mine.toml", "-o", "out"]
    refused_here(
        TargetDefinitionError, bundle.parent, arguments, "mine.toml", "speed", "docs/targets.md"
    )


def test_target_named_twice(bundle: Path) -> None:
    arguments = ["build", "net.mlb", "-t", "host", "-t", "host", "-o", "out"]
    refused_here(InputError, bundle.parent, arguments, "host")


def test_processor_that_the_emulator_does_not_know(bundle: Path) -> None:
    folder = bundle.parent
    text = 'name = "mine"\nextends = "cortex-m7"\n[run]\nrunners = ["unicorn"]\n'
    (folder / "mine.toml").write_text(text + '[run.unicorn]\ncpu = "cortex-m99"\n')
    built = run_cli("build", "net.mlb", "-t", "mine.toml", "-o", "out", cwd=folder)
    assert built.returncode == 0, built.stderr
    refused(MissingToolError, folder, ["conform", "out/mine"], "cortex-m99")


# Bundles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["truncated", "text", "missing", "altered"])
def test_broken_bundle(kind: str, bundle: Path) -> None:
    data = bundle.read_bytes()
    middle = len(data) // 2
    content = {
        "truncated": data[:middle],
        "text": b"hello",
        "altered": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
    }
    if kind != "missing":
        (bundle.parent / "b.mlb").write_bytes(content[kind])
    mentions = ("b.mlb", "mlopsc import")
    refused(BrokenBundleError, bundle.parent, ["inspect", "b.mlb"], *mentions)
    build = ["build", "b.mlb", "-t", "host", "-o", "new/out"]
    refused_here(BrokenBundleError, bundle.parent, build, *mentions)


def test_import_options_for_a_bundle(bundle: Path) -> None:
    arguments = ["build", "net.mlb", "-t", "host", "-o", "out", "--name", "other"]
    refused_here(InputError, bundle.parent, arguments, "net.mlb", "mlopsc import")


def test_package_of_another_bundle(digits_packages: dict[str, Path], bundle: Path) -> None:
    package = copy_package(digits_packages["host"], bundle.parent)
    arguments = ["conform", str(package), "--bundle", "net.mlb"]
    refused_here(BrokenPackageError, bundle.parent, arguments, "sha256:")


# Outputs -----------------------------------------------------------------------------------------


def output_commands(digits: Path, package: Path) -> dict[str, list[str]]:
    """Return a command for every verb that writes, without its output."""
    return {
        "import": ["import", "net.onnx"],
        "build": ["build", str(digits), "-t", "cortex-m7"],
        "run": ["run", str(package), "-i", "image=x.npy"],
    }


@pytest.fixture(params=["import", "build", "run"])
def command(
    request: pytest.FixtureRequest,
    folder: Path,
    digits_bundle: Path,
    digits_packages: dict[str, Path],
) -> list[str]:
    """A command that writes, waiting for the name of its output."""
    np.save(folder / "x.npy", np.zeros((1, 8, 8), np.uint8))
    return [*output_commands(digits_bundle, digits_packages["host"])[request.param], "-o"]


def test_existing_output(command: list[str], folder: Path) -> None:
    out = folder / "out"
    if command[0] == "build":
        (out / "cortex-m7").mkdir(parents=True)
        (out / "cortex-m7" / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    refused(OutputError, folder, [*command, "out"], "out", "--force")
    result = run_cli(*command, "out", "--force", cwd=folder)
    assert result.returncode == 0, result.stderr
    if command[0] == "build":
        assert (out / "cortex-m7" / "model.json").is_file()
        assert not (out / "cortex-m7" / "mine.txt").exists()
    else:
        assert out.read_bytes() != b"mine"


def test_output_below_a_file(command: list[str], folder: Path) -> None:
    refused_here(OutputError, folder, [*command, "net.onnx/out"], "net.onnx/out")


def test_output_that_is_a_file_where_a_folder_is_needed(folder: Path, digits_bundle: Path) -> None:
    arguments = ["build", str(digits_bundle), "-t", "cortex-m7", "-o", "net.onnx"]
    refused_here(OutputError, folder, arguments, "net.onnx")


def test_output_with_a_name_that_is_too_long(command: list[str], folder: Path) -> None:
    refused_here(OutputError, folder, [*command, "x" * 300], "x" * 300)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_folder_is_never_replaced_by_a_file(force: list[str], folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "beach.jpg").write_text("sand")
    for name in ("pictures", "."):
        arguments = ["import", "net.onnx", "-o", name, *force]
        refused_here(OutputError, folder, arguments, f"'{name}'")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(command: list[str], folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o555)
    refused(OutputError, folder, [*command, "locked/out"], "locked")


@pytest.mark.parametrize("verb", ["import", "run"])
def test_full_disk(verb: str, folder: Path) -> None:
    """No file may grow beyond what the inputs need, so that writing the output fails."""
    models.save(models.one_op("Relu", [1 << 16]), folder / "large.onnx")
    arguments = ["import", "large.onnx", "-o", "out"]
    limit = 1 << 16
    if verb == "run":
        assert run_cli("build", "large.onnx", "-t", "host", "-o", ".", cwd=folder).returncode == 0
        np.save(folder / "x.npy", np.zeros(1 << 16, np.float32))
        arguments, limit = ["run", "host", "-i", "x=x.npy", "-o", "out"], 1 << 10
    before = tree(folder)
    small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    result = run_cli(*arguments, cwd=folder, before=small)
    assert tree(folder) == before
    check_refused(result, OutputError, "File too large")


def test_two_builds_into_one_folder_do_not_disturb_each_other(bundle: Path) -> None:
    """The second build runs while the first moves its packages into place."""
    out = bundle.parent / "out"
    nested: list[str] = []

    def progress(target: str, what: str) -> None:
        if (target, what) == ("host", "done") and not nested:
            nested.append(target)
            pipeline.build(bundle, ["riscv64-gc"], out)

    pipeline.build(bundle, ["host", "cortex-m7"], out, progress=progress)
    assert sorted(p.name for p in out.iterdir()) == ["cortex-m7", "host", "riscv64-gc"]
    for package in out.iterdir():
        assert mlopsc.conform(package).verdict == "pass"


# Interrupts --------------------------------------------------------------------------------------


class Moment(Exception):  # noqa: N818 - stands for any interruption
    """Raised by a test in the middle of a build."""


@pytest.mark.parametrize(
    ("target", "what", "error", "existing"),
    [
        ("host", "compiling", KeyboardInterrupt, False),
        ("cortex-m7", "compiling", Moment, True),
        ("host", "packaging", KeyboardInterrupt, False),
        ("cortex-m7", "packaging", Moment, True),
        # The first package is in place, the second is not.
        ("host", "done", KeyboardInterrupt, False),
        ("host", "done", Moment, True),
    ],
)
def test_interrupted_build_leaves_nothing(
    target: str,
    what: str,
    error: type[BaseException],
    existing: bool,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = bundle.parent / "new" / "out"
    if existing:
        out.mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    temporary = bundle.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def progress(name: str, step: str) -> None:
        if (name, step) == (target, what):
            raise error

    with unchanged(bundle.parent), pytest.raises(error):
        pipeline.build(bundle, ["host", "cortex-m7"], out, progress=progress)


def test_interrupted_replacement_keeps_the_old_packages(bundle: Path) -> None:
    out = bundle.parent / "out"
    pipeline.build(bundle, ["host", "cortex-m7"], out)

    def progress(name: str, step: str) -> None:
        if (name, step) == ("host", "done"):
            raise KeyboardInterrupt

    with unchanged(bundle.parent), pytest.raises(KeyboardInterrupt):
        pipeline.build(
            bundle,
            ["host", "cortex-m7"],
            out,
            how=BuildOptions(schedule="none"),
            force=True,
            progress=progress,
        )


def session_of(leader: int) -> Iterator[int]:
    """Yield the processes of the session that ``leader`` leads."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            yield int(entry.parent.name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find processes in")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["SIGINT to the group", "SIGTERM to the process"],
)
@pytest.mark.parametrize("phase", ["compiling", "packaging"])
def test_signal_leaves_no_output_no_process_and_no_temporary_files(
    phase: str, number: signal.Signals, whole_group: bool, digits_bundle: Path, tmp_path: Path
) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    targets = [f"--target={name}" for name in ("host", "cortex-m7", "wasm32-simd")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlopsc", "build", str(digits_bundle), *targets, "-o", str(out)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        begun = (
            (lambda: list(temporary.glob("mlopsc-worker-*")))
            if phase == "compiling"
            else out.exists
        )
        wait_until(begun, process)
        if whole_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=HANG_S)
        assert process.returncode == INTERRUPTED, stderr
        assert "Traceback" not in stderr
        assert "interrupted" in stderr
        assert stdout == ""
        assert not out.exists()
        assert list(session_of(process.pid)) == []
        assert [p.name for p in temporary.iterdir()] == []
        assert sorted(p.name for p in tmp_path.iterdir()) == ["temporary"]
    finally:
        for pid in session_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, "the build ended before the moment came"
        time.sleep(0.002)


# Tools and crashes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "program", "install"),
    [
        ("cortex-m7", "qemu-system-arm", "apt-get install qemu-system-arm"),
        ("aarch64-generic", "qemu-aarch64", "apt-get install qemu-user"),
    ],
)
def test_missing_program_is_never_a_pass(
    target: str, program: str, install: str, digits_bundle: Path, tmp_path: Path
) -> None:
    mlopsc.build(digits_bundle, target, tmp_path)
    package = tmp_path / target
    assert mlopsc.conform(package).verdict == "pass"
    (tmp_path / "empty").mkdir()
    result = run_cli("conform", package, "--runner", "qemu", env={"PATH": str(tmp_path / "empty")})
    check_refused(result, MissingToolError, f"'{program}'", install)
    assert "not run" in result.stdout.lower()
    assert "pass" not in result.stdout
    assert not (package / "conformance.json").exists(), "an old pass outlived the failure"


def test_runner_that_the_target_does_not_have(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    arguments = ["conform", package.name, "--runner", "native"]
    refused(MissingToolError, tmp_path, arguments, "'native'", "unicorn", "qemu")


def test_everything_else_works_without_programs_on_the_path(
    digits_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    env = {"PATH": str(tmp_path / "empty")}
    targets = ["-t", "host", "-t", "cortex-m7"]
    built = run_cli("build", digits_bundle, *targets, "-o", tmp_path / "out", env=env)
    assert built.returncode == 0, built.stderr
    proven = run_cli("conform", *sorted((tmp_path / "out").iterdir()), env=env)
    assert proven.returncode == 0, proven.stderr


@pytest.fixture
def crash_when(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """Return an environment in which worker processes kill themselves when they open a file."""

    def make(signal_name: str, file_name: str) -> dict[str, str]:
        start = tmp_path / "start"
        start.mkdir(parents=True, exist_ok=True)
        (start / "sitecustomize.py").write_text(
            "import os, signal, sys\n"
            "def watch(event, arguments):\n"
            f"    if event == 'open' and {file_name!r} in str(arguments[0]):\n"
            f"        os.kill(os.getpid(), signal.{signal_name})\n"
            "if 'mlopsc.worker' in sys.orig_argv:\n"
            "    os.register_at_fork(after_in_child=lambda: sys.addaudithook(watch))\n"
        )
        return {"PYTHONPATH": os.pathsep.join([str(start), os.environ.get("PYTHONPATH", "")])}

    return make


@pytest.mark.parametrize(
    ("name", "file"),
    [("SIGKILL", ".mlb"), ("SIGSEGV", "kernels."), ("SIGABRT", "program.json")],
)
def test_compiler_that_crashes(
    name: str, file: str, digits_bundle: Path, tmp_path: Path,
    crash_when: Callable[[str, str], dict[str, str]],
) -> None:  # fmt: skip
    work = tmp_path / "work"
    (work / "temporary").mkdir(parents=True)
    env = {**crash_when(name, file), "TMPDIR": str(work / "temporary")}
    with unchanged(work):
        targets = ["-t", "host", "-t", "cortex-m7"]
        result = run_cli("build", digits_bundle, *targets, "-o", "new/out", cwd=work, env=env)
        check_refused(result, CompilerError, name)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_import_that_crashes(
    name: str, digits_folder: Path, tmp_path: Path,
    crash_when: Callable[[str, str], dict[str, str]],
) -> None:  # fmt: skip
    work = tmp_path / "work"
    (work / "temporary").mkdir(parents=True)
    env = {**crash_when(name, "digits.onnx"), "TMPDIR": str(work / "temporary")}
    for arguments in (["import", "-o", "made.mlb"], ["build", "-t", "host", "-o", "new/out"]):
        with unchanged(work):
            result = run_cli(*arguments, digits_folder / "digits.onnx", cwd=work, env=env)
            check_refused(result, SourceError, name)


def test_import_that_hangs_is_stopped(digits_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"0\.001 s"):
        pipeline.import_model(
            digits_folder / "digits.onnx", tmp_path / "d.mlb", ImportOptions(), timeout=0.001
        )
    assert list(tmp_path.iterdir()) == []


def test_library_that_crashes_its_process(
    digits_packages: dict[str, Path], tmp_path: Path,
    crash_when: Callable[[str, str], dict[str, str]],
) -> None:  # fmt: skip
    package = copy_package(digits_packages["host"], tmp_path / "work")
    env = crash_when("SIGSEGV", "outputs.npz")
    with unchanged(tmp_path / "work"):
        check_refused(run_cli("conform", package, env=env), BrokenPackageError, "SIGSEGV")


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
def test_library_that_never_returns_is_stopped(
    target: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    """Endless loops are written over the kernels; conformance must end on its own."""
    package = copy_package(digits_packages[target], tmp_path)
    library = shipped_library(package)
    loop = {"host": b"\xeb\xfe", "cortex-m7": b"\xfe\xe7"}[target]
    if target == "host" and os.uname().machine == "aarch64":
        loop = b"\x00\x00\x00\x14"
    data = bytearray(library.read_bytes())
    for start, size in code_of_kernels(bytes(data)):
        data[start : start + size] = loop * (size // len(loop)) + bytes(size % len(loop))
    library.write_bytes(data)
    redigest(package)
    check_refused(run_cli("conform", package, "--timeout", "5"), BrokenPackageError, "5 s")


def code_of_kernels(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield place and size of the instructions of every object in a library."""
    import io

    from elftools.elf.elffile import ELFFile

    at = data.find(b"\x7fELF")
    while at >= 0:
        elf = ELFFile(io.BytesIO(data[at:]))
        for section in elf.iter_sections():
            if section["sh_flags"] & 4 and section.name.startswith(".text"):
                yield at + section["sh_offset"], section["sh_size"]
        at = data.find(b"\x7fELF", at + 4)


# Packages ----------------------------------------------------------------------------------------


@TARGETS
@pytest.mark.parametrize("damage", ["truncated", "zeroed", "missing"])
def test_damaged_library(
    damage: str, target: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages[target], tmp_path)
    library = shipped_library(package)
    data = library.read_bytes()
    content = {"truncated": data[: len(data) // 2], "zeroed": bytes(len(data))}
    if damage == "missing":
        library.unlink()
    else:
        library.write_bytes(content[damage])
    name = library.relative_to(package).as_posix()
    refused(BrokenPackageError, tmp_path, ["conform", package.name], f"'{name}'", "mlopsc build")


@TARGETS
@pytest.mark.parametrize("damage", ["truncated", "zeroed", "empty"])
def test_damaged_library_that_agrees_with_its_digest(
    damage: str, target: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages[target], tmp_path)
    library = shipped_library(package)
    data = library.read_bytes()
    content = {"truncated": data[: len(data) // 2], "zeroed": bytes(len(data)), "empty": b""}
    library.write_bytes(content[damage])
    redigest(package)
    refused_here(BrokenPackageError, tmp_path, ["conform", package.name])


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("conform", "vectors/test_data_set_3/output_0.pb"),
        ("conform", "include/digits.h"),
        ("run", "lib/libdigits.so"),
        ("inspect", "examples/main.c"),
    ],
)
def test_altered_file(
    name: str, verb: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    data = bytearray((package / name).read_bytes())
    data[-3] ^= 1
    (package / name).write_bytes(data)
    refused(BrokenPackageError, tmp_path, [verb, package.name], f"'{name}'", "mlopsc build")


def test_altered_vector_that_agrees_with_its_digest_is_a_mismatch(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    path = package / "vectors" / "test_data_set_3" / "output_0.pb"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    path.write_bytes(data)
    redigest(package)
    result = run_cli("conform", package)
    check_refused(result, MismatchError, "probabilities", "vector 3", "element 9")


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"[]", b"not json", b"\xff\xfe\0", b'{"schema_version": 1}']
)
def test_broken_descriptor(
    content: bytes | None, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    if content is None:
        (package / "model.json").unlink()
    else:
        (package / "model.json").write_bytes(content)
    for verb in ("conform", "run", "inspect"):
        arguments = [verb, package.name]
        refused_here(BrokenPackageError, tmp_path, arguments, "model.json", "mlopsc build")


def without(text: str) -> Callable[[dict[str, Any]], None]:
    """Return a change that takes files with ``text`` in their path off the list."""

    def change(info: dict[str, Any]) -> None:
        info["files"] = [f for f in info["files"] if text not in f["path"]]

    return change


@pytest.mark.parametrize(
    ("change", "mention"),
    [
        (lambda d: d.update(abi_version=2), "abi_version"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d["files"][0].update(path="../outside"), "../outside"),
        (lambda d: d["files"][0].update(path="/etc/passwd"), "/etc/passwd"),
        (lambda d: d["files"][0].update(path="lib"), "lib"),
        (lambda d: d["files"][0].update(path="a\0b"), "a"),
        (lambda d: d["vectors"].update(count=11, labels=[]), "test_data_set_10"),
        (lambda d: d["inputs"][0].update(shape=[1, 8, 9]), "input_0.pb"),
        (lambda d: d["inputs"][0].update(name="picture"), "image"),
        (lambda d: d.update(name="other"), "other"),
        (lambda d: d["memory"].update(arena=16), "arena"),
        (lambda d: d.update(shared_library=None), "shared"),
        (lambda d: d.update(shared_library="lib/other.so"), "lib/other.so"),
        (lambda d: d.update(shared_library="../../other.so"), "../../other.so"),
        (without(".so"), "libdigits.so"),
        (without("input_0"), "input_0.pb"),
    ],
)
def test_descriptor_that_does_not_fit_the_files(
    change: Callable[[dict[str, Any]], object],
    mention: str,
    digits_packages: dict[str, Path],
    tmp_path: Path,
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    info = json.loads((package / "model.json").read_text())
    change(info)
    (package / "model.json").write_text(canonical_json(info))
    refused_here(BrokenPackageError, tmp_path, ["conform", package.name], mention)


@pytest.mark.parametrize("name", ["net.onnx", "missing", "."])
def test_place_that_is_no_package(name: str, folder: Path) -> None:
    refused(BrokenPackageError, folder, ["conform", name], f"'{name}'")
    refused_here(BrokenPackageError, folder, ["run", name], f"'{name}'")


def test_failure_removes_the_report_of_before(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    assert mlopsc.conform(package).verdict == "pass"
    shipped_library(package).write_bytes(b"")
    check_refused(run_cli("conform", package), BrokenPackageError)
    assert not (package / "conformance.json").exists()


@TARGETS
def test_altered_weights_are_a_mismatch(
    target: str, digits_packages: dict[str, Path], digits_folder: Path, tmp_path: Path
) -> None:
    package = copy_package(digits_packages[target], tmp_path)
    library = shipped_library(package)
    data = bytearray(library.read_bytes())
    start = place_of_largest_weight(bytes(data), digits_folder / "digits.onnx")
    data[start : start + 1024] = bytes(1024)
    library.write_bytes(data)
    redigest(package)
    result = run_cli("conform", package)
    check_refused(result, MismatchError, "'probabilities'", "vector 0", "conformance.json")
    assert "MISMATCH" in result.stdout
    report = json.loads((package / "conformance.json").read_text())
    assert report["verdict"] == "mismatch"
    assert report["outputs"][0]["relative_to_max"] > report["outputs"][0]["tolerance"]


def place_of_largest_weight(data: bytes, source: Path) -> int:
    import onnx
    from onnx import numpy_helper

    arrays = [numpy_helper.to_array(i) for i in onnx.load(source).graph.initializer]
    largest = max((a for a in arrays if a.dtype == np.float32), key=lambda a: a.nbytes)
    layouts = (largest, largest.T, blocked(largest))
    # What is packed for wider vectors than the layouts have here still begins with one vector.
    start = max(data.find(a.tobytes()[:256]) for a in layouts)
    start = start if start >= 0 else max(data.find(a.tobytes()[:32]) for a in layouts)
    assert start >= 0, "the library does not hold the weights in any layout that lowering packs"
    return start


def blocked(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the weights of a convolution in blocks of the host's vectors (lower/layout.py)."""
    lanes = load_target("host").hardware.vector_bits // 32
    features, depth, *kernel = weight.shape if weight.ndim > 2 else (lanes, lanes, 1)
    outer, inner = (next(b for b in (lanes, lanes // 2, lanes // 4) if n % b == 0)
                    for n in (features, depth))  # fmt: skip
    packed = weight.reshape(features // outer, outer, depth // inner, inner, *kernel)
    order = [0, 2, *range(4, 4 + len(kernel)), 3, 1]
    return np.ascontiguousarray(packed.transpose(order))


def test_good_packages_are_judged_beside_a_bad_one(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    good = [copy_package(digits_packages[t], tmp_path) for t in ("cortex-m7", "wasm32-simd")]
    bad = copy_package(digits_packages["host"], tmp_path)
    shipped_library(bad).write_bytes(b"")
    result = run_cli("conform", good[0], bad, good[1], "--json")
    assert result.returncode == BrokenPackageError.exit_code
    first, failed, last = json.loads(result.stdout)
    assert first["verdict"] == last["verdict"] == "pass"
    assert "digest" in failed["error"]
    assert "verdict" not in failed
    assert all((package / "conformance.json").exists() for package in good)
    assert not (bad / "conformance.json").exists()


# Inputs of run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "mentions"),
    [
        (np.zeros((1, 8, 7), np.uint8), ["uint8[1, 8, 7]", "uint8[1, 8, 8]"]),
        (np.zeros((8, 8), np.uint8), ["uint8[8, 8]"]),
        (np.zeros((1, 8, 8), np.float32), ["float32[1, 8, 8]", "astype"]),
        (np.zeros((1, 8, 8), np.int8), ["int8[1, 8, 8]"]),
        (np.zeros((0, 8, 8), np.uint8), ["uint8[0, 8, 8]"]),
        (np.array(["a"]), ["image"]),
    ],
)
def test_array_that_does_not_fit(
    array: np.ndarray, mentions: list[str], digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", array)
    package = str(digits_packages["host"])
    arguments = ["run", package, "-i", "image=x.npy", "-o", "out.npz"]
    refused_here(InputError, tmp_path, arguments, "'image'", *mentions)


@pytest.mark.parametrize(
    ("inputs", "mention"),
    [
        ([], "'image'"),
        (["picture=x.npy"], "'picture'"),
        (["image=x.npy", "other=x.npy"], "'other'"),
        (["image=missing.npy"], "missing.npy"),
        (["image=."], "'.'"),
        (["image="], "''"),
        (["image=empty.npy"], "empty.npy"),
        (["image=text.npy"], "text.npy"),
        (["image=zip.npy"], "zip.npy"),
        (["image=huge.npy"], "huge.npy"),
        (["image=short.npy"], "short.npy"),
        (["image=pickle.npy"], "pickle.npy"),
        (["image=several.npz"], "several.npz"),
    ],
)
def test_arrays_that_cannot_be_read(
    inputs: list[str], mention: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "zip.npy").write_bytes(b"PK\3\4 and nothing else")
    (tmp_path / "huge.npy").write_bytes(npy_of_shape((1 << 40, 8, 8)))
    (tmp_path / "short.npy").write_bytes(npy_of_shape((1, 8, 8)) + bytes(10))
    flags = [word for text in inputs for word in ("-i", text)]
    package = str(digits_packages["host"])
    refused_here(InputError, tmp_path, ["run", package, *flags, "-o", "out.npz"], mention)


def test_package_folder_is_unchanged_by_running(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = tmp_path / "host"
    shutil.copytree(digits_packages["host"], package)
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    with unchanged(tmp_path):
        assert run_cli("run", package, "-i", "image=x.npy", cwd=tmp_path).returncode == 0
