"""``mlopsc sbom BUNDLE|PACKAGE``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option


@click.command("sbom")
@click.argument("artefact", type=PATH)
@click.option(
    "--format",
    "form",
    type=click.Choice(["cyclonedx", "spdx"]),
    default="cyclonedx",
    show_default=True,
    help="CycloneDX 1.6, or SPDX 2.3 made from it; both JSON.",
)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write it here.")
@force_option
def command(artefact: Path, form: str, output: Path | None, force: bool) -> None:
    """Print the bill of materials of a bundle or a package."""
    from mlopsc.materials import sbom_of
    from mlopsc.outputs import atomic_file

    text = sbom_of(artefact)
    if form == "spdx":
        from mlopsc.sbom.spdx import to_spdx

        text = to_spdx(text)
    if output is None:
        click.echo(text.encode(), nl=False)
        return
    with atomic_file(output, force=force) as path:
        path.write_bytes(text.encode())
