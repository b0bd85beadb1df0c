"""A package can be built again, by anybody, and is the same byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import (
    CORE_TARGETS,
    check_refused,
    copy_package,
    quick_or_slow,
    redigest,
    run_cli,
    unchanged,
)

import mlopsc
from mlopsc.errors import InputError, MissingToolError, ReproductionError
from mlopsc.schema.common import canonical_json


def elsewhere(folder: Path) -> dict[str, str]:
    """Return the environment of somebody else, with another home, zone, language and hash seed."""
    home = folder / "home of somebody"
    (home / "temporary").mkdir(parents=True)
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "TMPDIR": str(home / "temporary"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "TZ": "Asia/Kolkata",
        "LANG": "de_DE.UTF-8",
        "PYTHONHASHSEED": "4711",
    }


@pytest.mark.parametrize(
    "target", quick_or_slow((*CORE_TARGETS, "cortex-m55", "riscv32-imac"), ["host"])
)
def test_every_target_is_the_same_elsewhere(
    target: str, digits_bundle: Path, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    if target not in digits_packages:
        mlopsc.build(digits_bundle, target, tmp_path / "built")
    package = copy_package(digits_packages.get(target, tmp_path / "built" / target), tmp_path)
    bundle = tmp_path / "other name.mlb"
    bundle.write_bytes(digits_bundle.read_bytes())
    with unchanged(package):
        result = run_cli(
            "rebuild", package, "--bundle", bundle, cwd=tmp_path, env=elsewhere(tmp_path)
        )
    assert result.returncode == 0, result.stderr
    files = len(json.loads((package / "model.json").read_text())["files"]) + 1
    assert f"{files} files are the same" in result.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("--source", "--generator", "c", "--schedule", "none", "--accuracy", "strict"),
        pytest.param(("--source",), marks=pytest.mark.slow),
        pytest.param(("--generator", "c"), marks=pytest.mark.slow),
        pytest.param(("--schedule", "none"), marks=pytest.mark.slow),
        pytest.param(("--accuracy", "strict"), marks=pytest.mark.slow),
        ("--unchecked",),
    ],
    ids=" ".join,
)
def test_flags_are_those_of_the_build(
    flags: tuple[str, ...], digits_bundle: Path, tmp_path: Path
) -> None:
    built = run_cli("build", digits_bundle, "-t", "host", "-o", tmp_path / "out", *flags)
    assert built.returncode == 0, built.stderr
    result = run_cli("rebuild", tmp_path / "out" / "host", "--bundle", digits_bundle)
    assert result.returncode == 0, result.stderr


def test_the_time_of_the_build_is_that_of_the_build(digits_bundle: Path, tmp_path: Path) -> None:
    for name, now in (("with", "1700000000"), ("without", "")):
        env = {"SOURCE_DATE_EPOCH": now} if now else {}
        built = run_cli("build", digits_bundle, "-t", "cortex-m7", "-o", tmp_path / name, env=env)
        assert built.returncode == 0, built.stderr
        bill = (tmp_path / name / "cortex-m7" / "sbom.cdx.json").read_text()
        assert ("2023-11-14" in bill) == bool(now)
        for other in ({}, {"SOURCE_DATE_EPOCH": "1"}):
            result = run_cli(
                "rebuild", tmp_path / name / "cortex-m7", "--bundle", digits_bundle, env=other
            )
            assert result.returncode == 0, result.stderr


def test_the_log_knows_where_the_bundle_is(digits_folder: Path, tmp_path: Path) -> None:
    env = {"MLOPSC_LOG_DIR": str(tmp_path / "log")}
    bundle, package = tmp_path / "d.mlb", tmp_path / "out" / "cortex-m7"
    assert run_cli("import", digits_folder / "digits.onnx", "-o", bundle, "--no-lineage",
                   env=env).returncode == 0  # fmt: skip
    assert run_cli("build", bundle, "-t", "cortex-m7", "-o", tmp_path / "out",
                   env=env).returncode == 0  # fmt: skip
    found = run_cli("rebuild", package, env=env)
    assert found.returncode == 0, found.stderr
    bundle.rename(tmp_path / "moved.mlb")
    check_refused(run_cli("rebuild", package, env=env), InputError, "--bundle")


def test_what_differs_is_named(
    digits_packages: dict[str, Path], digits_bundle: Path, tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    header = package / "include" / "digits.h"
    header.write_text(header.read_text() + "/* changed */\n")
    provenance = package / "provenance.json"
    document = json.loads(provenance.read_text())
    redigest(package)
    listed = {f["path"]: f for f in json.loads((package / "model.json").read_text())["files"]}
    for subject in document["subject"]:
        subject["digest"]["sha256"] = listed[subject["name"]]["digest"].removeprefix("sha256:")
    provenance.write_text(canonical_json(document))
    redigest(package)
    result = run_cli("rebuild", package, "--bundle", digits_bundle)
    check_refused(
        result, ReproductionError, "include/digits.h", listed["include/digits.h"]["digest"]
    )


def test_other_versions_of_tools_are_named(
    digits_packages: dict[str, Path], digits_bundle: Path, tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    provenance = package / "provenance.json"
    document = json.loads(provenance.read_text())
    document["predicate"]["runDetails"]["builder"]["version"]["zig"] = "0.1.2"
    provenance.write_text(canonical_json(document))
    redigest(package)
    result = run_cli("rebuild", package, "--bundle", digits_bundle)
    check_refused(result, MissingToolError, "zig 0.1.2", "ziglang==0.1.2", "--any-version")
    tried = run_cli("rebuild", package, "--bundle", digits_bundle, "--any-version")
    check_refused(tried, ReproductionError, "provenance.json")


def test_another_bundle_is_refused(
    digits_packages: dict[str, Path], digits_folder: Path, tmp_path: Path
) -> None:
    mlopsc.import_model(digits_folder / "digits.onnx", tmp_path / "o.mlb", find_lineage=False)
    result = run_cli("rebuild", digits_packages["cortex-m7"], "--bundle", tmp_path / "o.mlb")
    check_refused(result, InputError, "o.mlb", "--bundle")
