"""Reads a package folder and checks that every file in it is whole.

Shared by everything that uses packages: conformance, runners, ``load`` and ``inspect``.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlopsc.bundle import Vector, decode_vectors
from mlopsc.errors import BrokenPackageError
from mlopsc.schema.bundle import MANIFEST_FILE
from mlopsc.schema.common import Digest, FileEntry, digest_bytes, digest_file, is_plain_path
from mlopsc.schema.package import (
    BUNDLE_FILES,
    BUNDLE_FOLDER,
    DESCRIPTOR_FILE,
    PACKAGE_DOCUMENTS,
    PACKAGE_VERSIONS,
    Package,
    parse_package,
)
from mlopsc.schema.signing import SIGNATURE_FILES

# What a bundle of format version 1 did not have.
_OPTIONAL = {f"{BUNDLE_FOLDER}/{name}" for name in BUNDLE_FILES if name != MANIFEST_FILE}
_MAX_DESCRIPTOR = 1 << 28  # bytes; label tables may be long
_MAX_SIGNATURE = 1 << 24
_HINT = "build the package again with 'mlopsc build'"


@dataclass(frozen=True)
class LoadedPackage:
    """A package on disk.

    Attributes:
        path: Its folder.
        info: ``model.json``, in today's form.
        digest: Digest of ``model.json``, which names the digest of every other file.
        format_version: Of ``model.json`` as it is.
    """

    path: Path
    info: Package
    digest: Digest
    format_version: int = PACKAGE_VERSIONS

    def documents(self) -> dict[str, bytes]:
        """Read the SBOM, the provenance and what is kept of the bundle, by path.

        Raises:
            BrokenPackageError: One cannot be read.
        """
        listed = {entry.path for entry in self.info.files}
        try:
            return {
                name: (self.path / name).read_bytes()
                for name in PACKAGE_DOCUMENTS
                if name in listed
            }
        except OSError as error:
            raise _broken(self.path, error.strerror or str(error)) from error

    def signatures(self) -> dict[str, bytes]:
        """Read what is below ``signature/``, by full name.

        Raises:
            BrokenPackageError: It cannot be read, or is too long.
        """
        found = {}
        for name in SIGNATURE_FILES:
            try:
                found[name] = read_regular(self.path / name, _MAX_SIGNATURE)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise _broken(self.path, f"'{name}' cannot be read: {reason}") from error
        return found

    def vectors(self) -> list[Vector]:
        """Read the test vectors.

        Raises:
            BrokenPackageError: They are damaged.
        """
        files = {
            entry.path.removeprefix("vectors/"): (self.path / entry.path).read_bytes()
            for entry in self.info.files
            if entry.path.startswith("vectors/")
        }
        about = self.info.vectors
        try:
            vectors = decode_vectors(files, about.count, self.info.inputs, self.info.outputs)
        except ValueError as error:
            raise _broken(self.path, str(error)) from error
        if about.labels and len(about.labels) != len(vectors):
            raise _broken(self.path, f"it has {len(about.labels)} labels, {len(vectors)} vectors")
        return vectors


def read_package(path: Path, *, verify: bool = True) -> LoadedPackage:
    """Read the package in folder ``path``.

    Args:
        path: The folder.
        verify: Whether every file is compared with its digest.

    Raises:
        BrokenPackageError: It is not a package, or a file is missing or altered.
    """
    try:
        data = read_regular(path / DESCRIPTOR_FILE, _MAX_DESCRIPTOR)
        info, version = parse_package(data, f"'{path}'")
    except OSError as error:
        raise _broken(path, f"{DESCRIPTOR_FILE}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _broken(path, f"{DESCRIPTOR_FILE}, field {where!r}: {first['msg']}") from error
    except ValueError as error:
        raise _broken(path, f"{DESCRIPTOR_FILE}: {error}") from error
    listed = {entry.path for entry in info.files}
    for name in filter(None, (info.static_library, info.shared_library)):
        if name not in listed:
            raise _broken(
                path, f"{DESCRIPTOR_FILE} names a library that it does not list: {name!r}"
            )
    if version > 1 and (missing := set(PACKAGE_DOCUMENTS) - listed - _OPTIONAL):
        raise _broken(path, f"{DESCRIPTOR_FILE} does not list '{min(missing)}'")
    if len(listed) < len(info.files):
        raise _broken(path, f"{DESCRIPTOR_FILE} lists a file twice")
    for entry in info.files:
        _check_inside(path, entry.path)
        if verify:
            _verify(path, entry)
    return LoadedPackage(path, info, digest_bytes(data), version)


def _check_inside(path: Path, name: str) -> None:
    """Refuse a path that leaves the package, also through a symbolic link."""
    if not is_plain_path(name):
        raise _broken(path, f"{DESCRIPTOR_FILE} names {name!r}; expected a path in the package")
    try:
        inside = (path / name).resolve().is_relative_to(path.resolve())
    except (OSError, RuntimeError):  # a link in a circle
        inside = False
    if not inside:
        raise _broken(path, f"'{name}' is a link out of the package")


def _verify(path: Path, entry: FileEntry) -> None:
    name = entry.path
    try:
        size = _regular_size(path / name)
        # What has another size is not read: it may be of any.
        found = digest_file(path / name) if size == entry.size else f"{size} bytes"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _broken(path, f"file '{name}' cannot be read: {reason}") from error
    if found != entry.digest:
        raise _broken(
            path,
            f"file '{name}' has digest {found}; {DESCRIPTOR_FILE} says {entry.digest}: it was "
            "altered",
        )


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most ``limit`` bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is longer, or is a link or no regular file.
    """
    if _regular_size(path) > limit:
        raise ValueError(f"it is longer than {limit} bytes")
    return path.read_bytes()


def _regular_size(path: Path) -> int:
    """Return the size of a file; reading what is no regular file may never end.

    Raises:
        OSError: It is not there.
        ValueError: It is a link or no regular file.
    """
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is a link or no regular file")
    return about.st_size


def _broken(path: Path, reason: str) -> BrokenPackageError:
    return BrokenPackageError(f"'{path}' is not a usable package: {reason}", hint=_HINT)
