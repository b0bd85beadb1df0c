"""Finds everything that was made of something: in the log, and among artefacts on disk."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlopsc.errors import MlopscError, SourceError
from mlopsc.schema.bundle import BUNDLE_SUFFIX
from mlopsc.schema.package import DESCRIPTOR_FILE
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.log import open_log
from mlopsc.trust.revocations import no_log


@dataclass(frozen=True)
class Affected:
    """An artefact that was made of something.

    Attributes:
        reference: Kind and digest.
        name: Name and version of the model.
        where: Where it was written, or is.
    """

    reference: str
    name: str
    where: tuple[str, ...]


@dataclass
class _Known:
    """What is known of an artefact."""

    name: str = ""
    parts: set[str] = field(default_factory=set)
    places: dict[str, None] = field(default_factory=dict)  # in the order in which they were found

    def add(self, name: str, parts: Iterable[str], place: str) -> None:
        """Add what another source says."""
        self.name = name
        self.parts |= set(parts)
        if place:
            self.places[place] = None


def affected(
    reference: str, paths: Sequence[Path] = ()
) -> tuple[list[Affected], list[MlopscError]]:
    """Return what was made of ``reference``, directly or not.

    Args:
        reference: Kind and digest.
        paths: Artefacts, or folders with artefacts anywhere below them, beside what the log knows.

    Returns:
        The artefacts, and what of ``paths`` could not be looked at.

    Raises:
        LogError: The log does not hold, or there is neither a log nor a path.
    """
    log = open_log()
    if log is None and not paths:
        raise no_log()
    known: defaultdict[str, _Known] = defaultdict(_Known)
    for entry in log.read()[0] if log is not None else ():
        place = str(entry.details.get("path", ""))
        known[entry.subject].add(entry.name, entry.made_of, place)
    problems: list[MlopscError] = []
    for path in _artefacts(paths, problems):
        try:
            artefact = open_artefact(path)
        except MlopscError as error:
            problems.append(error)
            continue
        parts = artefact.ancestors().keys() - {artefact.reference}
        name = f"{artefact.name} {artefact.version}"
        known[artefact.reference].add(name, parts, str(path.absolute()))
    found, grown = {reference}, True
    while grown:
        fresh = {r for r, about in known.items() if r not in found and about.parts & found}
        grown = bool(fresh)
        found |= fresh
    return [
        Affected(r, about.name, tuple(about.places))
        for r, about in known.items()
        if r in found and r != reference and r.startswith(("bundle:", "package:"))
    ], problems


def _artefacts(paths: Sequence[Path], problems: list[MlopscError]) -> Iterator[Path]:
    """Yield the artefacts at or below ``paths``."""

    def note(error: OSError) -> None:
        reason = f"cannot look into '{error.filename}': {error.strerror or error}"
        problems.append(SourceError(reason, hint="check its permissions"))

    for path in paths:
        if path.is_file() or (path / DESCRIPTOR_FILE).is_file():
            yield path
            continue
        if not path.is_dir():
            problems.append(SourceError(f"'{path}' is no bundle, package or folder"))
            continue
        for name, folders, files in os.walk(path, onerror=note):
            folder = Path(name)
            yield from (folder / f for f in sorted(files) if f.endswith(BUNDLE_SUFFIX))
            packages = [f for f in sorted(folders) if (folder / f / DESCRIPTOR_FILE).is_file()]
            yield from (folder / f for f in packages)
            folders[:] = [f for f in folders if f not in packages]
