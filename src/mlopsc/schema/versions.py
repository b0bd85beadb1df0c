"""Reads JSON documents of every format version there has been.

Each artefact has a chain of *upgrades*: the function for version N turns the parsed document of
version N into one of version N + 1. Documents are upgraded in memory; their bytes and digests stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlopsc.errors import FormatVersionError
from mlopsc.schema.common import Frozen, canonical_json

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
Model = TypeVar("Model", bound=Frozen)


def parse_versioned(
    data: bytes, model: type[Model], upgrades: Mapping[int, Upgrade], what: str
) -> tuple[Model, int]:
    """Return the document in ``data`` in today's version, and the version that it has.

    Args:
        data: Canonical JSON with a ``schema_version``.
        model: Today's schema.
        upgrades: By the version that they read; all versions from 1 to the last.
        what: What the document is, for messages.

    Raises:
        FormatVersionError: Its version is newer than any that is known.
        ValueError: It is no canonical JSON or has no version; pydantic's error if it does not fit.
    """
    latest = len(upgrades) + 1
    try:
        document = json.loads(data)
        text = canonical_json(document).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON document") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version is {version!r}; expected a number from 1 to {latest}")
    if version > latest:
        raise FormatVersionError(
            f"{what} has format version {version}; this mlopsc reads versions 1 to {latest}",
        )
    if text != data:
        raise ValueError("it is not canonical JSON: a key is there twice, or it was edited")
    for number in range(version, latest):
        document = upgrades[number](document)
    return model.model_validate_json(json.dumps(document)), version
