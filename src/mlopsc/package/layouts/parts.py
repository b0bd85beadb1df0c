"""What every layout is made of, and the words and numbers that several say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlopsc.package.single import SingleSource
from mlopsc.schema.program import Program
from mlopsc.schema.target import Target

_VERSION = re.compile(
    r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?"
    r"(-(?:0|[1-9]\d*|\d*[A-Za-z][0-9A-Za-z]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z][0-9A-Za-z]*))*)?"
)


def semantic(version: str) -> str:
    """Return a version of semver.org: missing numbers are 0, and what is none becomes 0.0.0."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return "0.0.0"
    numbers = ".".join(str(int(part or 0)) for part in match.groups()[:3])
    return numbers + (match[4] or "")


@dataclass(frozen=True)
class Parts:
    """What a package is made of.

    Attributes:
        program: The lowered model.
        target: What it was compiled for.
        version: The user's version of the model.
        bundle: Digest of the bundle.
        single: The model as one header and at most two C files.
        library: The static library.
        selftest: ``selftest.c`` and its vectors, by name.
        licences: Text about licences.
    """

    program: Program
    target: Target
    version: str
    bundle: str
    single: SingleSource
    library: bytes
    selftest: Mapping[str, str]
    licences: str

    @property
    def name(self) -> str:
        """Name of the model, a C identifier."""
        return self.program.name

    @property
    def semantic_version(self) -> str:
        """The version of the model as the formats ask for it; the user's stands in ``about``."""
        return semantic(self.version)

    @property
    def about(self) -> str:
        """What it is, in one line of plain ASCII."""
        text = f"Model {self.name} {self.version} compiled for {self.target.name}"
        return "".join(c if " " <= c <= "~" else "?" for c in text)

    def sources(self) -> dict[str, bytes]:
        """Return the C files by name, without the header."""
        files = self.single.files(self.name)
        return {name: text.encode() for name, text in files.items() if name.endswith(".c")}

    def header(self) -> bytes:
        """Return ``<name>.h``."""
        return self.single.header.encode()

    def readme(self, how: str) -> bytes:
        """Return ``README.md``: what this is, and ``how`` it is used."""
        prefix = self.name.upper()
        return (
            f"# {self.name}\n\n"
            f"{self.about}.\n\nBundle: `{self.bundle}`\n\n{how}\n\n"
            "Inputs, outputs and scratch memory are the caller's:\n\n"
            "```c\n"
            f"static _Alignas({prefix}_ARENA_ALIGN) unsigned char arena[{prefix}_ARENA_BYTES];\n"
            f"{self.name}_run(..., arena); /* returns MLOPSC_OK */\n"
            "```\n"
        ).encode()
