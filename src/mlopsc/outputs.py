"""Outputs appear whole or not at all.

Work happens in a hidden sibling of the destination and is renamed into place at the end, so that
an error, an interrupt or a crash leaves nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlopsc.errors import OutputError


def check_free(path: Path, *, force: bool = False) -> None:
    """Refuse a destination that exists.

    Raises:
        OutputError: ``path`` exists and ``force`` is not set, or cannot be looked at.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not force:
        raise OutputError(
            f"output '{path}' exists already; expected a path that does not",
            hint="choose another path, or add --force to replace it",
        )


@contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``path`` if the block succeeds.

    Raises:
        OutputError: ``path`` exists (without ``force``, or as a file) or cannot be written.
    """
    with _staged(path, force=force, folder=True) as work:
        work.mkdir()
        yield work


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file becomes ``path`` if the block succeeds.

    Raises:
        OutputError: ``path`` exists (without ``force``, or as a folder) or cannot be written.
    """
    with _staged(path, force=force, folder=False) as work:
        yield work


@contextmanager
def _staged(path: Path, *, force: bool, folder: bool) -> Iterator[Path]:
    check_free(path, force=force)
    _check_kind(path, folder=folder)
    made = _make_parents(path)
    staging: Path | None = None
    try:
        try:
            staging = Path(tempfile.mkdtemp(prefix=".mlopsc-", suffix=".part", dir=path.parent))
        except OSError as error:
            raise _cannot_write(path, error) from error
        work = staging / "new"
        yield work
        check_free(path, force=force)  # again: somebody may have made it meanwhile
        _move(work, path, staging / "old")
    except BaseException:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _check_kind(path: Path, *, folder: bool) -> None:
    """Refuse to replace a folder by a file, or a file by a folder, even when forced."""
    if path.is_symlink() or not path.exists() or path.is_dir() == folder:
        return
    found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
    raise OutputError(
        f"output '{path}' is a {found}; expected a {wanted} to replace, or nothing",
        hint="choose another path",
    )


def _make_parents(path: Path) -> list[Path]:
    """Make the missing parents of ``path`` and return them, innermost first."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise _cannot_write(path, error) from error
    return missing


def _move(work: Path, path: Path, old: Path) -> None:
    """Rename ``work`` to ``path``; what was there before comes back if that fails."""
    moved = False
    try:
        if path.exists() or path.is_symlink():
            path.rename(old)
            moved = True
        work.rename(path)
    except BaseException as error:
        if moved and not path.exists():
            old.rename(path)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write '{path}': {error.strerror or error}; expected a writable place",
        hint="check the permissions of the folder, or choose another path",
    )
