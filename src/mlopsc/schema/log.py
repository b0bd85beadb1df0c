"""Entries of the two append-only files: the log, and revocation lists."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from mlopsc.schema.common import Digest, Frozen

Reference = Annotated[
    str, StringConstraints(pattern=r"^(dataset|bundle|package|model|key):sha256:[0-9a-f]{64}$")
]
Action = Literal["import", "build", "sign", "revoke", "migrate", "quantize"]


class Link(Frozen):
    """One entry of a file in which each names the one before.

    Attributes:
        sequence: Number of the entry, from 0.
        previous: Digest of the line before; none for the first.
        time: When, in UTC, ISO 8601.
        actor: Who: the name of the user, as the system gives it.
    """

    schema_version: Literal[1] = 1
    sequence: Annotated[int, Field(ge=0)]
    previous: Digest | None
    time: str
    actor: str


class LogEntry(Link):
    """Something that was done.

    Attributes:
        action: What.
        subject: What it was done to, or what came out.
        name: Name and version of that.
        made_of: Everything that it was made of or signed with, by reference, and what that is.
        details: More: the target, where it was written, flags that allowed what is not safe.
    """

    action: Action
    subject: Reference
    name: str
    made_of: dict[str, str]
    details: dict[str, Any]


class Revocation(Link):
    """Something that must not be used any more.

    Attributes:
        reference: What.
        reason: Why.
    """

    reference: Reference
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
