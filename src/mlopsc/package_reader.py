"""Reads a package folder and checks that every file in it is whole.

Shared by everything that uses packages: conformance, runners, ``load`` and ``inspect``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from mlopsc.bundle import Vector, decode_vectors
from mlopsc.errors import BrokenPackageError
from mlopsc.schema.bundle import MANIFEST_FILE
from mlopsc.schema.common import Digest, digest_bytes, digest_file
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
            file = self.path / name
            try:
                if file.is_file():
                    if file.stat().st_size > _MAX_SIGNATURE:
                        raise _broken(self.path, f"'{name}' is too long to be a signature")
                    found[name] = file.read_bytes()
            except OSError as error:
                raise _broken(self.path, error.strerror or str(error)) from error
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
    descriptor = path / DESCRIPTOR_FILE
    try:
        data = descriptor.read_bytes()
        info, version = parse_package(data, f"'{path}'")
    except OSError as error:
        raise _broken(path, f"{DESCRIPTOR_FILE}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _broken(path, f"{DESCRIPTOR_FILE}, field '{where}': {first['msg']}") from error
    except ValueError as error:
        raise _broken(path, f"{DESCRIPTOR_FILE}: {error}") from error
    listed = {entry.path for entry in info.files}
    for name in filter(None, (info.static_library, info.shared_library)):
        if name not in listed:
            raise _broken(path, f"{DESCRIPTOR_FILE} names a library that it does not list: {name}")
    if version > 1 and (missing := set(PACKAGE_DOCUMENTS) - listed - _OPTIONAL):
        raise _broken(path, f"{DESCRIPTOR_FILE} does not list '{min(missing)}'")
    if len(listed) < len(info.files):
        raise _broken(path, f"{DESCRIPTOR_FILE} lists a file twice")
    for entry in info.files:
        _check_inside(path, entry.path)
        if verify:
            _verify(path, entry.path, entry.digest)
    return LoadedPackage(path, info, digest_bytes(data), version)


def _check_inside(path: Path, name: str) -> None:
    """Refuse a path that leaves the package, also through a symbolic link."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise _broken(path, f"{DESCRIPTOR_FILE} names a path outside the package: {name!r}")
    if not (path / name).resolve().is_relative_to(path.resolve()):
        raise _broken(path, f"'{name}' is a link out of the package")


def _verify(path: Path, name: str, digest: str) -> None:
    try:
        found = digest_file(path / name)
    except OSError as error:
        raise _broken(path, f"file '{name}' cannot be read: {error.strerror or error}") from error
    if found != digest:
        raise _broken(
            path,
            f"file '{name}' has digest {found}; {DESCRIPTOR_FILE} says {digest}: it was altered",
        )


def _broken(path: Path, reason: str) -> BrokenPackageError:
    return BrokenPackageError(f"'{path}' is not a usable package: {reason}", hint=_HINT)
