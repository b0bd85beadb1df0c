"""``mlopsc keygen -o KEY``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import PATH, force_option
from mlopsc.cli.passwords import new_password, password_file_option


@click.command("keygen")
@click.option("-o", "--output", type=PATH, required=True, help="The private key; PUB gets '.pub'.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ecdsa-p256", "ed25519"]),
    default="ecdsa-p256",
    show_default=True,
    help="The independent 'model_signing' command knows only ecdsa-p256.",
)
@password_file_option
@click.option("--no-password", is_flag=True, help="Leave the private key unprotected.")
@force_option
def command(
    output: Path, kind: Any, password_file: Path | None, no_password: bool, force: bool
) -> None:
    """Make a private key KEY and its public key KEY.pub.

    The password is asked for, or comes from --password-file or MLOPSC_KEY_PASSWORD.
    """
    from mlopsc.trust.keys import PUBLIC_SUFFIX, generate_keys, key_id

    password = None if no_password else new_password(password_file)
    public = generate_keys(output, kind=kind, password=password, force=force)
    click.echo(f"{output}: private key, keep it to yourself")
    click.echo(f"{output}{PUBLIC_SUFFIX}: public key {key_id(public)}")
