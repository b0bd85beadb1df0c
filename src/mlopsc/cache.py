"""The cache of results: what was imported and built before, under a digest of all it depends on.

A folder of *entries*, one folder each, named by their keys: ``entry.json`` says which files there
are, ``content`` is the file or folder that is kept. ``snapshot`` makes the keys.

Always holds: an entry appears whole or not at all and never changes; what is taken out of the cache
is compared with its digest on the way, and an entry that is damaged is removed. So any number of
processes may share the folder, and trouble with it is a miss, never an error.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import platformdirs
from pydantic import ValidationError

from mlopsc.errors import InputError
from mlopsc.schema.common import Digest, Frozen

FOLDER_VARIABLE = "MLOPSC_CACHE_DIR"
SIZE_VARIABLE = "MLOPSC_CACHE_BYTES"
_DEFAULT_BYTES = 4 << 30
_ENTRY_FILE = "entry.json"
_CONTENT = "content"
_NAME = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.part")
_UNFINISHED_S = 86_400.0  # after which whoever made an unfinished entry is taken to be dead
_CHUNK = 1 << 20


class _Entry(Frozen):
    """``entry.json``: what an entry holds.

    Attributes:
        key: What it was stored under.
        files: Digest of each file by its path in the content; of a single one, by ``.``.
        nbytes: Size of all files.
    """

    schema_version: Literal[1] = 1
    key: Digest
    files: dict[str, Digest]
    nbytes: int


@dataclass(frozen=True)
class Usage:
    """What is in the cache: the number of entries and their size in bytes."""

    entries: int
    nbytes: int


@dataclass(frozen=True)
class Cache:
    """A folder of entries.

    Attributes:
        folder: Where they are; made when the first is stored.
        limit: Bytes of all files together; beyond it the entries that were not used for longest
            go. With 0 nothing is found or stored.
    """

    folder: Path
    limit: int

    def fetch(self, key: Digest, destination: Path) -> bool:
        """Copy the file or folder that is stored under ``key`` to ``destination``, which is free.

        Returns:
            Whether it was there; if not, ``destination`` is still free.
        """
        path = self.folder / _name(key)
        entry = self._read(path) if self.limit else None
        if entry is None or entry.key != key:
            return False
        try:
            for name, digest in entry.files.items():
                (destination / name).parent.mkdir(parents=True, exist_ok=True)
                if _copy(path / _CONTENT / name, destination / name) != digest:
                    raise ValueError(f"'{name}' is damaged")
        except BaseException as error:
            _discard(destination)
            if isinstance(error, (ValueError, FileNotFoundError)):
                self._remove(path)
            if isinstance(error, (ValueError, OSError)):
                return False
            raise
        with suppress(OSError):  # a cache that is only read
            os.utime(path / _ENTRY_FILE)
        return True

    def store(self, key: Digest, content: Path) -> None:
        """Keep a copy of the file or folder ``content`` under ``key``.

        An entry that is there is replaced: whoever stores has not found it usable.
        """
        found = [content] if content.is_file() else sorted(content.rglob("*"))
        files = {p.relative_to(content).as_posix(): p for p in found if p.is_file()}
        try:
            nbytes = sum(path.stat().st_size for path in files.values())
            if self.limit == 0 or nbytes > self.limit:
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return
        name = _name(key)
        partial = self.folder / f"{name}.{secrets.token_hex(8)}.part"
        try:
            digests = {}
            for inside, path in files.items():
                (partial / _CONTENT / inside).parent.mkdir(parents=True, exist_ok=True)
                digests[inside] = _copy(path, partial / _CONTENT / inside)
            entry = _Entry(key=key, files=digests, nbytes=nbytes)
            (partial / _ENTRY_FILE).write_text(entry.to_json(), encoding="utf-8")
            self._remove(self.folder / name)
            partial.rename(self.folder / name)
        except OSError:  # no space, no permission, or another process was faster
            return
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._shrink()

    def usage(self) -> Usage:
        """Return how much is stored."""
        found = [entry.nbytes for _, _, entry in self._entries()]
        return Usage(len(found), sum(found))

    def clear(self) -> Usage:
        """Remove everything that is stored, and what was left unfinished; return what it was."""
        before = self.usage()
        with suppress(OSError):
            for path in self.folder.iterdir():
                if _NAME.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name):
                    self._remove(path)
        return before

    def _read(self, path: Path) -> _Entry | None:
        """Return what the entry at ``path`` says it holds; None if there is none."""
        try:
            entry = _Entry.model_validate_json((path / _ENTRY_FILE).read_bytes())
        except OSError:
            return None
        except ValidationError:
            self._remove(path)
            return None
        names = map(PurePosixPath, entry.files)
        if any(name.is_absolute() or ".." in name.parts for name in names):
            self._remove(path)
            return None
        return entry

    def _entries(self) -> Iterator[tuple[float, Path, _Entry]]:
        """Yield when each entry was last used, where it is and what it holds."""
        with suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                if _NAME.fullmatch(path.name) and (entry := self._read(path)) is not None:
                    with suppress(OSError):
                        yield (path / _ENTRY_FILE).stat().st_mtime, path, entry

    def _shrink(self) -> None:
        """Remove entries until no more than the limit is left, and what was begun long ago."""
        entries = sorted(self._entries(), key=lambda found: found[:2])
        nbytes = sum(entry.nbytes for _, _, entry in entries)
        for _, path, entry in entries:
            if nbytes <= self.limit:
                break
            self._remove(path)
            nbytes -= entry.nbytes
        with suppress(OSError):
            for path in self.folder.iterdir():
                begun = path.stat().st_mtime if _UNFINISHED.fullmatch(path.name) else math.inf
                if begun < time.time() - _UNFINISHED_S:
                    shutil.rmtree(path, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        """Remove an entry; it is gone for all others before its files go."""
        gone = self.folder / f"{path.name[:64]}.{secrets.token_hex(8)}.part"
        with suppress(OSError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def open_cache(*, enabled: bool = True) -> Cache:
    """Return the user's cache, or one that holds nothing if it is not ``enabled``.

    The environment says where it is and how large it may become; with a size of 0 it is disabled.

    Raises:
        InputError: The size is no number.
    """
    text = os.environ.get(SIZE_VARIABLE, "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InputError(
            f"{SIZE_VARIABLE} is '{text}'; expected a number of bytes",
            hint="set it to 0 for no cache, or leave it out",
        )
    folder = os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_path("mlopsc") / "results"
    limit = int(text) if text else _DEFAULT_BYTES
    return Cache(Path(folder).absolute(), limit if enabled else 0)


def _name(key: Digest) -> str:
    return key.removeprefix("sha256:")


def _discard(path: Path) -> None:
    """Remove a file or folder, if it is there and can be removed."""
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _copy(source: Path, destination: Path) -> Digest:
    """Copy a file and return the digest of what was copied.

    Raises:
        OSError: It cannot be read or written.
    """
    state = hashlib.sha256()
    with source.open("rb") as read, destination.open("xb") as written:
        while chunk := read.read(_CHUNK):
            state.update(chunk)
            written.write(chunk)
    return "sha256:" + state.hexdigest()
