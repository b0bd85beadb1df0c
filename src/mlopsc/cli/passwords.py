"""Passwords of private keys: from a file, the environment, or a person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlopsc.cli.options import PATH

if TYPE_CHECKING:
    from mlopsc.trust.keys import PrivateKey

password_file_option = click.option(
    "--password-file", type=PATH, metavar="FILE", help="Its first line is the key's password."
)


def new_password(file: Path | None) -> bytes:
    """Return the password for a new key.

    Raises:
        KeyFileError: There is none, or nobody to ask.
    """
    found = _given(file)
    if found is None and sys.stdin.isatty():
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        found = text.encode()
    if not found:
        from mlopsc.errors import KeyFileError

        raise KeyFileError(
            "the new key has no password",
            hint="set MLOPSC_KEY_PASSWORD, give --password-file, or say --no-password",
        )
    return found


def read_key(path: Path, file: Path | None) -> PrivateKey:
    """Return a private key; ask for its password if it has one that is not given.

    Raises:
        KeyFileError: The key or the password cannot be used.
    """
    from mlopsc.trust.keys import is_encrypted, load_private

    if not is_encrypted(path):
        return load_private(path)
    password = _given(file)
    if password is None and sys.stdin.isatty():
        text: str = click.prompt(f"Password of {path}", hide_input=True, err=True)
        password = text.encode()
    return load_private(path, password)


def _given(file: Path | None) -> bytes | None:
    from mlopsc.errors import KeyFileError
    from mlopsc.trust.keys import password_from_environment

    if file is None:
        return password_from_environment()
    try:
        with file.open("rb") as read:
            return read.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise KeyFileError(
            f"cannot read '{file}': {error.strerror or error}; expected a password"
        ) from error
