"""Brings artefacts of older format versions to today's.

What they compute does not change: graphs, weights, vectors and libraries stay, byte for byte. What
today's format asks for and the older one did not have is added, and the provenance says of what.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from mlopsc._version import __version__
from mlopsc.bundle import Bundle, list_files, pack, write_bundle
from mlopsc.documents import bundle_documents, lineage_of
from mlopsc.errors import InputError
from mlopsc.lineage_file import load_lineage
from mlopsc.materials import recorded_ingredients
from mlopsc.outputs import atomic_file, atomic_folder
from mlopsc.package import bundle_files, with_file
from mlopsc.sbom import package_sbom
from mlopsc.schema.attestation import (
    MIGRATE_TYPE,
    PROVENANCE_PREDICATE,
    Provenance,
    provenance,
    resource,
    statement,
)
from mlopsc.schema.bundle import MANIFEST_VERSIONS, PROVENANCE_FILE
from mlopsc.schema.lineage import Lineage
from mlopsc.schema.package import (
    BUNDLE_FOLDER,
    DESCRIPTOR_FILE,
    PACKAGE_VERSIONS,
    Package,
)
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.trust.artefact import Artefact, open_artefact
from mlopsc.trust.log import record_artefact
from mlopsc.trust.revocations import read_revocations

_LATEST = {"bundle": MANIFEST_VERSIONS, "package": PACKAGE_VERSIONS}


def migrate(
    path: Path,
    output: Path,
    *,
    lineage: Path | None = None,
    bundle: Path | None = None,
    force: bool = False,
) -> Artefact:
    """Write the artefact at ``path`` in today's format; its signature is not carried over.

    Args:
        path: A bundle or package of an older format version.
        output: Where to write.
        lineage: ``lineage.yaml``, for a bundle that does not know its history.
        bundle: What a package was built from; it keeps that bundle's manifest.
        force: Replace ``output``.

    Raises:
        InputError: It has today's format, or ``bundle`` is missing or another one.
        MlopscError: It is not whole, is revoked, or cannot be written.
    """
    artefact = open_artefact(path)
    read_revocations().check(path, artefact.ancestors())
    latest = _LATEST[artefact.kind]
    if artefact.format_version == latest:
        raise InputError(f"'{path}' has format version {latest} already", hint="use it as it is")
    if artefact.kind == "bundle":
        history = lineage_of(artefact.require_bundle().documents)
        known = load_lineage(lineage) if lineage is not None else history or Lineage()
        with atomic_file(output, force=force) as new:
            _write_bundle(artefact, known, new)
            return _finish(artefact, new, output)
    if bundle is None:
        raise InputError(f"'{path}' is a package: what it was built from is needed",
                         hint="give it with --bundle")  # fmt: skip
    of = open_artefact(bundle).require_bundle()
    wanted = artefact.require_package().info.bundle
    if of.digest != wanted:
        raise InputError(f"'{bundle}' is {of.digest}; '{path}' was built from {wanted}",
                         hint="give the right bundle")  # fmt: skip
    with atomic_folder(output, force=force) as folder:
        _write_package(artefact, of, folder)
        return _finish(artefact, folder, output)


def _write_bundle(artefact: Artefact, lineage: Lineage, path: Path) -> None:
    bundle = artefact.require_bundle()
    files = list_files(bundle.manifest, bundle.stages, bundle.vectors)
    documents = bundle_documents(bundle.manifest, files, lineage, _how(artefact))
    write_bundle(pack(bundle.manifest, bundle.stages, bundle.vectors, documents), path)


def _write_package(artefact: Artefact, bundle: Bundle, folder: Path) -> None:
    package: Package = artefact.require_package().info
    # Written anew: what they say of the other files follows these.
    own = tuple(f for f in package.files if f.path not in (PROVENANCE_FILE, SBOM_FILE))
    package = package.model_copy(update={"files": own})
    for entry in package.files:
        (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artefact.path / entry.path, folder / entry.path)
    for name, data in bundle_files(bundle).items():
        package = with_file(package, folder, f"{BUNDLE_FOLDER}/{name}", data)
    claim = statement(package.files, PROVENANCE_PREDICATE, _how(artefact))
    package = with_file(package, folder, PROVENANCE_FILE, claim.to_json().encode())
    sbom = package_sbom(
        package, bundle.manifest, lineage_of(bundle.documents), recorded_ingredients(package)
    )
    package = with_file(package, folder, SBOM_FILE, sbom.encode())
    (folder / DESCRIPTOR_FILE).write_text(package.to_json(), encoding="utf-8")


def _how(artefact: Artefact) -> Provenance:
    return provenance(
        MIGRATE_TYPE,
        external={"from": artefact.format_version, "to": _LATEST[artefact.kind]},
        internal={},
        dependencies=[resource(artefact.name, artefact.digest, kind=artefact.kind)],
        versions={"mlopsc": __version__, "onnx": version("onnx")},
    )


def _finish(artefact: Artefact, made: Path, output: Path) -> Artefact:
    """Check what was written, and write it to the log."""
    found = open_artefact(made)
    origin = {artefact.reference: f"the same, in format version {artefact.format_version}"}
    made_of = {**found.ancestors(), **origin}
    record_artefact("migrate", found, output, made_of=made_of)
    return found
