"""Licences as people write them, turned into what bills of materials may hold.

What is an SPDX identifier or expression is normalised; anything else stays as the name it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.spdx import fixup_id
from license_expression import ExpressionError, LicenseSymbol, get_spdx_licensing
from license_expression import LicenseExpression as Parsed

_LICENSING = get_spdx_licensing()
_MAX_LENGTH = 1000  # characters of an expression; the library descends into it recursively
_OWN = "LicenseRef-"  # of another document: means nothing here, so it is a name


def parse_spdx(text: str) -> Parsed | None:
    """Return ``text`` as an SPDX expression, or None if it is none."""
    if len(text) > _MAX_LENGTH or _OWN.lower() in text.lower():
        return None
    try:
        return _LICENSING.parse(text, validate=True, strict=True)
    except (ExpressionError, AttributeError):  # the library's error has a defect of its own
        return None


def spdx_reference(identifier: str) -> Parsed:
    """Return the expression that names a licence of this document, ``LicenseRef-...``."""
    return LicenseSymbol(identifier)


def licences_of(texts: Sequence[str]) -> list[License]:
    """Return what holds where all of ``texts`` hold; empty ones say nothing."""
    given = list(dict.fromkeys(filter(None, map(str.strip, texts))))
    known = [_known(text) for text in given]
    if len(given) > 1 and all(known):
        joined = " AND ".join(f"({text})" for text in known)
        return [LicenseExpression(str(_LICENSING.dedup(joined)))]
    return [
        _single(name, text, alone=len(given) == 1) for name, text in zip(known, given, strict=True)
    ]


def _known(text: str) -> str:
    """Return the SPDX identifier or expression that ``text`` means, or ""."""
    expression = parse_spdx(text)
    return fixup_id(text) or ("" if expression is None else str(expression))


def _single(known: str, text: str, *, alone: bool) -> License:
    if known and fixup_id(known):
        return DisjunctiveLicense(id=known)
    if known and alone:  # an expression may not stand beside other licences
        return LicenseExpression(known)
    return DisjunctiveLicense(name=text)
