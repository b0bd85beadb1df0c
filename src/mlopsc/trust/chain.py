"""Append-only files: one signed entry a line, and each names the digest of the line before.

A line is a DSSE envelope. Removing, changing, inserting or reordering entries breaks the chain;
cutting entries off the end is noticed by whoever has seen a later state (``Heads``).
"""

from __future__ import annotations

import base64
import getpass
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from mlopsc.errors import LogError, OutputError
from mlopsc.schema.common import Digest, digest_bytes
from mlopsc.schema.log import Link
from mlopsc.trust.dsse import dump, open_envelope, parse, sign_payload, signer_of
from mlopsc.trust.keys import PrivateKey, PublicKey, key_id

Entry = TypeVar("Entry", bound=Link)
_LOCK_S = 60.0
_TAIL = 1 << 16


@dataclass(frozen=True)
class Chain(Generic[Entry]):
    """One such file.

    Attributes:
        path: Where it is.
        kind: Type of an entry.
        media_type: Of an entry.
        what: What it is called in messages.
    """

    path: Path
    kind: type[Entry]
    media_type: str
    what: str

    def append(self, make: Callable[[dict[str, object]], Entry], key: PrivateKey) -> Entry:
        """Add an entry at the end and return it; others who append meanwhile wait.

        Args:
            make: Returns the entry, given the fields of ``Link``.
            key: Signs it.

        Raises:
            LogError: What is there is damaged.
            OutputError: It cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=_LOCK_S):
                last = self._last_line()
                fields: dict[str, object] = {
                    "sequence": 0 if last is None else self._number(last) + 1,
                    "previous": None if last is None else digest_bytes(last),
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                    "actor": actor(),
                }
                entry = make(fields)
                payload = dump(entry.model_dump(mode="json"))
                line = dump(sign_payload(payload, self.media_type, key)) + b"\n"
                self._write(line)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"cannot write {self.what} '{self.path}': {reason}; expected a writable place",
                hint="check permissions, or choose another place",
            ) from error
        return entry

    def read(self, keys: Sequence[PublicKey]) -> tuple[list[Entry], list[Digest]]:
        """Return all entries, and the digest of every line, after checking each.

        Args:
            keys: Each entry must be signed by one of them.

        Raises:
            LogError: Something is missing, was changed, or is signed by somebody else.
        """
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise LogError(
                f"cannot read {self.what} '{self.path}': {error.strerror or error}"
            ) from error
        lines = data.split(b"\n")
        if lines.pop() != b"":
            raise self._broken(len(lines), "it is not whole")
        by_name = {key_id(key): key for key in keys}
        entries: list[Entry] = []
        digests: list[Digest] = []
        for number, line in enumerate(lines):
            entry = self._open(number, line, by_name)
            if entry.sequence != number or entry.previous != (digests[-1] if digests else None):
                raise self._broken(number, "it does not follow the entry before it")
            entries.append(entry)
            digests.append(digest_bytes(line))
        return entries, digests

    def _open(self, number: int, line: bytes, keys: dict[Digest, PublicKey]) -> Entry:
        try:
            envelope = parse(line)
            signer = signer_of(envelope)
            if signer not in keys:
                raise ValueError(f"it is signed by {signer}, who is not trusted")
            payload = open_envelope(envelope, self.media_type, keys[signer])
            entry = self.kind.model_validate_json(payload)
        except ValidationError as error:
            raise self._broken(number, "it does not fit its schema") from error
        except ValueError as error:
            raise self._broken(number, str(error)) from error
        return entry

    def _last_line(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                span = _TAIL
                while True:
                    file.seek(max(0, size - span))
                    lines = file.read().split(b"\n")
                    if size and lines[-1] != b"":
                        raise LogError(f"{self.what} '{self.path}' is not whole at its end")
                    if len(lines) > 2 or span >= size:
                        return lines[-2] if len(lines) > 1 else None
                    span *= 2
        except FileNotFoundError:
            return None

    def _number(self, line: bytes) -> int:
        """Return the number of the entry in ``line``; its signature is checked by ``read``."""
        try:
            return self.kind.model_validate_json(
                base64.b64decode(json.loads(line)["payload"])
            ).sequence
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise LogError(f"the last entry of {self.what} '{self.path}' is damaged") from error

    def _write(self, line: bytes) -> None:
        """Append a line, whole or not at all."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        file = os.open(self.path, flags, 0o644)
        try:
            before = os.fstat(file).st_size
            try:
                if os.write(file, line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, before)
                raise
        finally:
            os.close(file)

    def _broken(self, number: int, reason: str) -> LogError:
        return LogError(f"{self.what} '{self.path}' does not hold: entry {number}: {reason}")


@dataclass(frozen=True)
class Heads:
    """Remembers how far each file had come when it was last read.

    Attributes:
        path: Where that is kept; what cannot be written is not remembered.
    """

    path: Path

    def read(
        self, chain: Chain[Entry], keys: Sequence[PublicKey]
    ) -> tuple[list[Entry], list[Digest]]:
        """Read a file as it does itself, and remember how long it is.

        Raises:
            LogError: As ``Chain.read``, or it has lost or changed entries since it was last read.
        """
        known = self._load().get(_name(chain.path))  # before the file, which may grow meanwhile
        entries, digests = chain.read(keys)
        if known is not None:
            count, head = known
            if len(digests) < count or digests[count - 1] != head:
                raise LogError(
                    f"{chain.what} '{chain.path}' had {count} entries when it was last read; now "
                    + (f"it has {len(digests)}" if len(digests) < count else "they are others"),
                    hint="get the current file from its owner",
                )
        if digests and known != (len(digests), digests[-1]):
            self._store(_name(chain.path), len(digests), digests[-1])
        return entries, digests

    def know(self, file: Path) -> bool:
        """Whether a file was read before."""
        return _name(file) in self._load()

    def _load(self) -> dict[str, tuple[int, Digest]]:
        try:
            found = json.loads(self.path.read_bytes())
            known = {str(name): (int(count), str(head)) for name, (count, head) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}
        return {name: (count, head) for name, (count, head) in known.items() if count > 0}

    def _store(self, name: str, count: int, head: Digest) -> None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=_LOCK_S):
                known = self._load()  # again: others may have seen more
                if known.get(name, (0, ""))[0] < count:
                    new = self.path.with_name(f"{self.path.name}.new")
                    new.write_text(json.dumps({**known, name: (count, head)}), encoding="utf-8")
                    new.replace(self.path)


def _name(file: Path) -> str:
    return str(file.absolute())


def actor() -> str:
    """Return the name of the user, as the system gives it."""
    try:
        return printable(getpass.getuser())
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def printable(text: str) -> str:
    """Return ``text`` with what is no Unicode, as names of files may be, written as escapes."""
    return text.encode(errors="backslashreplace").decode()
