"""``mlopsc sign ARTEFACT --key KEY``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option
from mlopsc.cli.passwords import password_file_option, read_key


@click.command("sign")
@click.argument("artefacts", type=PATH, nargs=-1, required=True, metavar="ARTEFACT...")
@click.option("--key", type=PATH, required=True, help="Private key.")
@password_file_option
@click.option("--certificate", type=PATH, metavar="PEM", help="Certificate of the key.")
@click.option(
    "--chain", type=PATH, multiple=True, metavar="PEM", help="Between it and a root; repeat."
)
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Last day on which the signature counts, like 2031-12-31.",
)
@click.option(
    "--unproven", is_flag=True, help="Sign a package without a passing conformance test; recorded."
)
@force_option
def command(
    artefacts: tuple[Path, ...],
    key: Path,
    password_file: Path | None,
    certificate: Path | None,
    chain: tuple[Path, ...],
    expires: datetime | None,
    unproven: bool,
    force: bool,
) -> None:
    """Sign bundles and packages, where they lie."""
    if chain and certificate is None:
        raise click.UsageError("--chain needs --certificate")
    from mlopsc.signing import sign
    from mlopsc.trust.keys import Certificate, load_certificates

    private = read_key(key, password_file)
    loaded = None
    if certificate is not None:
        loaded = Certificate(load_certificates((certificate, *chain)))
    for path in artefacts:
        artefact, name = sign(
            path,
            private,
            certificate=loaded,
            expires=None if expires is None else expires.date(),
            unproven=unproven,
            force=force,
        )
        click.echo(f"{path}: {artefact.reference} signed by key {name}")
