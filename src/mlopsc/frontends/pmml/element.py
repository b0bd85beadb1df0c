"""Frontend *pmml*: the document as elements, whose attributes are checked as they are read.

Entities, document types and references to other files are refused by ``defusedxml``; ``Extension``
elements and namespaces are dropped. Always holds: what is malformed gives a ``SourceError``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from mlopsc.errors import ConversionError, SourceError

MAX_DEPTH: Final = 120
MAX_ELEMENTS: Final = 4_000_000


@dataclass
class Element:
    """An element of the document.

    Attributes:
        tag: Its name without namespace.
        attributes: As written.
        text: What it contains directly.
        children: Elements in it, without extensions.
    """

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """Return an attribute that may be left out."""
        return self.attributes.get(name, default)

    def need(self, name: str) -> str:
        """Return an attribute.

        Raises:
            SourceError: It is not there.
        """
        if name not in self.attributes:
            malformed(self, f"has no attribute '{name}'")
        return self.attributes[name]

    def number(self, name: str, default: float | None = None) -> float:
        """Return an attribute that is a finite number.

        Raises:
            SourceError: It is none, or is not there and has no default.
        """
        if default is not None and name not in self.attributes:
            return default
        return as_number(self, self.need(name))

    def all(self, *tags: str) -> list[Element]:
        """Return the children called one of ``tags``, in order."""
        return [child for child in self.children if child.tag in tags]

    def one(self, *tags: str) -> Element | None:
        """Return the first child called one of ``tags``."""
        return next(iter(self.all(*tags)), None)

    def must(self, *tags: str) -> Element:
        """Return the first child called one of ``tags``.

        Raises:
            SourceError: There is none.
        """
        found = self.one(*tags)
        if found is None:
            malformed(self, f"holds no {' or '.join(tags)}")
        return found

    def walk(self) -> Iterator[Element]:
        """Yield this and all elements below it, in the order of the document."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    def __str__(self) -> str:
        """Return what messages call it."""
        name = self.get("name") or self.get("id") or self.get("field")
        return f"{self.tag} '{name}'" if name else self.tag


def malformed(element: Element, problem: str) -> NoReturn:
    """Refuse a document that is not as the standard says.

    Raises:
        SourceError: Always.
    """
    raise SourceError(f"the PMML document is malformed: {element} {problem}")


def unsupported(element: Element, problem: str) -> NoReturn:
    """Refuse what is valid, but not converted.

    Raises:
        ConversionError: Always.
    """
    raise ConversionError(
        f"this PMML model cannot be converted with mlopsc's own converter: {element} {problem}",
        hint="docs/frontends/pmml.md lists what can; export the model from its library otherwise",
    )


def as_number(element: Element, text: str) -> float:
    """Return what ``text`` in ``element`` says: a finite number, or a truth value as 1 or 0.

    Raises:
        SourceError: It is no number.
    """
    text = text.strip()
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        number = float(text)
    except ValueError:
        malformed(element, f"has {text[:40]!r} where a number was expected")
    if not math.isfinite(number):
        malformed(element, f"has {text[:40]!r} where a finite number was expected")
    return number


def rows_of(element: Element) -> tuple[list[tuple[str, str]], list[dict[str, str]], str]:
    """Return what a ``MapValues`` element holds.

    Names of columns may have the prefix of a namespace, which the names of cells here have not.

    Returns:
        Pairs of a field and its column; rows, with their texts by column; the column of results.
    """

    def plain(name: str) -> str:
        return name.rpartition(":")[2]

    pairs = [(p.need("field"), plain(p.need("column"))) for p in element.all("FieldColumnPair")]
    rows = [{c.tag: c.text for c in r.children} for r in element.must("InlineTable").all("row")]
    wanted = plain(element.need("outputColumn"))
    for row in rows:
        if not row.keys() >= {wanted, *(column for _, column in pairs)}:
            malformed(element, f"has a row without one of its columns: {', '.join(row)[:80]}")
    if not pairs:
        malformed(element, "names no field")
    return pairs, rows, wanted


def array_of(element: Element) -> list[str]:
    """Return what an ``Array`` element holds: words, or quoted texts with spaces in them."""
    words: list[str] = []
    word, quoted, begun = "", False, False
    text = iter(element.text)
    for letter in text:
        if letter == "\\" and quoted:
            word += next(text, "")
        elif letter == '"':
            quoted, begun = not quoted, True
        elif letter.isspace() and not quoted:
            if word or begun:
                words.append(word)
            word, begun = "", False
        else:
            word += letter
    if quoted:
        malformed(element, "has a quote that does not end")
    if word or begun:
        words.append(word)
    expected = element.get("n")
    if expected and expected.isdigit() and int(expected) != len(words):
        malformed(element, f"holds {len(words)} values; its attribute 'n' says {expected}")
    return words


def read_document(path: Path) -> Element:
    """Return the root element of a PMML file.

    Raises:
        SourceError: It is no XML, holds entities, or is nested too deeply.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        root = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise SourceError(
            f"'{path}' declares a document type or entities ({type(error).__name__}), which a PMML "
            "file needs not; it was not read further",
            hint="remove the DOCTYPE line",
        ) from error
    except (ParseError, ValueError, LookupError, OSError) as error:
        raise SourceError(f"'{path}' is no well-formed XML: {error}") from error
    made = _made_of(root, path)
    if made.tag != "PMML":
        raise SourceError(f"'{path}' is no PMML document: its root is <{made.tag[:40]}>")
    return made


def _made_of(root: Any, path: Path) -> Element:
    """Return the elements of an ElementTree; without recursion, as the nesting is not known."""
    top = _bare(root)
    waiting = [(root, top, 1)]
    count = 0
    while waiting:
        given, made, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise SourceError(
                f"'{path}' has more than {MAX_DEPTH} levels or {MAX_ELEMENTS:,} elements; models "
                "within these limits are read"
            )
        for child in given:
            element = _bare(child)
            if element.tag != "Extension":
                made.children.append(element)
                waiting.append((child, element, depth + 1))
    return top


def _bare(given: Any) -> Element:
    tag = given.tag.rpartition("}")[2] if isinstance(given.tag, str) else "Extension"
    return Element(tag, dict(given.attrib), given.text or "")
