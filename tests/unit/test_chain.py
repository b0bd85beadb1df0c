"""Append-only files: whatever is done to one is noticed, and nothing half is ever written."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from support import check_words, unchanged

from mlopsc.errors import LogError, OutputError
from mlopsc.schema.log import LogEntry, Revocation
from mlopsc.trust.chain import Chain, Heads
from mlopsc.trust.dsse import dump, sign_payload
from mlopsc.trust.keys import PrivateKey, private_pem
from mlopsc.trust.revocations import MEDIA_TYPE

KEY = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
REFERENCE = "model:sha256:" + "0" * 64
COUNT = 6
Lines = list[bytes]


def chain(path: Path) -> Chain[Revocation]:
    return Chain(path, Revocation, MEDIA_TYPE, "the list")


def add(path: Path, reason: str, key: PrivateKey = KEY) -> Revocation:
    return chain(path).append(
        lambda link: Revocation.model_validate({**link, "reference": REFERENCE, "reason": reason}),
        key,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for number in range(COUNT):
        add(tmp_path / "list", f"reason {number}")
    return tmp_path / "list"


def refused(path: Path, *mentions: str) -> None:
    with pytest.raises(LogError) as caught:
        chain(path).read([KEY.public_key()])
    check_words(caught.value.message, caught.value.hint, path, *mentions)


def forged(line: bytes, key: PrivateKey = OTHER, **changes: object) -> bytes:
    payload = json.loads(base64.b64decode(json.loads(line)["payload"]))
    return dump(sign_payload(dump({**payload, **changes}), MEDIA_TYPE, key)) + b"\n"


def test_entries_come_back(path: Path) -> None:
    entries, digests = chain(path).read([OTHER.public_key(), KEY.public_key()])
    assert [entry.reason for entry in entries] == [f"reason {n}" for n in range(COUNT)]
    assert [entry.sequence for entry in entries] == list(range(COUNT))
    assert [entry.previous for entry in entries] == [None, *digests[:-1]]
    assert chain(path.with_name("missing")).read([]) == ([], [])


def test_several_keys(path: Path) -> None:
    add(path, "by another", OTHER)
    refused(path, f"entry {COUNT}", "not trusted")
    assert len(chain(path).read([KEY.public_key(), OTHER.public_key()])[0]) == COUNT + 1


TAMPERED: dict[str, Callable[[Lines], Lines]] = {
    "first dropped": lambda lines: lines[1:],
    "middle dropped": lambda lines: lines[:2] + lines[3:],
    "all but the last dropped": lambda lines: lines[-1:],
    "reordered": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "reversed": lambda lines: lines[::-1],
    "last twice": lambda lines: [*lines, lines[-1]],
    "first twice": lambda lines: [lines[0], *lines],
    "first again at the end": lambda lines: [*lines, lines[0]],
    "empty line": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "empty line at the end": lambda lines: [*lines, b"\n"],
    "no last newline": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "half of the last": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
    "half of the last, ended": lambda lines: [*lines[:-1], lines[-1][:50] + b"\n"],
    "nul behind": lambda lines: [*lines, b"\0"],
    "CRLF": lambda lines: [line[:-1] + b"\r\n" for line in lines],
    "space": lambda lines: [lines[0][:-1] + b" \n", *lines[1:]],
    "byte in front": lambda lines: [b"x" + lines[0], *lines[1:]],
    "garbage": lambda lines: [b"garbage\n", *lines[1:]],
    "null": lambda lines: [*lines, b"null\n"],
    "brackets": lambda lines: [*lines, b"[" * 100_000 + b"\n"],
    "nested": lambda lines: [*lines, b"[" * 900 + b"]" * 900 + b"\n"],
    "digits": lambda lines: [*lines, b"1" * 9000 + b"\n"],
    "not UTF-8": lambda lines: [*lines, b"\xff\n"],
    "reason by another": lambda lines: [*lines[:3], forged(lines[3], reason="x"), *lines[4:]],
    "last by another": lambda lines: [*lines[:-1], forged(lines[-1])],
    "added by another": lambda lines: [*lines, forged(lines[-1], sequence=COUNT)],
    "all by another": lambda lines: [forged(line) for line in lines],
    "last rewritten by the owner": lambda lines: [*lines[:2], forged(lines[2], KEY, reason="x"),
                                                  *lines[3:]],
    "wrong number by the owner": lambda lines: [*lines, forged(lines[-1], KEY, sequence=99)],
    "unknown field by the owner": lambda lines: [*lines[:-1], forged(lines[-1], KEY, more=1)],
    "no reference by the owner": lambda lines: [*lines[:-1], forged(lines[-1], KEY, reference="x")],
}  # fmt: skip


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_noticed(change: Callable[[Lines], Lines], path: Path) -> None:
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join(change(lines)))
    refused(path, "entry")


def test_every_byte_counts(path: Path) -> None:
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refused(path)


def test_what_is_cut_off_the_end_is_noticed_by_who_saw_it(path: Path, tmp_path: Path) -> None:
    heads, keys = Heads(tmp_path / "heads.json"), [KEY.public_key()]
    lines = path.read_bytes().splitlines(True)
    assert not heads.know(path)
    path.write_bytes(b"".join(lines[:4]))
    assert len(heads.read(chain(path), keys)[0]) == 4
    path.write_bytes(b"".join(lines))
    assert len(heads.read(chain(path), keys)[0]) == COUNT, "it may grow"
    assert heads.know(path)
    for left in (b"".join(lines[:-1]), b"".join(lines[:4]), lines[0], b""):
        path.write_bytes(left)
        assert chain(path).read(keys), "as a chain it holds"
        with pytest.raises(LogError) as caught:
            heads.read(chain(path), keys)
        check_words(caught.value.message, caught.value.hint, path, f"had {COUNT} entries")
    path.unlink()
    with pytest.raises(LogError, match="it has 0"):
        heads.read(chain(path), keys)
    path.write_bytes(b"".join([*lines[:-1], forged(lines[-1], KEY, reason="another")]))
    add(path, "and one more")
    with pytest.raises(LogError, match="they are others"):
        heads.read(chain(path), keys)
    path.write_bytes(b"".join(lines))
    assert heads.read(chain(path), keys)


def test_files_are_remembered_each_for_itself(path: Path, tmp_path: Path) -> None:
    heads, keys = Heads(tmp_path / "heads.json"), [KEY.public_key()]
    other = tmp_path / "other"
    add(other, "one")
    for file in (path, other, path):
        heads.read(chain(file), keys)
    other.unlink()
    assert heads.read(chain(path), keys)
    with pytest.raises(LogError):
        heads.read(chain(other), keys)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]", b"{}", b'{"a": 1}', b"[" * 100_000, b'{"%b": [0, "x"]}', b'{"%b": [-1, 2]}'],
)
def test_memory_that_is_damaged_is_none(data: bytes, path: Path, tmp_path: Path) -> None:
    memory = tmp_path / "heads.json"
    memory.write_bytes(data.replace(b"%b", os.fsencode(path)))
    assert len(Heads(memory).read(chain(path), [KEY.public_key()])[0]) == COUNT
    assert Heads(memory).know(path)


def test_memory_that_cannot_be_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    heads = Heads(tmp_path / "file" / "heads.json")
    assert len(heads.read(chain(path), [KEY.public_key()])[0]) == COUNT


def test_memory_does_not_shrink(path: Path, tmp_path: Path) -> None:
    """A finding: a slow reader overwrote what a faster one had seen."""
    heads, keys = Heads(tmp_path / "heads.json"), [KEY.public_key()]
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join(lines[:2]))
    _, old = chain(path).read(keys)
    path.write_bytes(b"".join(lines))
    heads.read(chain(path), keys)
    heads._store(str(path.absolute()), len(old), old[-1])
    path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(LogError, match=f"had {COUNT}"):
        heads.read(chain(path), keys)


# Appending ---------------------------------------------------------------------------------------


def append_many(path: Path, pem: bytes, name: str, count: int) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem, None)
    for number in range(count):
        add(path, f"{name} {number}", key)  # type: ignore[arg-type]


def test_processes_that_append_at_once(tmp_path: Path) -> None:
    path, pem = tmp_path / "list", private_pem(KEY, None)
    context = multiprocessing.get_context("spawn")
    names = ("a", "b", "c", "d")
    workers = [context.Process(target=append_many, args=(path, pem, n, 15)) for n in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    entries, _ = chain(path).read([KEY.public_key()])
    for name in names:
        own = [entry.reason for entry in entries if entry.reason.startswith(name)]
        assert own == [f"{name} {number}" for number in range(15)]
    assert len(entries) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
@pytest.mark.parametrize("room", [0, 1, 100])
def test_full_disk_leaves_the_file_as_it_was(room: int, path: Path) -> None:
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limit[1]))
        with pytest.raises(OutputError) as caught:
            add(path, "too much")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    check_words(caught.value.message, caught.value.hint, path)
    assert path.read_bytes() == before
    assert add(path, "fits again").sequence == COUNT


def test_nothing_is_added_to_what_is_damaged(path: Path) -> None:
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"x", b"x", data + b"garbage\n", data + b"null\n", b"{}\n",
                    data + b"[" * 100_000 + b"\n", data + b'{"payload": 5}\n'):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(LogError) as caught:
            add(path, "more")
        check_words(caught.value.message, caught.value.hint, path)
        assert path.read_bytes() == damaged


def test_entries_that_are_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    log: Chain[LogEntry] = Chain(tmp_path / "log", LogEntry, "a/b", "the log")
    about = {"action": "build", "subject": REFERENCE, "name": "x", "made_of": {}}
    for number, size in enumerate((10, 200_000, 200_000, 10, 70_000)):
        entry = log.append(
            lambda link, n=size: LogEntry.model_validate(
                {**link, **about, "details": {"more": "x" * n}}
            ),
            KEY,
        )
        assert entry.sequence == number
    assert len(log.read([KEY.public_key()])[0]) == 5


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with unchanged(tmp_path / "folder"):
        for place in (tmp_path / "file" / "list", tmp_path / "folder"):
            with pytest.raises(OutputError) as caught:
                add(place, "x")
            check_words(caught.value.message, caught.value.hint, place)
    with pytest.raises(LogError, match="cannot read"):
        chain(tmp_path / "folder").read([])
