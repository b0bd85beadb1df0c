"""``mlopsc sbom``: what the artefact carries, or what it says of itself; never half of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import REPOSITORY, check_refused, copy_package, redigest, run_cli, unchanged

from mlopsc.bundle import read_bundle, write_bundle
from mlopsc.bundle.archive import pack
from mlopsc.errors import BrokenBundleError, BrokenPackageError, InputError, OutputError
from mlopsc.sbom.spdx import to_spdx

SBOM = "sbom.cdx.json"
GARBAGE = ["", "no JSON", "{}", '{"bomFormat": "CycloneDX", "specVersion": "1.6"}', "\udcff"]
VERSION_1 = REPOSITORY / "tests" / "compat" / "v1"


def names_in(text: str) -> set[str]:
    return {component["name"] for component in json.loads(text)["components"]}


def test_what_is_carried_is_printed(digits_bundle: Path, digits_packages: dict[str, Path]) -> None:
    of_bundle = read_bundle(digits_bundle).documents[SBOM].decode()
    of_package = (digits_packages["cortex-m7"] / SBOM).read_text(encoding="utf-8")
    for artefact, carried in (
        (digits_bundle, of_bundle),
        (digits_packages["cortex-m7"], of_package),
    ):
        result = run_cli("sbom", artefact)
        assert (result.returncode, result.stdout) == (0, carried)
        result = run_cli("sbom", artefact, "--format", "spdx")
        assert (result.returncode, result.stdout) == (0, to_spdx(carried))


def test_packages_list_all_that_went_in(digits_packages: dict[str, Path]) -> None:
    for package in digits_packages.values():
        names = names_in((package / SBOM).read_text(encoding="utf-8"))
        info = json.loads((package / "model.json").read_text(encoding="utf-8"))
        files = {entry["path"] for entry in info["files"]} - {SBOM}
        assert files <= names
        assert {kernel["symbol"] for kernel in info["kernels"]} <= names
        assert {tool["name"] for tool in info["tools"]} - {"mlopsc"} <= names
        assert {"mlopsc.h", "model.c", "Optical Recognition of Handwritten Digits"} <= names


def test_every_kernel_has_a_digest(digits_packages: dict[str, Path]) -> None:
    for package in digits_packages.values():
        listed = json.loads((package / SBOM).read_text(encoding="utf-8"))["components"]
        info = json.loads((package / "model.json").read_text(encoding="utf-8"))
        by_name = {component["name"]: component for component in listed}
        digests = [by_name[k["symbol"]]["hashes"][0]["content"] for k in info["kernels"]]
        assert len(digests) == len(info["kernels"]) > 3


def test_older_formats_get_a_bill_of_what_they_say() -> None:
    result = run_cli("sbom", VERSION_1 / "digits.mlb")
    assert (result.returncode, result.stderr) == (0, "")
    assert {"preprocess.onnx", "model.weights"} <= names_in(result.stdout)
    package = VERSION_1 / "packages" / "cortex-m7"
    result = run_cli("sbom", package)
    assert (result.returncode, result.stderr) == (0, "")
    info = json.loads((package / "model.json").read_text(encoding="utf-8"))
    assert {entry["path"] for entry in info["files"]} <= names_in(result.stdout)


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
    """Also where all digests agree with the damage."""
    data = text.encode(errors="surrogateescape")
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    (package / SBOM).write_bytes(data)
    output = tmp_path / "bill.json"
    check_refused(run_cli("sbom", package, "-o", output), BrokenPackageError, package, SBOM)
    redigest(package)
    check_refused(run_cli("sbom", package, "-o", output), BrokenPackageError, package, SBOM)
    whole = read_bundle(digits_bundle)
    documents = {**whole.documents, SBOM: data}
    bundle = tmp_path / "other.mlb"
    write_bundle(pack(whole.manifest, whole.stages, whole.vectors, documents), bundle)
    check_refused(run_cli("sbom", bundle, "-o", output), BrokenBundleError, bundle, SBOM)
    assert not output.exists()


def test_links_out_of_a_package_are_not_followed(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    (package / SBOM).rename(tmp_path / "outside")
    (package / SBOM).symlink_to(tmp_path / "outside")
    check_refused(run_cli("sbom", package), BrokenPackageError, package)


def test_what_is_no_artefact_is_refused(tmp_path: Path) -> None:
    check_refused(run_cli("sbom", tmp_path), BrokenPackageError, tmp_path)
    missing = tmp_path / "missing.mlb"
    check_refused(run_cli("sbom", missing), BrokenBundleError, missing)
    result = run_cli("sbom", VERSION_1 / "digits.mlb", env={"SOURCE_DATE_EPOCH": "yesterday"})
    check_refused(result, InputError, "SOURCE_DATE_EPOCH", "yesterday")
