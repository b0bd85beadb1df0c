"""What went into an artefact beside the model: the entries of its bill of materials."""

from __future__ import annotations

from typing import Literal

from mlopsc.schema.common import Digest, Frozen

SBOM_FILE = "sbom.cdx.json"
IngredientKind = Literal["kernel", "generated", "runtime", "compiler", "library", "tool"]


class Ingredient(Frozen):
    """One thing that really went into a package, or that made it.

    Attributes:
        kind: ``kernel``: a function of the library, compiled from a ``generated`` file;
            ``runtime``: a C file of ours; ``compiler`` or ``tool``: what made it; ``library``: what
            is linked in or expected where it runs.
        name: Name of the function, file or tool.
        version: Of it, or "".
        licence: SPDX identifier, or "" if it is the model's own.
        digest: Of its content, where it has one.
    """

    kind: IngredientKind
    name: str
    version: str = ""
    licence: str = ""
    digest: Digest | None = None
