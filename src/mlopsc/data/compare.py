"""Compares two versions of a data set, file by file."""

from __future__ import annotations

from dataclasses import dataclass

from mlopsc.schema.fingerprint import Fingerprint


@dataclass(frozen=True)
class Difference:
    """What became of the files of one version in another; all in the order of paths.

    Attributes:
        added: Paths that are new.
        removed: Paths that are gone.
        changed: Paths that are in both, with other contents.
        renamed: Paths that are gone, each with a new one that has the same content.
        unchanged: Number of the other files.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    unchanged: int

    def __bool__(self) -> bool:
        """Return whether there is a difference."""
        return bool(self.added or self.removed or self.changed or self.renamed)


def diff(old: Fingerprint, new: Fingerprint) -> Difference:
    """Return how ``new`` differs from ``old``."""
    before = {file.path: file for file in old.files}
    after = {file.path: file for file in new.files}
    common = before.keys() & after.keys()
    changed = sorted(path for path in common if before[path].digest != after[path].digest)
    removed = [path for path in before if path not in common]
    added = [path for path in after if path not in common]
    # Empty files are all alike, which says nothing about where one went.
    free: dict[str, list[str]] = {}
    for path in reversed(added):
        if after[path].size:
            free.setdefault(after[path].digest, []).append(path)
    renamed = []
    for path in removed:
        if places := free.get(before[path].digest):
            renamed.append((path, places.pop()))
    moved = {path for pair in renamed for path in pair}
    return Difference(
        added=tuple(path for path in added if path not in moved),
        removed=tuple(path for path in removed if path not in moved),
        changed=tuple(changed),
        renamed=tuple(renamed),
        unchanged=len(common) - len(changed),
    )
