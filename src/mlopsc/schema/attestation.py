"""in-toto statements (v1) and SLSA provenance (v1): who made what, of what, and how.

Specifications: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and
https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from mlopsc.schema.common import Digest, FileEntry, Frozen, canonical_json

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PROVENANCE_PREDICATE: Final = "https://slsa.dev/provenance/v1"
CONFORMANCE_PREDICATE: Final = "urn:mlopsc:conformance:v1"
BUILDER: Final = "urn:mlopsc:builder"
IMPORT_TYPE: Final = "urn:mlopsc:import:v1"
MIGRATE_TYPE: Final = "urn:mlopsc:migrate:v1"
QUANTIZE_TYPE: Final = "urn:mlopsc:quantize:v1"
BUILD_TYPE: Final = "urn:mlopsc:build:v1"


class _Camel(Frozen):
    """Fields are written in camel case, and left out where they are unknown."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    def to_json(self) -> str:
        """Return canonical JSON."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_none=True))


class Resource(_Camel):
    """in-toto's ResourceDescriptor: a thing and its digest.

    Attributes:
        name: What it is called.
        digest: By algorithm, hexadecimal.
        uri: What identifies it, if something does.
        annotations: More about it.
    """

    name: str
    digest: dict[str, str] | None = None
    uri: str | None = None
    annotations: dict[str, Any] | None = None

    @property
    def sha256(self) -> Digest | None:
        """Its digest in the form that all artefacts use."""
        found = (self.digest or {}).get("sha256")
        return f"sha256:{found}" if found else None


class Statement(_Camel):
    """A claim about files.

    Attributes:
        subject: The files.
        predicate_type: What kind of claim it is.
        predicate: The claim.
    """

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[Resource, ...]
    predicate_type: str
    predicate: dict[str, Any]


class BuildDefinition(_Camel):
    """What was asked for, and what went in.

    Attributes:
        build_type: What kind of build; says what the parameters mean.
        external_parameters: What the user chose.
        internal_parameters: What was decided or found out.
        resolved_dependencies: Everything that was read.
    """

    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any]
    resolved_dependencies: tuple[Resource, ...]


class Builder(_Camel):
    """Who built.

    Attributes:
        id: Names this program.
        version: Of it, and of every library and tool that took part.
    """

    id: str = BUILDER
    version: dict[str, str]


class RunDetails(_Camel):
    """How it was built. No times, users or hosts: they would not be reproducible."""

    builder: Builder


class Provenance(_Camel):
    """SLSA's predicate."""

    build_definition: BuildDefinition
    run_details: RunDetails


def provenance_of(data: bytes) -> Provenance:
    """Return the provenance that a statement holds.

    Raises:
        ValueError: It is no such statement.
    """
    return Provenance.model_validate(Statement.model_validate_json(data).predicate)


def resource(name: str, digest: Digest | None, **annotations: Any) -> Resource:
    """Return a resource with a SHA-256 digest."""
    by_algorithm = None if digest is None else {"sha256": digest.removeprefix("sha256:")}
    return Resource(name=name, digest=by_algorithm, annotations=annotations or None)


def statement(files: Iterable[FileEntry], predicate_type: str, predicate: Frozen) -> Statement:
    """Return a claim about ``files``."""
    subject = tuple(resource(f.path, f.digest) for f in files)
    return Statement(
        subject=subject, predicate_type=predicate_type, predicate=json.loads(predicate.to_json())
    )


def provenance(
    build_type: str,
    *,
    external: Mapping[str, Any],
    internal: Mapping[str, Any],
    dependencies: Iterable[Resource],
    versions: Mapping[str, str],
) -> Provenance:
    """Return SLSA provenance; the versions are of all that took part."""
    return Provenance(
        build_definition=BuildDefinition(
            build_type=build_type,
            external_parameters=dict(external),
            internal_parameters=dict(internal),
            resolved_dependencies=tuple(dependencies),
        ),
        run_details=RunDetails(builder=Builder(version=dict(sorted(versions.items())))),
    )
