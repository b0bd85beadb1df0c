"""Outputs appear whole or not at all.

Work happens in a hidden sibling of the destination and is renamed into place at the end, so that
an error, an interrupt or a crash leaves nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlopsc.errors import OutputError


def check_free(path: Path, *, force: bool = False) -> None:
    """Refuse a destination that exists.

    Raises:
        OutputError: ``path`` exists and ``force`` is not set, or could not be replaced safely.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not force:
        raise OutputError(
            f"output '{path}' exists already; expected a path that does not",
            hint="choose another path, or add --force to replace it",
        )


def _staging(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write '{path}': {error.strerror or error}; expected a writable folder",
            hint="check the permissions of the folder, or choose another path",
        ) from error


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``path`` if the block succeeds.

    Raises:
        OutputError: ``path`` exists (without ``force``) or cannot be written.
    """
    check_free(path, force=force)
    staging = _staging(path)
    try:
        work = staging / path.name
        work.mkdir()
        yield work
        _replace(work, path, staging, force=force)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file becomes ``path`` if the block succeeds.

    Raises:
        OutputError: ``path`` exists (without ``force``) or cannot be written.
    """
    check_free(path, force=force)
    staging = _staging(path)
    try:
        work = staging / path.name
        yield work
        _replace(work, path, staging, force=force)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(work: Path, path: Path, staging: Path, *, force: bool) -> None:
    check_free(path, force=force)  # again: somebody may have made it meanwhile
    old = staging / "replaced"
    try:
        if path.exists() or path.is_symlink():
            path.rename(old)
        work.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
    if old.exists() or old.is_symlink():
        _discard(old)
