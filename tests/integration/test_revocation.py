"""What is revoked, and everything made of it, is refused wherever it could be used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import REPOSITORY, check_refused, check_words, run_cli, tree, unchanged

import mlopsc
from mlopsc import pipeline
from mlopsc.affected import affected
from mlopsc.bundle import read_bundle
from mlopsc.errors import (
    BrokenBundleError,
    KeyFileError,
    LogError,
    OutputError,
    RevokedError,
    SourceError,
)
from mlopsc.migrate import migrate
from mlopsc.package_reader import read_package
from mlopsc.signing import sign
from mlopsc.tracing import trace, walk
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.keys import PrivateKey, generate_keys, key_id, load_private
from mlopsc.trust.log import open_log
from mlopsc.trust.policy import TrustOptions, authorise, verify
from mlopsc.trust.revocations import own_list, read_revocations, revoke

DATA, PARENT = "sha256:" + "da" * 32, "sha256:" + "9a" * 32
TARGET = "host"
OF_BUNDLE = ("dataset", "parent bundle", "parent model", "model", "bundle", "bundle's key")
OF_PACKAGE = (*OF_BUNDLE, "package", "package's key")


@dataclass(frozen=True)
class Signed:
    """A bundle and a package of it, signed by two keys; nothing of it is in a log."""

    bundle: Path
    package: Path
    keys: dict[str, Path]

    def reference(self, what: str) -> str:
        """Return what to revoke."""
        info = read_package(self.package)
        manifest = read_bundle(self.bundle).manifest
        return {
            "dataset": f"dataset:{DATA}",
            "parent bundle": f"bundle:{PARENT}",
            "parent model": f"model:{PARENT}",
            "model": f"model:{manifest.stages[-1].source.digest}",
            "bundle": f"bundle:{info.info.bundle}",
            "package": f"package:{info.digest}",
            "bundle's key": f"key:{self.key('one')}",
            "package's key": f"key:{self.key('two')}",
        }[what]

    def key(self, name: str) -> str:
        return key_id(load_private(self.keys[name]).public_key())

    def options(self, *lists: Path) -> TrustOptions:
        keys = tuple(path.with_suffix(".pub") for path in self.keys.values())
        return TrustOptions(keys=keys, revocations=lists)


@pytest.fixture(scope="module")
def signed(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("signed")
    keys = {name: folder / name for name in ("one", "two")}
    for path in keys.values():
        generate_keys(path, kind="ecdsa-p256", password=None)
    lineage = {
        "schema_version": 1,
        "datasets": [{"name": "digits", "version": "1", "digest": DATA}],
        "parents": [{"name": "base", "digest": PARENT, "relation": "fine-tuned"}],
    }
    (folder / "lineage.yaml").write_text(yaml.safe_dump(lineage))
    mlopsc.import_model(
        digits_folder / "digits.onnx",
        folder / "digits.mlb",
        preprocess=digits_folder / "preprocess.onnx",
        lineage=folder / "lineage.yaml",
    )
    sign(folder / "digits.mlb", load_private(keys["one"]))
    mlopsc.build(folder / "digits.mlb", TARGET, folder, keys=[folder / "one.pub"])
    mlopsc.conform(folder / TARGET)
    sign(folder / TARGET, load_private(keys["two"]))
    return Signed(folder / "digits.mlb", folder / TARGET, keys)


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    """Of whoever keeps a list."""
    generate_keys(tmp_path / "lists.key", kind="ed25519", password=None)
    return load_private(tmp_path / "lists.key")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPSC_LOG_DIR", str(tmp_path / "log"))
    return tmp_path / "log"


def image() -> dict[str, np.ndarray]:
    return {"image": np.zeros((1, 8, 8), np.uint8)}


def uses(signed: Signed, *lists: Path) -> dict[str, Callable[[], object]]:
    """Return everything that uses the package."""
    return {
        "verify": lambda: verify(signed.package, signed.options(*lists)),
        "run": lambda: pipeline.run(signed.package, image(), revocations=lists),
        "conform": lambda: pipeline.conform(signed.package, write=False, revocations=lists),
        "load": lambda: mlopsc.load(signed.package, revocations=lists),
        "load with key": lambda: mlopsc.load(
            signed.package, key=signed.keys["two"].with_suffix(".pub"), revocations=lists
        ),
    }


def refused(use: Callable[[], object], *mentions: str) -> None:
    with pytest.raises(RevokedError) as caught:
        use()
    check_words(caught.value.message, caught.value.hint, *mentions)


def test_nothing_is_revoked(signed: Signed, tmp_path: Path, key: PrivateKey) -> None:
    revoke(tmp_path / "list", "dataset:sha256:" + "0" * 64, "of somebody else", key)
    for use in uses(signed, tmp_path / "list").values():
        assert use()
    assert authorise(open_artefact(signed.bundle), signed.options(tmp_path / "list"))


@pytest.mark.parametrize("what", OF_PACKAGE)
def test_revoked_package_is_not_used(
    what: str, signed: Signed, tmp_path: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(tmp_path / "list", signed.reference(what), "it was poisoned", key)
    with unchanged(signed.package.parent):
        for use in uses(signed, tmp_path / "list").values():
            refused(use, signed.reference(what), "it was poisoned")
        monkeypatch.setenv("MLOPSC_REVOCATIONS", f"{os.pathsep}{tmp_path / 'list'}")
        for use in uses(signed).values():
            refused(use, signed.reference(what), "it was poisoned")


@pytest.mark.parametrize("what", OF_BUNDLE)
def test_nothing_is_built_of_a_revoked_bundle(
    what: str, signed: Signed, tmp_path: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(tmp_path / "list", signed.reference(what), "it was poisoned", key)
    monkeypatch.setenv("MLOPSC_REVOCATIONS", str(tmp_path / "list"))
    for unchecked in (False, True):
        refused(
            lambda u=unchecked: mlopsc.build(
                signed.bundle, TARGET, tmp_path / "out",
                keys=[signed.keys["one"].with_suffix(".pub")], unchecked=u,
            ),
            signed.reference(what),
        )  # fmt: skip
    refused(lambda: verify(signed.bundle, signed.options()), "it was poisoned")
    refused(lambda: sign(signed.bundle, load_private(signed.keys["one"]), force=True), "poisoned")
    assert not (tmp_path / "out").exists()


def test_what_is_revoked_is_not_imported(
    signed: Signed, digits_folder: Path, tmp_path: Path, log: Path, key: PrivateKey
) -> None:
    revoke(log / "revocations.jsonl", signed.reference("dataset"), "it was poisoned", key)
    source = digits_folder / "digits.onnx"
    refused(
        lambda: mlopsc.import_model(
            source, tmp_path / "new.mlb", lineage=signed.bundle.parent / "lineage.yaml"
        ),
        DATA,
    )
    assert not (tmp_path / "new.mlb").exists()
    assert not (log / "log.jsonl").exists()


def test_closure_goes_through_the_log(
    digits_folder: Path, tmp_path: Path, log: Path, key: PrivateKey
) -> None:
    """Data set -> bundle -> its child -> its child; only the log knows all of the way."""
    paths = []
    lineage: dict[str, object] = {"datasets": [{"name": "digits", "digest": DATA}]}
    for number in range(3):
        (tmp_path / "l.yaml").write_text(yaml.safe_dump({"schema_version": 1, **lineage}))
        path = tmp_path / f"{number}.mlb"
        mlopsc.import_model(digits_folder / "digits.onnx", path, lineage=tmp_path / "l.yaml",
                            version=str(number), preprocess=digits_folder / "preprocess.onnx",
                            vectors=digits_folder / "vectors.npz")  # fmt: skip
        paths.append(path)
        lineage = {"parents": [{"name": "parent", "digest": read_bundle(path).digest}]}
    package = mlopsc.build(paths[2], TARGET, tmp_path)[TARGET]
    assert package.bundle == read_bundle(paths[2]).digest
    found, _ = affected(f"dataset:{DATA}")
    assert [e.where for e in found] == [(str(p),) for p in (*paths, tmp_path / TARGET)]
    assert affected("dataset:sha256:" + "1" * 64) == ([], [])
    assert len(affected(f"bundle:{read_bundle(paths[1]).digest}")[0]) == 2
    assert mlopsc.load(tmp_path / TARGET)
    revoke(log / "revocations.jsonl", f"dataset:{DATA}", "withdrawn", key)
    for path in paths:
        refused(lambda p=path: mlopsc.build(p, TARGET, tmp_path / "out"), DATA, "withdrawn")
    refused(lambda: mlopsc.load(tmp_path / TARGET), DATA, "withdrawn")
    refused(lambda: pipeline.run(tmp_path / TARGET, image()), DATA)


def test_affected_looks_into_folders(signed: Signed, tmp_path: Path) -> None:
    """Without a log: what the artefacts say themselves."""
    for what in OF_PACKAGE:
        found, _ = affected(signed.reference(what), [signed.bundle.parent])
        kinds = [entry.reference.split(":")[0] for entry in found]
        expected = {"package": [], "package's key": ["package"], "bundle": ["package"]}
        assert sorted(kinds) == expected.get(what, ["bundle", "package"]), what
    assert affected(f"dataset:{DATA}", [signed.package])[0] != []
    with pytest.raises(LogError, match="MLOPSC_LOG_DIR"):
        affected(f"dataset:{DATA}")
    _, (problem,) = affected(f"dataset:{DATA}", [tmp_path / "missing"])
    assert isinstance(problem, SourceError)
    shutil.copy(signed.bundle, tmp_path)
    with (tmp_path / "digits.mlb").open("ab") as file:
        file.write(b"x")
    (tmp_path / "sound").mkdir()
    shutil.copytree(signed.package, tmp_path / "sound" / "a")
    shutil.copytree(signed.package, tmp_path / "sound" / "b")
    found, (problem,) = affected(f"dataset:{DATA}", [tmp_path])
    assert isinstance(problem, BrokenBundleError), "told, and the others are found all the same"
    places = (str(tmp_path / "sound" / "a"), str(tmp_path / "sound" / "b"))
    assert [entry.where for entry in found] == [places], "each place is listed"


def test_a_key_that_was_revoked_can_be_replaced(
    digits_bundle: Path, tmp_path: Path, log: Path, key: PrivateKey
) -> None:
    """Who signed is no part of what a bundle is made of."""
    bundle = tmp_path / "d.mlb"
    shutil.copy(digits_bundle, bundle)
    other = tmp_path / "other"
    generate_keys(other, kind="ed25519", password=None)
    _, name = sign(bundle, load_private(other))
    revoke(log / "revocations.jsonl", f"key:{name}", "was lost", key)
    with pytest.raises(RevokedError):
        verify(bundle, TrustOptions(keys=(tmp_path / "other.pub",)))
    with pytest.raises(RevokedError):
        sign(bundle, load_private(other), force=True)
    fresh = tmp_path / "fresh"
    generate_keys(fresh, kind="ecdsa-p256", password=None)
    sign(bundle, load_private(fresh), force=True)
    verify(bundle, TrustOptions(keys=(tmp_path / "fresh.pub",)))


def test_migration_is_no_way_out(tmp_path: Path, log: Path, key: PrivateKey) -> None:
    old = REPOSITORY / "tests" / "compat" / "v1" / "digits.mlb"
    new = tmp_path / "new.mlb"
    migrate(old, new)
    (log / "log.jsonl").unlink()  # as on another machine, which knows nothing of the migration
    for name in ("heads.json", "closure.json"):
        (log / name).unlink(missing_ok=True)
    revoke(log / "revocations.jsonl", f"bundle:{read_bundle(old).digest}", "wrong", key)
    for path in (old, new):
        with pytest.raises(RevokedError):
            verify(path, TrustOptions(allow_unsigned=True))
    with pytest.raises(RevokedError):
        migrate(old, tmp_path / "again.mlb")
    assert read_bundle(old).digest.removeprefix("sha256:") in str(
        [node.digest for node in walk(trace(new)) if node.kind == "bundle"]
    )


def test_what_follows_from_the_log_is_remembered_as_long_as_it_holds(
    digits_bundle: Path, tmp_path: Path, log: Path, key: PrivateKey
) -> None:
    mlopsc.build(digits_bundle, TARGET, tmp_path)
    revoke(log / "revocations.jsonl", "dataset:sha256:" + "7" * 64, "unrelated", key)
    assert mlopsc.load(tmp_path / TARGET)
    first = (log / "closure.json").read_bytes()
    assert mlopsc.load(tmp_path / TARGET)
    assert (log / "closure.json").read_bytes() == first
    lines = (log / "log.jsonl").read_bytes().splitlines(keepends=True)
    (log / "log.jsonl").write_bytes(b"".join(lines[:-1]) + b"x\n")
    with pytest.raises(LogError):
        mlopsc.load(tmp_path / TARGET)


# Lists -------------------------------------------------------------------------------------------


def test_list_belongs_to_one_key(tmp_path: Path, key: PrivateKey) -> None:
    path = tmp_path / "list"
    revoke(path, f"model:{DATA}", "one", key)
    generate_keys(tmp_path / "other", kind="ed25519", password=None)
    other = load_private(tmp_path / "other")
    with unchanged(tmp_path):
        with pytest.raises(LogError, match="is signed by key"):
            revoke(path, f"model:{PARENT}", "two", other)
        with pytest.raises(LogError, match="revoked already"):
            revoke(path, f"model:{DATA}", "again", key)
        for reason in ("", "x" * 2001, os.fsdecode(b"\xff")):
            with pytest.raises(LogError, match="characters"):
                revoke(path, f"model:{PARENT}", reason, key)
    assert revoke(path, f"model:{PARENT}", "two", key).sequence == 1
    assert set(read_revocations([path]).entries) == {f"model:{DATA}", f"model:{PARENT}"}


def test_public_key_of_somebody_is_not_replaced(tmp_path: Path, key: PrivateKey) -> None:
    """A finding: a list that is new took the place of any key beside it."""
    generate_keys(tmp_path / "mine", kind="ed25519", password=None)
    (tmp_path / "mine").unlink()
    with unchanged(tmp_path), pytest.raises(LogError, match="is signed by key"):
        revoke(tmp_path / "mine", f"model:{DATA}", "x", key)


def test_list_that_cannot_be_written(tmp_path: Path, key: PrivateKey) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        revoke(tmp_path / "file" / "list", f"model:{DATA}", "x", key)
    check_words(caught.value.message, caught.value.hint, tmp_path / "file")


def lists_that_fail(path: Path) -> dict[str, Callable[[], object]]:
    data = path.read_bytes()
    return {
        "list is missing": path.unlink,
        "key is missing": path.with_suffix(".pub").unlink,
        "key is garbage": lambda: path.with_suffix(".pub").write_text("x"),
        "list is a folder": lambda: (path.unlink(), path.mkdir()),
        "list is a pipe": lambda: (path.unlink(), os.mkfifo(path)),
        "list is cut": lambda: path.write_bytes(data[:-5]),
        "list was edited": lambda: path.write_bytes(data.replace(b"A", b"B", 1)),
        "list is garbage": lambda: path.write_bytes(b"x\n"),
    }


@pytest.mark.parametrize("fault", lists_that_fail(Path(__file__)))
def test_list_that_is_named_must_hold(
    fault: str, signed: Signed, tmp_path: Path, key: PrivateKey
) -> None:
    path = tmp_path / "list"
    revoke(path, "model:sha256:" + "0" * 64, "something else", key)
    lists_that_fail(path)[fault]()
    with unchanged(signed.package):
        for use in uses(signed, path).values():
            with pytest.raises(LogError) as caught:
                use()
            check_words(caught.value.message, caught.value.hint, path)
        with pytest.raises(LogError):
            pipeline.conform(signed.package, revocations=(path,))
        with pytest.raises(LogError):
            authorise(open_artefact(signed.bundle), signed.options(path))


def test_own_list_that_vanishes(signed: Signed, log: Path, key: PrivateKey) -> None:
    """A finding: without the list everything was allowed again."""
    path = own_list()
    assert path == log / "revocations.jsonl"
    revoke(path, "model:sha256:" + "0" * 64, "something else", key)
    revoke(path, signed.reference("dataset"), "poisoned", key)
    refused(lambda: mlopsc.load(signed.package), "poisoned")
    lines = path.read_bytes().splitlines(True)
    for left in (lines[:1], []):
        path.write_bytes(b"".join(left))
        with pytest.raises(LogError, match="had 2 entries"):
            mlopsc.load(signed.package)
    path.unlink()
    with pytest.raises(LogError, match="not there"):
        mlopsc.load(signed.package)
    path.write_bytes(b"".join(lines))
    refused(lambda: mlopsc.load(signed.package), "poisoned")


# The command line --------------------------------------------------------------------------------


def test_revocation_on_the_command_line(signed: Signed, tmp_path: Path) -> None:
    env = {"MLOPSC_LOG_DIR": str(tmp_path / "log")}
    generate_keys(tmp_path / "key", kind="ed25519", password=None)
    given = ("revoke", signed.reference("dataset"), "--reason", "poisoned", "--key")
    lists = tmp_path / "list"
    check_refused(run_cli(*given, tmp_path / "key"), LogError, "MLOPSC_LOG_DIR")
    check_refused(run_cli(*given, tmp_path / "no", env=env), KeyFileError, "no")
    assert run_cli("revoke", "dataset:1", "--reason", "x", "--key", "k").returncode == 2
    assert run_cli("revoke", signed.reference("dataset"), "--reason", "", env=env).returncode == 2
    result = run_cli(*given[:3], "x" * 3000, "--key", tmp_path / "key", "--list", lists)
    check_refused(result, LogError, "3000 characters")
    result = run_cli(*given, tmp_path / "key", "--list", lists, env=env)
    assert (result.returncode, "affected" in result.stderr) == (0, True)
    check_refused(run_cli(*given, tmp_path / "key", "--list", lists, env=env), LogError, "already")
    assert "poisoned" in run_cli("revoke", "--show", "--list", lists, env=env).stdout
    check_refused(run_cli("revoke", "--show", env=env), LogError, "not there")
    np.save(tmp_path / "image.npy", image()["image"])
    run = ("run", signed.package, "-i", f"image={tmp_path / 'image.npy'}")
    with unchanged(signed.package.parent):
        for command in (
            run,
            ("conform", shutil.copytree(signed.package, tmp_path / "copy")),
            ("verify", signed.bundle, "--key", signed.keys["one"].with_suffix(".pub")),
            ("build", signed.bundle, "-t", TARGET, "-o", tmp_path / "out", "--unchecked"),
        ):
            result = run_cli(*command, "--revocations", lists)
            check_refused(result, RevokedError, "poisoned", DATA)
        missing = {"MLOPSC_REVOCATIONS": str(tmp_path / "missing")}
        check_refused(run_cli(*run, env=missing), LogError, "missing", "not there")
    assert not (tmp_path / "out").exists()


def test_log_and_affected_on_the_command_line(signed: Signed, tmp_path: Path) -> None:
    env = {"MLOPSC_LOG_DIR": str(tmp_path / "log")}
    for verb in (("log",), ("log", "--verify")):
        check_refused(run_cli(*verb), LogError, "MLOPSC_LOG_DIR")
    assert "0 entries hold" in run_cli("log", "--verify", env=env).stdout
    bundle = Path(shutil.copy(signed.bundle, tmp_path))
    result = run_cli("sign", bundle, "--key", signed.keys["one"], "--force", env=env)
    assert result.returncode == 0
    head = run_cli("log", "--verify", env=env).stdout.split()[-1]
    assert head.startswith("sha256:")
    result = run_cli("build", bundle, "-t", TARGET, "-o", tmp_path / "out", "--key",
                     signed.keys["one"].with_suffix(".pub"), env=env)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert run_cli("log", "--head", head, env=env).returncode == 0
    wrong = run_cli("log", "--head", "sha256:" + "0" * 64, env=env)
    check_refused(wrong, LogError, "entries were removed")
    one = run_cli("log", "-n", "1", "--json", env=env).stdout
    assert '"build"' in one
    assert '"sign"' not in one
    assert run_cli("log", "-n", "0", env=env).returncode == 2
    check_refused(run_cli("log", "--key", tmp_path / "no", env=env), KeyFileError, "no")
    other = signed.keys["two"].with_suffix(".pub")
    check_refused(run_cli("log", "--key", other, env=env), LogError, "not trusted")
    found = run_cli("affected", f"key:{signed.key('one')}", env=env).stdout
    assert str(bundle) in found
    assert str(tmp_path / "out" / TARGET) in found
    assert run_cli("affected", "bundle:1").returncode == 2
    result = run_cli("affected", f"dataset:{DATA}", tmp_path / "missing")
    check_refused(result, SourceError, "missing")
    result = run_cli("affected", f"dataset:{DATA}", signed.bundle.parent, "--json")
    assert result.stdout.count('"reference"') == 2
    lines = (tmp_path / "log" / "log.jsonl").read_bytes().splitlines(True)
    (tmp_path / "log" / "log.jsonl").write_bytes(lines[0])
    check_refused(run_cli("log", "--verify", env=env), LogError, "had 2 entries")
    (tmp_path / "log" / "heads.json").unlink()
    assert "1 entries hold" in run_cli("log", "--verify", env=env).stdout


def test_every_use_is_in_the_log(signed: Signed, log: Path, tmp_path: Path) -> None:
    before = tree(signed.package)
    package = tmp_path / TARGET
    shutil.copytree(signed.package, package)
    sign(package, load_private(signed.keys["two"]), force=True)
    found = open_log()
    assert found is not None
    (entry,), _ = found.read()
    expected = {signed.reference(what) for what in OF_PACKAGE} - {signed.reference("package")}
    assert entry.subject == signed.reference("package")
    assert expected <= entry.made_of.keys()
    assert tree(signed.package) == before
    assert log.is_dir()
