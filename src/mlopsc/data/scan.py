"""Finds the files of a data set, and says what must not be in one.

Ensures: every file is a regular one below the root, reached without following a link; every name
is UTF-8 and given in form NFC.
"""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlopsc.errors import DataError
from mlopsc.schema.fingerprint import SINGLE

State = bytes  # packed device, inode, size, time of data and time of status in ns

_STATE = struct.Struct("<5Q")
_64_BITS = (1 << 64) - 1  # times before 1970 are negative
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Found(NamedTuple):
    """A file: its path in the data set, where to open it, its bytes and state when it was found."""

    name: str
    path: str
    size: int
    state: State


class Scan(NamedTuple):
    """All files, ordered by their names, and the folders they were found in, with their states."""

    files: list[Found]
    folders: list[tuple[str, State]]


def state_of(status: os.stat_result) -> State:
    """Return what changes when a file or folder changes or is replaced."""
    return _STATE.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns & _64_BITS,
        status.st_ctime_ns & _64_BITS,
    )


def last_change(state: State) -> int:
    """Return the later time of a state."""
    times: tuple[int, int] = _STATE.unpack(state)[3:]
    return max(times)


def scan(root: str, progress: Callable[[int], None]) -> Scan:
    """Return the files of the data set ``root``.

    Args:
        root: A folder, or a single file.
        progress: Called with the number of files found so far.

    Raises:
        DataError: It holds what is no file or folder, a name that cannot be used, or no file at
            all; or it cannot be read.
    """
    try:
        status = Path(root).stat()
        if stat.S_ISREG(status.st_mode):
            return Scan([Found(SINGLE, root, status.st_size, state_of(status))], [])
        if not stat.S_ISDIR(status.st_mode):
            raise _refused(root, status.st_mode)
        result = Scan([], [])
        pending = [("", root, state_of(status))]
        while pending:
            prefix, folder, state = pending.pop()
            result.folders.append((folder, state))
            pending += _scan_folder(prefix, folder, result.files)
            progress(len(result.files))
    except OSError as error:
        raise cannot_read(error.filename or root, error) from error
    if not result.files:
        raise DataError(
            f"'{shown(root)}' holds no file; expected a data set",
            hint="check the path; folders without files do not count",
        )
    result.files.sort()
    return result


def check_unchanged(folders: list[tuple[str, State]]) -> None:
    """Check that nothing was added to the folders, removed or renamed since they were scanned.

    Raises:
        DataError: One differs.
    """
    for path, state in folders:
        try:
            now = state_of(Path(path).lstat())
        except FileNotFoundError as error:
            raise changed(path) from error
        except OSError as error:
            raise cannot_read(path, error) from error
        if now != state:
            raise changed(path)


def shown(path: str) -> str:
    """Return ``path`` as text that is safe to print: one line, no controls, nothing undecodable."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path)


def changed(path: str) -> DataError:
    """Return the error of a file or folder that changed while it was read."""
    return DataError(
        f"'{shown(path)}' changed while it was read; expected a data set that nobody writes to",
        hint="wait until the writer is done and try again, or fingerprint a copy",
    )


def cannot_read(path: str | bytes, error: OSError) -> DataError:
    """Return the error of a file or folder that cannot be read."""
    name = shown(os.fsdecode(path))
    return DataError(
        f"cannot read '{name}': {error.strerror or error}; expected a readable file or folder",
        hint="check the path and the permissions",
    )


def _scan_folder(prefix: str, folder: str, files: list[Found]) -> list[tuple[str, str, State]]:
    """Append the files of one folder to ``files``; return its folders."""
    folders = []
    names = []
    rewritten = False
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            name = entry.name
            if not name.isascii():
                name = _normalised(name, entry.path)
                rewritten = True
            names.append(name)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG:
                files.append(Found(prefix + name, entry.path, status.st_size, state_of(status)))
            elif kind == stat.S_IFDIR:
                folders.append((f"{prefix}{name}/", entry.path, state_of(status)))
            else:
                raise _refused(entry.path, status.st_mode)
    if rewritten and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"two names in '{shown(folder)}' are '{shown(twice)}' in Unicode's form NFC; expected "
            "names that differ on every system",
            hint="rename one of them",
        )
    return folders


def _normalised(name: str, path: str) -> str:
    """Return ``name`` in form NFC, which does not depend on the file system it comes from."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the name of '{shown(path)}' is not UTF-8; expected names that are the same on every "
            "system",
            hint="rename it; 'convmv' converts the names of whole folders",
        ) from error
    return unicodedata.normalize("NFC", name)


def _refused(path: str, mode: int) -> DataError:
    if stat.S_ISLNK(mode):
        return DataError(
            f"'{shown(path)}' is a symbolic link; expected files and folders only",
            hint="copy the data set with 'cp -RL', which replaces links by what they point to",
        )
    kind = _KINDS.get(stat.S_IFMT(mode), "neither a file nor a folder")
    return DataError(
        f"'{shown(path)}' is {kind}; expected files and folders only",
        hint="remove it, or fingerprint a folder that holds nothing but data",
    )
