"""Outputs appear whole or not at all.

Work happens in a hidden sibling of the destination and is renamed into place at the end, so that
an error, an interrupt or a crash leaves nothing behind.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
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


def check_folder(path: Path) -> None:
    """Refuse a path that is there and is no folder, or that cannot be one.

    Raises:
        OutputError: It is not usable as a folder for outputs.
    """
    try:
        usable = path.is_dir() or not path.exists()
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not usable:
        raise OutputError(f"output '{path}' is not a folder; expected one, or a new path")


@contextmanager
def atomic_folders(parent: Path, names: Sequence[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a folder in which to make the folders ``names``; all become ``parent/name``, or none.

    Raises:
        OutputError: One exists (without ``force``, or as a file) or cannot be written.
    """
    with _staged(parent, names, force=force, folder=True) as work:
        for name in names:
            (work / name).mkdir()
        yield work


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file becomes ``path`` if the block succeeds.

    Raises:
        OutputError: ``path`` exists (without ``force``, or as a folder) or cannot be written.
    """
    with _staged(path.parent, [path.name], force=force, folder=False) as work:
        yield work / path.name


@contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``path`` if the block succeeds.

    Raises:
        OutputError: As ``atomic_folders``.
    """
    with atomic_folders(path.parent, [path.name], force=force) as work:
        yield work / path.name


@contextmanager
def _staged(parent: Path, names: Sequence[str], *, force: bool, folder: bool) -> Iterator[Path]:
    for name in names:
        check_free(parent / name, force=force)
        _check_kind(parent / name, folder=folder)
    # Before anything is made, so that an interrupt at any moment leaves nothing.
    made = [p for p in (parent, *parent.parents) if not p.exists()]
    staging = parent / f".mlopsc-{secrets.token_hex(8)}.part"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir(mode=0o700)
        work = staging / "new"
        work.mkdir()
        yield work
        for name in names:  # again: somebody may have made one meanwhile
            check_free(parent / name, force=force)
        _move_all(work, parent, names, staging)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        for folder_made in made:
            with suppress(OSError):
                folder_made.rmdir()
        if isinstance(error, OSError):
            raise _cannot_write(parent / names[0], error) from error
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


def _move_all(work: Path, parent: Path, names: Sequence[str], staging: Path) -> None:
    """Move everything into place; if one step fails, all that was there before comes back."""
    old, undone = staging / "old", staging / "undone"
    old.mkdir()
    undone.mkdir()
    try:
        for name in names:
            path = parent / name
            if path.exists() or path.is_symlink():
                path.rename(old / name)
            (work / name).rename(path)
    except BaseException:
        for name in names:
            path = parent / name
            moved_in = not (work / name).exists() and (path.exists() or path.is_symlink())
            if moved_in:
                path.rename(undone / name)
            if (old / name).exists() or (old / name).is_symlink():
                (old / name).rename(path)
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write '{path}': {error.strerror or error}; expected a writable place",
        hint="check the permissions of the folder, or choose another path",
    )
