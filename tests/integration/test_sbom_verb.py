"""``mlopsc sbom``: what the artefact carries, or what it says of itself; never half of it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from support import check_refused, copy_package, run_cli, unchanged

from mlopsc.bundle import read_bundle
from mlopsc.errors import BrokenBundleError, BrokenPackageError, InputError, OutputError
from mlopsc.sbom import bundle_sbom, to_spdx
from mlopsc.schema.lineage import Lineage, ModelFacts

SBOM = "sbom.cdx.json"
GARBAGE = ["", "no JSON", "{}", '{"bomFormat": "CycloneDX", "specVersion": "1.6"}', "\udcff"]


@pytest.fixture(scope="module")
def carried(digits_bundle: Path) -> str:
    """A bill that is told from what the verb would make by itself."""
    lineage = Lineage(model=ModelFacts(owner="whoever is named in what is carried"))
    return bundle_sbom(read_bundle(digits_bundle).manifest, lineage)


def with_member(bundle: Path, folder: Path, data: bytes) -> Path:
    """Return a copy of ``bundle`` that carries ``data`` as its bill of materials."""
    copy = folder / bundle.name
    shutil.copy(bundle, copy)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.writestr(SBOM, data)
    return copy


def test_bundle_without_a_bill(digits_bundle: Path) -> None:
    result = run_cli("sbom", digits_bundle)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == bundle_sbom(read_bundle(digits_bundle).manifest, None)


def test_package_without_a_bill(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    package = copy_package(digits_packages["wasm32-simd"], tmp_path)
    (package / SBOM).unlink(missing_ok=True)
    result = run_cli("sbom", package)
    assert (result.returncode, result.stderr) == (0, "")
    names = {component["name"] for component in json.loads(result.stdout)["components"]}
    info = json.loads((package / "model.json").read_text(encoding="utf-8"))
    assert {entry["path"] for entry in info["files"]} <= names
    assert {kernel["symbol"] for kernel in info["kernels"]} <= names
    assert {tool["name"] for tool in info["tools"]} <= names


def test_what_is_carried_is_printed(
    digits_bundle: Path, digits_packages: dict[str, Path], carried: str, tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    (package / SBOM).write_text(carried, encoding="utf-8")
    for artefact in (package, with_member(digits_bundle, tmp_path, carried.encode())):
        result = run_cli("sbom", artefact)
        assert (result.returncode, result.stdout) == (0, carried)
        result = run_cli("sbom", artefact, "--format", "spdx")
        assert (result.returncode, result.stdout) == (0, to_spdx(carried))


def test_file_is_written_once(digits_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bill.json"
    assert run_cli("sbom", digits_bundle, "--format", "spdx", "-o", path).stdout == ""
    assert json.loads(path.read_text(encoding="utf-8"))["spdxVersion"] == "SPDX-2.3"
    with unchanged(tmp_path):
        result = run_cli("sbom", digits_bundle, "-o", path)
        check_refused(result, OutputError, path, "--force")
    assert run_cli("sbom", digits_bundle, "-o", path, "--force").returncode == 0
    assert json.loads(path.read_text(encoding="utf-8"))["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize("text", GARBAGE)
def test_damaged_bills_are_refused(
    digits_bundle: Path, digits_packages: dict[str, Path], tmp_path: Path, text: str
) -> None:
    data = text.encode(errors="surrogateescape")
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    (package / SBOM).write_bytes(data)
    output = tmp_path / "bill.json"
    check_refused(run_cli("sbom", package, "-o", output), BrokenPackageError, package, SBOM)
    bundle = with_member(digits_bundle, tmp_path, data)
    check_refused(run_cli("sbom", bundle, "-o", output), BrokenBundleError, bundle, SBOM)
    assert not output.exists()


def test_links_out_of_a_package_are_not_followed(
    digits_packages: dict[str, Path], carried: str, tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    (tmp_path / "outside").write_text(carried, encoding="utf-8")
    (package / SBOM).unlink(missing_ok=True)
    (package / SBOM).symlink_to(tmp_path / "outside")
    check_refused(run_cli("sbom", package), BrokenPackageError, package)


def test_what_is_no_artefact_is_refused(digits_bundle: Path, tmp_path: Path) -> None:
    check_refused(run_cli("sbom", tmp_path), BrokenPackageError, tmp_path)
    missing = tmp_path / "missing.mlb"
    check_refused(run_cli("sbom", missing), BrokenBundleError, missing)
    result = run_cli("sbom", digits_bundle, env={"SOURCE_DATE_EPOCH": "yesterday"})
    check_refused(result, InputError, "SOURCE_DATE_EPOCH", "yesterday")
