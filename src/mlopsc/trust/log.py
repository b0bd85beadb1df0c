"""The log: who imported, built, signed and revoked what, and when. Signed, and chained.

It lies in ``MLOPSC_LOG_DIR``, by default in the user's data folder, with a key of its own that
signs the entries. An empty ``MLOPSC_LOG_DIR`` means that no log is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from mlopsc.errors import KeyFileError, LogError, OutputError
from mlopsc.schema.common import Digest
from mlopsc.schema.log import Action, LogEntry
from mlopsc.trust.chain import Chain, Heads, printable
from mlopsc.trust.keys import (
    PUBLIC_SUFFIX,
    PrivateKey,
    PublicKey,
    generate_keys,
    load_private,
    load_public,
)
from mlopsc.trust.places import HEADS_FILE, LOG_VARIABLE, log_folder

MEDIA_TYPE: Final = "application/vnd.mlopsc.log+json"
_FILE, _KEY = "log.jsonl", "log.key"


@dataclass(frozen=True)
class Log:
    """The log in a folder.

    Attributes:
        folder: Where it is.
        chosen: Whether somebody chose the folder: then it must be writable.
    """

    folder: Path
    chosen: bool

    @property
    def chain(self) -> Chain[LogEntry]:
        """The file of entries."""
        return Chain(self.folder / _FILE, LogEntry, MEDIA_TYPE, "the log")

    @property
    def heads(self) -> Heads:
        """What was last seen of files that grow."""
        return Heads(self.folder / HEADS_FILE)

    def record(
        self,
        action: Action,
        subject: str,
        name: str,
        made_of: Mapping[str, str],
        details: Mapping[str, Any],
    ) -> None:
        """Add an entry.

        Raises:
            OutputError: It cannot be written, and somebody chose this folder.
            LogError: The log is damaged.
        """
        try:
            self.chain.append(
                lambda link: LogEntry.model_validate(
                    {
                        **link,
                        "action": action,
                        "subject": subject,
                        "name": name,
                        "made_of": {k: v for k, v in made_of.items() if k != subject},
                        "details": {
                            k: printable(v) if isinstance(v, str) else v for k, v in details.items()
                        },
                    }
                ),
                self._key(),
            )
        except OutputError:
            if self.chosen:
                raise

    def read(self, keys: Iterable[PublicKey] = ()) -> tuple[list[LogEntry], list[Digest]]:
        """Return all entries and the digests of their lines.

        Args:
            keys: Who may have signed entries; the log's own key by default.

        Raises:
            LogError: The log does not hold, or has lost entries since it was last read.
        """
        trusted = list(keys)
        if not trusted and self.chain.path.exists():
            try:
                trusted = [load_public(self.folder / (_KEY + PUBLIC_SUFFIX))]
            except KeyFileError as error:
                raise LogError(
                    f"the key of the log is missing: {error.message}",
                    hint="give it with --key",
                ) from error
        return self.heads.read(self.chain, trusted)

    def closure(self, references: Iterable[str]) -> dict[str, str]:
        """Return what is made of ``references``, directly or not: reference, and of which.

        Raises:
            LogError: The log does not hold.
        """
        affected = {reference: reference for reference in references}
        entries, _ = self.read()
        grown = True
        while grown:
            grown = False
            for entry in entries:
                if entry.subject in affected:
                    continue
                through = next((r for r in entry.made_of if r in affected), None)
                if through is not None:
                    affected[entry.subject] = affected[through]
                    grown = True
        return affected

    def _key(self) -> PrivateKey:
        """Return the key that signs entries; the first time, make it."""
        path = self.folder / _KEY
        others = (self.folder / (_KEY + PUBLIC_SUFFIX), self.chain.path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{_KEY}.lock"):
                if not path.exists():
                    if any(other.exists() for other in others):
                        raise LogError(
                            f"the key of the log is missing: expected '{path}'",
                            hint=f"restore it, or begin a log elsewhere with {LOG_VARIABLE}",
                        )
                    generate_keys(path, kind="ed25519", password=None)
        except OSError as error:
            raise OutputError(
                f"cannot write the log in '{self.folder}': {error.strerror or error}; expected a "
                "writable folder",
                hint=f"choose another with {LOG_VARIABLE}, or set it to nothing for no log",
            ) from error
        return load_private(path)


def open_log() -> Log | None:
    """Return the log, or None if none is kept."""
    folder = log_folder()
    return None if folder is None else Log(folder, LOG_VARIABLE in os.environ)


def record(
    action: Action,
    subject: str,
    name: str,
    made_of: Mapping[str, str],
    **details: Any,
) -> None:
    """Add an entry to the log, if one is kept.

    Raises:
        OutputError, LogError: As ``Log.record``.
    """
    log = open_log()
    if log is not None:
        log.record(action, subject, name, made_of, details)
