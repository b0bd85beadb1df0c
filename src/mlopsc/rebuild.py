"""Builds a package again from its bundle, as it was built, and compares every byte."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlopsc import pipeline
from mlopsc._version import __version__
from mlopsc.errors import (
    BrokenPackageError,
    InputError,
    MissingToolError,
    MlopscError,
    ReproductionError,
)
from mlopsc.sbom import EPOCH_VARIABLE, read_sbom
from mlopsc.schema.attestation import BUILD_TYPE, Provenance, provenance_of
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.bundle import PROVENANCE_FILE
from mlopsc.schema.common import Digest
from mlopsc.schema.package import DESCRIPTOR_FILE, REPORT_FILE
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.schema.target import Target
from mlopsc.tools import zig_version
from mlopsc.trust.artefact import Artefact, open_artefact
from mlopsc.trust.log import open_log


@dataclass(frozen=True)
class Reproduction:
    """A package that was built again.

    Attributes:
        package: The package.
        files: How many files are the same.
    """

    package: Artefact
    files: int


def rebuild(path: Path, bundle: Path | None = None, *, any_version: bool = False) -> Reproduction:
    """Build the package at ``path`` again and compare.

    Args:
        path: The package.
        bundle: What it was built from; by default the log says where that is.
        any_version: Try with other versions of the tools than those that are recorded.

    Raises:
        ReproductionError: A file differs.
        MissingToolError: A tool of the recorded version is not there.
        InputError: The bundle is another one, or nobody knows where it is; or it is not recorded
            how the package was built.
        BrokenPackageError: What is recorded cannot be.
    """
    artefact = open_artefact(path)
    info = artefact.require_package().info
    made, options, target = _recorded(artefact)
    if not any_version:
        _check_versions(path, made)
    source = bundle or _find_bundle(info.bundle, path)
    found = open_artefact(source).digest
    if found != info.bundle:
        raise InputError(
            f"'{source}' is {found}; '{path}' was built from {info.bundle}",
            hint="give the right bundle with --bundle",
        )
    with tempfile.TemporaryDirectory(prefix="mlopsc-rebuild-") as name:
        with _time_of(artefact):
            pipeline.build_for(
                source, [target], Path(name), how=options, trust=None, cache=False, logged=False
            )
        again = open_artefact(Path(name) / target.name)
        return Reproduction(artefact, _compare(artefact, again))


def _recorded(artefact: Artefact) -> tuple[Provenance, BuildOptions, Target]:
    """Return how a package was built."""
    claim = artefact.statements.get(PROVENANCE_FILE)
    made = claim and provenance_of(claim)
    if not made or made.build_definition.build_type != BUILD_TYPE:
        raise InputError(
            f"'{artefact.path}' does not record how it was built: it has format version "
            f"{artefact.format_version}, or was migrated",
            hint="build it from its bundle with 'mlopsc build'",
        )
    how = made.build_definition
    try:
        signer = {"bundle_signer": how.internal_parameters["bundleSigner"]}
        options = BuildOptions.model_validate({**how.external_parameters["options"], **signer})
        return made, options, Target.model_validate(how.external_parameters["target"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenPackageError(
            f"'{artefact.path}' is not a usable package: {PROVENANCE_FILE} does not say how it was "
            "built"
        ) from error


@contextmanager
def _time_of(artefact: Artefact) -> Iterator[None]:
    """Let ``SOURCE_DATE_EPOCH`` be what it was when the package was built."""
    documents = artefact.require_package().documents()
    try:
        recorded = read_sbom(documents[SBOM_FILE].decode()).metadata.timestamp
        moment = None if recorded is None else int(recorded.timestamp())
        if moment is not None and moment < 0:
            raise ValueError("its time is before 1970")
    except (KeyError, ValueError, OverflowError) as error:
        raise BrokenPackageError(
            f"'{artefact.path}' is not a usable package: {SBOM_FILE}: {error}"
        ) from error
    before = os.environ.pop(EPOCH_VARIABLE, None)
    if moment is not None:
        os.environ[EPOCH_VARIABLE] = str(moment)
    try:
        yield
    finally:
        os.environ.pop(EPOCH_VARIABLE, None)
        if before is not None:
            os.environ[EPOCH_VARIABLE] = before


def _compare(artefact: Artefact, again: Artefact) -> int:
    """Return how many files are the same.

    Raises:
        ReproductionError: One is not.
    """
    first = {name: digest for name, digest in artefact.files.items() if name != REPORT_FILE}
    second = again.files
    differing = sorted(n for n in first.keys() | second.keys() if first.get(n) != second.get(n))
    if differing:
        # What lists the others differs with them: name the cause, not the list.
        name = min(differing, key=lambda n: (n in _LISTS, n == DESCRIPTOR_FILE, n))
        raise ReproductionError(
            f"'{artefact.path}' was built again, and {len(differing)} of {len(first)} files "
            f"differ: '{name}' is {first.get(name, 'missing')}, and now "
            f"{second.get(name, 'missing')}",
            hint="build with the recorded versions of all tools, on a machine of the same kind",
        )
    return len(first)


_LISTS = (DESCRIPTOR_FILE, SBOM_FILE, PROVENANCE_FILE)


def _check_versions(path: Path, made: Provenance) -> None:
    """Check that the tools are those that built the package.

    Raises:
        MissingToolError: They are not.
        BrokenPackageError: What is recorded are no names and versions.
    """
    recorded = made.run_details.builder.version
    for name, number in recorded.items():
        if not (_PLAIN.fullmatch(name) and _PLAIN.fullmatch(number)):
            raise BrokenPackageError(
                f"'{path}' is not a usable package: {PROVENANCE_FILE} names the tool {name!r} in "
                f"version {number!r}"
            )
    here = {name: _installed(name) for name in recorded}
    other = {n: v for n, v in recorded.items() if here[n] != v}
    if other:
        name, wanted = next(iter(other.items()))
        pins = " ".join(f"'{_DISTRIBUTIONS.get(n, n)}=={v}'" for n, v in other.items())
        raise MissingToolError(
            f"'{path}' was built with {name} {wanted}, and here is {here[name] or 'none'}",
            hint=f"install what built it: pip install {pins}; or try with --any-version",
        )


_DISTRIBUTIONS = {"zig": "ziglang"}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _installed(name: str) -> str:
    if name == "mlopsc":
        return __version__
    if name == "zig":
        return zig_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _find_bundle(digest: Digest, path: Path) -> Path:
    """Return where the log says that a bundle is.

    Raises:
        InputError: It is not known, or is not there any more.
    """
    for candidate in _logged(digest):
        with suppress(MlopscError):
            if candidate.is_file() and open_artefact(candidate).digest == digest:
                return candidate
    raise InputError(
        f"the bundle of '{path}', {digest}, is not where the log says, or not in the log",
        hint="give it with --bundle",
    )


def _logged(digest: Digest) -> Iterable[Path]:
    log = open_log()
    if log is None:
        return
    entries, _ = log.read()
    for entry in reversed(entries):
        if entry.subject == f"bundle:{digest}" and "path" in entry.details:
            yield Path(str(entry.details["path"]))
