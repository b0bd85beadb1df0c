"""The same bill of materials as an SPDX 2.3 document.

Every component becomes an SPDX package, files too: an SPDX file must have a SHA-1 checksum, and
artefacts are known by SHA-256 alone. What SPDX 2.3 has no field for is in the comment.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.validation.uri_validators import validate_url
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from mlopsc._version import __version__
from mlopsc.sbom.document import NAMESPACE, source_date
from mlopsc.sbom.licences import parse_spdx, spdx_reference
from mlopsc.sbom.reading import ReadComponent, ReadDocument, read_sbom
from mlopsc.schema.common import canonical_json

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PURPOSES: Final[Mapping[str, PackagePurpose]] = {
    "application": PackagePurpose.APPLICATION,
    "file": PackagePurpose.FILE,
    "framework": PackagePurpose.FRAMEWORK,
    "library": PackagePurpose.LIBRARY,
}
# By kind: its relation to the artefact ("root") or to the model; "of" it goes the other way.
_RELATIONS: Final[Mapping[str, tuple[str, RelationshipType]]] = {
    "file": ("root", RelationshipType.CONTAINS),
    "kernel": ("root", RelationshipType.CONTAINS),
    "generated": ("root", RelationshipType.GENERATED_FROM),
    "runtime": ("root", RelationshipType.GENERATED_FROM),
    "library": ("root", RelationshipType.DEPENDS_ON),
    "compiler": ("of root", RelationshipType.BUILD_TOOL_OF),
    "tool": ("of root", RelationshipType.BUILD_TOOL_OF),
    "graph": ("model", RelationshipType.CONTAINS),
    "parent": ("model", RelationshipType.DESCENDANT_OF),
    "framework": ("of model", RelationshipType.BUILD_DEPENDENCY_OF),
    "exporter": ("of model", RelationshipType.BUILD_TOOL_OF),
    "reference": ("of model", RelationshipType.TEST_TOOL_OF),
}
_DATASET_RELATIONS: Final[Mapping[str, tuple[str, RelationshipType]]] = {
    "training": ("model", RelationshipType.GENERATED_FROM),
    "calibration": ("model", RelationshipType.GENERATED_FROM),
    "validation": ("of model", RelationshipType.TEST_OF),
    "test": ("of model", RelationshipType.TEST_OF),
}


def to_spdx(sbom_json: str) -> str:
    """Return a bill of materials of ours as SPDX 2.3 JSON.

    Args:
        sbom_json: What ``bundle_sbom`` or ``package_sbom`` returned.

    Raises:
        ValueError: It is something else.
        InputError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    source = read_sbom(sbom_json)
    names: dict[str, str] = {}  # of licences that are not SPDX's, by their reference
    packages = [_package(component, names) for component in source.all_components()]
    root = source.metadata.component
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=root.name,
            document_namespace="urn:uuid:" + "0" * 8,  # until all else is known
            creators=[Actor(ActorType.TOOL, f"mlopsc-{__version__}")],
            created=source_date() or _EPOCH,
            document_comment=f"made from the CycloneDX document {source.serial}",
        ),
        packages=packages,
        relationships=_relationships(source),
        extracted_licensing_info=[
            ExtractedLicensingInfo(license_id=identifier, extracted_text=name, license_name=name)
            for identifier, name in sorted(names.items())
        ],
    )
    stream = io.StringIO()
    write_document_to_stream(document, stream, validate=False)
    made: dict[str, Any] = json.loads(stream.getvalue())
    del made["documentNamespace"]
    namespace = uuid.uuid5(NAMESPACE, canonical_json(made))
    return canonical_json({**made, "documentNamespace": namespace.urn})


def _package(component: ReadComponent, names: dict[str, str]) -> Package:
    links = {reference.type: reference for reference in component.references}
    vcs, page = links.get("vcs"), links.get("documentation")
    owners = [
        owner.organization.name for data in component.data for owner in data.governance.owners
    ]
    owner = component.supplier.name if component.supplier else "".join(owners[:1])
    return Package(
        spdx_id=_identifier(component.ref),
        name=component.name,
        download_location=SpdxNoAssertion(),
        version=component.version or None,
        file_name=component.name if component.type == "file" else None,
        supplier=_organisation(owner),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, h.content) for h in component.hashes],
        homepage=page.url if page and not validate_url(page.url) else None,
        source_info=f"trained by code of {vcs.url} {vcs.comment}".strip() if vcs else None,
        license_concluded=SpdxNoAssertion(),
        license_declared=_declared(component, names),
        copyright_text=SpdxNoAssertion(),
        description=component.description or None,
        comment=_comment(component),
        primary_package_purpose=_PURPOSES.get(component.type, PackagePurpose.OTHER),
    )


def _declared(component: ReadComponent, names: dict[str, str]) -> Any:
    """Return the licences as one expression; ``names`` gets those that SPDX does not know."""
    found = []
    for choice in component.licenses:
        if not choice.text:
            continue
        expression = parse_spdx(choice.text)
        if expression is None:
            identifier = f"LicenseRef-{_slug(choice.text)}"
            names[identifier] = choice.text
            expression = spdx_reference(identifier)
        found.append(expression)
    if not found:
        return SpdxNoAssertion()
    whole = found[0]
    for expression in found[1:]:
        whole = whole & expression
    return whole


def _comment(component: ReadComponent) -> str:
    """Return what SPDX has no field for, one fact a line."""
    facts = [(p.name, p.value) for p in component.properties]
    facts += [("classification", data.classification) for data in component.data]
    return "\n".join(f"{name}: {value}" for name, value in facts if value)


def _organisation(name: str) -> Actor | None:
    """Return an actor; the format reads parentheses as an address and ends at a line's end."""
    plain = " ".join(name.split()).replace("(", "[").replace(")", "]")
    return Actor(ActorType.ORGANIZATION, plain) if plain else None


def _relationships(source: ReadDocument) -> list[Relationship]:
    root = source.metadata.component
    components = source.all_components()
    model = next(component for component in components if component.kind == "model")
    ends = {"root": _identifier(root.ref), "model": _identifier(model.ref)}
    made = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, ends["root"])]
    if model is not root:
        made.append(Relationship(ends["root"], RelationshipType.GENERATED_FROM, ends["model"]))
    for component in components:
        if component is root or component is model:
            continue
        role = component.fact("mlopsc:role")
        place, relation = _RELATIONS.get(component.kind) or _DATASET_RELATIONS.get(
            role, ("model", RelationshipType.OTHER)
        )
        here, there = _identifier(component.ref), ends[place.removeprefix("of ")]
        pair = (here, there) if place.startswith("of ") else (there, here)
        made.append(Relationship(pair[0], relation, pair[1], role or None))
    return made


def _identifier(ref: str) -> str:
    return f"SPDXRef-{_slug(ref)}"


def _slug(text: str) -> str:
    """Return a readable identifier that no other text has."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60]
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{readable}-{digest}" if readable else digest
