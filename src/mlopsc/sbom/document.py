"""Turns an inventory into the text of a CycloneDX document that is the same each time."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema.schema import SchemaVersion1Dot6

from mlopsc._version import __version__
from mlopsc.errors import InputError
from mlopsc.sbom.inventory import Inventory
from mlopsc.schema.common import canonical_json

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:mlopsc:sbom:v1")


def write_document(
    root: Component,
    inventory: Inventory,
    needs: Mapping[str, Iterable[Component]],
) -> str:
    """Return the document whose subject is ``root``.

    Args:
        root: What it is about.
        inventory: What it lists.
        needs: By reference of a component, what that consists of or depends on.

    Raises:
        InputError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    tool = Component(
        type=ComponentType.APPLICATION,
        name="mlopsc",
        version=__version__,
        bom_ref="mlopsc",
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
    )
    tools = ToolRepository(components=[tool])
    bom = Bom(metadata=BomMetaData(tools=tools, component=root))
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # Of thousands of components the library would compare every one with every other.
    listed = sorted(inventory.components, key=_ref)
    if listed:
        document["components"] = [json.loads(_as_json(c)) for c in listed]
    document["dependencies"] = [
        _dependency(_ref(component), map(_ref, needs.get(_ref(component), ())))
        for component in sorted((root, *listed), key=_ref)
    ]
    for component in (document["metadata"]["component"], *document.get("components", [])):
        component.update(inventory.fields.get(component["bom-ref"], {}))
    del document["serialNumber"], document["metadata"]["timestamp"]
    time = source_date()
    if time is not None:
        document["metadata"]["timestamp"] = time.isoformat()
    serial = uuid.uuid5(NAMESPACE, canonical_json(document))
    return canonical_json({**document, "serialNumber": serial.urn})


def _as_json(component: Component) -> str:
    text: str = component.as_json(view_=SchemaVersion1Dot6)  # type: ignore[attr-defined]
    return text  # a decorator of the library adds the method


def _ref(component: Component) -> str:
    return component.bom_ref.value or ""


def _dependency(ref: str, needed: Iterable[str]) -> dict[str, Any]:
    names = sorted(set(needed))
    return {"ref": ref, "dependsOn": names} if names else {"ref": ref}


def source_date() -> datetime | None:
    """Return the time that ``SOURCE_DATE_EPOCH`` gives, or None if it is not set.

    Raises:
        InputError: It is no number of seconds.
    """
    text = os.environ.get(EPOCH_VARIABLE, "")
    if not text:
        return None
    try:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"{EPOCH_VARIABLE} is '{text}'; expected seconds since 1970, such as 1735689600",
            hint=f"set {EPOCH_VARIABLE} to a whole number, or unset it",
        ) from error
