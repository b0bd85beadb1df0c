"""Makes a fingerprint: scans, hashes what is not remembered, and joins the digests bottom-up."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlopsc.cache import open_cache
from mlopsc.data.hashing import Hashing
from mlopsc.data.memory import Memory, is_settled
from mlopsc.data.merkle import folder_digest
from mlopsc.data.scan import Found, State, cannot_read, check_unchanged, scan, shown
from mlopsc.errors import DataError
from mlopsc.schema.fingerprint import SINGLE, FileDigest, Fingerprint

FINGERPRINT_SUFFIX = ".json"
Progress = Callable[[int, int, int], None]  # files found, bytes hashed, bytes to hash


@dataclass(frozen=True)
class Contents:
    """What a data set holds: a fingerprint before it takes the form in which it is saved.

    Attributes:
        digest: Of the whole.
        files: Path, size and digest of each, in the order of paths.
    """

    digest: bytes
    files: list[tuple[str, int, bytes]]

    @property
    def nbytes(self) -> int:
        """Size of all files."""
        return sum(size for _, size, _ in self.files)

    def fingerprint(self) -> Fingerprint:
        """Return it as an artefact."""
        files = (
            FileDigest(digest=digest_text(digest), path=name, size=size)
            for name, size, digest in self.files
        )
        return Fingerprint(digest=digest_text(self.digest), files=tuple(files))


def read_contents(
    path: Path, *, cache: bool = True, progress: Progress = lambda files, hashed, total: None
) -> Contents:
    """Return what a data set holds.

    Args:
        path: A folder or a file; it may itself be a link to one.
        cache: Whether files whose state is the same as last time need not be read, and states are
            kept for the next time.
        progress: Called now and then with the number of files that were found, of bytes that were
            hashed, and of bytes to hash.

    Raises:
        DataError: The data set cannot be read, changed meanwhile, or holds what cannot be part of
            one: links, pipes, sockets, devices, names that are not UTF-8.
        InputError: The environment's size of the cache is no number.
    """
    try:
        root = str(path.resolve(strict=True))
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a name with a NUL
        raise DataError(
            f"cannot read '{shown(str(path))}': {getattr(error, 'strerror', None) or error}; "
            "expected a folder or a file",
            hint="check the path and the permissions",
        ) from error
    memory = Memory(open_cache(enabled=cache), root)
    known = memory.load()
    with _without_collection():
        started = time.time_ns()
        found, folders = scan(root, lambda count: progress(count, 0, 0))
        digests = _hash(found, known, memory, started, progress)
        check_unchanged(folders)
        files = [(one.name, one.size, digest) for one, digest in zip(found, digests, strict=True)]
        return Contents(_whole(files), files)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Do not look for cycles: among objects for every file that takes a fifth of all time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def digest_text(digest: bytes) -> str:
    """Return a digest as it is printed and saved."""
    return "sha256:" + digest.hex()


def read_fingerprint(path: Path) -> Fingerprint:
    """Return a saved fingerprint.

    Raises:
        DataError: It cannot be read, is none, or is damaged.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(0, "no such file", str(path))
        found = Fingerprint.from_file(path)
    except OSError as error:
        raise cannot_read(str(path), error) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}." for part in first["loc"])[:-1]
        reason = first["msg"].removeprefix("Value error, ")
        raise _broken(path, f"{place}: {reason}" if place else reason) from error
    try:
        whole = digest_text(
            _whole([(f.path, f.size, bytes.fromhex(f.digest[7:])) for f in found.files])
        )
    except ValueError as error:
        raise _broken(path, str(error)) from error
    if whole != found.digest:
        raise _broken(path, f"its files have the digest {whole}, not {found.digest}")
    return found


def _hash(
    files: list[Found],
    known: dict[State, bytes],
    memory: Memory,
    started: int,
    progress: Progress,
) -> list[bytes]:
    """Return the digest of each file; those that are ``known`` are not read."""
    digests = [known.get(file.state) for file in files]
    places = [place for place, digest in enumerate(digests) if digest is None]
    hashing = Hashing([files[place] for place in places])
    try:
        hashing.run(lambda hashed, total: progress(len(files), hashed, total))
    except BaseException:  # also an interrupt: what is done need not be done again
        memory.store({**known, **_settled(hashing, started)})
        raise
    fresh = _settled(hashing, started)
    kept = {file.state: digest for file, digest in zip(files, digests, strict=True) if digest}
    current = kept | fresh
    if current != known:
        memory.store(current)
    for place, digest in zip(places, hashing.digests, strict=True):
        digests[place] = digest
    return [digest for digest in digests if digest is not None]


def _settled(hashing: Hashing, started: int) -> dict[State, bytes]:
    """Return the digests that may be remembered, of those that were made just now."""
    return {
        file.state: digest
        for file, digest in zip(hashing.files, hashing.digests, strict=True)
        if digest is not None and is_settled(file.state, started)
    }


def _whole(files: list[tuple[str, int, bytes]]) -> bytes:
    """Return the digest of a data set; raise ValueError if paths contradict each other."""
    return files[0][2] if files[0][0] == SINGLE else folder_digest(files)


def _broken(path: Path, reason: str) -> DataError:
    return DataError(
        f"'{shown(str(path))}' is no saved fingerprint: {shown(reason)}",
        hint=f"make it with 'mlopsc data fingerprint PATH -o NAME{FINGERPRINT_SUFFIX}'",
    )
