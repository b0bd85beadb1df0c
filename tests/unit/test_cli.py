"""The command line: help at once, JSON that parses, tables that say what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from click.testing import CliRunner, Result
from support import copy_package, run_cli

from mlopsc import __version__
from mlopsc.cli import cli
from mlopsc.errors import InputError, UnknownTargetError
from mlopsc.targets import target_names

VERBS = (
    "init", "preprocess", "import", "quantize", "build", "conform", "run", "inspect", "sbom",
    "keygen", "sign", "verify", "trace", "rebuild", "revoke", "affected", "log", "migrate",
    "targets", "data", "cache",
)  # fmt: skip
HEAVY = {
    "cryptography",
    "cyclonedx",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "pydantic",
    "rich",
    "spdx_tools",
    "tvm",
    "unicorn",
    "yaml",
}


def call(*arguments: str | Path) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)


def parse(text: str) -> Any:
    """Parse strict JSON: no NaN, no infinities, nothing after the document."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "arguments",
    [("data", "fingerprint", ""), ("preprocess", "", "-o", "p.onnx"), ("inspect", "")],
    ids=" ".join,
)
def test_an_empty_path_is_refused(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2 and "the path is empty" in result.output, result.output


def json_of(*arguments: str | Path) -> Any:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return parse(result.stdout)


def test_help_lists_every_verb() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in result.stdout
    assert "docs/errors.md" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help(verb: str, flag: str) -> None:
    result = call(verb, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage:")
    assert verb in result.stdout
    for line in result.stdout.splitlines():
        words = line.split()
        if words and words[0].startswith("--") and words[0] not in ("--help", "--force"):
            assert len(words) > 1, f"option without a word of help: {line}"


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom mlopsc.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n"
        "    print('status', stop.code)\n    print('modules', *sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    status, modules = result.stdout.splitlines()[-2:]
    assert status == "status 0"
    loaded = {name.partition(".")[0] for name in modules.split()[1:]}
    assert "mlopsc" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mlopsc\nprint(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(result.stdout.split()) & (HEAVY | {"click"})


def test_version() -> None:
    result = call("--version")
    assert result.exit_code == 0
    assert __version__ in result.stdout


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["frobnicate"], "frobnicate"),
        (["build"], "SOURCE"),
        (["build", "m.onnx", "-o", "out"], "--target"),
        (["build", "m.onnx", "-t", "host"], "--output"),
        (["build", "m.onnx", "-t", "host", "-o", "out", "--generator", "java"], "java"),
        (["build", "m.onnx", "-t", "host", "-o", "out", "--schedule", "fast"], "fast"),
        (["build", "m.onnx", "-t", "host", "-o", "out", "--colour"], "--colour"),
        (["import", "m.onnx"], "--output"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "n"], "'n'"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "n=many"], "'n=many'"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "=4"], "'=4'"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "n=-4"], "'n=-4'"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "n=4.5"], "'n=4.5'"),
        (["import", "m.onnx", "-o", "m.mlb", "--bind", "n=\u00b2"], "'n=\u00b2'"),
        (["conform"], "PACKAGES"),
        (["run", "package", "-i", "x.npy"], "x.npy"),
        (["inspect"], "ARTEFACT"),
        (["targets", "show"], "NAME"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], mention: str) -> None:
    result = run_cli(*arguments)
    assert result.returncode == 2, result.stderr
    assert "Usage:" in result.stderr
    assert mention in result.stderr
    assert result.stdout == ""


def test_targets_are_listed() -> None:
    result = run_cli("targets", env={"COLUMNS": "200"})
    assert result.returncode == 0
    for name in target_names():
        assert name in result.stdout


def test_targets_as_json() -> None:
    listed = json_of("targets", "--json")
    assert [t["name"] for t in listed] == target_names()
    assert {"compile", "hardware", "toolchain", "run", "conformance"} <= set(listed[0])


@pytest.mark.parametrize("name", ["host", "cortex-m7"])
def test_target_is_shown_complete(name: str) -> None:
    shown = json_of("targets", "show", name)
    assert shown["name"] == name
    assert shown["compile"]["triple"].count("-") == 3
    assert "extends" not in shown


def test_own_target_is_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nextends = "cortex-m7"\n')
    assert json_of("targets", "show", tmp_path / "mine.toml")["name"] == "mine"


def test_unknown_target_is_an_error_with_its_own_code() -> None:
    result = run_cli("targets", "show", "cortex-m8")
    assert result.returncode == UnknownTargetError.exit_code
    assert result.stdout == ""
    assert "cortex-m7" in result.stderr


def test_import_tells_what_it_made(digits_folder: Path, tmp_path: Path) -> None:
    result = call(
        "import", digits_folder / "digits.onnx", "-o", tmp_path / "d.mlb",
        "--preprocess", digits_folder / "preprocess.onnx",
        "--vectors", digits_folder / "vectors.npz",
        "--name", "scans", "--model-version", "1.2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for text in ("scans 1.2", "image: uint8[1, 8, 8]", "10 given", "bound batch=1", "sha256:"):
        assert text in result.stdout
    assert (tmp_path / "d.mlb").is_file()


def test_import_as_json(tmp_path: Path) -> None:
    models.save(models.several(), tmp_path / "m.onnx")
    made = json_of("import", tmp_path / "m.onnx", "-o", tmp_path / "m.mlb", "--json")
    assert made["bundle"] == str(tmp_path / "m.mlb")
    assert made["digest"].startswith("sha256:")
    assert [i["name"] for i in made["inputs"]] == ["left", "right"]
    assert json_of("inspect", tmp_path / "m.mlb", "--json")["digest"] == made["digest"]


def test_import_warns_of_odd_weights_on_standard_error(tmp_path: Path) -> None:
    made = models.one_op("Mul")
    made.graph.node[0].input.append("w")
    made.graph.initializer.append(
        models.numpy_helper.from_array(np.float32([[np.nan, 1, 2, 3]]), "w")
    )
    models.save(made, tmp_path / "m.onnx")
    result = call("import", tmp_path / "m.onnx", "-o", tmp_path / "m.mlb")
    assert result.exit_code == 0, result.output
    assert "holds 1 NaN" in result.stderr
    found = json_of("inspect", tmp_path / "m.mlb", "--json")
    assert any("holds 1 NaN" in line for stage in found["stages"] for line in stage["findings"])


def test_build_conform_run_and_inspect_as_json(digits_bundle: Path, tmp_path: Path) -> None:
    built = json_of("build", digits_bundle, "-t", "host", "-o", tmp_path, "--json")
    assert list(built) == ["host"]
    assert built["host"]["memory"]["writable"] == 0

    (report,) = json_of("conform", tmp_path / "host", "--json")
    assert report["folder"] == str(tmp_path / "host")
    assert report["verdict"] == "pass"
    assert report == {
        "folder": report["folder"],
        **parse((tmp_path / "host" / "conformance.json").read_text()),
    }

    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    ran = json_of("run", tmp_path / "host", "-i", f"image={tmp_path / 'x.npy'}", "--json")
    assert sum(ran["outputs"]["probabilities"][0]) == pytest.approx(1)
    assert "native" in ran["runner"]

    seen = json_of("inspect", tmp_path / "host", "--json")
    assert seen["digest"] == report["model_json"]
    assert {k: v for k, v in seen.items() if k != "digest"} == built["host"]


def test_build_tells_where_the_packages_are(digits_bundle: Path, tmp_path: Path) -> None:
    result = run_cli(
        "build", digits_bundle, "-t", "host", "-o", "out", cwd=tmp_path, env={"COLUMNS": "200"}
    )
    assert result.returncode == 0, result.stderr
    assert "out/host" in result.stdout
    assert result.stderr == "bundle: not signed, which the packages record\n"


def test_inspect_describes_a_bundle(digits_bundle: Path) -> None:
    result = run_cli("inspect", digits_bundle, env={"COLUMNS": "200"})
    assert result.returncode == 0
    for text in (
        "bundle",
        "digits 1.0",
        "image: uint8[1, 8, 8]",
        "stage preprocess",
        "onnxruntime",
    ):
        assert text in result.stdout


def test_inspect_describes_a_package(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    result = run_cli("inspect", package, env={"COLUMNS": "200"})
    assert result.returncode == 0
    for text in ("package", "digits 1.0", "Cortex-M7", "image: uint8[1, 8, 8]", "not run yet",
                 "lib/libdigits.a", "apache-tvm", "zig"):  # fmt: skip
        assert text in result.stdout


def test_inspect_tells_the_verdict_and_whether_it_is_of_this_build(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    assert run_cli("conform", package).returncode == 0
    wide = {"COLUMNS": "200"}
    assert "pass, 10 vectors" in run_cli("inspect", package, env=wide).stdout
    report = json.loads((package / "conformance.json").read_text())
    report["model_json"] = "sha256:" + "0" * 64
    (package / "conformance.json").write_text(json.dumps(report))
    assert "of another build" in run_cli("inspect", package, env=wide).stdout


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"verdict": "pass"}', "\0"])
def test_inspect_survives_a_damaged_report(
    text: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["host"], tmp_path)
    (package / "conformance.json").write_text(text)
    result = run_cli("inspect", package, env={"COLUMNS": "200"})
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    assert "pass," not in result.stdout


def test_run_prints_outputs_and_writes_them(
    digits_packages: dict[str, Path], digits_folder: Path, tmp_path: Path
) -> None:
    with np.load(digits_folder / "vectors.npz") as vectors:
        np.save(tmp_path / "x.npy", vectors["image"][3:4])
        label = int(vectors["label"][3])
    result = run_cli(
        "run", digits_packages["wasm32-simd"], "-i", "image=x.npy", "-o", "out.npz", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "wasmtime" in result.stdout
    assert "probabilities: float32[1, 10]" in result.stdout
    with np.load(tmp_path / "out.npz") as outputs:
        assert int(outputs["probabilities"].argmax()) == label


def test_run_prints_instructions_where_they_are_counted(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    package = digits_packages["cortex-m7"]
    ran = parse(
        run_cli("run", package, "-i", "image=x.npy", "--profile", "--json", cwd=tmp_path).stdout
    )
    assert sum(ran["profile"].values()) == ran["instructions"] > 1000
    assert any(name.startswith("digits_k0") for name in ran["profile"])


def test_run_writes_outputs_of_any_name(tmp_path: Path) -> None:
    names = ["file", "allow_pickle", "arr_0", "a/b:0", "self", "args", "kwds"]
    made = models.model(
        [models.node("Add", ["a", "b"], [name]) for name in names],
        [models.value("a", [4]), models.value("b", [4])],
        [models.value(name, [4]) for name in names],
    )
    models.save(made, tmp_path / "m.onnx")
    built = run_cli("build", "m.onnx", "-t", "host", "-o", "out", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    np.save(tmp_path / "x.npy", np.float32([1, 2, 3, 4]))
    result = run_cli(
        "run", "out/host", "-i", "a=x.npy", "-i", "b=x.npy", "-o", "y.npz", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "y.npz") as outputs:
        for name in names:
            assert outputs[name].tolist() == [2, 4, 6, 8]


def test_no_input_is_an_input_error(digits_packages: dict[str, Path]) -> None:
    result = run_cli("run", digits_packages["host"])
    assert result.returncode == InputError.exit_code
    assert "['image']" in result.stderr


def test_brackets_in_paths_are_no_markup(tmp_path: Path) -> None:
    folder = tmp_path / "a [bold]b[" / "x]"
    models.save(models.add(), folder / "m.onnx")
    wide = {"COLUMNS": "300"}
    assert run_cli("import", folder / "m.onnx", "-o", folder / "m.mlb", env=wide).returncode == 0
    built = run_cli("build", folder / "m.mlb", "-t", "host", "-o", folder, env=wide)
    assert built.returncode == 0, built.stderr
    assert "a [bold]b[/x]/host" in built.stdout
    proven = run_cli("conform", folder / "host", env=wide)
    assert proven.returncode == 0, proven.stderr
    for artefact in (folder / "m.mlb", folder / "host"):
        seen = run_cli("inspect", artefact, env=wide)
        assert seen.returncode == 0, seen.stderr
        assert "a [bold]b[/x]" in seen.stdout


def test_brackets_in_names_are_no_markup(tmp_path: Path) -> None:
    models.save(models.add("in[/x]", "b", "[bold]out"), tmp_path / "m.onnx")
    built = run_cli("build", "m.onnx", "-t", "host", "-o", "out", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    seen = run_cli("inspect", "out/host", cwd=tmp_path, env={"COLUMNS": "200"})
    assert seen.returncode == 0, seen.stderr
    assert "in[/x]: float32[4]" in seen.stdout
    proven = run_cli("conform", "out/host", cwd=tmp_path, env={"COLUMNS": "200"})
    assert "[bold]out" in proven.stdout


def test_reader_that_leaves_early_gets_no_complaint(digits_bundle: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "mlopsc", "inspect", "--json", str(digits_bundle)],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
