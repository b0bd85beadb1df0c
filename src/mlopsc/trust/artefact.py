"""One view of bundles and packages: what they are, what is signed, and what they were made of.

Ensures: an ``Artefact`` is whole. Every file in it is listed and matches its digest, nothing else
is there, and its documents are about it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from mlopsc.bundle import Bundle, read_bundle
from mlopsc.documents import lineage_of
from mlopsc.errors import BrokenBundleError, BrokenPackageError, LockstepError
from mlopsc.package_reader import LoadedPackage, read_package, read_regular
from mlopsc.schema.attestation import (
    BUILD_TYPE,
    PROVENANCE_PREDICATE,
    Provenance,
    Statement,
    provenance_of,
    resource,
)
from mlopsc.schema.build_options import UNCHECKED, UNSIGNED
from mlopsc.schema.bundle import MANIFEST_FILE, PROVENANCE_FILE, Manifest, is_bundle, parse_manifest
from mlopsc.schema.common import Digest, digest_bytes
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.graph import weights_name
from mlopsc.schema.lineage import LINEAGE_FILE, TRAINING_PREDICATE, Lineage
from mlopsc.schema.package import (
    BUNDLE_FILES,
    BUNDLE_FOLDER,
    DESCRIPTOR_FILE,
    REPORT_FILE,
)
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.schema.signing import SIGNATURE_FILES, SIGNATURE_FOLDER
from mlopsc.trust.model_signature import named_signer

Kind = Literal["bundle", "package"]
# What dependencies of these kinds are called where they are revoked.
_KINDS = {"bundle": "bundle", "package": "package", "graph": "model"}
_MODEL = {"model.onnx", weights_name("model")}
_DOCUMENTS = {MANIFEST_FILE, LINEAGE_FILE, PROVENANCE_FILE, SBOM_FILE}
# What each statement must say, and of which files.
_SUBJECTS: dict[str, tuple[str, Callable[[str], bool]]] = {
    LINEAGE_FILE: (TRAINING_PREDICATE, lambda name: name in _MODEL),
    PROVENANCE_FILE: (PROVENANCE_PREDICATE, lambda name: name not in _DOCUMENTS),
}
_SIGNER = re.compile(rf"sha256:[0-9a-f]{{64}}|{UNSIGNED}|{UNCHECKED}")
_MAX_REPORT = 1 << 24


@dataclass(frozen=True)
class Artefact:
    """A bundle or a package that is whole.

    Attributes:
        path: Where it is.
        kind: Which of the two.
        name: Of the model.
        version: Of the model.
        digest: Of the artefact: of its manifest or descriptor.
        format_version: Of that.
        files: Digest of everything that is signed, by name.
        signatures: What is below ``signature/``, by full name.
        statements: Lineage and provenance, of itself and of the bundle it was made of, by name.
        manifest: Of the bundle; None for packages of format version 1.
        lineage: How the model came to be; None where the format had none yet.
        bundle: The bundle, if it is one.
        package: The package, if it is one.
        report: Its conformance report, if it has one.
    """

    path: Path
    kind: Kind
    name: str
    version: str
    digest: Digest
    format_version: int
    files: Mapping[str, Digest]
    signatures: Mapping[str, bytes]
    statements: Mapping[str, bytes]
    manifest: Manifest | None
    lineage: Lineage | None
    bundle: Bundle | None = None
    package: LoadedPackage | None = None
    report: ConformanceReport | None = None

    @property
    def reference(self) -> str:
        """``kind:digest``."""
        return f"{self.kind}:{self.digest}"

    def require_bundle(self) -> Bundle:
        """Return the bundle that it is.

        Raises:
            BrokenBundleError: It is a package.
        """
        if self.bundle is None:
            raise BrokenBundleError(f"'{self.path}' is a package; expected a bundle")
        return self.bundle

    def require_package(self) -> LoadedPackage:
        """Return the package that it is.

        Raises:
            BrokenPackageError: It is a bundle.
        """
        if self.package is None:
            raise _broken(self.path, "it is a bundle")
        return self.package

    def ancestors(self) -> dict[str, str]:
        """Return everything that it was made of, itself and the key that signed it included.

        Returns:
            What each is, by reference. Who signed is what the signature says, and not checked.
        """
        name = f"'{self.name}' {self.version}"
        found = {self.reference: f"{self.kind} {name}"}
        if self.package is not None:
            found[f"bundle:{self.package.info.bundle}"] = f"bundle {name}"
        found |= _named_in(self.statements.get(PROVENANCE_FILE))
        found |= _named_in(self.statements.get(f"{BUNDLE_FOLDER}/{PROVENANCE_FILE}"))
        return found | _history(self.manifest, self.lineage, self.signatures)


def package_ancestors(package: LoadedPackage) -> dict[str, str]:
    """Return what ``Artefact.ancestors`` does, of a package of which nothing else is read.

    Raises:
        BrokenPackageError: What it keeps of its bundle is damaged.
    """
    name = f"'{package.info.name}' {package.info.version}"
    found = {
        f"package:{package.digest}": f"package {name}",
        f"bundle:{package.info.bundle}": f"bundle {name}",
    }
    try:
        documents = package.documents()
        found |= _named_in(documents.get(PROVENANCE_FILE))
        found |= _named_in(documents.get(f"{BUNDLE_FOLDER}/{PROVENANCE_FILE}"))
    except ValueError as error:
        raise _broken(package.path, f"{PROVENANCE_FILE} is no provenance") from error
    return found | _history(*bundle_side(package), package.signatures())


def _named_in(made: bytes | None) -> dict[str, str]:
    """Return what a provenance names: what it was made of, and who had signed that, by reference.

    Raises:
        ValueError: It is none.
    """
    if made is None:
        return {}
    how = provenance_of(made)
    found = {
        f"{_KINDS[kind]}:{used.sha256}": f"the {kind} it was made of"
        for used in how.build_definition.resolved_dependencies
        if (kind := str((used.annotations or {}).get("kind"))) in _KINDS and used.sha256
    }
    signer = how.build_definition.internal_parameters.get("bundleSigner")
    if isinstance(signer, str) and signer.startswith("sha256:"):
        found[f"key:{signer}"] = "the key that signed its bundle"
    return found


def _history(
    manifest: Manifest | None, lineage: Lineage | None, signatures: Mapping[str, bytes]
) -> dict[str, str]:
    """Return signer, files, data sets and parent models, by reference."""
    signer = named_signer(signatures)
    found = {} if signer is None else {f"key:{signer}": "the key that signed it"}
    for stage in () if manifest is None else manifest.stages:
        found[f"model:{stage.source.digest}"] = f"file of the {stage.name} graph"
    if lineage is None:
        return found
    found |= {
        f"dataset:{data.digest}": f"data set '{data.name}' {data.version}".rstrip()
        for data in lineage.datasets
        if data.digest
    }
    for parent in lineage.parents:
        if parent.digest:
            for kind in ("model", "bundle"):
                found[f"{kind}:{parent.digest}"] = f"parent model '{parent.name}'"
    return found


def open_artefact(path: Path) -> Artefact:
    """Read the bundle or package at ``path`` and check that it is whole.

    Raises:
        BrokenBundleError, BrokenPackageError, FormatVersionError: It is not.
    """
    try:
        is_package = path.is_dir() and not is_bundle(path)
    except OSError as error:
        raise BrokenBundleError(f"cannot read '{path}': {error.strerror or error}") from error
    return _open_package(path) if is_package else _open_bundle(path)


def check_lockstep(artefact: Artefact) -> None:
    """Check that the model is shipped with the preprocessing that trained it, if that is known.

    Of a package only what it keeps of its bundle can be checked.

    Raises:
        LockstepError: It is shipped with another one, or none.
    """
    manifest = artefact.manifest
    if artefact.bundle is not None:
        check_bundle_lockstep(artefact.path, artefact.bundle)
    elif manifest is not None:
        _check_shipped(artefact.path, manifest.trained_with, listed_preprocessing(manifest))


def check_bundle_lockstep(path: Path, bundle: Bundle) -> None:
    """As ``check_lockstep``, of a bundle that is read already."""
    shipped = next((s.digest for s in bundle.stages if s.name == "preprocess"), "none at all")
    _check_shipped(path, bundle.manifest.trained_with, shipped)


def listed_preprocessing(manifest: Manifest) -> str | None:
    """Return the digest of the preprocessing as a manifest lists it.

    None where its weights are a file of their own: the two together have a digest that is not
    listed.
    """
    listed = {entry.path: entry.digest for entry in manifest.files}
    if weights_name("preprocess") in listed:
        return None
    return listed.get("preprocess.onnx", "none at all")


def _check_shipped(path: Path, expected: Digest | None, shipped: str | None) -> None:
    if expected is not None and shipped is not None and shipped != expected:
        raise LockstepError(
            f"'{path}' ships preprocessing {shipped}, and the model was trained with {expected}"
        )


def _open_bundle(path: Path) -> Artefact:
    bundle = read_bundle(path)
    statements = {n: d for n, d in bundle.documents.items() if n in (LINEAGE_FILE, PROVENANCE_FILE)}
    files = bundle.members()
    try:
        _check_statements(statements, files)
    except ValueError as error:
        raise BrokenBundleError(f"'{path}' is not a usable bundle: {error}") from error
    return Artefact(
        path=path,
        kind="bundle",
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        digest=bundle.digest,
        format_version=bundle.format_version,
        files=files,
        signatures=bundle.signatures,
        statements=statements,
        manifest=bundle.manifest,
        lineage=lineage_of(bundle.documents),
        bundle=bundle,
    )


def _open_package(path: Path) -> Artefact:
    package = read_package(path)
    listed = {entry.path: entry.digest for entry in package.info.files}
    documents = package.documents()
    try:
        extra = _unlisted(path, set(listed))
        report, report_digest = _report(path, package) if REPORT_FILE in extra else (None, None)
        of_bundle = _of_bundle(documents)
        manifest, lineage = bundle_side(package)
        own = {n: d for n, d in documents.items() if n == PROVENANCE_FILE}
        _check_statements(own, listed)
        _check_dependency(package, own.get(PROVENANCE_FILE))
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _broken(path, str(error)) from error
    files = {DESCRIPTOR_FILE: package.digest, **listed}
    if report_digest is not None:
        files[REPORT_FILE] = report_digest
    inherited = {f"{BUNDLE_FOLDER}/{n}": d for n, d in of_bundle.items() if n != MANIFEST_FILE}
    return Artefact(
        path=path,
        kind="package",
        name=package.info.name,
        version=package.info.version,
        digest=package.digest,
        format_version=package.format_version,
        files=files,
        signatures=package.signatures(),
        statements={**own, **inherited},
        manifest=manifest,
        lineage=lineage,
        package=package,
        report=report,
    )


def _unlisted(path: Path, listed: set[str]) -> set[str]:
    """Return the files that a package may have beside those that its descriptor lists.

    Raises:
        ValueError: There is something else.
        OSError: A folder cannot be read.
    """
    found: set[str] = set()
    allowed = {DESCRIPTOR_FILE, REPORT_FILE, *SIGNATURE_FILES}
    inside = {p.as_posix() for name in listed | allowed for p in PurePosixPath(name).parents}
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                name = Path(entry.path).relative_to(path).as_posix()
                mode = entry.stat(follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                    raise ValueError(f"{name!r} is a link or no regular file")
                if name not in (inside if stat.S_ISDIR(mode) else listed | allowed):
                    raise ValueError(f"it holds {name!r}, which {DESCRIPTOR_FILE} does not list")
                if stat.S_ISDIR(mode):
                    folders.append(Path(entry.path))
                elif name not in listed:
                    found.add(name)
    return found


def _report(path: Path, package: LoadedPackage) -> tuple[ConformanceReport, Digest]:
    data = read_regular(path / REPORT_FILE, _MAX_REPORT)
    try:
        report = ConformanceReport.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"{REPORT_FILE} is damaged; run 'mlopsc conform' again") from error
    if report.model_json != package.digest or report.to_json().encode() != data:
        raise ValueError(f"{REPORT_FILE} is of another build; run 'mlopsc conform' again")
    return report, digest_bytes(data)


def _of_bundle(documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what a package keeps of its bundle, by its name there."""
    prefix = f"{BUNDLE_FOLDER}/"
    return {n.removeprefix(prefix): d for n, d in documents.items() if n.startswith(prefix)}


def bundle_side(package: LoadedPackage) -> tuple[Manifest | None, Lineage | None]:
    """Return what a package keeps of its bundle, after checking that it is of that bundle.

    Raises:
        BrokenPackageError: It is not, or cannot be read.
    """
    documents = _of_bundle(package.documents())
    if MANIFEST_FILE not in documents:
        return None, None
    what = f"{BUNDLE_FOLDER}/{MANIFEST_FILE}"
    found, expected = digest_bytes(documents[MANIFEST_FILE]), package.info.bundle
    if found != expected:
        raise _broken(package.path, f"{what} is of bundle {found}; it was built from {expected}")
    try:
        manifest, _ = parse_manifest(documents[MANIFEST_FILE], f"the bundle of '{package.path}'")
        lineage = lineage_of(documents)
    except (ValueError, BrokenBundleError) as error:
        raise _broken(package.path, f"{what} does not fit its schema") from error
    listed = {entry.path: entry.digest for entry in manifest.files}
    for name, data in documents.items():
        if name != MANIFEST_FILE and digest_bytes(data) != listed.get(name):
            raise _broken(package.path, f"{BUNDLE_FOLDER}/{name} is not that of its bundle")
    if missing := sorted((set(BUNDLE_FILES) & listed.keys()) - documents.keys()):
        raise _broken(package.path, f"{BUNDLE_FOLDER}/{missing[0]} of its bundle is missing")
    return manifest, lineage


def _check_statements(statements: Mapping[str, bytes], files: Mapping[str, Digest]) -> None:
    """Check that each statement is of its kind, and about all the files that it must be about.

    Raises:
        ValueError: It is not.
    """
    for name, data in statements.items():
        kind, about = _SUBJECTS[name]
        try:
            statement = Statement.model_validate_json(data)
            if name == PROVENANCE_FILE:
                Provenance.model_validate(statement.predicate)
        except ValidationError as error:
            raise ValueError(
                f"{name} is no in-toto statement of the kind that it must be"
            ) from error
        if statement.predicate_type != kind or statement.to_json().encode() != data:
            raise ValueError(f"{name} is not in its canonical form")
        expected = [resource(n, d) for n, d in sorted(files.items()) if about(n)]
        if sorted(statement.subject, key=lambda s: s.name) != expected or not expected:
            raise ValueError(f"{name} is not about the files that are there, and only these")


def _check_dependency(package: LoadedPackage, made: bytes | None) -> None:
    """Check that a package's provenance names the bundle that its descriptor does.

    Raises:
        ValueError: It does not.
    """
    if made is None:
        return
    how = provenance_of(made)
    signer = how.build_definition.internal_parameters.get("bundleSigner")
    built = how.build_definition.build_type == BUILD_TYPE
    if built and not (isinstance(signer, str) and _SIGNER.fullmatch(signer)):
        raise ValueError(f"{PROVENANCE_FILE} does not say who had signed the bundle")
    named = [used.sha256 for used in how.build_definition.resolved_dependencies]
    if built and named != [package.info.bundle]:
        raise ValueError(f"{PROVENANCE_FILE} does not name the bundle that it was built from")


def _broken(path: Path, reason: str) -> BrokenPackageError:
    return BrokenPackageError(f"'{path}' is not a usable package: {reason}")


def is_signed(artefact: Artefact) -> bool:
    """Whether it carries a signature, of whoever."""
    return any(name.startswith(f"{SIGNATURE_FOLDER}/") for name in artefact.signatures)
