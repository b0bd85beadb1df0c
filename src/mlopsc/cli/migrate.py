"""``mlopsc migrate ARTEFACT -o NEW``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option


@click.command("migrate")
@click.argument("artefact", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The artefact in today's format.")
@click.option("--lineage", type=PATH, metavar="YAML", help="History of a bundle that has none.")
@click.option("--bundle", type=PATH, help="What a package was built from.")
@force_option
def command(
    artefact: Path, output: Path, lineage: Path | None, bundle: Path | None, force: bool
) -> None:
    """Write a bundle or package of an older format version in today's.

    What it computes stays as it is; sign it again afterwards.
    """
    from mlopsc.migrate import migrate

    made = migrate(artefact, output, lineage=lineage, bundle=bundle, force=force)
    click.echo(f"{output}: {made.reference}, format version {made.format_version}")
