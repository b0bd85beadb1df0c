"""What was ever written is still read: each version verifies, loads, migrates and builds."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import X86_WITH_AVX2, check_refused, copy_package, run_cli, unchanged

import mlopsc
from mlopsc.bundle import read_bundle
from mlopsc.bundle.container import write_container
from mlopsc.errors import FormatVersionError, InputError
from mlopsc.schema.bundle import MANIFEST_VERSIONS
from mlopsc.schema.common import canonical_json
from mlopsc.schema.package import PACKAGE_VERSIONS
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.policy import TrustOptions, verify

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name for path in HERE.glob("v*"))
TARGETS = ("cortex-m7", X86_WITH_AVX2)


def options(version: str) -> TrustOptions:
    key = HERE / version / "key.pub"
    if key.is_file():
        return TrustOptions(keys=(key,))
    return TrustOptions(allow_unsigned=True)


def test_every_version_is_here() -> None:
    assert [f"v{n + 1}" for n in range(MANIFEST_VERSIONS)] == VERSIONS
    assert MANIFEST_VERSIONS == PACKAGE_VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_bundles_and_packages_verify(version: str) -> None:
    folder = HERE / version
    for path in (folder / "digits.mlb", *sorted((folder / "packages").iterdir())):
        with unchanged(folder):
            found = verify(path, options(version))
        assert f"v{found.artefact.format_version}" == version
        verdicts = {check.name: check.verdict for check in found.checks}
        assert verdicts["whole"] == "pass"
        assert verdicts.get("conformance", "pass") == "pass"
        assert verdicts["signature"] == ("note" if version == "v1" else "pass")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("version", VERSIONS)
def test_packages_still_compute(version: str, target: str, tmp_path: Path) -> None:
    package = copy_package(HERE / version / "packages" / target, tmp_path)
    assert mlopsc.conform(package).verdict == "pass"
    if target != "cortex-m7":
        model = mlopsc.load(HERE / version / "packages" / target)
        for vector in read_bundle(HERE / version / "digits.mlb").vectors:
            got = model(vector.inputs)["probabilities"]
            assert np.abs(got - vector.outputs["probabilities"]).max() < 1e-5


@pytest.mark.parametrize("version", VERSIONS)
def test_bundles_build_into_conforming_packages(version: str, tmp_path: Path) -> None:
    keys = options(version).keys
    mlopsc.build(HERE / version / "digits.mlb", "cortex-m7", tmp_path, keys=keys)
    report = mlopsc.conform(tmp_path / "cortex-m7", bundle=HERE / version / "digits.mlb")
    assert report.verdict == "pass"


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_bundles_migrate(version: str, tmp_path: Path) -> None:
    old, new = HERE / version / "digits.mlb", tmp_path / "new.mlb"
    result = run_cli("migrate", old, "-o", new)
    assert result.returncode == 0, result.stderr
    before, after = read_bundle(old), read_bundle(new)
    assert after.format_version == MANIFEST_VERSIONS > before.format_version
    assert (after.stages, after.manifest.vectors) == (before.stages, before.manifest.vectors)
    assert (after.manifest.inputs, after.manifest.outputs) == (
        before.manifest.inputs,
        before.manifest.outputs,
    )
    assert before.digest.removeprefix("sha256:") in after.documents["provenance.json"].decode()
    assert run_cli("verify", new, "--allow-unsigned").returncode == 0
    mlopsc.build(new, "cortex-m7", tmp_path / "built")
    assert mlopsc.conform(tmp_path / "built" / "cortex-m7", bundle=new).verdict == "pass"
    again = run_cli("migrate", new, "-o", tmp_path / "again.mlb")
    check_refused(again, InputError, "format version", MANIFEST_VERSIONS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_packages_migrate(version: str, target: str, tmp_path: Path) -> None:
    old, bundle = HERE / version / "packages" / target, HERE / version / "digits.mlb"
    check_refused(run_cli("migrate", old, "-o", tmp_path / "none"), InputError, "--bundle")
    result = run_cli("migrate", old, "--bundle", bundle, "-o", tmp_path / target)
    assert result.returncode == 0, result.stderr
    before, after = open_artefact(old), open_artefact(tmp_path / target)
    assert after.format_version == PACKAGE_VERSIONS
    kept = {n: d for n, d in before.files.items() if n.startswith(("lib/", "include/", "vectors/"))}
    assert kept
    assert kept.items() <= after.files.items()
    assert mlopsc.conform(tmp_path / target).verdict == "pass"
    assert run_cli("verify", tmp_path / target, "--allow-unsigned").returncode == 0


def test_newer_versions_are_refused_politely(tmp_path: Path) -> None:
    source = HERE / VERSIONS[-1] / "digits.mlb"
    with zipfile.ZipFile(source) as archive:
        members = {name: [archive.read(name)] for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"][0])
    manifest |= {"schema_version": MANIFEST_VERSIONS + 1, "what_nobody_knows_yet": 1}
    members["manifest.json"] = [canonical_json(manifest).encode()]
    newer = tmp_path / "newer.mlb"
    write_container(newer, members)
    package = copy_package(HERE / VERSIONS[-1] / "packages" / "cortex-m7", tmp_path)
    descriptor = json.loads((package / "model.json").read_text())
    descriptor["schema_version"] = PACKAGE_VERSIONS + 1
    (package / "model.json").write_text(canonical_json(descriptor))
    for verb in (["verify", "--allow-unsigned"], ["inspect"], ["trace"]):
        for artefact, number in ((newer, MANIFEST_VERSIONS), (package, PACKAGE_VERSIONS)):
            result = run_cli(verb[0], artefact, *verb[1:])
            check_refused(result, FormatVersionError, number + 1, f"1 to {number}", "upgrade")
    for arguments in (["build", newer, "-t", "host", "-o", tmp_path / "out"], ["run", package]):
        check_refused(run_cli(*arguments), FormatVersionError, "upgrade")
