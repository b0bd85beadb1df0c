"""Finds everything that was made of something: in the log, and among artefacts on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlopsc.errors import SourceError
from mlopsc.schema.bundle import BUNDLE_SUFFIX
from mlopsc.schema.package import DESCRIPTOR_FILE
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.log import open_log


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
    where: str


def affected(reference: str, paths: Sequence[Path] = ()) -> list[Affected]:
    """Return what was made of ``reference``, directly or not.

    Args:
        reference: Kind and digest.
        paths: Artefacts, or folders with artefacts anywhere below them, beside what the log knows.

    Raises:
        LogError: The log does not hold.
        MlopscError: An artefact among ``paths`` is not whole.
    """
    log = open_log()
    made: dict[str, tuple[set[str], str, str]] = {}
    if log is not None:
        for entry in log.read()[0]:
            known, _, _ = made.get(entry.subject, (set(), "", ""))
            where = str(entry.details.get("path", ""))
            made[entry.subject] = (known | set(entry.made_of), entry.name, where)
    for path in _artefacts(paths):
        artefact = open_artefact(path)
        parts = set(artefact.ancestors()) - {artefact.reference}
        known, _, _ = made.get(artefact.reference, (set(), "", ""))
        name = f"{artefact.name} {artefact.version}"
        made[artefact.reference] = (known | parts, name, str(path))
    found, grown = {reference}, True
    while grown:
        fresh = {r for r, (parts, _, _) in made.items() if r not in found and parts & found}
        grown = bool(fresh)
        found |= fresh
    return [
        Affected(r, name, where)
        for r, (_, name, where) in made.items()
        if r in found and r != reference and r.startswith(("bundle:", "package:"))
    ]


def _artefacts(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the artefacts at or below ``paths``.

    Raises:
        SourceError: A path is not there.
    """
    for path in paths:
        if path.is_file() or (path / DESCRIPTOR_FILE).is_file():
            yield path
            continue
        if not path.is_dir():
            raise SourceError(f"'{path}' is no bundle, package or folder", hint="check the path")
        for name, folders, files in os.walk(path):
            folder = Path(name)
            yield from (folder / f for f in sorted(files) if f.endswith(BUNDLE_SUFFIX))
            packages = [f for f in sorted(folders) if (folder / f / DESCRIPTOR_FILE).is_file()]
            yield from (folder / f for f in packages)
            folders[:] = [f for f in folders if f not in packages]
