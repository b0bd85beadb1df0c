"""What all artefacts share: strictness, canonical JSON, tensors and digests."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mlopsc.dtypes import DTYPES, DTypeName

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
MAX_NAME = 512  # of a file in an artefact, with its folders


class Frozen(BaseModel):
    """A value object: immutable, unknown fields refused, serialised canonically."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, two-space indent, final newline."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read one from a JSON file.

        Raises:
            OSError: The file cannot be read.
            pydantic.ValidationError: The content does not fit the schema.
        """
        return cls.model_validate_json(path.read_bytes())


class ArenaOffsets(Frozen):
    """Where inputs and outputs lie in the arena, in bytes from its start, in order."""

    inputs: tuple[Annotated[int, Field(ge=0)], ...]
    outputs: tuple[Annotated[int, Field(ge=0)], ...]


class TensorSpec(Frozen):
    """Name, element type and static shape of an input or output.

    Attributes:
        name: As in the graph.
        dtype: Element type.
        shape: Sizes of the axes.
        labels: Of an input or output of strings, which holds places in this table; no string is
            there twice. Of an input, the place -1 stands for every other string.
    """

    name: str
    dtype: DTypeName
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    labels: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels is not None:
            if self.dtype != "int64":
                raise ValueError(f"'{self.name}' has labels and is {self.dtype}; expected int64")
            if len(set(self.labels)) != len(self.labels):
                raise ValueError(f"a label of '{self.name}' is there twice")
        return self

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes when stored densely."""
        return self.elements * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        """Render as ``name: dtype[d0, d1]``, with how many labels it has, if it has any."""
        labels = "" if self.labels is None else f" of {len(self.labels)} labels"
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]{labels}"


class FileEntry(Frozen):
    """One file of an artefact and what it must contain.

    Attributes:
        path: Relative, with forward slashes.
        digest: Of the content.
        size: Bytes.
        media_type: IANA style.
    """

    path: str
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    media_type: str


def canonical_json(value: Any) -> str:
    """Return the one JSON text of ``value``: sorted keys, two-space indent, final newline."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def digest_bytes(*chunks: bytes | memoryview) -> str:
    """Return ``sha256:hex`` of ``chunks``, one after the other."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return "sha256:" + state.hexdigest()


def digest_file(path: Path) -> str:
    """Return ``sha256:hex`` of a file, which is never in memory as a whole.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def is_plain_path(name: str) -> bool:
    """Whether ``name`` may be that of a file in an artefact: relative, in one form, in ASCII."""
    path = PurePosixPath(name)
    return (
        0 < len(name) <= MAX_NAME
        and name.isascii()
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
        and not path.is_absolute()
        and path.parts != ()
        and path.as_posix() == name
        and ".." not in path.parts
    )


def c_identifier(name: str) -> str:
    """Return ``name`` as a C identifier: other characters become underscores."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "model"
    return f"m{text}" if text[0].isdigit() else text
