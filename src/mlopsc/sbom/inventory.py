"""The components of a bill of materials while it is made, each with a name that is there once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity

from mlopsc.sbom.licences import licences_of

KIND: Final = "mlopsc:kind"
Kind = Literal[
    "model", "package", "graph", "file", "dataset", "parent", "framework", "exporter", "reference",
    "kernel", "generated", "runtime", "compiler", "library", "tool",
]  # fmt: skip
_TYPES: Final[Mapping[Kind, ComponentType]] = {
    "model": ComponentType.MACHINE_LEARNING_MODEL,
    "package": ComponentType.LIBRARY,
    "graph": ComponentType.FILE,
    "file": ComponentType.FILE,
    "dataset": ComponentType.DATA,
    "parent": ComponentType.MACHINE_LEARNING_MODEL,
    "framework": ComponentType.FRAMEWORK,
    "exporter": ComponentType.APPLICATION,
    "reference": ComponentType.LIBRARY,
    "kernel": ComponentType.LIBRARY,
    "generated": ComponentType.FILE,
    "runtime": ComponentType.FILE,
    "compiler": ComponentType.APPLICATION,
    "library": ComponentType.LIBRARY,
    "tool": ComponentType.APPLICATION,
}
_NOT_AT_RUN_TIME: Final = ("framework", "exporter", "reference", "compiler", "tool")
_MAX_VERSION = 1024  # characters, by the schema
_MIME = re.compile(r"[-+a-z0-9.]+/[-+a-z0-9.]+")
_CHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_URL = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*://(?:(?:{_CHAR}|:)*@)?{_CHAR}+(?::[0-9]*)?"
    rf"(?:/(?:{_CHAR}|[:@/])*)?(?:\?(?:{_CHAR}|[:@/?])*)?(?:#(?:{_CHAR}|[:@/?])*)?"
)
_URL_SAFE = "%:/?#[]@!$&'()*+,;=~"


@dataclass
class Inventory:
    """What has been listed so far.

    Attributes:
        components: In the order they were added.
        fields: By reference, fields of the JSON that the library has no classes for.
    """

    components: list[Component] = field(default_factory=list)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    _refs: set[str] = field(default_factory=set)

    def make(
        self,
        kind: Kind,
        name: str,
        *,
        version: str = "",
        licences: Sequence[str] = (),
        digests: Iterable[str | None] = (),
        description: str = "",
        owner: str = "",
        media_type: str = "",
        url: ExternalReference | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Component:
        """Return a component that is not listed yet; properties that are "" are left out."""
        facts = {KIND: kind, **(properties or {})}
        if len(version) > _MAX_VERSION:
            facts["mlopsc:version"], version = version, ""
        ref = self._reference(f"{kind}:{name}" + (f"@{version}" if version else ""))
        if _MIME.fullmatch(media_type):  # the library writes another name than the schema has
            self.fields[ref] = {"mime-type": media_type}
        return Component(
            type=_TYPES[kind],
            name=name,
            bom_ref=ref,
            version=version or None,
            licenses=licences_of(licences),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))
                for digest in filter(None, digests)
            ],
            description=description or None,
            supplier=OrganizationalEntity(name=owner) if owner else None,
            scope=ComponentScope.EXCLUDED if kind in _NOT_AT_RUN_TIME else None,
            external_references=[url] if url else [],
            properties=[Property(name=key, value=value) for key, value in facts.items() if value],
        )

    def add(self, component: Component) -> Component:
        """List ``component`` and return it."""
        self.components.append(component)
        return component

    def _reference(self, wanted: str) -> str:
        found, count = wanted, 1
        while found in self._refs:
            count += 1
            found = f"{wanted}#{count}"
        self._refs.add(found)
        return found


def reference(kind: ExternalReferenceType, url: str, comment: str = "") -> ExternalReference | None:
    """Return a reference to ``url``, or None if that is no absolute URL by RFC 3986."""
    quoted = quote(url.strip(), safe=_URL_SAFE)
    if not _URL.fullmatch(quoted):
        return None
    return ExternalReference(type=kind, url=XsUri(quoted), comment=comment or None)
