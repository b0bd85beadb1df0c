"""Fingerprints of data sets: the definition, what is refused, what is read again, what differs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support import REPOSITORY, check_words

import mlopsc
from mlopsc.cache import FOLDER_VARIABLE, SIZE_VARIABLE, open_cache
from mlopsc.data import diff, hashing, memory, read_contents, read_fingerprint
from mlopsc.errors import DataError
from mlopsc.schema.common import Frozen
from mlopsc.schema.fingerprint import FileDigest, Fingerprint

MIB = 1 << 20
FILES = {
    "a.txt": b"alpha",
    "a/none": b"",
    "a/deep/er/one": b"1",
    "b/two": b"22",
    "\u00e9t\u00e9/\U0001f600 x": b"summer",
}


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(chunks: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word by word."""
    if not chunks:
        return sha()
    if len(chunks) == 1:
        return sha(b"\x00", chunks[0])
    k = 1
    while k * 2 < len(chunks):
        k *= 2
    return sha(b"\x01", root_of(chunks[:k]), root_of(chunks[k:]))


def digest_of(path: Path) -> bytes | None:
    """docs/data.md, once more and in the simplest way; None of a folder without files."""
    if path.is_file():
        data = path.read_bytes()
        chunks = [data[start : start + MIB] for start in range(0, len(data), MIB)]
        return sha(b"\x02", len(data).to_bytes(8, "big"), root_of(chunks))
    entries = {}
    for entry in path.iterdir():
        name = unicodedata.normalize("NFC", entry.name).encode()
        head = len(name).to_bytes(4, "big") + name
        digest = digest_of(entry)
        if digest is None:
            continue
        if entry.is_file():
            size = entry.stat().st_size.to_bytes(8, "big")
            entries[name] = b"\x02" + head + size + digest
        else:
            entries[name] = b"\x03" + head + digest
    return sha(b"\x03", *(entries[name] for name in sorted(entries))) if entries else None


def expected(path: Path) -> str:
    digest = digest_of(path)
    assert digest is not None
    return f"sha256:{digest.hex()}"


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def check_refused(path: Path, *mentions: str) -> None:
    with pytest.raises(DataError) as caught:
        read_contents(path)
    check_words(caught.value.message, caught.value.hint, *mentions)
    assert caught.value.message.isprintable()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data set."""
    return write_all(tmp_path / "data", FILES)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Turn on the cache, with files settled at once; lists the files that are opened."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, str(1 << 30))
    monkeypatch.setattr(memory, "_TICK_NS", 0)
    opened: list[str] = []
    original = hashing.Hashing._read_group

    def read_group(self: Any, file: Any, *arguments: Any) -> list[bytes]:
        opened.append(file.name)
        return original(self, file, *arguments)

    monkeypatch.setattr(hashing.Hashing, "_read_group", read_group)
    return opened


def settle() -> None:
    """Let the file system's clock go on."""
    time.sleep(0.02)


# The definition.


@pytest.mark.parametrize(
    "size",
    [0, 1, 63, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5, 7 * MIB, 16 * MIB - 1, 16 * MIB,
     16 * MIB + 1, 17 * MIB, 32 * MIB, 33 * MIB + 7, 53 * MIB],
)  # fmt: skip
def test_a_file_has_the_digest_of_the_definition(size: int, tmp_path: Path) -> None:
    block = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "file").write_bytes(block[:size])
    found = mlopsc.fingerprint(tmp_path / "file")
    assert found.digest == expected(tmp_path / "file")
    assert [(f.path, f.size, f.digest) for f in found.files] == [(".", size, found.digest)]


def test_a_folder_has_the_digest_of_the_definition(data: Path) -> None:
    found = mlopsc.fingerprint(data)
    assert found.digest == expected(data)
    assert [f.path for f in found.files] == sorted(FILES)
    for file in found.files:
        assert file.digest == expected(data / file.path)
        assert file.size == len(FILES[file.path])


def test_the_program_of_the_documentation_gives_the_digest(data: Path, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102 - our own documentation
    (data / "without" / "files").mkdir(parents=True)
    (tmp_path / "file").write_bytes(bytes(21 * MIB + 3))
    for path in (data, tmp_path / "file", data / "a" / "none"):
        assert mlopsc.fingerprint(path).digest == f"sha256:{names['digest'](path).hex()}"


def test_digests_never_change(data: Path, tmp_path: Path) -> None:
    assert mlopsc.fingerprint(data).digest == (
        "sha256:6c71cbb41219e8a65c28c9528f93934d6f8201ca3cfb9127e06108e704aed723"
    )
    (tmp_path / "empty").touch()
    assert mlopsc.fingerprint(tmp_path / "empty").digest == (
        "sha256:f0c1e0b4cd1983b9c92909f8145cc102993e4c797489c0ba98639fd93056b82f"
    )
    (tmp_path / "large").write_bytes(bytes(40 * MIB + 1))
    assert mlopsc.fingerprint(tmp_path / "large").digest == (
        "sha256:420f9bc9bf1ad9e59e3862802872d557a1109f9ac4a7476dc8ec47aabbba4f6a"
    )


def test_many_files_of_all_sizes(tmp_path: Path) -> None:
    sizes = [0, 1, 100, MIB, 5 * MIB, 20 * MIB, 35 * MIB + 1]
    files = {f"{i % 7}/{i}": bytes([i]) * sizes[i % len(sizes)] for i in range(40)}
    files |= {f"small/{i:04}": b"%d" % i for i in range(500)}
    write_all(tmp_path / "data", files)
    assert mlopsc.fingerprint(tmp_path / "data").digest == expected(tmp_path / "data")


def test_where_when_and_for_whom_do_not_count(data: Path, tmp_path: Path) -> None:
    copy = write_all(tmp_path / "other" / "name", dict(reversed(FILES.items())))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (copy / "empty" / "folder").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(copy)
    assert mlopsc.fingerprint(copy) == mlopsc.fingerprint(data) == mlopsc.fingerprint(link)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "b" / "two").write_bytes(b"23"),
        lambda d: (d / "b" / "two").rename(d / "b" / "three"),
        lambda d: (d / "b" / "two").rename(d / "two"),
        lambda d: (d / "b" / "two").unlink(),
        lambda d: (d / "a" / "none").unlink(),
        lambda d: (d / "more").touch(),
        lambda d: (d / "b").rename(d / "c"),
    ],
)
def test_every_name_and_content_counts(change: Callable[[Path], object], data: Path) -> None:
    before = mlopsc.fingerprint(data).digest
    change(data)
    assert mlopsc.fingerprint(data).digest != before


def test_names_are_compared_in_composed_form(tmp_path: Path) -> None:
    composed = write_all(tmp_path / "composed", {"caf\u00e9/x": b"1"})
    decomposed = write_all(tmp_path / "decomposed", {"cafe\u0301/x": b"1"})
    found = mlopsc.fingerprint(decomposed)
    assert found == mlopsc.fingerprint(composed)
    assert found.files[0].path == "caf\u00e9/x"


# What is refused.


@pytest.mark.parametrize("names", [("caf\u00e9", "cafe\u0301"), ("K", "\u212a")])
@pytest.mark.parametrize("inside", ["", "/x"])
def test_names_that_differ_only_in_form_are_refused(
    names: tuple[str, str], inside: str, tmp_path: Path
) -> None:
    write_all(tmp_path / "data", {f"{names[0]}{inside}": b"1", f"{names[1]}/y": b"1"})
    check_refused(tmp_path / "data", "NFC", "rename")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    check_refused(folder, "UTF-8", "caf\\udce9", "convmv")


@pytest.mark.parametrize("target", ["a.txt", "..", "/etc", "nowhere", "loop", "a"])
def test_links_are_refused(target: str, data: Path) -> None:
    (data / "loop").symlink_to(target)
    check_refused(data, "loop", "symbolic link", "cp -RL")


def test_special_files_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(data / "fifo")
    check_refused(data, "fifo", "a pipe")
    check_refused(data / "fifo", "fifo", "a pipe")
    (data / "fifo").unlink()
    monkeypatch.chdir(data)  # addresses of sockets are short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("sock")
        check_refused(data, "sock", "a socket")
    check_refused(Path("/dev/null"), "a device")


def test_names_cannot_break_messages(data: Path) -> None:
    os.mkfifo(data / "two\nlines\x1b[31m")
    check_refused(data, "two\\nlines\\x1b[31m")


def test_what_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path / "missing", "missing")
    (tmp_path / "loop").symlink_to("loop")
    check_refused(tmp_path / "loop", "loop")
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    check_refused(tmp_path / "empty", "holds no file")
    check_refused(Path("nul\0"), "nul\\x00")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("name", ["a", "a.txt"])
def test_what_cannot_be_read_is_refused(name: str, data: Path) -> None:
    mode = (data / name).stat().st_mode
    (data / name).chmod(0)
    try:
        check_refused(data, name, "cannot read", "Permission denied")
    finally:
        (data / name).chmod(mode)


@pytest.mark.parametrize("function", ["scandir", "open", "preadv"])
def test_errors_of_the_system_are_reported(
    function: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, function, fail)
    check_refused(data, str(data), "cannot read", "Input/output error")


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs Linux")
def test_files_that_are_longer_than_they_say_are_refused() -> None:
    check_refused(Path("/proc/version"), "/proc/version", "changed")


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def overwritten(path: Path) -> None:
    settle()
    with path.open("r+b") as file:
        file.write(b"x")


def replaced_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize(
    "change",
    [longer, overwritten, replaced_by_link, Path.unlink, lambda path: os.truncate(path, 3)],
)
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_changes_is_refused(
    change: Callable[[Path], object], when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_bytes(bytes(3 * MIB))
    changes = [change]
    original = os.preadv

    def read(*arguments: Any) -> int:
        count = original(*arguments)
        if changes:
            changes.pop()(data / "file")
        return count

    if when == "during":
        monkeypatch.setattr(os, "preadv", read)
    with pytest.raises(DataError) as caught:
        read_contents(
            data, progress=lambda *_: changes.pop()(data / "file") if when == "before" and changes
            else None
        )  # fmt: skip
    assert "file" in caught.value.message or "data" in caught.value.message


@pytest.mark.parametrize("name", ["new", "b/new"])
def test_a_folder_that_changes_is_refused(name: str, data: Path) -> None:
    settle()
    with pytest.raises(DataError, match="changed while it was read"):
        read_contents(data, progress=lambda files, hashed, total: (data / name).touch())


@pytest.mark.parametrize("what", ["link", "gone", "socket"])
def test_a_file_that_is_no_file_any_more_has_changed(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    file = Path("data") / "file"
    file.parent.mkdir()
    file.write_bytes(b"1")

    def replace(*_: object) -> None:
        file.unlink(missing_ok=True)
        if what == "link":
            file.symlink_to("data")
        elif what == "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(file))

    with pytest.raises(DataError, match=r"file' changed while it was read"):
        read_contents(Path("data"), progress=replace)


# What is read again.


def test_unchanged_files_are_not_read_again(reads: list[str], data: Path) -> None:
    settle()
    first = mlopsc.fingerprint(data)
    assert sorted(reads) == sorted(FILES)
    reads.clear()
    assert mlopsc.fingerprint(data) == first
    assert reads == []

    (data / "b" / "two").write_bytes(b"xx")
    (data / "new").write_bytes(b"new")
    (data / "a.txt").rename(data / "renamed")  # its inode is known; its time of status is new
    (data / "a" / "none").unlink()
    settle()
    assert mlopsc.fingerprint(data).digest == expected(data)
    assert sorted(reads) == ["b/two", "new", "renamed"]
    reads.clear()
    assert mlopsc.fingerprint(data).digest == expected(data)
    assert reads == []


def test_without_a_cache_everything_is_read(reads: list[str], data: Path, tmp_path: Path) -> None:
    settle()
    mlopsc.fingerprint(data, cache=False)
    assert not (tmp_path / "cache").exists()
    mlopsc.fingerprint(data)
    reads.clear()
    mlopsc.fingerprint(data, cache=False)
    assert sorted(reads) == sorted(FILES)


def test_a_cache_of_no_bytes_keeps_nothing(
    reads: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    settle()
    for _ in range(2):
        reads.clear()
        mlopsc.fingerprint(data)
        assert sorted(reads) == sorted(FILES)
    assert not (tmp_path / "cache").exists()


def test_files_that_have_just_changed_are_not_trusted(
    reads: list[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_TICK_NS", 2_000_000_000)
    for _ in range(2):
        reads.clear()
        mlopsc.fingerprint(data)
        assert sorted(reads) == sorted(FILES)


def test_the_rule_for_recent_changes() -> None:
    second = 1_000_000_000
    state = memory.State(bytes(24) + b"".join(t.to_bytes(8, "little") for t in (5, 10 * second)))
    assert not memory.is_settled(state, 10 * second)
    assert not memory.is_settled(state, 12 * second)
    assert memory.is_settled(state, 12 * second + 1)
    assert not memory.is_settled(state, 9 * second)  # changed in the future


def test_a_change_that_keeps_size_and_time_is_seen(reads: list[str], data: Path) -> None:
    settle()
    mlopsc.fingerprint(data)
    for replace in (False, True):
        path = data / "b" / "two"
        before = path.stat()
        if replace:
            (data / "b" / "temporary").write_bytes(b"zz")
            (data / "b" / "temporary").replace(path)
        else:
            path.write_bytes(b"xy")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        settle()
        reads.clear()
        assert mlopsc.fingerprint(data).digest == expected(data)
        assert reads == ["b/two"]


def test_files_with_times_far_away(reads: list[str], tmp_path: Path) -> None:
    data = write_all(tmp_path / "data", {"past": b"1", "future": b"2"})
    os.utime(data / "past", ns=(0, -(10**18)))
    os.utime(data / "future", ns=(0, 9 * 10**18))
    settle()
    for _ in range(2):
        reads.clear()
        assert mlopsc.fingerprint(data).digest == expected(data)
    assert sorted(reads) == ["future", "past"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:40] + bytes(32) + path.read_bytes()[72:]),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_cache_is_made_again(
    damage: Callable[[Path], object], reads: list[str], data: Path, tmp_path: Path
) -> None:
    settle()
    mlopsc.fingerprint(data)
    (kept,) = (tmp_path / "cache").glob("*/content")
    damage(kept)
    for read in (sorted(FILES), []):
        reads.clear()
        assert mlopsc.fingerprint(data).digest == expected(data)
        assert sorted(reads) == read


def test_records_of_another_length_are_ignored(
    reads: list[str], data: Path, tmp_path: Path
) -> None:
    kept = memory.Memory(open_cache(), str(data.resolve()))
    (tmp_path / "odd").write_bytes(bytes(71))
    kept.cache.store(kept._key, tmp_path / "odd")
    assert kept.load() == {}
    assert mlopsc.fingerprint(data).digest == expected(data)
    assert sorted(reads) == sorted(FILES)


def test_an_interrupt_keeps_what_was_done(
    reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "cores", lambda: 1)
    monkeypatch.setattr(hashing, "_BATCH_GROUPS", 1)
    data = write_all(tmp_path / "data", {f"{i:02}": bytes([i]) * 1000 for i in range(50)})
    settle()
    finish = hashing.Hashing._finish_group

    def fail_late(self: Any, index: int, *rest: Any) -> None:
        if index == 30 and len(reads) < 50:
            raise KeyboardInterrupt
        finish(self, index, *rest)

    monkeypatch.setattr(hashing.Hashing, "_finish_group", fail_late)
    with pytest.raises(KeyboardInterrupt):
        mlopsc.fingerprint(data)
    assert len(reads) == 31
    monkeypatch.setattr(hashing.Hashing, "_finish_group", finish)
    reads.clear()
    assert mlopsc.fingerprint(data).digest == expected(data)
    assert sorted(reads) == [f"{i:02}" for i in range(30, 50)]


# Saved, and compared.


def test_saved_fingerprints_are_canonical_and_read_back(data: Path, tmp_path: Path) -> None:
    (data / 'odd "\\\n\x1f\x7f\u2028').touch()
    found = mlopsc.fingerprint(data)
    text = found.to_json()
    assert text == Frozen.to_json(found)
    (tmp_path / "saved.json").write_text(text, encoding="utf-8")
    assert read_fingerprint(tmp_path / "saved.json") == found


def edited(found: Fingerprint, **changes: Any) -> dict[str, Any]:
    """The first file with other fields."""
    raw = json.loads(found.to_json())
    raw["files"][0] |= changes
    return raw


ZERO = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("changes", "mention"),
    [
        ({"size": 4}, "have the digest"),
        ({"digest": ZERO}, "have the digest"),
        ({"path": "..\n"}, "have the digest"),
        ({"path": "z"}, "order"),
        ({"path": "../x"}, "'../x'"),
        ({"path": "/x"}, "'/x'"),
        ({"path": "a//x"}, "'a//x'"),
        ({"path": "a/./x"}, "'a/./x'"),
        ({"path": "a/"}, "'a/'"),
        ({"path": ""}, "''"),
        ({"path": "."}, "'.'"),
        ({"path": "a\0"}, "NFC"),
        ({"path": "a/e\u0301"}, "NFC"),
        ({"path": "\n"}, "have the digest"),
        ({"path": "a"}, "a name is there twice"),
        ({"size": -1}, "files.0.size"),
        ({"size": 1 << 64}, "files.0.size"),
        ({"digest": "md5:0"}, "files.0.digest"),
        ({"more": 1}, "files.0.more"),
    ],
)
def test_fingerprints_that_were_edited_are_refused(
    changes: dict[str, Any], mention: str, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(edited(mlopsc.fingerprint(data), **changes)))
    with pytest.raises(DataError) as caught:
        read_fingerprint(path)
    check_words(caught.value.message, caught.value.hint, "saved.json", mention)


@pytest.mark.parametrize("text", ["", "{}", "[]", "\0", "null", '{"schema_version": 1}', "x" * 999])
def test_what_is_no_fingerprint_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(text)
    with pytest.raises(DataError, match="is no saved fingerprint"):
        read_fingerprint(tmp_path / "saved.json")


@pytest.mark.parametrize("kind", ["missing", "pipe"])
def test_a_fingerprint_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "saved.json")
    with pytest.raises(DataError, match="no such file"):
        read_fingerprint(tmp_path / "saved.json")


def test_a_fingerprint_has_files() -> None:
    with pytest.raises(ValidationError):
        Fingerprint(digest=ZERO, files=())


def made_of(**files: str) -> Fingerprint:
    """A fingerprint whose files have contents of these letters; '0' is an empty one."""
    entries = (
        FileDigest(digest=f"sha256:{content * 64}", path=path, size=int(content, 16))
        for path, content in sorted(files.items())
    )
    return Fingerprint(digest=ZERO, files=tuple(entries))


def test_versions_are_compared_by_file() -> None:
    old = made_of(same="a", changed="b", gone="c", moved="d", empty="0", twice="e", other="e")
    new = made_of(same="a", changed="1", added="2", target="d", vacant="0", again="e")
    found = diff(old, new)
    assert found
    assert found.changed == ("changed",)
    assert found.renamed == (("moved", "target"), ("other", "again"))
    assert found.added == ("added", "vacant")
    assert found.removed == ("empty", "gone", "twice")
    assert found.unchanged == 1
    assert not diff(old, old)
    assert diff(old, old).unchanged == 7
