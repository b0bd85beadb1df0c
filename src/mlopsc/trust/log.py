"""The log: who imported, built, signed and revoked what, and when. Signed, and chained.

It lies in ``MLOPSC_LOG_DIR``, by default in the user's data folder, with a key of its own that
signs the entries. An empty ``MLOPSC_LOG_DIR`` means that no log is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from mlopsc.errors import KeyFileError, LogError, OutputError
from mlopsc.outputs import atomic_file
from mlopsc.schema.common import Digest, digest_bytes
from mlopsc.schema.log import Action, LogEntry
from mlopsc.trust.artefact import Artefact
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
_FILE, _KEY, _CLOSURE = "log.jsonl", "log.key", "closure.json"


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

        Who signed something is no part of what it is made of. As long as the log has not changed,
        what was found out the last time is remembered beside it.

        Raises:
            LogError: The log does not hold.
        """
        wanted = sorted(references)
        state = [*_state(self.chain.path), digest_bytes(json.dumps(wanted).encode())]
        memory = self.folder / _CLOSURE
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            known = json.loads(memory.read_bytes())
            if known["state"] == state:
                return {str(r): str(through) for r, through in known["through"].items()}
        affected = {reference: reference for reference in wanted}
        entries, _ = self.read()
        grown = True
        while grown:
            grown = False
            for entry in entries:
                parts = (r for r in entry.made_of if r in affected and not r.startswith("key:"))
                through = None if entry.subject in affected else next(parts, None)
                if through is not None:
                    affected[entry.subject] = affected[through]
                    grown = True
        with suppress(OutputError), atomic_file(memory, force=True) as new:
            new.write_text(json.dumps({"state": state, "through": affected}), encoding="utf-8")
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


def _state(path: Path) -> list[int]:
    """Return what changes when a file does; nothing if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def open_log() -> Log | None:
    """Return the log, or None if none is kept."""
    folder = log_folder()
    return None if folder is None else Log(folder, LOG_VARIABLE in os.environ)


def record_artefact(
    action: Action,
    artefact: Artefact,
    path: Path,
    *,
    made_of: Mapping[str, str] | None = None,
    **details: Any,
) -> None:
    """Add an entry about a bundle or package, if a log is kept.

    Args:
        action: What was done.
        artefact: What came out.
        path: Where that is.
        made_of: Of what, by reference; what the artefact says by default.
        details: More.

    Raises:
        OutputError, LogError: As ``Log.record``.
    """
    name = f"{artefact.name} {artefact.version}"
    parts = artefact.ancestors() if made_of is None else made_of
    record(action, artefact.reference, name, parts, path=str(path.absolute()), **details)


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
