"""Reads bills of materials back; only what ``mlopsc.sbom`` writes is understood."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mlopsc.sbom.inventory import KIND, Kind


class _Read(BaseModel):
    """A part of the document; fields that nobody needs are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ReadHash(_Read):
    """A digest."""

    alg: Literal["SHA-256"]
    content: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ReadLicence(_Read):
    """An SPDX identifier, or the name of something else."""

    id: str = ""
    name: str = ""


class ReadLicenceChoice(_Read):
    """A licence or an expression of several."""

    license: ReadLicence = ReadLicence()
    expression: str = ""

    @property
    def text(self) -> str:
        """Whichever is there."""
        return self.expression or self.license.id or self.license.name


class ReadNamed(_Read):
    """An organisation, or a property."""

    name: str
    value: str = ""


class ReadReference(_Read):
    """A link to something outside."""

    type: str
    url: str
    comment: str = ""


class ReadOwner(_Read):
    """Who answers for data."""

    organization: ReadNamed


class ReadGovernance(_Read):
    """Who answers for data."""

    owners: tuple[ReadOwner, ...] = ()


class ReadData(_Read):
    """What is known of a data set beside its name."""

    classification: str = ""
    governance: ReadGovernance = ReadGovernance()


class ReadPedigree(_Read):
    """What a component was made from."""

    ancestors: tuple[ReadComponent, ...] = ()


class ReadComponent(_Read):
    """A component, whatever it is."""

    type: str
    name: str
    ref: Annotated[str, Field(alias="bom-ref", min_length=1)]
    version: str = ""
    description: str = ""
    supplier: ReadNamed | None = None
    hashes: tuple[ReadHash, ...] = ()
    licenses: tuple[ReadLicenceChoice, ...] = ()
    properties: tuple[ReadNamed, ...] = ()
    references: Annotated[tuple[ReadReference, ...], Field(alias="externalReferences")] = ()
    data: tuple[ReadData, ...] = ()
    pedigree: ReadPedigree | None = None

    @property
    def kind(self) -> str:
        """What part it plays; one of ``Kind``."""
        return self.fact(KIND)

    def fact(self, name: str) -> str:
        """Return the value of a property, or ""."""
        return next((p.value for p in self.properties if p.name == name), "")


class ReadMetadata(_Read):
    """About the document."""

    component: ReadComponent
    timestamp: datetime | None = None


class ReadDocument(_Read):
    """A bill of materials."""

    format: Annotated[Literal["CycloneDX"], Field(alias="bomFormat")]
    version: Annotated[Literal["1.6"], Field(alias="specVersion")]
    serial: Annotated[str, Field(alias="serialNumber")]
    metadata: ReadMetadata
    components: tuple[ReadComponent, ...] = ()

    def all_components(self) -> list[ReadComponent]:
        """Return the subject, what is listed, and what these were made from."""
        listed = [self.metadata.component, *self.components]
        parents = [c for child in listed if child.pedigree for c in child.pedigree.ancestors]
        return [*listed, *parents]


_KINDS: Final[Any] = Kind.__args__  # type: ignore[attr-defined]


def read_sbom(text: str) -> ReadDocument:
    """Read a document that ``bundle_sbom`` or ``package_sbom`` wrote.

    Raises:
        ValueError: It is none.
    """
    try:
        document = ReadDocument.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise ValueError(
            f"it is no CycloneDX 1.6 document of mlopsc: {where}: {first['msg']}"
        ) from None
    components = document.all_components()
    for component in components:
        if component.kind not in _KINDS:
            raise ValueError(f"component {component.name!r} has no known property '{KIND}'")
    refs = [component.ref for component in components]
    if len(set(refs)) != len(refs):
        raise ValueError("two of its components have the same reference")
    if not any(component.kind == "model" for component in components):
        raise ValueError("it lists no model")
    return document
