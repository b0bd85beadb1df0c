"""The log: where it is kept, whose key signs it, and what happens if it cannot be written."""

from __future__ import annotations

import itertools
import json
import os
import stat
from pathlib import Path

import pytest
from support import check_words, unchanged

from mlopsc.errors import KeyFileError, LogError, MlopscError, OutputError
from mlopsc.trust.chain import actor
from mlopsc.trust.keys import generate_keys, load_public
from mlopsc.trust.log import Log, open_log, record


def reference(kind: str, number: int) -> str:
    return f"{kind}:sha256:{number:064x}"


BUNDLE, PACKAGE, DATA = reference("bundle", 1), reference("package", 2), reference("dataset", 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPSC_LOG_DIR", str(tmp_path / "log"))
    return tmp_path / "log"


def opened() -> Log:
    log = open_log()
    assert log is not None
    return log


def fails(kind: type[MlopscError], *mentions: str | Path) -> None:
    with pytest.raises(kind) as caught:
        record("import", BUNDLE, "m 1", {DATA: "data"})
    check_words(caught.value.message, caught.value.hint, *mentions)


def test_entries_say_who_did_what_and_when(folder: Path) -> None:
    record("import", BUNDLE, "m 1", {BUNDLE: "itself", DATA: "data"}, path="/x")
    record("build", PACKAGE, "m 1", {BUNDLE: "bundle"}, target="host", allowed=["unchecked"])
    entries, digests = opened().read()
    assert [(e.action, e.subject, e.made_of) for e in entries] == [
        ("import", BUNDLE, {DATA: "data"}), ("build", PACKAGE, {BUNDLE: "bundle"}),
    ]  # fmt: skip
    assert entries[1].details == {"target": "host", "allowed": ["unchecked"]}
    assert all(entry.actor == actor() and entry.time.endswith("+00:00") for entry in entries)
    assert len(digests) == 2
    assert stat.S_IMODE((folder / "log.key").stat().st_mode) == 0o600


def test_closure_goes_over_several_steps(folder: Path) -> None:
    del folder
    steps = [reference("bundle", n) for n in range(10, 15)]
    for parent, child in itertools.pairwise(steps):
        record("import", child, "m", {parent: "parent"})
    record("build", PACKAGE, "m", {steps[-1]: "bundle"})
    record("build", reference("package", 9), "m", {reference("bundle", 99): "another"})
    through = opened().closure([steps[0]])
    assert through == dict.fromkeys([*steps, PACKAGE], steps[0])
    assert opened().closure([DATA]) == {DATA: DATA}


def test_no_log_is_kept_if_the_folder_is_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPSC_LOG_DIR", "")
    assert open_log() is None
    record("import", BUNDLE, "m", {})


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLOPSC_LOG_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    log = opened()
    assert not log.chosen
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    record("import", BUNDLE, "m", {})
    assert (tmp_path / "mlopsc" / "log" / "log.jsonl").is_file()


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error if somebody chose it; by default work goes on without."""
    (tmp_path / "file").touch()
    with unchanged(tmp_path):
        monkeypatch.setenv("MLOPSC_LOG_DIR", str(tmp_path / "file" / "log"))
        fails(OutputError, tmp_path / "file" / "log", "MLOPSC_LOG_DIR")
        monkeypatch.delenv("MLOPSC_LOG_DIR")
        monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "file" / name)
        record("import", BUNDLE, "m", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_is_only_read(folder: Path) -> None:
    record("import", BUNDLE, "m", {})
    for path in (*folder.iterdir(), folder):
        path.chmod(0o500 if path.is_dir() else 0o400)
    fails(OutputError, folder)
    folder.chmod(0o700)


@pytest.mark.parametrize("left", [{"log.jsonl"}, {"log.key.pub"}, {"log.jsonl", "log.key.pub"}])
def test_key_that_is_lost(left: set[str], folder: Path) -> None:
    """A finding: a new key was made, and the log never held again."""
    record("import", BUNDLE, "m", {})
    before = (folder / "log.jsonl").read_bytes()
    for path in list(folder.iterdir()):
        if path.name not in left:
            path.unlink()
    fails(LogError, folder / "log.key", "MLOPSC_LOG_DIR")
    assert not (folder / "log.key").exists()
    if "log.jsonl" in left:
        assert (folder / "log.jsonl").read_bytes() == before


def test_public_key_that_is_lost(folder: Path) -> None:
    record("import", BUNDLE, "m", {})
    (folder / "log.key.pub").rename(folder / "elsewhere.pub")
    with pytest.raises(LogError, match="key of the log is missing"):
        opened().read()
    assert opened().read([load_public(folder / "elsewhere.pub")])[0]


def test_key_that_is_damaged_or_another(folder: Path, tmp_path: Path) -> None:
    record("import", BUNDLE, "m", {})
    (folder / "log.key").write_text("garbage")
    fails(KeyFileError, folder / "log.key")
    generate_keys(tmp_path / "other", kind="ed25519", password=None)
    (tmp_path / "other.pub").replace(folder / "log.key.pub")
    with pytest.raises(LogError, match="not trusted"):
        opened().read()


@pytest.mark.parametrize("verb", ["closure", "read"])
def test_log_that_lost_entries(verb: str, folder: Path) -> None:
    """A finding: only 'mlopsc log' noticed it, not who looks for what is revoked."""
    for number in range(3):
        record("import", reference("bundle", number), "m", {})
    log = opened()
    log.read()
    lines = (folder / "log.jsonl").read_bytes().splitlines(True)
    (folder / "log.jsonl").write_bytes(b"".join(lines[:2]))
    with pytest.raises(LogError, match="had 3 entries"):
        log.read() if verb == "read" else log.closure([DATA])
    (folder / "log.jsonl").unlink()
    with pytest.raises(LogError, match="had 3 entries"):
        log.read()


def test_names_that_are_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding: names of files and users are bytes, and the log never held again."""
    del folder
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, os.fsdecode(b"us\xffer"))
    record("import", BUNDLE, "m", {}, path=os.fsdecode(b"/x/\xff.mlb"))
    (entry,), _ = opened().read()
    assert entry.actor == "us\\udcffer"
    assert json.dumps(entry.details) == json.dumps({"path": "/x/\\udcff.mlb"})
