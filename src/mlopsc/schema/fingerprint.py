"""A saved fingerprint: which files a version of a data set has, and the digest of each."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import to_json

from mlopsc.schema.common import Digest, Frozen

SINGLE = "."  # path of the only file of a data set that is a file
# An empty part, '.' or '..': none of them is the name of a file or folder.
_NO_NAME = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0")


class FileDigest(Frozen):
    """One file of a data set.

    Attributes:
        digest: Of its content and size, as docs/data.md defines.
        path: Relative to the data set, with forward slashes, in Unicode's form NFC; ``.`` if the
            data set is this file.
        size: Bytes.
    """

    digest: Digest
    path: str
    size: Annotated[int, Field(ge=0, lt=1 << 63)]


class Fingerprint(Frozen):
    """One version of a data set, exactly; schema version 1.

    Attributes:
        digest: Of the whole, as docs/data.md defines; equal digests mean equal names and contents.
        files: All of them, ordered by the code points of their paths.
    """

    digest: Digest
    files: Annotated[tuple[FileDigest, ...], Field(min_length=1)]
    schema_version: Literal[1] = 1

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        paths = [file.path for file in self.files]
        if paths == [SINGLE]:
            return self
        for path in paths:
            if _NO_NAME.search(path) or not unicodedata.is_normalized("NFC", path):
                raise ValueError(f"{path!r} is no relative path in NFC")
        if any(path >= following for path, following in pairwise(paths)):
            raise ValueError("the files are not in order, or one is there twice")
        return self

    @property
    def nbytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    def to_json(self) -> str:
        """Return canonical JSON as every artefact's, by an encoder fit for many files.

        It keeps the order of the fields, which is why they are declared in that of the alphabet.
        """
        return to_json(self, indent=2).decode() + "\n"
