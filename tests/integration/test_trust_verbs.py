"""The verbs of trust on the command line, with bad input above all: one clear error each."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support import REPOSITORY, check_refused, copy_package, run_cli, unchanged

import mlopsc
from mlopsc.errors import (
    BrokenBundleError,
    BrokenPackageError,
    InputError,
    KeyFileError,
    OutputError,
    SignatureError,
)
from mlopsc.signing import sign
from mlopsc.trust.keys import generate_keys, key_id, load_private, load_public

OLD = REPOSITORY / "tests" / "compat" / "v1"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys: ``key``, ``other`` of the same kind, ``ed``, and ``locked``."""
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("key", "ecdsa-p256"), ("other", "ecdsa-p256"), ("ed", "ed25519")):
        generate_keys(folder / name, kind=kind, password=None)  # type: ignore[arg-type]
    generate_keys(folder / "locked", kind="ed25519", password=b"right")
    (folder / "password").write_text("right\n")
    return folder


@pytest.fixture
def bundle(digits_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(digits_bundle, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [("verify",), ("trace",), ("rebuild",), ("sign", "--key", "KEY"), ("migrate", "-o", "NEW"),
     ("affected", f"dataset:{DIGEST}")],
    ids=lambda verb: verb[0],
)  # fmt: skip
def test_what_is_no_artefact(verb: tuple[str, ...], keys: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.mlb").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    words = [{"KEY": str(keys / "key"), "NEW": str(tmp_path / "new")}.get(w, w) for w in verb]
    cases = {"text": BrokenBundleError, "package": BrokenPackageError}
    if verb[0] != "affected":  # which looks for artefacts in folders, and says what is missing
        cases |= {
            "missing": BrokenBundleError,
            "pipe": BrokenBundleError,
            "empty": BrokenPackageError,
            "folder.mlb": BrokenBundleError,
            "x" * 3000: BrokenBundleError,
        }
    before = sorted(p.name for p in tmp_path.iterdir())
    for name, kind in cases.items():
        check_refused(run_cli(*words, tmp_path / name), kind, name)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_sign_and_verify_a_bundle(bundle: Path, keys: Path) -> None:
    with unchanged(bundle.parent):
        result = run_cli("verify", bundle, "--key", keys / "key.pub")
        check_refused(result, SignatureError, "not signed", "--allow-unsigned")
        check_refused(run_cli("sign", bundle, "--key", keys / "no"), KeyFileError, keys / "no")
        check_refused(run_cli("sign", bundle, "--key", keys / "key.pub"), KeyFileError, "key.pub")
        result = run_cli("sign", bundle, "--key", keys / "locked")
        check_refused(result, KeyFileError, "needs a password")
        wrong = {"MLOPSC_KEY_PASSWORD": "wrong"}
        result = run_cli("sign", bundle, "--key", keys / "locked", env=wrong)
        check_refused(result, KeyFileError, "password is wrong")
        assert run_cli("sign", bundle, "--key", keys / "key", "--expires", "soon").returncode == 2
        assert run_cli("sign", "--key", keys / "key").returncode == 2
    assert run_cli("verify", bundle, "--allow-unsigned").returncode == 0
    given = ("--key", keys / "locked", "--password-file", keys / "password")
    result = run_cli("sign", bundle, *given)
    assert (result.returncode, result.stderr) == (0, "")
    assert key_id(load_public(keys / "locked.pub")) in result.stdout
    with unchanged(bundle.parent):
        check_refused(run_cli("sign", bundle, *given), OutputError, "signed already", "--force")
        check_refused(run_cli("verify", bundle), SignatureError, "nobody is trusted", "--key")
        result = run_cli("verify", bundle, "--allow-unsigned")
        check_refused(result, SignatureError, "nobody is trusted")
        result = run_cli("verify", bundle, "--key", keys / "other.pub", "--key", keys / "ed.pub")
        check_refused(result, SignatureError, "does not hold", bundle)
        check_refused(run_cli("verify", bundle, "--key", keys / "ed"), KeyFileError, "ed.pub")
        result = run_cli("verify", bundle, "--key", keys / "no.pub")
        check_refused(result, KeyFileError, keys / "no.pub")
    several = ("--key", keys / "other.pub", "--key", keys / "locked.pub")
    checks = json.loads(run_cli("verify", bundle, *several, "--json").stdout)["checks"]
    assert {c["name"] for c in checks} == {"whole", "lock-step", "signature", "revocation"}
    trusted = {"MLOPSC_VERIFY_KEY": f"{keys / 'other.pub'}{os.pathsep}{keys / 'locked.pub'}"}
    assert run_cli("verify", bundle, env=trusted).returncode == 0
    trusted = {"MLOPSC_VERIFY_KEY": str(keys / "no.pub")}
    check_refused(run_cli("verify", bundle, env=trusted), KeyFileError, keys / "no.pub")


def test_whom_a_build_trusts(bundle: Path, keys: Path) -> None:
    build = ("build", bundle, "-t", "cortex-m7", "-o", bundle.parent / "out")
    trusted = {"MLOPSC_VERIFY_KEY": str(keys / "key.pub")}
    check_refused(run_cli(*build, env=trusted), SignatureError, "only signed bundles")
    check_refused(run_cli(*build, "--key", keys / "key.pub"), SignatureError, "--allow-unsigned")
    assert run_cli("sign", bundle, "--key", keys / "other").returncode == 0
    check_refused(run_cli(*build), SignatureError, "nobody is trusted")
    for flags in ((), ("--allow-unsigned",), ("--allow-expired",)):
        check_refused(run_cli(*build, *flags, env=trusted), SignatureError, "does not hold")
    assert not (bundle.parent / "out").exists()


def test_package_must_be_proven(
    digits_packages: dict[str, Path], keys: Path, tmp_path: Path
) -> None:
    package = copy_package(digits_packages["cortex-m7"], tmp_path)
    given = ("sign", package, "--key", keys / "key")
    with unchanged(tmp_path):
        check_refused(run_cli(*given), SignatureError, "not proven", "mlopsc conform", "--unproven")
    assert run_cli(*given, "--unproven").returncode == 0
    result = run_cli("verify", package, "--key", keys / "key.pub")
    assert result.returncode == 0
    assert "although unproven" in result.stdout
    mlopsc.conform(package)  # what was signed is not what is there now
    result = run_cli("verify", package, "--key", keys / "key.pub")
    check_refused(result, SignatureError, "does not hold")
    assert run_cli(*given, "--force").returncode == 0
    result = run_cli("verify", package, "--key", keys / "key.pub")
    assert (result.returncode, "unproven" in result.stdout) == (0, False)


def test_migrate_and_rebuild_what_they_cannot(bundle: Path, keys: Path, tmp_path: Path) -> None:
    new, package = tmp_path / "new", OLD / "packages" / "cortex-m7"
    check_refused(run_cli("migrate", bundle, "-o", new), InputError, "already")
    check_refused(run_cli("migrate", package, "-o", new), InputError, "--bundle")
    result = run_cli("migrate", package, "--bundle", bundle, "-o", new)
    check_refused(result, InputError, "was built from")
    result = run_cli("migrate", OLD / "digits.mlb", "--lineage", keys / "no", "-o", new)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    check_refused(run_cli("migrate", OLD / "digits.mlb", "-o", bundle), OutputError, "--force")
    check_refused(run_cli("rebuild", package), InputError, "does not record how it was built")
    check_refused(run_cli("rebuild", bundle), BrokenPackageError, bundle)
    assert not new.exists()
    done = run_cli("migrate", package, "--bundle", OLD / "digits.mlb", "-o", new)
    assert done.returncode == 0, done.stderr
    check_refused(run_cli("rebuild", new), InputError, "migrated")


def test_names_that_are_no_text(
    bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding: the log could not be read any more."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mlb"))
    bundle.rename(odd)
    monkeypatch.setenv("MLOPSC_LOG_DIR", str(tmp_path / "log"))
    sign(odd, load_private(keys / "key"))
    assert "1 entries hold" in run_cli("log", "--verify").stdout
    result = run_cli("verify", odd, "--key", keys / "other.pub")
    check_refused(result, SignatureError, "\\udcff.mlb")
