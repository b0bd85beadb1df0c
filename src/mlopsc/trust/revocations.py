"""Revocation lists: signed, append-only files of what must not be used any more.

The user's own list lies beside the log. ``MLOPSC_REVOCATIONS`` and ``--revocations`` name further
ones. The key of a list lies beside it, ``LIST.pub``. Who reads a list remembers how long it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from mlopsc.errors import KeyFileError, LogError, RevokedError
from mlopsc.outputs import atomic_file
from mlopsc.schema.log import Revocation
from mlopsc.trust.chain import Chain, Heads
from mlopsc.trust.keys import PUBLIC_SUFFIX, PrivateKey, key_id, load_public, public_pem
from mlopsc.trust.log import open_log
from mlopsc.trust.places import LIST_FILE, LOG_VARIABLE, is_there, named_lists

MEDIA_TYPE: Final = "application/vnd.mlopsc.revocation+json"
_WHAT = "the revocation list"


@dataclass(frozen=True)
class Revoked:
    """Everything that is revoked, directly or because of what it was made of.

    Attributes:
        entries: What the lists say, by reference.
        through: For everything affected that the log knows: what is revoked of that.
    """

    entries: Mapping[str, Revocation] = field(default_factory=dict)
    through: Mapping[str, str] = field(default_factory=dict)

    def check(self, what: object, references: Mapping[str, str]) -> None:
        """Refuse what is revoked.

        Args:
            what: It, for the message.
            references: Itself, and everything it was made of or signed with.

        Raises:
            RevokedError: One of them is revoked.
        """
        for reference, label in references.items():
            if reference not in self.through:
                continue
            entry = self.entries[self.through[reference]]
            because = "" if entry.reference == reference else f", made of {entry.reference}"
            raise RevokedError(
                f"'{what}' must not be used: {label} ({reference}{because}) was revoked on "
                f"{entry.time[:10]}: {entry.reason}"
            )


def own_list() -> Path | None:
    """Return where the user's own list is, or None if no log is kept."""
    log = open_log()
    return None if log is None else log.folder / LIST_FILE


def revoke(path: Path, reference: str, reason: str, key: PrivateKey) -> Revocation:
    """Add an entry to a list.

    Raises:
        LogError: The list is damaged or somebody else's, or the reason cannot be recorded.
        OutputError: It cannot be written.
    """
    chain = _chain(path)
    beside = _key_file(path)
    name = key_id(key.public_key())
    if path.exists() or beside.exists():
        owner = key_id(load_public(beside))
        if owner != name:
            raise LogError(
                f"{_WHAT} '{path}' is signed by key {owner}, and this is {name}",
                hint="use the key of the list, or start another with --list",
            )
    if path.exists():
        entries, _ = chain.read([key.public_key()])
        if any(entry.reference == reference for entry in entries):
            raise LogError(
                f"{reference} is revoked already", hint="'mlopsc revoke --show' prints the list"
            )
    if not beside.exists():
        with atomic_file(beside) as new:
            new.write_bytes(public_pem(key.public_key()))

    def entry(link: dict[str, object]) -> Revocation:
        try:
            return Revocation.model_validate({**link, "reference": reference, "reason": reason})
        except ValidationError as error:
            raise LogError(
                f"the reason for revoking {reference} has {len(reason)} characters; expected text "
                "of 1 to 2000",
                hint="say it in other words",
            ) from error

    return chain.append(entry, key)


def read_list(path: Path, heads: Heads | None) -> list[Revocation]:
    """Read a list.

    Raises:
        LogError: It is not there, does not hold, or has lost entries.
    """
    try:
        if not path.is_file():
            raise LogError(
                f"{_WHAT} '{path}' is not there",
                hint="check the path, or get the current list from its owner",
            )
        key = load_public(_key_file(path))
    except KeyFileError as error:
        raise LogError(
            f"the key of {_WHAT} '{path}' cannot be used: {error.message}",
            hint=f"put it beside the list, as '{_key_file(path).name}'",
        ) from error
    except OSError as error:
        raise LogError(f"cannot read {_WHAT} '{path}': {error.strerror or error}") from error
    chain = _chain(path)
    entries, _ = chain.read([key]) if heads is None else heads.read(chain, [key])
    return entries


def read_revocations(paths: Iterable[Path] = ()) -> Revoked:
    """Return what the user's own list, those of the environment, and ``paths`` revoke.

    Raises:
        LogError: One does not hold, or one that was named is not there.
    """
    log = open_log()
    lists = named_lists(paths)
    own = own_list()
    heads = None if log is None else log.heads
    if own is not None and heads is not None and (is_there(own) or heads.know(own)):
        lists.append(own)
    entries = {e.reference: e for path in lists for e in read_list(path, heads)}
    if not entries:
        return Revoked()
    through = {r: r for r in entries} if log is None else log.closure(entries)
    return Revoked(entries, through)


def no_log() -> LogError:
    """Return the error of what needs the log's folder where none is kept."""
    return LogError(
        f"no log is kept: {LOG_VARIABLE} is empty", hint="set it to a folder, or unset it"
    )


def _chain(path: Path) -> Chain[Revocation]:
    return Chain(path, Revocation, MEDIA_TYPE, _WHAT)


def _key_file(path: Path) -> Path:
    return path.with_name(path.name + PUBLIC_SUFFIX)
