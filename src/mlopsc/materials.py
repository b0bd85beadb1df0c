"""The bill of materials of an artefact: the one it carries, or one of what it says of itself."""

from __future__ import annotations

from pathlib import Path

from mlopsc.errors import BrokenBundleError, BrokenPackageError
from mlopsc.sbom import bundle_sbom, package_sbom, read_sbom
from mlopsc.schema.package import Package
from mlopsc.schema.sbom import SBOM_FILE, Ingredient
from mlopsc.trust.artefact import Artefact, open_artefact


def sbom_of(path: Path) -> str:
    """Return the bill of materials of a bundle or a package, CycloneDX 1.6 as JSON.

    Raises:
        BrokenBundleError, BrokenPackageError, FormatVersionError: It is damaged, or too new.
        InputError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    artefact = open_artefact(path)
    carried = _carried(artefact)
    if carried is None:
        return _made(artefact)
    try:
        text = carried.decode()
        read_sbom(text)
    except ValueError as error:
        broken = BrokenBundleError if artefact.kind == "bundle" else BrokenPackageError
        raise broken(f"'{path}' has no usable {SBOM_FILE}: {error}") from error
    return text


def _carried(artefact: Artefact) -> bytes | None:
    if artefact.bundle is not None:
        return artefact.bundle.documents.get(SBOM_FILE)
    return artefact.require_package().documents().get(SBOM_FILE)


def _made(artefact: Artefact) -> str:
    """Return what an artefact of format version 1 would carry."""
    if artefact.bundle is not None:
        return bundle_sbom(artefact.bundle.manifest, artefact.lineage)
    info = artefact.require_package().info
    return package_sbom(info, artefact.manifest, artefact.lineage, recorded_ingredients(info))


def recorded_ingredients(package: Package) -> list[Ingredient]:
    """Return what a descriptor says of what went in: less than a build knows."""
    kernels = [Ingredient(kind="kernel", name=kernel.symbol) for kernel in package.kernels]
    tools = [Ingredient(kind="tool", name=t.name, version=t.version) for t in package.tools]
    return [*kernels, *tools]
